"""The packed codec against fastavro: the same Avro, both ways, to the bit."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import frame
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame
from tests.schemas.frames import (
    EXACT,
    LONG_MAX,
    LONG_MIN,
    datum_picture,
    fastavro_bytes,
    fastavro_datum,
    forget,
    frames,
    in_blocks,
    picture,
    sample,
)


def with_values(*values: float | np.float64) -> MetricFrame:
    """The sample frame with one column of these values."""
    one = sample(rows=len(values), keys=("x",))
    return one._replace(groups=(one.groups[0]._replace(values=np.array(values, np.float64).reshape(-1, 1)),))


def with_group(**fields: Any) -> MetricFrame:
    """The sample frame with fields of its group replaced."""
    one = sample()
    return one._replace(groups=(one.groups[0]._replace(**fields),))


@given(frames())
def test_fastavro_reads_what_we_write(one: MetricFrame) -> None:
    """Every frame that we write reads in fastavro as the same frame, NaN payloads and signed zeros included."""
    assert datum_picture(fastavro_datum(frame.encode(one))) == datum_picture(frame.to_datum(one))


@given(frames())
def test_we_read_what_fastavro_writes(one: MetricFrame) -> None:
    """What fastavro writes in its own form reads as the same frame, cold and with warm memos."""
    data = fastavro_bytes(frame.to_datum(one))
    forget()
    assert picture(frame.decode(data)) == picture(one)
    assert picture(frame.decode(data)) == picture(one)


@given(frames())
def test_we_read_what_we_write(one: MetricFrame) -> None:
    """A frame survives its own codec to the bit, and is written the same again."""
    data = frame.encode(one)
    back = frame.decode(data)
    assert picture(back) == picture(one)
    assert frame.encode(back) == data


@given(frames(), st.integers(0, 1 << 32))
def test_any_blocks(one: MetricFrame, seed: int) -> None:
    """Arrays in several blocks, sized ones among them, read as the same frame in fastavro and here."""
    datum = frame.to_datum(one)
    data = in_blocks(datum, Random(seed))
    assert datum_picture(fastavro_datum(data)) == datum_picture(datum)
    assert picture(frame.decode(data)) == picture(one)
    assert picture(frame.decode(data)) == picture(one)


@given(frames())
def test_the_general_way_is_the_same(one: MetricFrame) -> None:
    """A frame that a general library read (an older schema version goes that way) is the frame that the packed codec reads."""
    assert picture(frame.from_datum(fastavro_datum(frame.encode(one)))) == picture(one)


@given(frames(), st.binary(max_size=9))
def test_a_body_may_begin_anywhere(one: MetricFrame, before: bytes) -> None:
    """A body behind a prefix of any length, aligned or not, reads as the same frame."""
    assert picture(frame.decode(before + frame.encode(one), len(before))) == picture(one)


@pytest.mark.parametrize("bits", [0x7FF8000000000001, 0xFFF8DEADBEEF0001, 0x7FF0000000000001, 0x7FF0000000000000, 0xFFF0000000000000, 0x8000000000000000, 1])
def test_values_keep_every_bit(bits: int) -> None:
    """NaN with its payload and sign, infinities, -0.0 and subnormal values come back as the same 64 bits."""
    value = np.array([bits], np.uint64).view(np.float64)[0]
    data = frame.encode(with_values(value, 1.0))
    assert frame.decode(data).groups[0].values.view(np.uint64)[0, 0] == bits
    assert fastavro_datum(data)["groups"][0]["values"][0].hex() == float(value).hex()


@pytest.mark.parametrize("step", [EXACT - 1, EXACT, EXACT + 1, 1 - EXACT, -EXACT, -EXACT - 1, LONG_MAX, LONG_MAX - 1, LONG_MIN, LONG_MIN + 1])
def test_steps_are_exact_to_the_last_integer(step: int) -> None:
    """Steps that no double holds come back exactly, and a general reader finds them in `steps_exact`."""
    one = with_group(steps=np.array([0, step, 7]))
    data = frame.encode(one)
    assert picture(frame.decode(data)) == picture(one)
    assert picture(frame.from_datum(fastavro_datum(data))) == picture(one)
    assert fastavro_datum(data)["groups"][0]["steps_exact"] == ([] if abs(step) < EXACT else [0, step, 7])


def test_a_frame_without_groups() -> None:
    """A frame that accounts only for records of other kinds has no groups."""
    one = sample(groups=())
    assert picture(frame.decode(frame.encode(one))) == picture(one)


def test_rows_without_names_keep_their_seqs() -> None:
    """A group of no names still accounts for its rows."""
    one = with_group(keys=(), values=np.empty((3, 0)))
    assert picture(frame.decode(frame.encode(one))) == picture(one)


def test_groups_without_rows_are_left_out() -> None:
    """A group without rows says nothing: it is neither written nor read."""
    one = sample()
    empty = one.groups[0]._replace(seqs=np.empty(0, np.int64), steps=np.empty(0, np.int64), times=np.empty(0, np.int64), values=np.empty((0, 2)))
    assert frame.encode(one._replace(groups=(empty, *one.groups, empty))) == frame.encode(one)
    datum = frame.to_datum(one)
    nothing = datum["groups"][0] | {"seqs": [], "steps": [], "times": [], "values": []}
    read = frame.decode(fastavro_bytes(datum | {"groups": [nothing, *datum["groups"], nothing]}))
    assert picture(read) == picture(one)
    assert picture(frame.from_datum(datum | {"groups": [nothing, *datum["groups"]]})) == picture(one)


def test_values_are_views_that_cannot_be_written() -> None:
    """Reading copies no values: they are a view of the record's bytes, and writing to them is refused."""
    data = frame.encode(sample())
    values = frame.decode(data).groups[0].values
    assert np.shares_memory(values, np.frombuffer(data, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        values[0, 0] = 1.0


@pytest.mark.parametrize(
    "values",
    [
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(12.0).reshape(3, 4)[:, ::2] / 2,
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.arange(6, dtype=">f8").reshape(3, 2),
        np.arange(6).reshape(3, 2),
    ],
    ids=["column by column", "strided", "float32", "big-endian", "integers"],
)
def test_values_of_any_layout_are_written_row_by_row(values: Any) -> None:
    """However an array lies in memory, its numbers are written."""
    assert frame.encode(with_group(values=values)) == frame.encode(sample())


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"seqs": np.arange(10, 14)}, "shapes"),
        ({"steps": np.arange(2)}, "shapes"),
        ({"times": np.arange(6).reshape(3, 2)}, "shapes"),
        ({"values": np.arange(6.0)}, "shapes"),
        ({"keys": ("loss",)}, "shapes"),
        ({"keys": ("loss", "\ud800")}, "UTF-8"),
        ({"times": np.array([0, 1, EXACT])}, "2\\^53"),
        ({"seqs": np.array([0, 1, LONG_MAX])}, "2\\^53"),
    ],
)
def test_a_group_that_does_not_fit_is_not_written(fields: dict[str, Any], word: str) -> None:
    """What could not be read back is refused before it is sent."""
    with pytest.raises(MalformedRecord, match=word):
        frame.encode(with_group(**fields))


