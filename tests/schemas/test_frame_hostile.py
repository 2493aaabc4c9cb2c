"""Bytes that are no frame: MalformedRecord and nothing else, in time and memory that the bytes' own number bounds, whatever the memos hold."""

from __future__ import annotations

import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runstream_schemas import frame
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.frame_batch import decode_many
from tests.schemas.frames import EXACT, avro_long, avro_text, datum_picture, fastavro_datum, forget, frames, picture, sample

if TYPE_CHECKING:
    from runstream_schemas.records import MetricFrame

HEAD = frame.encode(sample(groups=()))[:-1]  # All but the end of the list of groups.


def outcome(data: bytes) -> object:
    """The frame's picture, or the error's text; anything but MalformedRecord goes through."""
    try:
        return picture(frame.decode(data))
    except MalformedRecord as error:
        return str(error)


def check(data: bytes) -> None:
    """Bytes are refused, or read as fastavro reads them; and the memos make no difference."""
    warm = outcome(data)
    forget()
    cold = outcome(data)
    assert warm == cold == outcome(data)
    if not isinstance(cold, str):
        assert datum_picture(frame.to_datum(frame.decode(data))) == datum_picture(without_empty_groups(fastavro_datum(data)))


def without_empty_groups(datum: dict[str, Any]) -> dict[str, Any]:
    """What the packed codec makes of a datum: groups without rows are left out, and the steps are the exact ones, which stand there again only where a double may not hold one."""
    groups: list[dict[str, Any]] = []
    for group in datum["groups"]:
        steps = group["steps_exact"] or group["steps"]
        if group["seqs"]:
            groups.append(group | {"steps": steps, "steps_exact": steps if any(abs(step) >= EXACT for step in steps) else []})
    return datum | {"groups": groups}


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """The bytes of a frame with a few of them changed, taken out, put in or moved."""
    data = bytearray(frame.encode(draw(frames())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        size = draw(st.integers(0, 9))
        data[at : at + size] = draw(st.one_of(st.just(b""), st.binary(max_size=12), st.integers(-(1 << 63), (1 << 63) - 1).map(avro_long)))
    return bytes(data)


@given(mutations())
def test_changed_bytes_are_refused_or_read_as_fastavro_reads_them(data: bytes) -> None:
    """A mutated frame never raises anything but MalformedRecord, and where it is still a frame, fastavro agrees on every bit."""
    check(data)


@given(st.binary(max_size=200))
@example(b"")
@example(HEAD)
def test_random_bytes_are_refused_or_read_as_fastavro_reads_them(data: bytes) -> None:
    """Random bytes, alone and behind a valid head, never raise anything but MalformedRecord."""
    check(data)
    check(HEAD + data)


@given(frames())
def test_every_beginning_of_a_frame_is_refused(one: MetricFrame) -> None:
    """A frame that was cut anywhere, or that has a byte too many, is malformed; with warm memos too."""
    data = frame.encode(one)
    frame.decode(data)
    for size in range(len(data)):
        with pytest.raises(MalformedRecord):
            frame.decode(data[:size])
    with pytest.raises(MalformedRecord, match="ends after"):
        frame.decode(data + b"\0")


@given(st.lists(frames(), min_size=2, max_size=6))
def test_memos_never_mix_frames(several: list[MetricFrame]) -> None:
    """Frames that share the beginnings of heads and name lists, read in turns, come back as themselves."""
    forget()
    data = [frame.encode(one) for one in several]
    for _ in range(2):
        for one, its in zip(several, data, strict=True):
            assert picture(frame.decode(its)) == picture(one)
            assert frame.encode(one) == its


def test_memos_tell_apart_what_differs_late() -> None:
    """Heads and name lists that agree in every byte of their mark, and in length, are still told apart."""
    common = tuple(f"layer/{number}/weight" for number in range(20))
    frames_ = [sample(keys=(*common, last), node=node) for last in ("a", "b") for node in ("n1", "n2")]
    for one in frames_ * 2:
        assert picture(frame.decode(frame.encode(one))) == picture(one)


def test_a_memo_lets_no_malformed_bytes_through() -> None:
    """After a name list was learned, the same names under another size or number are refused as they are cold."""
    data = frame.encode(sample())
    frame.decode(data)
    names = avro_text("loss") + avro_text("accuracy")
    block = avro_long(-2) + avro_long(len(names)) + names + b"\0"
    assert block in data
    for wrong in (
        avro_long(-3) + avro_long(len(names)) + names + b"\0",
        avro_long(-1) + avro_long(len(names)) + names + b"\0",
        avro_long(-2) + avro_long(len(names) - 1) + names + b"\0",
        avro_long(-2) + avro_long(len(names) + 1) + names + b"\0",
        avro_long(-2) + avro_long(len(names)) + names.replace(b"loss", b"lo\xffs") + b"\0",
        avro_long(-2) + avro_long(len(names)) + names,
    ):
        bad = data.replace(block, wrong)
        for _ in range(2):
            with pytest.raises(MalformedRecord):
                frame.decode(bad)
        assert picture(frame.decode(data)) == picture(sample())


def test_memos_are_bounded() -> None:
    """However many and however long the heads and name lists are, the memos keep a bounded number of bytes."""
    forget()
    for number in range(5000):
        frame.decode(frame.encode(sample(writer=number, keys=(f"k{number}", "x"))))
    for number in range(40):
        frame.decode(frame.encode(sample(writer=number, node="n" * 1_000_000, keys=("k" * 1_000_000, str(number)))))
    for memo in (frame._head_in, frame._names_in, frame._head_out, frame._names_out):
        assert 0 < len(memo._entries) <= 4096
        assert memo._bytes <= 16 << 20
    forget()


def counts_that_lie() -> list[bytes]:
    """Frames whose counts and sizes promise more than comes."""
    huge = [avro_long(value) for value in (1 << 20, 1 << 40, (1 << 63) - 1, 1 << 61)]
    sized = [avro_long(-(1 << size)) + avro_long(100) for size in (20, 40, 63)]
    group = HEAD + avro_long(1) + b"\0\0"
    out: list[bytes] = []
    for count in (*huge, *sized):
        out += [count, HEAD + count, group + count, group + b"\0" + count, group + b"\0\0" + count, group + b"\0\0\0\0" + count, group + b"\0\0\0\0\0" + count]
    return [one + bytes(200) for one in out]


def test_a_count_is_believed_only_with_its_bytes() -> None:
    """A count of more than the bytes can hold is refused before anything is made for it."""
    for data in counts_that_lie():
        tracemalloc.start()
        with pytest.raises(MalformedRecord):
            frame.decode(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


def many(kind: str, size: int) -> bytes:
    """A body of about `size` bytes that asks for the most work a byte."""
    group = avro_long(1) + b"\0\0"
    if kind == "empty groups":
        return HEAD + avro_long(size // 8) + bytes(8 * (size // 8)) + b"\0"
    if kind == "groups one a block":
        return HEAD + (avro_long(1) + bytes(8)) * (size // 9) + b"\0"
    if kind == "empty names":
        return HEAD + group + avro_long(size) + bytes(size) + bytes(7)
    if kind == "names one a block":
        return HEAD + group + (avro_long(1) + b"\0") * (size // 2) + bytes(7)
    if kind == "names one a sized block":
        return HEAD + group + (avro_long(-1) + avro_long(1) + b"\0") * (size // 3) + bytes(7)
    if kind == "doubles one a block":
        return HEAD + group + b"\0" + (avro_long(1) + bytes(8)) * (size // 9) + bytes(5)
    if kind == "exact steps one a block":
        return HEAD + group + bytes(5) + (avro_long(1) + b"\0") * (size // 2) + bytes(2)
    assert kind == "one-row groups"
    one = b"\0\0\0" + (avro_long(1) + struct.pack("<d", 10.0) + b"\0") * 3 + b"\0\0"
    return HEAD + avro_long(size // len(one)) + one * (size // len(one)) + b"\0"


@pytest.mark.parametrize(
    "kind",
    [
        "empty groups",
        "groups one a block",
        "empty names",
        "names one a block",
        "names one a sized block",
        "doubles one a block",
        "exact steps one a block",
        "one-row groups",
    ],
)
def test_work_and_memory_grow_with_the_bytes_alone(kind: str) -> None:
    """The bytes that ask for the most work take microseconds each at worst, not more the more of them come, and a few dozen bytes of memory."""
    size = 200_000
    data = many(kind, size)
    started = time.process_time()
    try:
        frame.decode(data)
    except MalformedRecord:
        pass
    assert time.process_time() - started < size * 10e-6
    tracemalloc.start()
    try:
        frame.decode(data[: 40_000 + len(HEAD)] if kind.endswith("block") else many(kind, 40_000))
    except MalformedRecord:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 40_000
    forget()


@pytest.mark.parametrize("number", [b"\xff" * 9 + b"\x02", b"\xff" * 9 + b"\x7f", b"\x80" * 10 + b"\x00", b"\x80" * 9 + b"\x02", b"\xff" * 11])
def test_integers_beyond_64_bits_are_refused(number: bytes) -> None:
    """A variable-length integer of more than 64 bits, or in more than 10 bytes, is malformed: Python would hold it, nobody behind us could."""
    data = frame.encode(sample())
    assert frame.decode(data.replace(avro_long(1_700_000_000_000), b"\xff" * 9 + b"\x01", 1)).started == -(1 << 63)
    with pytest.raises(MalformedRecord, match="at most 64 bits"):
        frame.decode(data.replace(avro_long(1_700_000_000_000), number, 1))


def group_of(seqs: bytes, steps: bytes, times: bytes, values: int) -> bytes:
    """A frame of one group with one name, its columns as given."""
    column = avro_long(values) + bytes(8 * values) + b"\0"
    return HEAD + b"\x02" + avro_text("") * 2 + b"\x02" + avro_text("x") + b"\0" + seqs + steps + times + column + b"\0\0"


def blocks(*several: list[float]) -> bytes:
    """An array of doubles in these blocks."""
    return b"".join(avro_long(len(one)) + struct.pack(f"<{len(one)}d", *one) for one in several) + b"\0"


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_columns_that_only_look_plain_are_read_as_they_are(cut: int) -> None:
    """Three columns are taken in one view only where each is one block of the same length: a zero at the place of an end is not enough."""
    columns = [[10.0, 11.0, 12.0], [1.0, 2.0, 0.0], [3.0, 4.0, 0.0]]
    parts = [blocks(column[:1], column[1:]) if number == cut else blocks(column) for number, column in enumerate(columns)]
    data = group_of(*parts, values=3)
    assert datum_picture(fastavro_datum(data))
    group = frame.decode(data).groups[0]
    assert [group.seqs.tolist(), group.steps.tolist(), group.times.tolist()] == columns


@pytest.mark.parametrize("longer", [0, 1, 2])
def test_a_column_that_goes_on_is_seen(longer: int) -> None:
    """A column of another length than its neighbours is malformed, also where its first block has their length."""
    columns = [[10.0, 11.0, 12.0], [1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]
    parts = [blocks(column, [13.0]) if number == longer else blocks(column) for number, column in enumerate(columns)]
    lengths = [4 if number == longer else 3 for number in range(3)]
    with pytest.raises(MalformedRecord, match=f"a group of {lengths[0]} seqs has {lengths[1]} steps and {lengths[2]} times"):
        frame.decode(group_of(*parts, values=3))


def test_a_number_that_looks_like_a_count() -> None:
    """The end of a column is looked for, not only the count of the next one: a number may begin with the same byte."""
    extra = float((1 << 52) + 6)
    assert struct.pack("<d", extra)[:1] == avro_long(3)
    data = group_of(blocks([10.0, 11.0, 12.0]), blocks([1.0, 2.0, 3.0], [extra]), blocks([3.0, 0.0, 5.0]), values=3)
    with pytest.raises(MalformedRecord, match="3 seqs has 4 steps and 3 times"):
        frame.decode(data)


def test_what_a_double_may_not_hold_is_refused() -> None:
    """A seq, a time, or a step without its exact number, of 2^53 or more may have been another number: no frame of ours has one, and none could be written again."""
    near, beyond = [float(EXACT - 1)], [float(EXACT)]
    good = group_of(blocks([10.0]), blocks(near), blocks(near), values=1)
    assert frame.decode(good).groups[0].times.tolist() == [EXACT - 1]
    assert decode_many([good] * 5)[1] == []
    for steps, times in ((near, beyond), (beyond, near), ([-beyond[0]], near)):
        data = group_of(blocks([10.0]), blocks(steps), blocks(times), values=1)
        with pytest.raises(MalformedRecord, match="below 2\\^53 in size"):
            frame.decode(data)
        batches, rest = decode_many([data] * 5)
        assert (batches, rest) == ([], [0, 1, 2, 3, 4])


def test_exact_steps_that_a_double_holds_are_steps() -> None:
    """A writer that says its steps twice without need is read like one that does not."""
    column = blocks([10.0])
    data = HEAD + b"\x02" + avro_text("") * 2 + b"\x02" + avro_text("x") + b"\0" + column * 4 + b"\x02" + avro_long(10) + b"\0\0"
    assert picture(frame.decode(data)) == picture(frame.decode(HEAD + b"\x02" + avro_text("") * 2 + b"\x02" + avro_text("x") + b"\0" + column * 4 + b"\0\0"))
    check(data)
