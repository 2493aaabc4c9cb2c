"""How much room a journal may take: of its own budget, and of the file system that it shares with others. Pure; `tail` asks before each segment.

Journals must not be what fills a disk up, since a training that cannot write its checkpoint has lost more than metrics. In memory (tmpfs, such as /dev/shm) what they take counts
against the limit of their container, and /dev/shm belongs to the workers of data loaders, too, which die of SIGBUS where it is full: there budgets are smaller and more stays free.
"""

from __future__ import annotations

from dataclasses import dataclass

from runstream_producers.journal import format as fmt

BYTES_MAX = 4 << 30  # A process's budget on a disk, unless one is set.
MEMORY_BYTES_MAX = 256 << 20  # And in memory: an hour and more of a rank that logs 200 rows of 20 values a second.
MEMORY_SEGMENT_BYTES = 4 << 20  # The segment in use and the one after it are always there, for every rank.
DISK_FREE_SHARE, DISK_FREE_BYTES = 1 / 20, 256 << 20  # What stays free of a disk: the smaller of the two.
MEMORY_FREE_SHARE = 1 / 2
SEGMENT_BYTES_MIN = 1 << 16
_ROOM_FOR_DROPS = 4096  # Each segment begins with the drop counts, if there are any.


@dataclass(frozen=True, slots=True)
class Space:
    """A file system: its bytes and those of them that are free, 0 of 0 where it has no bounds, and whether it is in memory."""

    total: int
    free: int
    in_memory: bool


@dataclass(frozen=True, slots=True)
class Room:
    """What one process's journal may take. Made by `room_on`."""

    segment_bytes: int
    bytes_max: int
    keep_free: int

    def size_for(self, more: int) -> int:
        """The size of a segment that is to hold `more` bytes at least."""
        return max(self.segment_bytes, fmt.HEADER_BYTES + more + _ROOM_FOR_DROPS)

    def refusal(self, size: int, held: int, space: Space | None) -> str:
        """Why a segment of `size` bytes beside `held` bytes of others is too much; empty where it is not. `space` is None where it has been allocated before."""
        if held and held + size > self.bytes_max:
            return f"the journal holds {held >> 20} MiB that are not shipped yet, near its limit of {self.bytes_max >> 20} MiB (journal_bytes_max)"
        if space is not None and space.total and space.free - size < self.keep_free:
            where = "the memory file system" if space.in_memory else "the disk"
            return f"{where} of the journals has {space.free / 2**20:.1f} MiB left, and {self.keep_free / 2**20:.1f} MiB are kept free for others"
        return ""


def room_on(space: Space, *, segment_bytes: int, bytes_max: int | None) -> Room:
    """The room of a journal on a file system; `bytes_max` is what the user allows, if anything."""
    if bytes_max is None:
        bytes_max = MEMORY_BYTES_MAX if space.in_memory else BYTES_MAX
    # Segments go only as a whole, and never the newest: with few of them the limit would hold what is shipped already.
    segment_bytes = min(segment_bytes, bytes_max // 8)
    if space.in_memory:
        segment_bytes = min(segment_bytes, MEMORY_SEGMENT_BYTES, space.total // 64 or MEMORY_SEGMENT_BYTES)
        keep_free = int(space.total * MEMORY_FREE_SHARE)
    else:
        keep_free = min(int(space.total * DISK_FREE_SHARE), DISK_FREE_BYTES)
    return Room(max(segment_bytes, SEGMENT_BYTES_MIN), bytes_max, keep_free)
