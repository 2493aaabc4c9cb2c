"""A feed and a member against Kafka: what is handed out, where it goes on after trouble, and what it takes."""

# confluent-kafka's stubs leave some types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from runstream_feed.connection import connection_of
from runstream_feed.feed import Feed
from runstream_feed.fetching import Fetching
from runstream_feed.member import Member
from runstream_feed.options import LATEST, FeedRefused, Options, Trouble
from runstream_feed.records import Place, Record, Start
from runstream_local.ports import HOST, choose_port
from runstream_schemas.settings import Settings
from tests import bombs
from tests.broker import Broker
from tests.local.kafka_clients import make_topic, produce

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

OPTIONS = Options("tests")
LIMIT_S = 20.0


@contextlib.contextmanager
def feeding(kafka: str, starts: Mapping[Place, Start | None], options: Options = OPTIONS, troubles: list[Trouble] | None = None) -> Generator[Feed]:
    """A feed of some partitions."""
    feed = Feed(connection_of(Settings(kafka=kafka)), options, (troubles if troubles is not None else []).append)
    feed.add(starts)
    try:
        yield feed
    finally:
        feed.close()


def read(feed: Feed | Member, until: Callable[[list[Record]], bool], records_max: int = 500) -> list[Record]:
    """What is handed out until that is enough."""
    out: list[Record] = []
    deadline = time.monotonic() + LIMIT_S
    while not until(out):
        assert time.monotonic() < deadline, f"{len(out)} records came, the last ones {out[-3:]}"
        out += feed.poll(records_max=records_max, timeout_s=0.05)
    return out


def offsets(records: list[Record], place: Place) -> list[int]:
    """Those of a partition, in the order in which they came."""
    return [one.offset for one in records if one.place == place]


@pytest.mark.stack
def test_all_partitions_are_read_in_order_and_waited_for(kafka: str) -> None:
    """Everything that is there comes, each partition in its order; what comes later comes; what is not wanted waits."""
    topic = make_topic(kafka, partitions=3)
    produce(kafka, topic, [str(number).encode() for number in range(600)])
    places = [Place(topic, number) for number in range(3)]
    with feeding(kafka, dict.fromkeys(places)) as feed:
        found = read(feed, lambda out: len(out) == 600, records_max=7)
        assert sorted(int(one.value or b"") for one in found) == list(range(600))
        for place in places:
            assert offsets(found, place) == list(range(feed.position(place) or 0))
        assert feed.poll(records_max=1, timeout_s=0.01) == []
        feed.only(lambda place: place != places[1])
        for place in places:
            bombs.send(kafka, topic, bombs.of("lz4", [b"later"]), place.partition)
        assert {one.place for one in read(feed, lambda out: len(out) == 2)} == {places[0], places[2]}
        assert feed.poll(records_max=1, timeout_s=0.3) == []
        feed.only(lambda _: True)
        assert [one.place for one in read(feed, lambda out: len(out) == 1)] == [places[1]]
        feed.drop(places[1:])
        for place in places:
            bombs.send(kafka, topic, bombs.of("gzip", [b"latest"]), place.partition)
        assert [one.place for one in read(feed, lambda out: len(out) == 1)] == [places[0]]
        assert feed.poll(records_max=1, timeout_s=0.3) == []
        feed.add({places[2]: Start(1)})
        assert offsets(read(feed, lambda out: bool(out) and out[-1].value == b"latest"), places[2])[0] == 1


@pytest.mark.stack
def test_reading_begins_where_it_is_told(kafka: str) -> None:
    """At an offset in the middle of a batch; at the end; and, for an offset that is gone, where the options say, which is told."""
    topic = make_topic(kafka, partitions=1)
    place = Place(topic, 0)
    bombs.send(kafka, topic, bombs.of("snappy", [str(number).encode() for number in range(10)]))
    with feeding(kafka, {place: Start(4)}) as feed:
        assert offsets(read(feed, lambda out: len(out) == 6), place) == [4, 5, 6, 7, 8, 9]
    with feeding(kafka, {place: None}, Options("tests", reset=LATEST)) as feed:
        deadline = time.monotonic() + LIMIT_S
        while feed.position(place) is None and time.monotonic() < deadline:
            assert feed.poll(records_max=1, timeout_s=0.05) == []
        bombs.send(kafka, topic, bombs.of("none", [b"new"]))
        assert offsets(read(feed, lambda out: len(out) == 1), place) == [10]
    troubles: list[Trouble] = []
    with feeding(kafka, {place: Start(1000)}, troubles=troubles) as feed:
        assert offsets(read(feed, lambda out: len(out) == 11), place) == list(range(11))
    assert [one.name for one in troubles] == ["OFFSET_OUT_OF_RANGE"]


