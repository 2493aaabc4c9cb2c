"""Which worker of pytest-xdist runs which file: as `--dist loadfile` says, with the longest files first, and so that the death of a worker costs one test.

pytest-xdist 3.8.0 gives back all that a dead worker ever had, files that were through among it, and the test that it died in as well. A worker that is handed a file in which nothing is
left waits for ever, and a test that kills its worker kills the next one. Here the test that a worker died in has failed, and the rest of its file goes to another one.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

# They take more than a minute each, and have few tests, so that they would be begun last: one of them would then hold up the end with the other workers idle.
LONGEST = (
    "tests/faults/test_harness.py",
    "tests/frameworks/test_torch_workers.py",
    "tests/faults/test_outage.py",
    "tests/frameworks/test_ray.py",
    "tests/processors/test_worker.py",
    "tests/integration/test_surroundings.py",
)
_WANTED = 2  # A worker begins a test once it knows which comes after it.


class LoadFile(LoadFileScheduling):
    """Hands out files, and what is left of those that a dead worker had."""

    def remove_node(self, node: WorkerController) -> str | None:
        """Takes a worker out that has ended or died; gives the test that it died in."""
        files = self.assigned_work.pop(node)
        self.registered_collections.pop(node, None)
        left = {file: [test for test, done in tests.items() if not done] for file, tests in files.items()}
        died_in = next((test for tests in left.values() for test in tests), None)
        for file, tests in left.items():
            again = {test: False for test in tests if test != died_in}
            if again:
                self.workqueue[file] = again
        if died_in is not None:
            for other in self.assigned_work:
                self._reschedule(other)
        return died_in

    @property
    def collection_is_completed(self) -> bool:
        """Whether there is something to hand out: once that is so, a worker that is being replaced holds up nobody."""
        return bool(self.collection) or super().collection_is_completed

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Takes what a worker has found; one that is started later has to find the same, or what is left would never be run."""
        if self.collection and list(collection) != self.collection:
            raise RuntimeError(f"a worker that took the place of a dead one finds other tests: {sorted(set(collection) ^ set(self.collection))[:10]}")
        super().add_node_collection(node, collection)

    def _assign_work_unit(self, node: WorkerController) -> None:
        longest = next((file for file in LONGEST if file in self.workqueue), None)
        if longest is not None:
            self.workqueue.move_to_end(longest, last=False)
        # One that has died, and of whose death nobody has been told yet, cannot be sent anything: its files are given back once that is told.
        with contextlib.suppress(OSError):
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if node not in self.registered_collections:
            return  # It takes the place of another one, and is not ready.
        super()._reschedule(node)
        while self._pending_of(self.assigned_work[node]) < _WANTED and not node.shutting_down:
            if self.workqueue:
                self._assign_work_unit(node)
            else:
                node.shutdown()  # It knows then that nothing comes after what it has.


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFile | None:
    """Asked by pytest-xdist; None leaves it its own."""
    return LoadFile(config, log) if config.getoption("dist") == "loadfile" else None
