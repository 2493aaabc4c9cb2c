"""Batches as Kafka stores them: found in what a broker gives, undone within a bound, and refused where they are none."""

from __future__ import annotations

import struct
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_feed.batches import BatchRefused, batches_of, gzip_decode, lz4_decode, records_of, snappy_decode, zstd_decode
from runstream_schemas.topics import BATCH_BYTES_MAX, DEAD_LETTER_BYTES_MAX
from tests import bombs

if TYPE_CHECKING:
    from collections.abc import Callable

DECODE: dict[bombs.Codec, Callable[[bytes, int], bytes]] = {"gzip": gzip_decode, "snappy": snappy_decode, "lz4": lz4_decode, "zstd": zstd_decode}
each_codec = pytest.mark.parametrize("codec", bombs.COMPRESSED)


def framed(block: bytes) -> bytes:
    """Snappy as Java frames it, in one block."""
    return b"\x82SNAPPY\x00" + (1).to_bytes(4) * 2 + len(block).to_bytes(4) + block


@each_codec
def test_what_fits_the_bound_is_undone_and_what_does_not_is_refused(codec: bombs.Codec) -> None:
    """The bound itself is allowed, a byte more is not, and neither is what is broken or cut off."""
    plain = bytes(range(256)) * 16
    data = bombs.compressed(codec, plain)
    decode = DECODE[codec]
    assert decode(data, len(plain)) == plain
    with pytest.raises(BatchRefused, match="expands to more than 4095 bytes"):
        decode(data, len(plain) - 1)
    for broken in (data[:-20], data[:9] + b"\xff" * 40, b"\xff" * 40):
        with pytest.raises(BatchRefused):
            decode(broken, len(plain))
    if codec == "snappy":
        assert decode(framed(data), len(plain)) == plain
        with pytest.raises(BatchRefused, match="ends early"):
            decode(framed(data)[:-3], len(plain))


@each_codec
def test_a_bomb_takes_no_more_than_the_bound(codec: bombs.Codec) -> None:
    """What is refused never came to be: the peak is the bound and what was sent, not what it would have become."""
    data = bombs.compressed(codec, bytes(4 * BATCH_BYTES_MAX))
    tracemalloc.start()
    try:
        with pytest.raises(BatchRefused):
            DECODE[codec](data, BATCH_BYTES_MAX)
        # The buffer, and what was sent once or twice.
        assert tracemalloc.get_traced_memory()[1] < 2.1 * BATCH_BYTES_MAX + 2 * len(data)
    finally:
        tracemalloc.stop()


def test_gzip_of_many_members_is_refused() -> None:
    """Each costs a copy of what is behind it, so that a million of them would take minutes."""
    member = bombs.compressed("gzip", b"x")
    assert gzip_decode(member * 100) == b"x" * 100
    with pytest.raises(BatchRefused, match="more than 100 members"):
        gzip_decode(member * 101)


def test_producers_of_ours_stay_well_below_the_bound() -> None:
    """The greatest message that any topic takes, uncompressed, with a whole batch before it."""
    assert DEAD_LETTER_BYTES_MAX + (1 << 20) < BATCH_BYTES_MAX


@pytest.mark.parametrize("codec", bombs.CODECS)
def test_records_come_back_as_they_were_sent(codec: bombs.Codec) -> None:
    """Batches one after the other, each with its offsets, keys and values; one that is cut off at the end is left out."""
    answer = bombs.of(codec, [b"a", b"", b"c"], b"key", first=7) + bombs.of(codec, [b"d"], first=10)
    found = batches_of(answer + bombs.of(codec, [b"cut off"], first=11)[:-1])
    assert [(one.first, one.end) for one in found] == [(7, 10), (10, 11)]
    assert [[(one.offset, one.key, one.value) for one in records_of(batch)] for batch in found] == [
        [(7, b"key", b"a"), (8, b"key", b""), (9, b"key", b"c")],
        [(10, None, b"d")],
    ]
    assert sum(one.nbytes for one in found) == len(answer)


def test_other_formats_and_codecs_are_refused() -> None:
    """The batch of an old format, and one whose codec nobody knows, each in a sentence."""
    data = bytearray(bombs.of("none", [b"a"]))
    data[16] = 1
    with pytest.raises(BatchRefused, match="format 1, expected 2"):
        list(records_of(batches_of(bytes(data))[0]))
    data[16], data[22] = 2, 7
    with pytest.raises(BatchRefused, match="its codec 7 is none of Kafka's"):
        list(records_of(batches_of(bytes(data))[0]))


def test_what_stands_before_a_broken_record_is_given() -> None:
    """A header whose name is no text, which brokers do not look into: the records before it come, and then the refusal."""
    batch = batches_of(bombs.mistitled("gzip", [b"good"]))[0]
    records = records_of(batch)
    assert next(records).value == b"good"
    with pytest.raises(BatchRefused, match="broken: UnicodeDecodeError"):
        next(records)


@given(st.binary(max_size=300), st.integers(0, 80), st.integers(0, 255))
def test_no_bytes_do_more_than_be_refused(junk: bytes, at: int, value: int) -> None:
    """Whatever stands in an answer: batches are found within it, they grow, and their records come or are refused."""
    whole = bytearray(bombs.of("gzip", [b"some", b"values"], first=5))
    whole[at] = value
    for answer in (junk, bytes(whole) + junk, bombs.batch("none", junk, 9)):
        batches = batches_of(answer)
        assert sum(one.nbytes for one in batches) <= len(answer)
        for batch in batches:
            assert batch.end > batch.first
            try:
                list(records_of(batch, 1 << 20))
            except BatchRefused:
                pass


def test_a_count_of_records_is_believed_only_with_its_bytes() -> None:
    """A batch that says to hold two thousand million records takes what its bytes take."""
    batch = batches_of(bombs.batch("none", bombs.records([b"one"]), 1))[0]
    data = bytearray(batch.data)
    struct.pack_into(">i", data, 57, 2_000_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(BatchRefused):
            list(records_of(batches_of(bytes(data))[0]))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