@pytest.mark.stack
def test_transactions_that_were_aborted_are_nobodys(kafka: str) -> None:
    """Their records do not come, and positions pass the marks."""
    topic = make_topic(kafka, partitions=1)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(LIMIT_S)
    for number, end in enumerate((producer.commit_transaction, producer.abort_transaction, producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, str(number).encode())
        producer.flush(LIMIT_S)
        end(LIMIT_S)
    with feeding(kafka, {Place(topic, 0): None}) as feed:
        assert [one.value for one in read(feed, lambda _: feed.position(Place(topic, 0)) == 6)] == [b"0", b"2"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process's own peak of memory is asked of Linux")
@pytest.mark.stack
def test_many_batches_take_the_memory_of_one(kafka: str) -> None:
    """On each of eight partitions ten batches of 15 MiB, and one of 64 MiB: a process that reads them all grows by less than 100 MiB."""
    topic = make_topic(kafka, partitions=8)
    large, bomb = bombs.of("zstd", [bytes(15 << 20)]), bombs.of("gzip", [bytes(64 << 20)])
    last = 0
    for partition in range(8):
        for _ in range(10):
            bombs.send(kafka, topic, large, partition)
        last = bombs.send(kafka, topic, bomb, partition)
    code = f"""
from pathlib import Path
from runstream_feed.connection import connection_of
from runstream_feed.feed import Feed
from runstream_feed.options import Options
from runstream_feed.records import Place
from runstream_local.ports import HOST, choose_port
from runstream_schemas.settings import Settings
feed = Feed(connection_of(Settings(kafka={kafka!r})), Options("tests"), print)
places = [Place({topic!r}, number) for number in range(8)]
def peak():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
before = peak()
feed.add(dict.fromkeys(places))
refused = 0
while not all(feed.position(place) == {last + 1} for place in places):
    refused += sum(one.refused is not None for one in feed.poll(records_max=2000, timeout_s=0.05))
feed.close()
print(refused, (peak() - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    refused, grown_mib = map(int, done.stdout.split())
    assert refused == 8
    assert grown_mib < 100


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that may be killed, and is started again by whoever does."""
    one = Broker(tmp_path_factory.mktemp("broker"))
    yield one
    one.stop()


def test_a_log_that_was_cut_is_read_from_where_it_was_cut(broker: Broker) -> None:
    """Who has read offsets 0 to 14 from a leader whose log ended at 10 reads 10 to 14 again, as the next leader has written them; who has read no further goes on."""
    topic = make_topic(broker.servers, partitions=1)
    place = Place(topic, 0)
    bombs.send(broker.servers, topic, bombs.of("none", [b"old"] * 10))
    first = records_of(broker, place, 10)[0].epoch
    broker.kill()
    broker.start()  # Its epoch is a new one.
    bombs.send(broker.servers, topic, bombs.of("none", [b"new"] * 10))
    troubles: list[Trouble] = []
    with feeding(broker.servers, {place: Start(15, first)}, troubles=troubles) as feed:
        found = read(feed, lambda out: bool(out) and out[-1].offset == 19)
    assert offsets(found, place) == list(range(10, 20))
    assert [one.name for one in troubles] == ["LOG_TRUNCATION"]
    assert (found[0].epoch or 0) > (first or 0)
    with feeding(broker.servers, {place: Start(7, first)}, troubles=troubles) as feed:
        assert offsets(read(feed, lambda out: bool(out) and out[-1].offset == 19), place) == list(range(7, 20))
    # Behind the end of what its leader has: that was another log, and all of this one is new.
    with feeding(broker.servers, {place: Start(100, found[0].epoch)}, troubles=troubles) as feed:
        assert offsets(read(feed, lambda out: len(out) == 20), place) == list(range(20))
    assert [one.name for one in troubles] == ["LOG_TRUNCATION", "OFFSET_OUT_OF_RANGE"]


def records_of(broker: Broker, place: Place, count: int) -> list[Record]:
    """The first records of a partition."""
    with feeding(broker.servers, {place: None}) as feed:
        return read(feed, lambda out: len(out) == count)


def test_a_broker_that_goes_and_comes_is_waited_for(broker: Broker) -> None:
    """A feed that is told before there is a broker, one that is held still, and one that is killed: nothing is left out, nothing comes twice, and it is said that nobody answers."""
    topic = make_topic(broker.servers, partitions=2)
    places = [Place(topic, 0), Place(topic, 1)]
    broker.kill()
    troubles: list[Trouble] = []
    with feeding(broker.servers, dict.fromkeys(places), troubles=troubles) as feed:
        read(feed, lambda _: bool(troubles))
        assert all(one.is_away for one in troubles)
        broker.start()
        found: list[Record] = []
        for blow in (contextlib.nullcontext, broker.held):
            with blow():
                assert feed.poll(records_max=100, timeout_s=0.3) == []
            for place in places:
                bombs.send(broker.servers, topic, bombs.of("zstd", [b"x"] * 50), place.partition)
            found += read(feed, lambda out: len(out) == 100)
        broker.kill()
        feed.poll(records_max=1, timeout_s=0.2)
        broker.start()
        bombs.send(broker.servers, topic, bombs.of("zstd", [b"x"]), 1)
        found += read(feed, lambda out: len(out) == 1)
    assert offsets(found, places[0]) == list(range(100))
    assert offsets(found, places[1]) == list(range(101))


@pytest.mark.stack
def test_who_waits_takes_no_room_from_others(kafka: str) -> None:
    """Of three partitions that have filled what may be fetched ahead two are not wanted: the third is read to its end, and they are once they are wanted."""
    topic = make_topic(kafka, partitions=3)
    places = [Place(topic, number) for number in range(3)]
    for place in places:
        for _ in range(20):
            bombs.send(kafka, topic, bombs.of("none", [random.Random(1).randbytes(20_000)]), place.partition)
    with feeding(kafka, dict.fromkeys(places), Options("tests", ahead_bytes=100_000, partition_bytes=40_000)) as feed:
        found = read(feed, lambda out: len({one.place for one in out}) == 3, records_max=1)
        feed.only(lambda place: place == places[2])
        found += read(feed, lambda _: feed.position(places[2]) == 20)
        feed.only(lambda _: True)
        found += read(feed, lambda _: all(feed.position(place) == 20 for place in places))
    for place in places:
        assert offsets(found, place) == list(range(20))


def test_a_broker_at_another_address_is_found_again(tmp_path: Path) -> None:
    """Where the address that was given leads to it: after a restart on another port, of which the old one says nothing."""
    broker = Broker(tmp_path)
    target = [broker.port]
    try:
        topic = make_topic(broker.servers, partitions=1)
        with forwarding(target) as servers, feeding(servers, {Place(topic, 0): None}) as feed:
            bombs.send(broker.servers, topic, bombs.of("none", [b"before"]))
            read(feed, lambda out: len(out) == 1)
            broker.stop()
            broker.port = target[0] = choose_port()
            broker.start()
            bombs.send(broker.servers, topic, bombs.of("none", [b"behind"]))
            assert [one.value for one in read(feed, lambda out: len(out) == 1)] == [b"behind"]
    finally:
        broker.stop()


@contextlib.contextmanager
def forwarding(target: list[int]) -> Generator[str]:
    """An address that leads to a port of this machine, whichever it is at the time."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there = await asyncio.open_connection(HOST, target[0])
            await asyncio.wait([asyncio.create_task(pump(reader, there[1])), asyncio.create_task(pump(there[0], writer))], return_when=asyncio.FIRST_COMPLETED)
            there[1].close()
        writer.close()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)

    loop = asyncio.new_event_loop()
    port = choose_port()
    server = loop.run_until_complete(asyncio.start_server(serve, HOST, port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


def test_a_reader_that_has_died_says_so_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever polls is never left to wait for what does not come."""

    def dies(_: Fetching) -> None:
        raise ValueError("of something that nobody foresaw")

    monkeypatch.setattr(Fetching, "run", dies)
    with feeding("127.0.0.1:9", {Place("topic", 0): None}) as feed:
        for _ in range(2):
            with pytest.raises(FeedRefused, match="reading Kafka ended: ValueError: of something"):
                feed.poll(records_max=1, timeout_s=10)


def config(kafka: str, group: str, protocol: str, strategy: str | None) -> dict[str, str | int | bool]:
    """librdkafka's options of a member."""
    given: dict[str, str | int | bool] = {"bootstrap.servers": kafka, "group.id": group, "group.protocol": protocol, "enable.auto.commit": False}
    if strategy is not None:
        given |= {"partition.assignment.strategy": strategy, "session.timeout.ms": 6000}
    return given


@pytest.mark.stack
@pytest.mark.parametrize(("protocol", "strategy"), [("classic", "range"), ("classic", "cooperative-sticky"), ("consumer", None)])
def test_members_share_what_there_is_and_go_on_where_others_were(kafka: str, protocol: str, strategy: str | None) -> None:
    """In every group protocol: a member that comes takes some, commits, and leaves them to the first, which goes on behind; nothing is read twice but what nobody committed."""
    topic = make_topic(kafka, partitions=4)
    group = uuid.uuid4().hex

    def member() -> tuple[Member, set[Place]]:
        held: set[Place] = set()
        errors: list[KafkaError] = []
        one = Member(config(kafka, group, protocol, strategy), connection_of(Settings(kafka=kafka)), OPTIONS, on_error=errors.append, on_trouble=print)

        def gone(places: set[Place], lost: bool) -> None:
            assert not lost
            held.difference_update(places)

        one.subscribe([topic], on_assign=held.update, on_revoke=gone)
        return one, held

    def send() -> None:
        for partition in range(4):
            bombs.send(kafka, topic, bombs.of("zstd", [b"x"] * 5), partition)

    def commit(one: Member, records: list[Record]) -> None:
        newest = {record.place: record for record in records}
        marks = [TopicPartition(*place, record.offset + 1, leader_epoch=record.epoch or 0) for place, record in newest.items()]
        one.consumer.commit(offsets=marks, asynchronous=False)

    first, firsts = member()
    try:
        send()
        found = read(first, lambda out: len(out) == 20)
        commit(first, found)
        assert len(firsts) == 4
        assert first.consumer.assignment() == []
        second, seconds = member()
        try:
            deadline = time.monotonic() + LIMIT_S
            while len(seconds) != 2 or len(firsts) != 2:
                assert time.monotonic() < deadline
                assert first.poll(records_max=10, timeout_s=0.05) == second.poll(records_max=10, timeout_s=0.05) == []
            send()
            mine, others = read(first, lambda out: len(out) == 10), read(second, lambda out: len(out) == 10)
            assert {one.place for one in mine} == firsts
            assert {one.place for one in others} == seconds
            assert {one.offset for one in mine + others} == {5, 6, 7, 8, 9}
            commit(first, mine)
            commit(second, others)
            assert first.committed(seconds, LIMIT_S).keys() == seconds
        finally:
            second.close()
        assert seconds == set()
        while len(firsts) != 4:
            assert time.monotonic() < deadline + LIMIT_S
            assert first.poll(records_max=10, timeout_s=0.05) == []
        send()
        assert {one.offset for one in read(first, lambda out: len(out) == 20)} == {10, 11, 12, 13, 14}
    finally:
        first.close()
    # What was not committed is read again by whoever comes.
    third, _ = member()
    try:
        assert {one.offset for one in read(third, lambda out: len(out) == 20)} == {10, 11, 12, 13, 14}
    finally:
        third.close()
