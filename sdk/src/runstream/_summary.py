"""`run.summary`: single values that say how a run came out, set by the user beside those that are computed from its metrics."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Callable


class Summary(MutableMapping[str, Any]):
    """Values by name; the newest of each name holds, over all ranks.

    A value is bool, int, float, a text, None, a list or dict of these, bytes or an array. Reading gives what this process has set; `runstream.read.summary` gives what is stored.

    Example:
        >>> run.summary["best_accuracy"] = 0.981
        >>> run.summary["best_accuracy"]
        0.981
    """

    def __init__(self, write: Callable[[str, Any], bool], tell: Callable[[str, str], None]) -> None:
        self._write = write
        self._tell = tell
        self._values: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        if self._write(name, value):
            self._values[name] = value

    def update(self, values: Any = (), /, **more: Any) -> None:
        """Sets several values, of a mapping or of pairs; what is neither is told."""
        try:
            found: dict[Any, Any] = dict(values, **more)
        except Exception as error:
            if val.from_signal(error):
                raise
            self._tell("summary.update", f"values of summary.update must be a mapping of names to values, got {val.told(values)}: nothing was recorded")
            return
        for name, value in found.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __delitem__(self, name: str) -> None:
        """Sets it to None: what was said stays in the history."""
        del self._values[name]
        self._write(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Summary({self._values!r})"
