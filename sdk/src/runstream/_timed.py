"""`run.timed`: a pair of events around a block, with how long it took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runstream import _ends
from runstream._types import EventSource

if TYPE_CHECKING:
    from types import TracebackType

    from runstream._run import Run


class Timed:
    """A block that is being timed. `metadata` may be added to inside of it; it goes into the event of its end. `seconds` is how long it took, once it has ended."""

    def __init__(self, run: Run, name: str, source: EventSource | str, subject: str, step: int | None, metadata: dict[str, Any]) -> None:
        self._run = run
        self._name = name
        self._place: dict[str, Any] = {"source": source, "subject": subject, "step": step}
        self.metadata = metadata
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> Timed:
        self._run.log_event(f"{self._name}_started", metadata=dict(self.metadata), **self._place)
        self._began = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds = time.perf_counter() - self._began
        told = self.metadata | {"seconds": self.seconds}
        if error is None:
            self._run.log_event(f"{self._name}_finished", metadata=told, **self._place)
        else:
            self._run.log_event(f"{self._name}_failed", metadata=told | {"reason": _ends.of_exception(error).reason}, **self._place)
