"""How rows of one key set are packed, and which values can be packed at once. `writer` keeps a plan for each key set of a segment and does the writing."""

from __future__ import annotations

import enum
import struct
import sys
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PLAIN = (float, int)

# For a key set: whether its values have been plain so far, its name if it has only one, the struct's pack of the body, its pack_into of lead and body, bytes of the body,
# bytes of the row, number of keys, kind and key set as the head has them. A tuple of its own kind would take longer to unpack.
Plan = tuple[bool, str | None, "Callable[..., bytes]", "Callable[..., None]", int, int, int, int]

# Journals are little-endian. Where the machine is, too, its own layout comes to the same bytes, since each field stands at a multiple of its size, and it is the quicker one.
_ORDER = "@" if sys.byteorder == "little" else "<"

# Types whose values struct packs as what they are. It would pack complex numbers, moments and texts of numpy, too, and lose what they mean.
# numpy's numbers join once one is met, since this module does not import numpy by itself.
quick_types: set[type] = {float, int, bool}
# Only numpy's own: reading a value of another class of such a name would run that class's code in the middle of a compiled call.
_NUMPY_NUMBERS = frozenset(
    {"bool", "bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong", "ulonglong"}
)


class Scope:
    """Key sets and the step counter of one context and subject."""

    __slots__ = ("context", "next_step", "plans", "subject")

    def __init__(self, context: str, subject: str) -> None:
        self.context = context
        self.subject = subject
        self.next_step = 0
        self.plans: dict[tuple[str, ...], Plan] = {}


class Scopes:
    """The scopes of a journal; `plain` is the one without context and subject."""

    __slots__ = ("_by_place", "plain")

    def __init__(self) -> None:
        self._by_place: dict[tuple[str, str], Scope] = {}
        self.plain = self.of(None, "")

    def of(self, context: Any, subject: Any) -> Scope:
        """The scope of a context and subject as they should be; raises TypeError for others, so that each call with them goes the slow way, which tells."""
        if type(context) is str:
            where = context if context.isascii() else val.text_of(context)
        elif context is None:
            where = ""
        elif isinstance(context, enum.Enum):
            where = val.text_of(context.name.lower())
        elif isinstance(context, str):
            where = val.text_of(context)
        else:
            raise TypeError
        if not subject:
            about = ""
        elif isinstance(subject, str):
            about = subject if type(subject) is str and subject.isascii() else val.text_of(subject)
        else:
            raise TypeError
        return self._by_place.get((where, about)) or self._new(where, about)

    def of_any(self, context: Any, subject: Any) -> Scope:
        """The same, whatever they were given as; raises what turning them into text raises."""
        place = (val.context_of(context), val.text_of(subject) if subject else "")
        return self._by_place.get(place) or self._new(*place)

    def _new(self, context: str, subject: str) -> Scope:
        scope = self._by_place[context, subject] = Scope(context, subject)
        return scope

    def forget(self) -> None:
        """Forgets all plans: a new segment begins without key sets."""
        for scope in self._by_place.values():
            scope.plans.clear()


def make(key_set: int, keys: tuple[str, ...]) -> Plan:
    """The plan of a key set."""
    count = len(keys)
    packer = struct.Struct(f"{_ORDER}{fmt.ROW_HEAD_FORMAT}{count}d")
    into = struct.Struct(f"{_ORDER}II{packer.size}s").pack_into
    return (True, keys[0] if count == 1 else None, packer.pack, into, packer.size, packer.size + fmt.LEAD_BYTES, count, head(fmt.Kind.METRICS, key_set))


def row_bytes(count: int) -> int:
    """Bytes of a row of `count` values in a segment."""
    return fmt.LEAD_BYTES + fmt.HEAD_BYTES + 8 * count


def head(kind: int, key_set: int) -> int:
    """Kind and key set as the first field of a row's head."""
    return kind | key_set << fmt.KEY_SET_SHIFT


def suited(plan: Plan, data: Mapping[Any, Any]) -> Plan:
    """The plan for rows with values like these: numpy's numbers are learned, and are told apart from others by their types."""
    if not plan[0]:
        return plan
    kinds = set(map(type, data.values()))
    if kinds <= {float, int, bool}:
        return plan
    numpy: Any = sys.modules.get("numpy")
    quick_types.update(kind for kind in kinds if kind.__module__ == "numpy" and kind.__name__ in _NUMPY_NUMBERS and getattr(numpy, kind.__name__, None) is kind)
    return (False, *plan[1:])
