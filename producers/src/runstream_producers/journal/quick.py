"""Where rows are written: the counts and the mapped segment that the hot path works on, compiled where a C compiler was at hand when this was installed.

The compiled `log` takes the usual call, a dict of plain numbers under names that it was told of, and hands every other one to `slow`, which is `JournalWriter.log` in Python. Both write the
same bytes. Whatever changes the counts or the segment from Python sets `inside` first, which keeps the compiled calls of other threads out; `direct` lets them in at all.
The setting `compiled` does without it.
"""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Generator

    from runstream_producers.journal import plans


class PureRows:
    """The same without the compiled call: it learns nothing and takes no calls."""

    seq: int
    points: int
    offset: int
    end: int
    inside = False
    direct = False
    map: mmap.mmap | bytearray
    slow: Callable[..., None]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """As the compiled one is made, whatever a subclass takes."""
        return super().__new__(cls)

    def log(self, *args: Any, **options: Any) -> None:
        """Hands the call on; nothing that is quick calls this."""
        self.slow(*args, **options)

    def learn(self, head: int, keys: tuple[str, ...], context: Any, subject: Any, scope: plans.Scope, numbers: set[type]) -> None:
        """Does nothing."""

    def forget_plans(self) -> None:
        """Does nothing."""


def _ignore(whether: bool, /) -> None:
    """There are no compiled calls to hold."""


COMPILED = False
if TYPE_CHECKING:
    Rows = PureRows
    _pause = _ignore
else:
    try:
        from runstream_producers.journal._quick import Rows
        from runstream_producers.journal._quick import pause as _pause

        COMPILED = True
    except ImportError:
        Rows, _pause = PureRows, _ignore


def same_by_identity(word: Any) -> bool:
    """Whether a context or subject that is this very object again surely means the same."""
    return word is None or type(word) is str or isinstance(word, enum.Enum)


@contextlib.contextmanager
def in_python() -> Generator[None]:
    """Leaves all calls of this process to Python inside of it, for tests that set its clock."""
    _pause(True)
    try:
        yield
    finally:
        _pause(False)
