"""Workers of torch's data loaders and pools that log: each has its own writer of the same run, whichever way it was started, and nothing hangs."""

from __future__ import annotations

import pytest

from tests.frameworks.started import Journal, environment, journals, needs, run_module

pytestmark = [needs("torch"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Journal]:
    """The journals of a script whose workers were started in one of the ways."""
    folder = tmp_path_factory.mktemp("workers")
    run_module("torch_workers", request.param, environ=environment(folder))
    return journals(folder)


def named(found: list[Journal], name: str) -> list[Journal]:
    """The journals with rows of a name."""
    return [one for one in found if any(name in values for _, _, values in one.rows)]


def test_every_process_is_a_writer_of_the_same_run(found: list[Journal]) -> None:
    """The parent, two workers that stay, two of one epoch and those of the pool that had work: one run, a writer and a journal each, and all of them ended well."""
    assert len({one.identity.run_id for one in found}) == 1
    assert len({one.identity.writer for one in found}) == len({one.identity.pid for one in found}) == len(found)
    assert len(named(found, "thread")) == 1
    assert len(named(found, "staying-item")) == 2
    assert len(named(found, "once-item")) == len(named(found, "begun")) == 2
    assert len(named(found, "pooled")) in (1, 2)
    assert len(found) == 5 + len(named(found, "pooled"))
    assert [one.end.state if one.end is not None else "" for one in found] == ["finished"] * len(found)


def test_every_row_of_every_worker_is_there(found: list[Journal]) -> None:
    """Workers that stay hold both epochs' items, the others their own, and the thread that logged meanwhile misses none."""
    for name, epochs in (("staying-item", 2), ("once-item", 1)):
        items = sorted(values[name] for one in found for _, _, values in one.rows if name in values)
        assert items == sorted([float(item) for item in range(8)] * epochs)
    assert all(len([1 for _, _, values in one.rows if "staying-item" in values]) == 8 for one in named(found, "staying-item"))
    assert sorted(values["begun"] for one in found for _, _, values in one.rows if "begun" in values) == [0.0, 1.0]
    assert sorted(values["pooled"] for one in found for _, _, values in one.rows if "pooled" in values) == [0.0, 1.0, 2.0, 3.0]
    [parent] = named(found, "thread")
    assert [values["thread"] for _, _, values in parent.rows] == [float(count) for count in range(len(parent.rows))]
    assert len(parent.rows) > 10
