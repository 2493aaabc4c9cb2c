"""Lives of writers: who runs, who has ended, and who has fallen silent for so long that it counts as crashed.

A writer's own records decide, the greatest version first. Where they stop although the last one said that it runs, its end is guessed from the silence, by the clock of
whoever listens; the guess has a version that any later sign of life outranks, so that a run which comes back is a running one. Nobody is judged while the listener
itself could not hear.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from runstream_rules.errors import StateUnreadable
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import FINAL_VERSION, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

_LAYOUT = 1
_ENTRY = struct.Struct("<BBIqqq")
_HARDWARE = 1
SILENT_REASON = "no sign of life"


class Ended(NamedTuple):
    """A writer whose last word is known: where its rows are, how many there are, and when that was heard."""

    partition: int
    hardware: bool
    next_seq: int
    heard_ms: int


@dataclass(slots=True)
class Alive:
    """A writer that is not known to have ended: its newest record with the bytes it came as, and when it was heard of last."""

    partition: int
    record: Writer
    raw: bytes
    heard_ms: int
    stored_ms: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a silent writer is waited for, how long an ended one is remembered, and how old what is stored of a living one may be; milliseconds."""

    crashed_ms: int = 300_000
    remembered_ms: int = 8 * 86_400_000
    stored_ms: int = 30_000


class Lives:
    """What is known of writers. It changes by `take`, `tick`, `forgotten` and `restore`; `changed` says whose entries are to be stored, and in which partition."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._deaf = True
        self.alive: dict[int, Alive] = {}
        self.ended: dict[int, Ended] = {}
        self.changed: dict[int, int] = {}

    def take(self, record: Writer, raw: bytes, partition: int, now_ms: int) -> bool:
        """Takes a record; False where a newer one is known, or the end."""
        writer = record.writer
        before = self.alive.get(writer)
        if (before is not None and before.record.version >= record.version) or (writer in self.ended and record.version < FINAL_VERSION):
            return False
        if record.version >= FINAL_VERSION:
            self.alive.pop(writer, None)
            self.ended[writer] = Ended(partition, record.kind == "hardware", record.next_seq, now_ms)
            self.changed[writer] = partition
            return True
        stored_ms = 0 if before is None else before.stored_ms
        one = self.alive[writer] = Alive(partition, record, raw, now_ms, stored_ms)
        told_otherwise = before is None or before.record.state != record.state
        if told_otherwise or now_ms - one.stored_ms >= self._patience.stored_ms:
            self.changed[writer] = partition
        return True

    def tick(self, now_ms: int, *, hears: bool) -> list[Writer]:
        """Guesses who has crashed by now: their records, to be told to everybody. `hears` says that all that was said has been read.

        Who could not hear for a while knows nothing of the silence of others, and begins to count anew.
        """
        if not hears or self._deaf:
            for one in self.alive.values():
                one.heard_ms = now_ms
            self._deaf = not hears
            return []
        out: list[Writer] = []
        for writer, one in self.alive.items():
            silent_ms = now_ms - one.heard_ms
            if one.record.state == "running" and silent_ms >= self._patience.crashed_ms:
                version = max(one.record.version + 1, now_ms)
                guess = replace(one.record, version=version, state="crashed", exit_reason=f"{SILENT_REASON} for {silent_ms // 1000} s")
                one.record, one.raw = guess, wire.encode(guess)
                self.changed[writer] = one.partition
                out.append(guess)
        return out

    def forgotten(self, now_ms: int) -> dict[int, Ended]:
        """Writers that ended, or were given up, so long ago that none of their rows is on its topic any more; they are forgotten here."""
        oldest_ms = now_ms - self._patience.remembered_ms
        out = {writer: one for writer, one in self.ended.items() if one.heard_ms < oldest_ms}
        for writer, one in self.alive.items():
            if one.record.state != "running" and one.heard_ms < oldest_ms:
                out[writer] = Ended(one.partition, one.record.kind == "hardware", one.record.next_seq, one.heard_ms)
        for writer, one in out.items():
            self.ended.pop(writer, None)
            self.alive.pop(writer, None)
            self.changed[writer] = one.partition
        return out

    def entry(self, writer: int, now_ms: int) -> bytes | None:
        """A writer's entry as of now, to be stored; None where nothing is known of it any more."""
        over = self.ended.get(writer)
        if over is not None:
            return _ENTRY.pack(_LAYOUT, over.hardware, over.partition, over.next_seq, over.heard_ms, 1)
        one = self.alive.get(writer)
        if one is None:
            return None
        one.stored_ms = now_ms
        return _ENTRY.pack(_LAYOUT, one.record.kind == "hardware", one.partition, one.record.next_seq, one.heard_ms, 0) + one.raw

    def restore(self, entries: Iterable[tuple[int, bytes]]) -> None:
        """Knows what some entries say and nothing else.

        Raises:
            StateUnreadable: an entry is none, or of another version.
        """
        self.alive.clear()
        self.ended.clear()
        self.changed.clear()
        self._deaf = True
        for writer, entry in entries:
            try:
                layout, hardware, partition, next_seq, heard_ms, over = _ENTRY.unpack_from(entry)
                if layout != _LAYOUT:
                    raise StateUnreadable(f"a writer's entry of layout {layout} came, this release reads layout {_LAYOUT}: replay the topic into a new group")
                if over:
                    self.ended[writer] = Ended(partition, hardware == _HARDWARE, next_seq, heard_ms)
                    continue
                raw = entry[_ENTRY.size :]
                record = wire.decode(raw)
            except (struct.error, SchemasError) as error:
                raise StateUnreadable(f"the entry of writer {writer} cannot be read: {error}") from error
            if not isinstance(record, Writer):
                raise StateUnreadable(f"the entry of writer {writer} must hold a Writer, got {type(record).__name__}")
            self.alive[writer] = Alive(partition, record, raw, heard_ms, heard_ms)
