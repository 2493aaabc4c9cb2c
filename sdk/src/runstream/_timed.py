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
    """A block that is being timed; one without a name is told when it is made, and writes no events.

    `metadata` may be added to inside of it; it goes into the event of its end. `seconds` is how long it took, once it has ended.
    """

    def __init__(self, run: Run, name: str, source: EventSource | str, subject: str, step: int | None, metadata: dict[str, Any]) -> None:
        self._run = run
        self._name = name
        self._place: dict[str, Any] = {"source": source, "subject": subject, "step": step}
        self.metadata = metadata
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> Timed:
        self._log("started", {})
        self._began = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.seconds = time.perf_counter() - self._began
        if error is None:
            self._log("finished", {"seconds": self.seconds})
        else:
            self._log("failed", {"seconds": self.seconds, "reason": _ends.of_exception(error).reason})

    def _log(self, what: str, more: dict[str, Any]) -> None:
        if self._name:
            # What the user has put in the place of the metadata is the event's to judge.
            metadata: Any = {**self.metadata, **more} if isinstance(self.metadata, dict) else self.metadata  # pyright: ignore[reportUnnecessaryIsInstance]
            self._run.log_event(f"{self._name}_{what}", metadata=metadata, **self._place)
