"""A rank of `tests.faults.rank` that may be made to die at a named point of its work (`tests.faults.trap`), and whose agents may, too (`tests.faults.dying_agent`). Run as a script.

The points of a row are those of the call in Python; the compiled one is broken off by chance alone.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from runstream import _agent
from runstream_producers.journal import format as fmt
from runstream_producers.journal import plans
from runstream_producers.journal.segments import Folder
from tests.faults import rank
from tests.faults.trap import OF_RANK, RANK_POINTS, Trap

_make, _header = plans.make, fmt.segment_header
_add_segment, _end, _close = Folder.add_segment, Folder.end, Folder.close


def make(key_set: int, keys: tuple[str, ...]) -> plans.Plan:
    """Takes the place of a plan's making: rows are written with the points around it."""
    plain, only, pack, write, *rest = _make(key_set, keys)

    def into(mapped: mmap.mmap, offset: int, length: int, checksum: int, body: bytes) -> None:
        trap.here("packed")
        if trap.armed("torn"):
            start, half = offset + fmt.LEAD_BYTES, len(body) // 2
            fmt.ROW_LEAD.pack_into(mapped, offset, length, checksum)
            mapped[start : start + half] = body[:half]
            trap.spring("torn")
        write(mapped, offset, length, checksum, body)
        trap.here("published")

    length, size, count, head = rest
    return plain, only, pack, into, length, size, count, head


def segment_header(number: int, writer: int, first_seq: int, points: int) -> bytes:
    """Takes the place of making a header, which is when the room is there."""
    trap.here("allocated")
    return _header(number, writer, first_seq, points)


def add_segment(self: Folder, number: int, size: int, first_seq: int, points: int, *, spare: bool = False) -> mmap.mmap:
    """Takes the place of adding a segment."""
    added = _add_segment(self, number, size, first_seq, points, spare=spare)
    trap.here("rotated")
    return added


def end(self: Folder, end: fmt.End) -> None:
    """Takes the place of saying how it ended."""
    trap.here("ending")
    _end(self, end)


def close(self: Folder) -> None:
    """Takes the place of giving up the lock."""
    trap.here("ended")
    _close(self)


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Takes the place of starting an agent."""
    return subprocess.Popen(["tests.faults.dying_agent" if one == "runstream_producers.agent" else one for one in argv], **options)


if __name__ == "__main__":
    trap = Trap(Path(os.environ.pop(OF_RANK)), RANK_POINTS)
    plans.make, fmt.segment_header = make, segment_header
    Folder.add_segment, Folder.end, Folder.close = add_segment, end, close
    _agent.__dict__["subprocess"] = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
    sys.exit(rank.main())
