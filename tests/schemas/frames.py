"""Frames to test the codec with: a strategy that draws them, equality to the bit, fastavro as the oracle, and an Avro writer that cuts arrays into any blocks."""

# fastavro's stubs leave its file argument's type open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import fastavro
import numpy as np
from hypothesis import strategies as st

from runstream_schemas import frame
from runstream_schemas.catalogue import bundled
from runstream_schemas.records import MetricFrame, MetricGroup

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

LONG_MIN, LONG_MAX = -(1 << 63), (1 << 63) - 1
EXACT = 1 << 53

# Few of each, so that frames share beginnings and meet in the memos.
texts = st.one_of(st.sampled_from(["", "train", "loss", "loss/a", "loss/b", "é" * 40]), st.text(max_size=8))
run_ids = st.one_of(st.sampled_from(["018f3c9e-0000-7000-8000-000000000000", "018f3c9e-0000-7000-8000-000000000001", "r"]), texts)
steps = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([EXACT - 1, EXACT, EXACT + 1, -EXACT, -EXACT - 1, LONG_MAX, LONG_MIN]),
    st.integers(LONG_MIN, LONG_MAX),
)
ints = st.integers(-(1 << 31), (1 << 31) - 1)


@st.composite
def groups(draw: st.DrawFn, first_seq: int) -> MetricGroup:
    """A group of 1 to 5 rows and 0 to 4 names, its seqs in [first_seq, first_seq + 100), its values of any bits."""
    keys = tuple(draw(st.lists(texts, max_size=4, unique=True)))
    seqs = sorted(draw(st.sets(st.integers(first_seq, first_seq + 99), min_size=1, max_size=5)))
    count = len(seqs)
    bits = draw(st.binary(min_size=8 * count * len(keys), max_size=8 * count * len(keys)))
    return MetricGroup(
        context=draw(texts),
        subject=draw(texts),
        keys=keys,
        seqs=np.array(seqs, np.int64),
        steps=np.array(draw(st.lists(steps, min_size=count, max_size=count)), np.int64),
        times=np.array(draw(st.lists(st.integers(1 - EXACT, EXACT - 1), min_size=count, max_size=count)), np.int64),
        values=np.frombuffer(bits, "<f8").reshape(count, len(keys)),
    )


@st.composite
def frames(draw: st.DrawFn) -> MetricFrame:
    """Any frame that may be written."""
    first_seq = draw(st.sampled_from([0, 1, 1000, EXACT - 200]))
    return MetricFrame(
        run_id=draw(run_ids),
        writer=draw(st.one_of(st.sampled_from([0, 1, LONG_MAX]), st.integers(0, LONG_MAX))),
        started=draw(st.integers(LONG_MIN, LONG_MAX)),
        attempt=draw(texts),
        rank=draw(ints),
        node=draw(texts),
        project=draw(texts),
        first_seq=first_seq,
        next_seq=first_seq + 100,
        rules_seen=draw(ints),
        groups=tuple(draw(st.lists(groups(first_seq), max_size=3))),
    )


def picture(one: MetricFrame) -> tuple[object, ...]:
    """The frame as a value that is equal only where every bit and type is."""
    arrays = [(group[:3], *((array.dtype.str, array.shape, array.tobytes()) for array in group[3:])) for group in one.groups]
    return (*one[:10], arrays)


def datum_picture(datum: dict[str, Any]) -> dict[str, Any]:
    """The dictionary of a frame with its floats as bits, so that NaN equals itself and -0.0 does not equal 0.0."""
    groups = [{name: _bits(value) if name in ("seqs", "steps", "times", "values") else value for name, value in group.items()} for group in datum["groups"]]
    return datum | {"groups": groups}


def _bits(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def fastavro_bytes(datum: dict[str, Any]) -> bytes:
    """What fastavro writes."""
    out = BytesIO()
    fastavro.schemaless_writer(out, bundled().newest("MetricFrame").parsed, datum)
    return out.getvalue()


def fastavro_datum(data: bytes) -> dict[str, Any]:
    """What fastavro reads; raises EOFError where it leaves bytes over."""
    body = BytesIO(data)
    datum = cast("dict[str, Any]", fastavro.schemaless_reader(body, bundled().newest("MetricFrame").parsed, None))
    if body.tell() != len(data):
        raise EOFError("bytes are left over")
    return datum


def avro_long(value: int) -> bytes:
    """An integer in Avro's form, written in another way than the codec's."""
    rest = value * 2 if value >= 0 else -value * 2 - 1
    out: list[int] = []
    while True:
        rest, low = divmod(rest, 128)
        out.append(low + 128 if rest else low)
        if not rest:
            return bytes(out)


def avro_text(value: str) -> bytes:
    """A text in Avro's form."""
    raw = value.encode()
    return avro_long(len(raw)) + raw


def avro_double(value: float) -> bytes:
    """A double in Avro's form."""
    return struct.pack("<d", value)


def in_blocks(datum: dict[str, Any], random: Random) -> bytes:
    """The frame as some other Avro writer may write it: each array in any number of blocks, any of them with a negative count and its size in bytes."""

    def array(items: list[Any], item: Callable[[Any], bytes]) -> bytes:
        out: list[bytes] = []
        while items:
            count = random.randint(1, len(items))
            body = b"".join(map(item, items[:count]))
            out.append(avro_long(-count) + avro_long(len(body)) + body if random.random() < 0.5 else avro_long(count) + body)
            items = items[count:]
        return b"".join(out) + b"\0"

    def group(one: dict[str, Any]) -> bytes:
        parts = [avro_text(one["context"]), avro_text(one["subject"]), array(one["keys"], avro_text)]
        parts += [array(one[name], avro_double) for name in ("seqs", "steps", "times", "values")]
        return b"".join((*parts, array(one["steps_exact"], avro_long)))

    head = [avro_text(datum["run_id"]), avro_long(datum["writer"]), avro_long(datum["started"]), avro_text(datum["attempt"]), avro_long(datum["rank"])]
    head += [avro_text(datum["node"]), avro_text(datum["project"]), *(avro_long(datum[name]) for name in ("first_seq", "next_seq", "rules_seen"))]
    return b"".join((*head, array(datum["groups"], group)))


def forget() -> None:
    """Empties the codec's memos."""
    for memo in (frame._head_in, frame._names_in, frame._head_out, frame._names_out):
        memo.clear()


def sample(rows: int = 3, keys: tuple[str, ...] = ("loss", "accuracy"), **fields: Any) -> MetricFrame:
    """A small ordinary frame; `fields` replace its own."""
    one = MetricFrame(
        run_id="018f3c9e-0000-7000-8000-000000000000",
        writer=1234567890123456789,
        started=1_700_000_000_000,
        attempt="job/0",
        rank=1,
        node="node-7",
        project="digits",
        first_seq=10,
        next_seq=10 + rows,
        rules_seen=2,
        groups=(
            MetricGroup(
                context="train",
                subject="",
                keys=keys,
                seqs=np.arange(10, 10 + rows),
                steps=np.arange(rows),
                times=np.arange(rows) + 1_700_000_000_000,
                values=np.arange(float(rows * len(keys))).reshape(rows, len(keys)),
            ),
        ),
    )
    return one._replace(**fields)
