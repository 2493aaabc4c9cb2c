"""Journals whose checksums are right and whose rows make no sense: what can be shipped is, the rest is set aside, and no other journal is kept back."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from runstream_producers.frames import Cutter
from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Row
from runstream_producers.journal.survey import open_journal
from runstream_producers.journal.verify import verify
from runstream_schemas import wire
from runstream_schemas.records import MetricFrame
from tests.producers.journals import identity, make_writer

DEEP = b"[" * 100_000
VALUES = struct.pack("<d", 1.0)


def key_set(payload: Any) -> Row:
    """A row that defines a key set."""
    return Row(fmt.Kind.KEY_SET, 1, 0, 0, 0, 1.0, json.dumps(payload).encode())


def metrics(seq: int, *, time_s: float = 1.0, payload: bytes = VALUES) -> Row:
    """A row of metrics under key set 1."""
    return Row(fmt.Kind.METRICS, 1, seq, seq % 7, seq + 1, time_s, payload)


NAMES = key_set({"id": 1, "context": "", "subject": "", "keys": ["loss"]})


@pytest.mark.parametrize(
    "odd",
    [
        metrics(0),
        metrics(1 << 53),
        metrics((1 << 64) - 1),
        metrics(1, time_s=float("nan")),
        metrics(1, time_s=float("-inf")),
        metrics(1, time_s=1e300),
        metrics(1, payload=b""),
        metrics(1, payload=VALUES * 2),
        metrics(1, payload=VALUES[:5]),
        Row(fmt.Kind.EVENT, 0, 1, 0, 0, 1.0, DEEP),
        Row(fmt.Kind.RUN, 0, 1, 0, 0, 1.0, b"[]"),
        Row(fmt.Kind.VALUE, 0, 1, 0, 0, 1.0, b'{"data": 1}'),
        Row(200, 0, 1, 0, 0, 1.0, b"{}"),
    ],
    ids=[
        "seq again",
        "seq 2^53",
        "seq 2^64-1",
        "time nan",
        "time inf",
        "time far",
        "no values",
        "two values",
        "half a value",
        "deep",
        "list",
        "number",
        "kind",
    ],
)
def test_a_row_that_makes_no_sense_costs_itself_alone(odd: Row) -> None:
    """It is set aside with its reason; the rows before and behind it are in a frame that a reader takes."""
    cut = Cutter(identity(7), next_seq=0, rules=0).cut([NAMES, metrics(0), odd, metrics(2)])
    assert cut is not None
    assert [payload for _, payload in cut.unreadable] == [odd.payload]
    assert cut.rows == 3
    frame = wire.decode(wire.encode(cut.frame.record))
    assert isinstance(frame, MetricFrame)
    assert [group.seqs.tolist() for group in frame.groups] == [[0, 2]]


@pytest.mark.parametrize(
    "payload",
    [b"", DEEP, b"[]", b'{"id": 1}', b'{"id": 1, "context": "", "subject": "", "keys": [1]}', b'{"id": 1, "context": "", "subject": "", "keys": "abc"}'],
    ids=["nothing", "deep", "list", "fields missing", "keys no texts", "keys no list"],
)
def test_a_definition_that_cannot_be_read_sets_its_rows_aside(payload: bytes) -> None:
    """The rows under it have no names, and say so; nothing is raised."""
    cut = Cutter(identity(7), next_seq=0, rules=0).cut([NAMES._replace(payload=payload), NAMES._replace(kind=fmt.Kind.DROP, payload=payload), metrics(0)])
    assert cut is not None
    assert [reason for reason, _ in cut.unreadable] == ["key set 1 was lost from the journal"]
    assert cut.next_seq == 1


def test_only_odd_rows_are_set_aside_too() -> None:
    """Rows whose seqs move nothing on are not forgotten: there is a cut with nothing but them."""
    cutter = Cutter(identity(7), next_seq=5, rules=0)
    cut = cutter.cut([NAMES, metrics(1)])
    assert cut is not None
    assert (len(cut.unreadable), cut.next_seq) == (1, 5)
    assert cutter.cut([]) is None


@pytest.mark.parametrize(
    "text", ['"text"', "[]", "1", DEEP.decode(), '{"version": 1}', "identity"], ids=["text", "list", "number", "deep", "fields missing", "types"]
)
def test_an_identity_that_is_none_is_refused(text: str) -> None:
    """In the words that those who take journals up expect, so that it keeps no other journal back."""
    if text == "identity":
        text = json.dumps(json.loads(identity(7).to_json()) | {"rank": "three"})
    with pytest.raises((ValueError, TypeError)):
        fmt.Identity.from_json(text)


@pytest.mark.parametrize(
    "odd",
    [{"dropped": None}, {"next_seq": 1 << 70}, {"next_seq": "7"}, {"state": ["finished"]}, {"dropped": {"full": "many"}}],
    ids=["counts", "far", "text", "state", "words"],
)
def test_an_end_that_is_none_is_no_end(tmp_path: Path, odd: dict[str, Any]) -> None:
    """A writer whose end holds what it cannot is one that died without a word; its journal is read all the same."""
    writer = make_writer(tmp_path)
    writer.log({"loss": 1.0})
    writer.close("finished", "")
    path = writer.folder.path / "end.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    journal = open_journal(writer.folder.path)
    assert journal.end is None
    assert verify(journal).points == 1