@pytest.mark.parametrize("fields", [{"writer": 1 << 63}, {"started": -(1 << 63) - 1}, {"rank": 1 << 31}, {"rules_seen": -(1 << 31) - 1}, {"node": "\udcff"}])
def test_a_head_that_does_not_fit_is_not_written(fields: dict[str, Any]) -> None:
    """A number that is too great for its Avro type, or half a surrogate pair, is refused."""
    with pytest.raises(MalformedRecord):
        frame.encode(sample(**fields))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"first_seq": 11}, "rise within"),
        ({"next_seq": 12}, "rise within"),
        ({"first_seq": 14, "next_seq": 13}, "first_seq <= next_seq"),
        ({"first_seq": -1}, "first_seq <= next_seq"),
        ({"writer": -1}, "63 bits"),
        ({"rank": 1 << 31}, "32 bits"),
        ({"rules_seen": -(1 << 31) - 1}, "32 bits"),
    ],
)
def test_a_broken_account_is_refused(changes: dict[str, Any], word: str) -> None:
    """A frame whose numbers contradict each other is malformed, whichever way it is read."""
    datum = frame.to_datum(sample()) | changes
    with pytest.raises(MalformedRecord, match=word):
        frame.decode(fastavro_bytes(datum))
    with pytest.raises(MalformedRecord, match=word):
        frame.from_datum(datum)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seqs": [10.0, 12.0, 11.0]}, "rise within"),
        ({"seqs": [10.0, 10.0, 11.0]}, "rise within"),
        ({"seqs": [10.0, 10.5, 11.0]}, "whole numbers"),
        ({"times": [0.0, float("nan"), 0.0]}, "whole numbers"),
        ({"steps": [0.0, float("inf"), 0.0]}, "whole numbers"),
        ({"steps": [0.0, 1e300, 0.0]}, "whole numbers"),
        ({"steps": [0.0, 1.0]}, "3 seqs has 2 steps"),
        ({"times": []}, "0 times"),
        ({"values": [1.0]}, "1 values"),
        ({"keys": ["loss"]}, "6 values"),
        ({"steps_exact": [0, 1]}, "steps_exact"),
        ({"steps_exact": [0, 1, 3]}, "steps_exact"),
    ],
)
def test_a_group_that_contradicts_itself_is_refused(changes: dict[str, Any], word: str) -> None:
    """Lengths that disagree, seqs that do not rise and broken whole numbers are malformed, whichever way they are read."""
    datum = frame.to_datum(sample())
    datum["groups"][0] |= changes
    with pytest.raises(MalformedRecord, match=word):
        frame.decode(fastavro_bytes(datum))
    with pytest.raises(MalformedRecord, match=word):
        frame.from_datum(datum)
