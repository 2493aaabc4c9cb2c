"""Which library a metric's values come from: as the caller says, else the training framework that calls, else the library whose values they are. Looked at once for each metric."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from runstream_producers.journal.plans import Scope

# Whoever calls `log` from within one of these does it for the user.
_CALLERS = frozenset(
    {
        "accelerate",
        "catboost",
        "composer",
        "deepspeed",
        "fastai",
        "keras",
        "lightgbm",
        "lightning",
        "optuna",
        "pytorch_lightning",
        "sklearn",
        "transformers",
        "xgboost",
    }
)
_MAKERS = {"torch": "torch", "jax": "jax", "jaxlib": "jax", "tensorflow": "tensorflow", "numpy": "numpy", "cupy": "cupy"}
_FRAMES_MAX = 40
_NAMES_MAX = 100_000  # Metrics whose sources are remembered.


@dataclass(frozen=True, slots=True)
class Found:
    """The library that some metrics come from."""

    source: str
    names: list[str]


class Sources:
    """Remembers what was told already."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], str] = {}

    def news(self, scope: Scope, names: Set[str], source: Any, data: Mapping[Any, Any]) -> list[Found]:
        """What is to be told of the metrics of a call; nothing where that was told before, or no library is known. Raises what the user's mapping raises."""
        said = "" if source is None else val.text_of(source)
        fresh = {name for name in names if self._told.get((scope.context, scope.subject, name)) != said} if said else self._unknown(scope, names)
        if not fresh or len(self._told) + len(fresh) > _NAMES_MAX:
            return []
        library = said or _caller()
        by_library: dict[str, list[str]] = {library: sorted(fresh)} if library else {}
        if not library:
            for name, value, _ in val.leaves(data):
                if name in fresh and (maker := _MAKERS.get(type(value).__module__.partition(".")[0])) is not None:
                    by_library.setdefault(maker, []).append(name)
        for name in fresh:
            self._told[scope.context, scope.subject, name] = library
        return [Found(one, found) for one, found in by_library.items()]

    def _unknown(self, scope: Scope, names: Iterable[str]) -> set[str]:
        return {name for name in names if (scope.context, scope.subject, name) not in self._told}


def _caller() -> str:
    """The framework in whose code the call was made; empty where there is none."""
    frame = sys._getframe(1)
    for _ in range(_FRAMES_MAX):
        root = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if root in _CALLERS:
            return root
        if frame.f_back is None:
            break
        frame = frame.f_back
    return ""
