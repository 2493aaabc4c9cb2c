"""Records to bytes and back, and what becomes of bytes that are no record."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import wire
from runstream_schemas.catalogue import Catalogue, bundled, entry
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from runstream_schemas.records import Alert, DeadLetter, Event, MetricFrame, Record, Rule, Run, SummaryFrame
from tests.schemas.frames import picture, sample
from tests.schemas.records import KINDS, records_of

EVENT = Event("e", "r", 1, 2, 3, "checkpoint", metadata={"path": '"a"'})
UNKNOWN_ID = 12345


def same(left: Record, right: Record) -> bool:
    """Equality of two records, frames included."""
    if isinstance(left, MetricFrame) and isinstance(right, MetricFrame):
        return picture(left) == picture(right)
    return left == right


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_every_record_comes_back(name: str, data: st.DataObject) -> None:
    """What is decoded equals what was encoded, and carries the newest schema id of its type."""
    record = data.draw(records_of(name))
    raw = wire.encode(record)
    assert wire.schema_id_of(raw) == bundled().newest(name).schema_id
    back = wire.decode(raw)
    assert type(back) is KINDS[name]
    assert same(back, record)
    assert wire.encode(back) == raw


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_mutated_records_are_records_or_malformed(name: str, data: st.DataObject) -> None:
    """Changed bytes of any record type decode to a record of that type or raise MalformedRecord with the id, and nothing else."""
    raw = bytearray(wire.encode(data.draw(records_of(name))))
    at = data.draw(st.integers(wire.PREFIX_BYTES, len(raw)))
    raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=10))
    blamed = bundled().newest(name).schema_id
    try:
        assert type(wire.decode(bytes(raw))) is KINDS[name]
    except MalformedRecord as error:
        blamed = error.schema_id
    assert blamed == bundled().newest(name).schema_id


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_cut_and_lengthened_records_are_malformed(name: str, data: st.DataObject) -> None:
    """No beginning of a record is a record, and neither is a record with something behind it."""
    raw = wire.encode(data.draw(records_of(name)))
    with pytest.raises(MalformedRecord):
        wire.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(MalformedRecord, match="ends after"):
        wire.decode(raw + data.draw(st.binary(min_size=1, max_size=5)))


@pytest.mark.parametrize("raw", [b"", b"\0", b"\0\0\0\0", b"\x01\0\0\0\1body", b"{}", b'{"loss": 1.0}'])
def test_without_prefix(raw: bytes) -> None:
    """Bytes that do not begin with the prefix are malformed, and no id is claimed for them."""
    with pytest.raises(MalformedRecord, match="begins with 00") as caught:
        wire.decode(raw)
    assert caught.value.schema_id is None


def test_an_unknown_id_is_not_malformed() -> None:
    """An id that the catalogue does not have may yet become known: it is told apart from bad bytes, and named."""
    with pytest.raises(UnknownSchema, match=str(UNKNOWN_ID)) as caught:
        wire.decode(struct.pack(">bI", 0, UNKNOWN_ID) + b"body")
    assert caught.value.schema_id == UNKNOWN_ID


def test_an_id_learned_later_is_read() -> None:
    """A newer version of a record type, learned from the schema topic, is read with the fields that this reader knows."""
    text = bundled().newest("Schema").text
    newer = entry("Schema", 2, text.replace('"fields": [', '"fields": [{"name": "extra", "type": "long", "default": 0},', 1))
    raw = struct.pack(">bI", 0, newer.schema_id) + b"\x0e" + b"\x02" + b"\x02a" + b"\x04" + b"\x02b"
    with pytest.raises(UnknownSchema):
        wire.decode(raw)
    known = Catalogue([*bundled().entries(), newer])
    record = cast("Any", wire.decode(raw, known))
    assert (record.schema_id, record.name, record.version, record.schema) == (1, "a", 2, "b")


def test_an_older_frame_goes_the_general_way() -> None:
    """A frame under another version's id is read by fastavro and comes out the same."""
    text = bundled().newest("MetricFrame").text
    other = entry("MetricFrame", 2, text.replace('"fields": [', '"fields": [{"name": "extra", "type": "boolean", "default": false},', 1))
    raw = struct.pack(">bI", 0, other.schema_id) + b"\x01" + wire.encode(sample())[5:]
    assert same(wire.decode(raw, Catalogue([*bundled().entries(), other])), sample())


