"""The reading of one partition, without Kafka: what is handed out, in which portions, and what waits."""

from __future__ import annotations

import struct

import pytest

from runstream_feed.batches import batches_of
from runstream_feed.partition import Aborted, Partition
from runstream_feed.records import Place, Record, Start
from runstream_feed.shelf import Shelf
from tests import bombs

PLACE = Place("topic", 0)
MANY = 1 << 30


def partition(start: int = 0, epoch: int | None = None) -> Partition:
    """A partition that is read from an offset."""
    return Partition(PLACE, Start(start, epoch))


def batch(first: int, values: list[bytes], *, epoch: int = 0, producer: int = -1, attributes: int = 0, key: bytes | None = None) -> bytes:
    """A batch that some leader has taken; its checksum is not made anew, since nobody looks at it."""
    data = bytearray(bombs.of("zstd", values, key, first=first))
    struct.pack_into(">i", data, 12, epoch)
    struct.pack_into(">h", data, 21, struct.unpack_from(">h", data, 21)[0] | attributes)
    struct.pack_into(">q", data, 43, producer)
    return bytes(data)


def taken(one: Partition, records_max: int = MANY, bytes_max: int = MANY) -> list[Record]:
    """Everything that it hands out, in portions."""
    out: list[Record] = []
    while one.is_ready:
        more: list[Record] = []
        one.take(more, records_max, bytes_max)
        assert len(more) <= records_max
        out += more
    return out


def test_answers_come_one_behind_the_other() -> None:
    """What is fetched ahead begins where the last answer ended; an answer to what is not asked any more is dropped."""
    one = partition(5)
    assert one.fetch_from == 5
    assert one.fetched(5, batch(4, [b"early", b"a", b"b"]) + batch(7, [b"c"]), [])
    assert one.fetch_from == 8
    assert not one.fetched(5, batch(4, [b"late"]), [])
    assert one.fetched(8, batch(8, [b"d"]), [])
    assert [(found.offset, found.value) for found in taken(one, records_max=2)] == [(5, b"a"), (6, b"b"), (7, b"c"), (8, b"d")]
    assert (one.position, one.fetch_from, one.nbytes, one.epoch) == (9, 9, 0, 0)


def test_a_portion_ends_at_its_bounds_and_the_next_goes_on() -> None:
    """By records and by bytes; a batch that was begun stays open, and is opened again where it was paused meanwhile."""
    one = partition()
    one.fetched(0, batch(0, [b"xxxx"] * 10), [])
    out: list[Record] = []
    assert one.take(out, 3, MANY) == 12
    assert one.take(out, MANY, 5) == 8
    assert (len(out), one.position, one.is_open) == (5, 5, True)
    one.pause()
    assert not one.is_open
    assert one.take(out, MANY, MANY) == 0
    one.paused = False
    one.take(out, MANY, MANY)
    assert [found.offset for found in out] == list(range(10))
    assert not one.is_open


def test_headers_count_too() -> None:
    """A portion ends at its bytes whatever they stand in, and empty headers cost what they take."""
    one = partition()
    for number in range(5):
        one.fetched(number, bombs.headed("zstd", [("name", bytes(1000))], first=number), [])
    for number in range(5, 10):
        one.fetched(number, bombs.headed("zstd", [("", None)] * 10, first=number), [])
    portions: list[tuple[int, bool]] = []
    while one.is_ready:
        out: list[Record] = []
        nbytes = one.take(out, MANY, 1000)
        if out:
            portions.append((len(out), nbytes >= 1000))
    assert portions == [(1, True)] * 10


def test_what_waits_beside_others_is_forgotten_and_fetched_again() -> None:
    """So that it takes no room from those that are wanted; nothing is left out."""
    one = partition()
    one.fetched(0, batch(0, [b"a", b"b"]) + batch(2, [b"c"]), [])
    out: list[Record] = []
    one.take(out, 1, MANY)
    one.pause()
    one.forget()
    assert (one.nbytes, one.fetch_from, one.position) == (0, 1, 1)
    assert not one.fetched(1, batch(0, [b"a", b"b"]), [])
    one.paused = False
    assert one.fetched(1, batch(0, [b"a", b"b"]) + batch(2, [b"c"]), [])
    assert [record.value for record in out + taken(one)] == [b"a", b"b", b"c"]


