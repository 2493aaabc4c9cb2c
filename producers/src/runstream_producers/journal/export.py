"""A journal's rows for people and other tools: as plain values, JSON lines, Avro files. Parquet is `parquet`'s. Changes nothing in the journal.

What was acknowledged and removed is in Kafka and no longer here; what stands in the segments is exported, acknowledged or not.
"""

from __future__ import annotations

import json
import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runstream_producers.frames import Cutter
from runstream_producers.heartbeat import Account, final_version, writer_record
from runstream_producers.journal import format as fmt
from runstream_producers.journal.container import Container
from runstream_producers.journal.reader import Reader, Row
from runstream_producers.journal.survey import extent_of, segments_of
from runstream_producers.states import last_sign_ms
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from runstream_producers.journal.survey import Journal

_BATCH_BYTES = 512 << 10
_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


@dataclass(frozen=True, slots=True)
class Logged:
    """One row in plain values: `values` by name for metrics, `record` for every other kind. `time_s` is epoch seconds."""

    kind: str
    seq: int
    time_s: float
    step: int = 0
    context: str = ""
    subject: str = ""
    values: dict[str, float] | None = None
    record: dict[str, Any] | None = None

    def to_json(self) -> str:
        """The row as one line of JSON; NaN and infinities as texts with their names, since JSON has no numbers for them."""
        out: dict[str, Any] = {"kind": self.kind, "seq": self.seq, "time": self.time_s}
        if self.values is not None:
            out |= {"step": self.step, "context": self.context, "subject": self.subject}
            out["values"] = {name: _told(value) for name, value in self.values.items()}
        else:
            out["record"] = _named(self.record)
        return json.dumps(out, ensure_ascii=False, allow_nan=False)


def _told(value: float) -> float | str:
    return value if math.isfinite(value) else _NAMES.get(value, "NaN")


def _named(value: Any) -> Any:
    """A JSON value whose numbers are all finite."""
    if isinstance(value, float):
        return _told(value)
    if isinstance(value, dict):
        return {key: _named(one) for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return [_named(one) for one in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


def raw_rows(journal: Journal) -> Iterator[tuple[Row, fmt.Position]]:
    """All rows that stand in the segments, in order, each with the position behind it."""
    first = min(segments_of(journal.folder), default=1)
    reader = Reader(journal.folder, journal.identity.writer, fmt.Position(first, fmt.HEADER_BYTES))
    try:
        while True:
            found = False
            for row in reader.rows(_BATCH_BYTES):
                found = True
                yield row, reader.position
            if not found:
                return
    finally:
        reader.close()


def rows_of(journal: Journal) -> Iterator[Logged]:
    """All rows in plain values; key sets and drop counts are part of others and do not come by themselves. What cannot be read is left out, as `verify` tells."""
    key_sets: dict[int, fmt.KeySet] = {}
    for row, _ in raw_rows(journal):
        try:
            kind = fmt.Kind(row.kind)
            if kind == fmt.Kind.METRICS:
                names = key_sets[row.key_set]
                values = array("d", row.payload)
                yield Logged("metrics", row.seq, row.time_s, row.step, names.context, names.subject, dict(zip(names.keys, values.tolist(), strict=True)))
            elif kind == fmt.Kind.KEY_SET:
                one = fmt.key_set_of(row.payload)
                key_sets[one.number] = one
            elif kind != fmt.Kind.DROP:
                yield Logged(kind.name.lower(), row.seq, row.time_s, record=json.loads(row.payload))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue


def to_avro(journals: Iterable[Journal], folder: Path) -> dict[str, int]:
    """Writes the records that shipping would send, one container file a topic; returns how many each has.

    Raises:
        OSError: the folder or a file in it cannot be made; a file that is there already is not written over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Container] = {}

    def add(topic: str, record: Any) -> None:
        if topic not in files:
            files[topic] = Container(folder / f"{topic}.avro", TOPICS[topic].record)  # pyright: ignore[reportArgumentType]
        files[topic].add(record)

    try:
        for journal in journals:
            _add_journal(journal, add)
    finally:
        for one in files.values():
            one.close()
    return {one.path.name: one.count for one in files.values()}


def _add_journal(journal: Journal, add: Callable[[str, Any], None]) -> None:
    rows = list[Row]()
    size = later = rules_before = 0
    first: int | None = None
    for row, place in raw_rows(journal):
        first = row.seq if first is None else first
        waits = place > journal.ack.position
        later += waits and row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP)
        rules_before += not waits and row.kind == fmt.Kind.RULE
    cutter = Cutter(journal.identity, next_seq=journal.ack.next_seq if first is None else first, rules=max(0, journal.ack.rules - rules_before))

    def cut(until: int | None = None) -> None:
        one = cutter.cut(rows, until)
        rows.clear()
        for keyed in () if one is None else (*one.others, one.frame):
            try:
                add(keyed.topic, keyed.record)
            except MalformedRecord:
                continue  # Kafka would not get it either: the shipper sets it aside.

    for row, _ in raw_rows(journal):
        rows.append(row)
        size += len(row.payload)
        if size > _BATCH_BYTES:
            cut()
            size = 0
    cut(None if journal.end is None else journal.end.next_seq)
    extent = extent_of(journal)
    ack = journal.ack
    dropped = cutter.dropped if journal.end is None else journal.end.dropped
    account = Account(extent.rows, ack.rows + ack.rows_aside + later, extent.points, dropped, ack.rows, ack.points)
    seen_ms = last_sign_ms(journal.folder, journal.identity.started_ms)
    reason = "" if journal.end is None else journal.end.reason
    version = seen_ms if journal.state == "running" else final_version(extent.rows, said=journal.end is not None)
    add("writer", writer_record(journal.identity, account, state=journal.state, reason=reason, version=version, alive_ms=seen_ms))
