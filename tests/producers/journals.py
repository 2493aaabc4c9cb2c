"""Journals for tests: writers with what they report kept, and journals read back into plain values."""

from __future__ import annotations

import json
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Reader, Row
from runstream_producers.journal.writer import JournalWriter
from runstream_schemas import ids

START = fmt.Position(1, fmt.HEADER_BYTES)


def identity(writer: int | None = None, kind: str = "rank", run_id: str = "0193a1f0-0000-7000-8000-000000000001") -> fmt.Identity:
    """An identity of a random writer."""
    return fmt.Identity(
        writer=ids.new_writer() if writer is None else writer,
        run_id=run_id,
        project="tests",
        kind=kind,
        rank=3,
        local_rank=1,
        world_size=8,
        node="node-a",
        host="host-a",
        pid=4711,
        attempt="attempt-1",
        started_ms=1_700_000_000_000,
        environment={"python": "3.11"},
    )


@dataclass
class Reports:
    """What a writer reported, by key, every time."""

    told: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def __call__(self, key: str, sentence: str) -> None:
        """Keeps a sentence."""
        self.told.append((key, sentence))

    @property
    def keys(self) -> set[str]:
        """The kinds of trouble that were reported."""
        return {key for key, _ in self.told}


def make_writer(
    base: Path,
    *,
    segment_bytes: int = 1 << 16,
    bytes_max: int = 1 << 30,
    report: Callable[[str, str], None] | None = None,
) -> JournalWriter:
    """A writer with small segments."""
    return JournalWriter(base, identity, segment_bytes=segment_bytes, bytes_max=bytes_max, report=report or Reports())


@dataclass(frozen=True)
class Logged:
    """A metric row as it was read back; values as the bits of their doubles, so that NaN equals itself."""

    seq: int
    step: int
    time_s: float
    context: str
    subject: str
    values: dict[str, bytes]


def bits(value: float) -> bytes:
    """The bytes of a double."""
    return struct.pack("<d", value)


def raw_rows(folder: Path, writer: int, position: fmt.Position = START, bytes_max: int = 4096) -> Iterator[Row]:
    """All rows from a position on, those that a reader needs from before it included; a few at a time, as the shipper reads."""
    reader = Reader(folder, writer, position)
    try:
        yield from reader.definitions()
        while True:
            rows = list(reader.rows(bytes_max))
            if not rows:
                return
            yield from rows
    finally:
        reader.close()


def read_back(folder: Path, writer: int, position: fmt.Position = START, bytes_max: int = 4096) -> list[Logged]:
    """The metric rows of a journal from a position on."""
    key_sets: dict[int, dict[str, Any]] = {}
    out: list[Logged] = []
    for row in raw_rows(folder, writer, position, bytes_max):
        if row.kind == fmt.Kind.KEY_SET:
            payload = json.loads(row.payload)
            assert payload["id"] == row.key_set
            key_sets[row.key_set] = payload
        elif row.kind == fmt.Kind.METRICS:
            known = key_sets[row.key_set]
            values = [row.payload[start : start + 8] for start in range(0, len(row.payload), 8)]
            out.append(Logged(row.seq, row.step, row.time_s, known["context"], known["subject"], dict(zip(known["keys"], values, strict=True))))
    return out


def read_writer(writer: JournalWriter, position: fmt.Position = START) -> list[Logged]:
    """The metric rows that a writer has written so far."""
    return read_back(writer.folder.path, writer.identity.writer, position)


def run_by_turns(threads: Sequence[threading.Thread]) -> None:
    """Runs threads to their end, with the interpreter handed on a hundred thousand times a second."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(interval)


def segments(folder: Path) -> list[Path]:
    """The segments of a journal in order."""
    return sorted(folder.glob("*.seg"))


def dropped_as_told(folder: Path, writer: int) -> dict[str, int]:
    """The newest drop counts that stand in a journal."""
    counts: dict[str, int] = {}
    for row in raw_rows(folder, writer):
        if row.kind == fmt.Kind.DROP:
            counts = json.loads(row.payload)
    return counts
