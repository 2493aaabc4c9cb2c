"""What the training process and its console's helper share: how the helper is started, the words they exchange, and the page on which it says how far it is."""

from __future__ import annotations

import json
import mmap
import os
import struct
from dataclasses import asdict, dataclass

END = b"e"  # To the helper: the run ends, what has been written by now is to be recorded.
DRAINED = "drained"  # From the helper, a line each: everything up to END has been shown and recorded;
JOURNAL = "journal "  # and before it the folder of its journal.

_PAGE = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream: its name, the descriptor it is read from, and the one it is shown on."""

    name: str
    source: int
    shown: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What the helper is told at its start: streams, descriptors, where and as whom it writes, and how much."""

    streams: list[Stream]
    control: int
    answers: int
    page: int
    folder: str
    identity: str
    lines_per_s: float

    def to_json(self) -> str:
        """The orders as JSON text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Orders:
        """The orders in JSON text."""
        told = json.loads(text)
        return Orders(**told | {"streams": [Stream(**one) for one in told["streams"]]})


class Page:
    """Shared memory with how often the helper has read, and whether it is in the middle of showing something, which it may have to wait for as anybody would."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("runstream-console") if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, mmap.PAGESIZE)
        self._map = mmap.mmap(self.descriptor, mmap.PAGESIZE)

    def close(self) -> None:
        """Lets go of it."""
        self._map.close()
        os.close(self.descriptor)

    def put(self, reads: int, showing: int) -> None:
        """Says how often something has been read, and how many streams are being shown."""
        _PAGE.pack_into(self._map, 0, reads, showing)

    def get(self) -> tuple[int, int]:
        """What was put last."""
        return _PAGE.unpack_from(self._map, 0)