def test_a_schema_that_is_no_record_type() -> None:
    """A known schema that names no record type of ours makes malformed records, not a crash."""
    other = entry("Lunch", 1, '{"type": "record", "name": "Lunch", "fields": []}')
    with pytest.raises(MalformedRecord, match="Lunch v1"):
        wire.decode(struct.pack(">bI", 0, other.schema_id), Catalogue([other]))


@pytest.mark.parametrize(
    "record",
    [
        Event("e", "r", 1, 2, 3, cast("str", None)),
        Event("e", "r", 1 << 63, 2, 3, "n"),
        Event("e", "r", 1, 2, 3, "n", rank=1 << 31),
        Event("e", "r", 1, 2, 3, "\ud800"),
        Event("e", "r", 1, 2, 3, "n", metadata=cast("dict[str, str]", {"a": 1})),
        Event("e", "r", 1, 2, 3, "n", metadata=cast("dict[str, str]", None)),
        Rule("r", 1, 2, "n", "threshold", "m", rank=-(1 << 31) - 1),
        DeadLetter("t", 1 << 31, 0, 0, b"", "", ""),
        Run("r", 1, 2, cast("int", "soon"), "p"),
    ],
)
def test_a_field_that_does_not_fit_is_not_written(record: Record) -> None:
    """A value that its Avro type cannot hold raises MalformedRecord, which names the record type."""
    with pytest.raises(MalformedRecord, match=type(record).__name__):
        wire.encode(record)


def test_an_int_beyond_32_bits_is_malformed() -> None:
    """fastavro reads an int of any size; nobody behind us can store it, so it is refused here."""
    letter = wire.encode(DeadLetter("t", 1, 0, 0, b"", "", ""))
    with pytest.raises(MalformedRecord, match="partition must fit 32 bits"):
        wire.decode(letter.replace(b"\x02t\x02", b"\x02t\x80\x80\x80\x80\x20", 1))


def test_summaries_of_unequal_columns_are_malformed() -> None:
    """Parallel columns of different lengths say nothing that could be stored."""
    columns: dict[str, Any] = dict.fromkeys(wire._SUMMARY_COLUMNS, ())
    columns["names"] = ("loss",)
    summary = SummaryFrame("r", 1, 0, 1, 0, "a", 0, 0, **columns)
    with pytest.raises(MalformedRecord, match="one length"):
        wire.decode(wire.encode(summary))


def test_values_that_no_number_equals() -> None:
    """NaN and infinities are values of an alert like any other."""
    for value in (float("nan"), float("inf"), float("-inf"), -0.0):
        alert = Alert("a", 0, "firing", "r", 1, "n", "non_finite", "critical", "run", 1, 2, 0, "m", "", "", 3, 4, value, "", None, "t", False, 5)
        back = cast("Alert", wire.decode(wire.encode(alert)))
        assert struct.pack("<d", back.value) == struct.pack("<d", value)


def test_a_record_with_only_what_it_must_have() -> None:
    """Defaults of the class are what is written and read."""
    assert wire.decode(wire.encode(EVENT)) == EVENT
    assert wire.decode(wire.encode(Run("r", 1, 2, 3, "p"))) == Run("r", 1, 2, 3, "p")


def test_two_tags_are_two_tags() -> None:
    """A tuple under a union is a sequence: fastavro alone would take two texts for a branch's name and its value."""
    for tags in ((), ("array",), ("array", "x"), ("a", "b", "c")):
        run = Run("r", 1, 2, 3, "p", tags=tags)
        assert wire.decode(wire.encode(run)) == run
    assert cast("Run", wire.decode(wire.encode(Run("r", 1, 2, 3, "p", tags=["a", "b"])))).tags == ("a", "b")