def test_what_cannot_be_read_stands_for_itself() -> None:
    """A batch that is refused is one record at its end, with the reason; of one that breaks off what came before is kept."""
    one = partition()
    broken = bytearray(bombs.mistitled("gzip", [b"good"]))
    struct.pack_into(">q", broken, 0, 3)
    one.fetched(0, batch(0, [bytes(1 << 24), b"more"]) + batch(2, [b"fine"]) + bytes(broken) + batch(5, [b"last"]), [])
    found = taken(one)
    assert [(record.offset, record.value) for record in found] == [(1, None), (2, b"fine"), (3, b"good"), (4, None), (5, b"last")]
    assert found[0].refused == "a batch of records, offsets 0 to 1, was not read: it expands to more than 16777216 bytes"
    assert str(found[3].refused).startswith("a batch of records, offsets 4 to 4, was not read: it is broken: UnicodeDecodeError")


def test_a_batch_that_says_to_hold_more_records_than_offsets_is_read_once() -> None:
    """What it holds is handed out, and nothing stands a second time at the last offset."""
    data = bytearray(batch(0, [b"only"]))
    struct.pack_into(">i", data, 57, 200)
    one = partition()
    one.fetched(0, bytes(data) + batch(1, [b"next"]), [])
    assert [(record.offset, record.value) for record in taken(one)] == [(0, b"only"), (1, b"next")]


def test_a_newer_leader_is_doubted_until_it_has_spoken() -> None:
    """Its records wait; they come once it is known to have what was read, and are fetched anew from where the log was cut."""
    one = partition(10, epoch=1)
    one.fetched(10, batch(10, [b"old"], epoch=1) + batch(11, [b"new"], epoch=3), [])
    assert [record.value for record in taken(one)] == [b"old"]
    assert (one.doubt, one.is_ready) == (3, False)
    one.confirmed()
    assert [(record.value, record.epoch) for record in taken(one)] == [(b"new", 3)]
    one.fetched(12, batch(12, [b"newer"], epoch=4), [])
    taken(one)
    assert one.doubt == 4
    one.at(Start(9))
    assert (one.fetch_from, one.doubt, one.nbytes) == (9, None, 0)
    one.fetched(9, batch(9, [b"other"], epoch=4), [])
    assert [(record.offset, record.value) for record in taken(one)] == [(9, b"other")]


def test_records_of_transactions_that_were_aborted_are_left_out() -> None:
    """Those of their producer from its first offset to its mark, and of nobody else; marks are handed out to nobody, and passed."""
    one = partition()

    def mark(first: int, producer: int, kind: int) -> bytes:
        return batch(first, [b""], producer=producer, attributes=0x30, key=struct.pack(">hh", 0, kind))

    answer = [batch(0, [b"a"], producer=7, attributes=0x10), batch(1, [b"b"], producer=8, attributes=0x10), mark(2, 7, 0), mark(3, 8, 1)]
    answer += [batch(4, [b"c"], producer=7, attributes=0x10), mark(5, 7, 1)]
    one.fetched(0, b"".join(answer), [Aborted(7, 0)])
    assert [(record.offset, record.value) for record in taken(one)] == [(1, b"b"), (4, b"c")]
    assert one.position == 6


def test_one_batch_is_open_however_many_partitions_there_are() -> None:
    """Whoever has begun a batch goes on with it before another is opened, and then takes turns."""
    shelf = Shelf()
    ones = [Partition(Place("topic", number), Start(0)) for number in range(3)]
    for one in ones:
        shelf.put(one)
        one.fetched(0, batch(0, [b"x"] * 5) + batch(5, [b"y"]), [])
        shelf.ready(one)
    seen: list[tuple[int, int]] = []
    while True:
        out: list[Record] = []
        shelf.take(out, 2, MANY)
        if not out:
            break
        seen += [(record.place.partition, record.offset) for record in out]
        assert sum(one.is_open for one in ones) <= 1
    assert seen == [(number, offset) for number in range(3) for offset in range(5)] + [(number, 5) for number in range(3)]


def test_whoever_is_paused_or_dropped_has_no_turn() -> None:
    """And has it again once it is resumed."""
    shelf = Shelf()
    one = partition()
    shelf.put(one)
    one.fetched(0, batch(0, [b"a", b"b"]), [])
    shelf.ready(one)
    shelf.pause(one, paused=True)
    out: list[Record] = []
    shelf.take(out, MANY, MANY)
    assert out == []
    shelf.pause(one, paused=False)
    shelf.take(out, 1, MANY)
    assert [record.value for record in out] == [b"a"]
    shelf.drop(PLACE)
    shelf.take(out, MANY, MANY)
    assert len(out) == 1
    assert not shelf.has(one)


@pytest.mark.parametrize("size", [1, 1000])
def test_memory_is_what_kafka_stores(size: int) -> None:
    """The bytes that wait are those of the batches as they came, and are gone once they were read."""
    one = partition()
    data = batch(0, [bytes(size)] * 1000)
    one.fetched(0, data, [])
    assert one.nbytes == len(data) == sum(found.nbytes for found in batches_of(data))
    taken(one, records_max=10)
    assert one.nbytes == 0
