"""What a run needs of a journal, the stand-in that keeps nothing, and the reporter that says each kind of trouble once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from runstream._told import in_signal, warn
from runstream_producers.errors import StrictError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_producers.journal import format as fmt


class Rows(Protocol):
    """What a run needs of a journal; `NoRows` is the one that keeps nothing."""

    @property
    def seq(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def points(self) -> int: ...
    @property
    def dropped(self) -> dict[str, int]: ...

    def log(
        self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "", source: Any = None
    ) -> None: ...
    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> bool: ...
    def wait_for_devices(self, deadline: float) -> None: ...
    def close(self, state: str, reason: str) -> None: ...
    def after_fork(self) -> None: ...


class NoRows:
    """Keeps nothing: for `mode="disabled"`, and where no journal can be written."""

    def __init__(self) -> None:
        self.seq = self.rows = 0
        self.points = 0
        self.dropped: dict[str, int] = {}

    def log(self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "", source: Any = None) -> None:
        """Does nothing."""

    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> bool:  # noqa: ARG002 - as a journal's
        """Does nothing, as it was asked to."""
        return True

    def wait_for_devices(self, deadline: float) -> None:
        """Does nothing."""

    def close(self, state: str, reason: str) -> None:
        """Does nothing."""

    def after_fork(self) -> None:
        """Does nothing."""


class Reporter:
    """One warning for each kind of trouble; an error instead in strict mode."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._told: set[str] = set()

    def __call__(self, key: str, sentence: str, *, always: bool = False) -> None:
        """Tells a sentence unless one of its kind was told before; raises StrictError in strict mode, unless it is `always` told since it is no trouble."""
        if self._strict and not always and not in_signal():
            raise StrictError(sentence)
        if key not in self._told and len(self._told) < 10_000:
            self._told.add(key)
            warn(sentence)
