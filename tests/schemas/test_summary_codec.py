"""The packed codec of summaries against fastavro: the same bytes, the same records, and no word of its own where something is wrong."""

# fastavro's stubs leave its file argument's type open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import asdict, fields, replace
from io import BytesIO
from typing import Any, cast

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_schemas import summary_codec, wire
from runstream_schemas.catalogue import bundled
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import SummaryFrame

SCHEMA = bundled().newest("SummaryFrame").parsed
TEXTS = ("names", "contexts", "subjects")
DOUBLES = ("sums", "means", "m2s", "mins", "maxs", "firsts", "lasts")
LONGS = tuple(one.name for one in fields(SummaryFrame) if one.type.startswith("Sequence") and one.name not in (*TEXTS, *DOUBLES))
EDGES = st.sampled_from([0, 1, -1, 63, 64, -64, -65, 8191, 8192, 1 << 31, -(1 << 31), (1 << 53) + 1, (1 << 63) - 1, -(1 << 63)])
whole = st.one_of(EDGES, st.integers(-(1 << 63), (1 << 63) - 1))


def by_fastavro(frame: SummaryFrame) -> bytes:
    """What fastavro writes."""
    out = BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, asdict(frame))
    return out.getvalue()


@st.composite
def summaries(draw: st.DrawFn) -> SummaryFrame:
    """A frame that is long enough for the packed codec; columns repeat a few drawn values, and begin at places of their own."""
    count = draw(st.integers(summary_codec.SERIES_MIN, summary_codec.SERIES_MIN + 80))

    def column(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        few = draw(st.lists(values, min_size=1, max_size=5))
        return tuple(few[number % len(few)] for number in range(count))

    texts = st.one_of(st.just(""), st.text(max_size=6), st.text(min_size=60, max_size=90))
    columns: dict[str, Any] = (
        {name: column(texts) for name in TEXTS} | {name: column(st.floats()) for name in DOUBLES} | {name: column(whole) for name in LONGS}
    )
    small = st.integers(-(1 << 31), (1 << 31) - 1)
    return SummaryFrame(
        draw(st.text(max_size=40)), draw(whole), draw(small), draw(whole), draw(small), draw(st.text(max_size=9)), draw(whole), draw(whole), **columns
    )


_COLUMNS: dict[str, Any] = {
    **{name: tuple(f"{name}/{number}" for number in range(50)) for name in TEXTS},
    **dict.fromkeys(DOUBLES, (0.5,) * 50),
    **dict.fromkeys(LONGS, tuple(range(0, 5000, 100))),
}
PLAIN = SummaryFrame("r", 1, 0, 9, 3, "a", 5, 6, **_COLUMNS)


@given(frame=summaries())
@settings(max_examples=60)
def test_the_bytes_are_those_of_fastavro(frame: SummaryFrame) -> None:
    """Written and read either way, a frame is the same to the last bit."""
    raw = by_fastavro(frame)
    assert summary_codec.encode(frame) == raw
    read = summary_codec.decode(b"?" + raw, 1)
    assert repr(read) == repr(frame)
    assert read is not None
    assert summary_codec.encode(read) == raw


@given(frame=summaries(), data=st.data())
@settings(max_examples=60)
def test_other_bytes_are_read_as_fastavro_reads_them_or_left_to_it(frame: SummaryFrame, data: st.DataObject) -> None:
    """A frame with a byte changed, cut or added is never read as something else than fastavro reads."""
    raw = bytearray(by_fastavro(frame))
    at = data.draw(st.integers(0, len(raw) - 1))
    kind = data.draw(st.sampled_from(["change", "cut", "add"]))
    if kind == "change":
        raw[at] = data.draw(st.integers(0, 255))
    elif kind == "cut":
        del raw[at : at + data.draw(st.integers(1, 20))]
    else:
        raw[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    read = summary_codec.decode(bytes(raw), 0)
    if read is not None:
        expected = cast("dict[str, Any]", fastavro.schemaless_reader(BytesIO(bytes(raw)), SCHEMA, SCHEMA))
        columns = {name: tuple(expected[name]) for name in (*TEXTS, *DOUBLES, *LONGS)}
        assert repr(asdict(read)) == repr(expected | columns)


def test_what_is_left_to_fastavro() -> None:
    """Short frames, columns of unequal length and numbers that do not fit are not packed; the wire says of them what it always did."""
    assert summary_codec.encode(PLAIN) is not None
    short = replace(PLAIN, **{name: values[:3] for name, values in _COLUMNS.items()})
    for frame in (short, replace(PLAIN, counts=PLAIN.counts[1:]), replace(PLAIN, rank=1 << 31), replace(PLAIN, counts=(1 << 63,) * 50)):
        assert summary_codec.encode(frame) is None
    assert wire.decode(wire.encode(short)) == short
    with pytest.raises(MalformedRecord, match="one length"):
        wire.decode(wire.encode(replace(PLAIN, counts=PLAIN.counts[1:])))
    with pytest.raises(MalformedRecord, match="rank must fit 32 bits"):
        wire.encode(replace(PLAIN, rank=1 << 31))


def test_an_array_in_two_blocks_is_read_all_the_same() -> None:
    """Other writers may cut an array; the wire reads that through fastavro."""
    whole_column, half = b"\x64" + bytes(50), b"\x32" + bytes(25)
    empty = replace(PLAIN, contexts=("",) * 50)
    raw = wire.encode(empty)
    cut = raw.replace(whole_column, half + half, 1)
    assert cut != raw
    assert summary_codec.decode(cut, wire.PREFIX_BYTES) is None
    assert wire.decode(cut) == empty == wire.decode(raw)


def test_names_are_remembered_by_all_of_their_bytes() -> None:
    """Two lists that begin in the same way are told apart."""
    other = replace(PLAIN, names=(*PLAIN.names[:-1], "another"))
    for _ in range(2):
        for frame in (PLAIN, other):
            assert wire.decode(wire.encode(frame)) == frame
