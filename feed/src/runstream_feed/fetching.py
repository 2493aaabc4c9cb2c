"""Asks brokers for what the partitions on a shelf want, one question to each broker at a time: where they begin, whether their logs were cut, and else for batches.

aiokafka connects, logs in, speaks the protocol and knows who leads what; what is asked when, and what is made of the answers, is decided here. A log that was cut behind what was read is
noticed by the epochs of its leaders (KIP-320), and a replica that is near is asked instead of the leader (KIP-392).
"""

# aiokafka is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from runstream_feed.connection import aiokafka_security
from runstream_feed.epochs import EpochEnds, ends_of
from runstream_feed.options import Trouble
from runstream_feed.partition import Aborted
from runstream_feed.records import Place, Start

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from runstream_feed.connection import Connection
    from runstream_feed.options import Options
    from runstream_feed.partition import Partition
    from runstream_feed.shelf import Shelf

# A request that is not answered by then, and what it may wait for records, was lost on the way, and its connection is made anew.
REQUEST_TIMEOUT_S = 10.0
# A client that nobody has answered for so long, and what it may wait for records, is made anew: all addresses that it knew may be those of others by then.
SILENCE_S_MAX = 6.0
# A partition is fetched ahead up to so many answers; a broker that is asked for others meanwhile answers soon, so that it can be asked for this one again.
_AHEAD_ANSWERS = 4
_WAIT_WHILE_FULL_MS = 10
_TURN_S = 0.2
_REST_S = 0.2
_REST_S_MAX = 2.0

# Kafka's words for answers that are no records.
_OUT_OF_RANGE = 1
_NOT_ALLOWED = 29
# The leader has moved, or is about to: it is looked for again, and nothing needs to be said.
_MOVED = {3, 5, 6, 8, 9, 56, 74, 75, 76, 78, 100}
_NO_ANSWER = -1


class Fetching:
    """The side of a shelf that fetches. `run` belongs to a thread of its own, `look` to any."""

    def __init__(self, shelf: Shelf, connection: Connection, options: Options) -> None:
        self._shelf, self._connection, self._options = shelf, connection, options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._heard_at = 0.0
        self._near: dict[Place, tuple[int, float]] = {}  # A replica, and until when it is asked.
        # It says much of what passes by itself; what matters of it is put on the shelf.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

    def look(self) -> None:
        """Has it look at the shelf again, since what is wanted has changed."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # It has ended.
                self._loop.call_soon_threadsafe(self._wake.set)

    def run(self) -> None:
        """Fetches until it is stopped."""
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    def stop(self) -> None:
        """Ends `run`, whatever it waits for. The shelf must be closed, for a `run` that has not begun."""
        if self._loop is not None and self._task is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)

    async def _serve(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        rest_s = _REST_S
        while not self._shelf.closing:
            client = AIOKafkaClient(
                bootstrap_servers=",".join(self._connection.servers),
                client_id=self._options.client_id,
                metadata_max_age_ms=self._options.metadata_ms,
                request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000) + self._options.wait_ms,
                **aiokafka_security(self._connection),
            )
            try:
                await client.bootstrap()
                rest_s = _REST_S
                await self._fetch_on(client)
            except (KafkaError, OSError) as error:
                self._says(error)
                await self._pause(rest_s)
                rest_s = min(_REST_S_MAX, 2 * rest_s)
            finally:
                with contextlib.suppress(Exception):
                    await client.close()

    async def _pause(self, rest_s: float) -> None:
        until = time.monotonic() + rest_s
        while not self._shelf.closing and (left_s := until - time.monotonic()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left_s)

    # ---- who is asked what -------------------------------------------------------------------------------------------------------------

    async def _fetch_on(self, client: AIOKafkaClient) -> None:
        """Until the shelf is closed. Raises OSError once nobody has answered for long."""
        tasks: dict[int, asyncio.Task[None]] = {}
        topics: set[str] = set()
        self._heard_at = time.monotonic()
        try:
            while not self._shelf.closing:
                self._wake.clear()
                with self._shelf.changed:
                    wanted = {place.topic for place in self._shelf.partitions}
                    questions, is_lost, is_idle = self._questions(client, tasks)
                if wanted != topics:
                    topics = wanted
                    client.set_topics(topics)
                elif is_lost:
                    client.force_metadata_update()
                tasks |= {node: asyncio.create_task(question) for node, question in questions.items()}
                silence_s_max = SILENCE_S_MAX + self._options.wait_ms / 1000
                if is_idle:
                    self._heard_at = time.monotonic()
                elif time.monotonic() > self._heard_at + silence_s_max:
                    raise OSError(f"no broker has answered, or none leads what is read, for {silence_s_max:g} s")
                await self._until_something(tasks)
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            # Of those that had not begun nothing was asked.
            with self._shelf.changed:
                for one in self._shelf.partitions.values():
                    one.asked = False

    async def _until_something(self, tasks: dict[int, asyncio.Task[None]]) -> None:
        """Waits a turn, or until somebody wants something or has answered; takes out of `tasks` who has."""
        waker = asyncio.create_task(self._wake.wait())
        await asyncio.wait({waker, *tasks.values()}, timeout=_TURN_S, return_when=asyncio.FIRST_COMPLETED)
        waker.cancel()
        for node in [node for node, task in tasks.items() if task.done()]:
            tasks.pop(node).result()

    def _questions(self, client: AIOKafkaClient, busy: Mapping[int, object]) -> tuple[dict[int, Coroutine[Any, Any, None]], bool, bool]:
        """One for each broker that has none yet, whether some partition's leader is not known, and whether nothing is wanted of anybody."""
        begins: dict[int, list[Partition]] = defaultdict(list)
        doubts: dict[int, list[Partition]] = defaultdict(list)
        wants: dict[int, list[Partition]] = defaultdict(list)
        now, is_lost, is_full, is_idle = time.monotonic(), False, False, not busy
        room = self._options.ahead_bytes - sum(one.nbytes for one in self._shelf.partitions.values())
        for place, one in self._shelf.partitions.items():
            if one.asked or now < one.rests_until:
                is_idle = False
                continue
            leader = client.cluster.leader_for_partition(TopicPartition(*place))
            if leader is None or leader == -1:
                is_lost, is_idle, one.rests_until = True, False, now + _REST_S
            elif one.position is None:
                begins[leader].append(one)
            elif one.doubt is not None:
                doubts[leader].append(one)
            elif one.paused:
                continue
            elif room <= 0 or one.nbytes >= _AHEAD_ANSWERS * self._options.partition_bytes:
                is_full = True
            else:
                near, until = self._near.get(place, (leader, 0.0))
                wants[near if now < until else leader].append(one)
        out: dict[int, Coroutine[Any, Any, None]] = {}
        for node in {*begins, *doubts, *wants} - busy.keys():
            if begins[node]:
                asked, out[node] = begins[node], self._ask_begin(client, node, begins[node])
            elif doubts[node]:
                asked, out[node] = doubts[node], self._ask_ends(client, node, doubts[node])
            else:
                asked, out[node] = wants[node], self._ask_records(client, node, wants[node], is_full=is_full)
            for one in asked:
                one.asked = True
        return out, is_lost, is_idle and not out

    async def _answer(self, client: AIOKafkaClient, node: int, request: Any, asked: list[Partition]) -> Any:
        """What a broker answers, or None where it does not; then the partitions rest."""
        try:
            answer = await client.send(node, request)
        except (KafkaError, OSError) as error:
            self._says(error)
            self._rest(client, asked)
            return None
        else:
            self._heard_at = time.monotonic()
            return answer
        finally:
            with self._shelf.changed:
                for one in asked:
                    one.asked = False

    # ---- records -----------------------------------------------------------------------------------------------------------------------

    async def _ask_records(self, client: AIOKafkaClient, node: int, asked: list[Partition], *, is_full: bool) -> None:
        options = self._options
        with self._shelf.changed:
            froms = {one.place: (one, offset) for one in asked if (offset := one.fetch_from) is not None}
        topics: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
        for place, (_, offset) in froms.items():
            topics[place.topic].append((place.partition, offset, options.partition_bytes))
        wait_ms = min(options.wait_ms, _WAIT_WHILE_FULL_MS) if is_full else options.wait_ms
        request = FetchRequest(wait_ms, options.bytes_min, options.answer_bytes, int(options.read_committed), list(topics.items()), rack_id=options.rack)
        answer = await self._answer(client, node, request, asked)
        if answer is None:
            return
        failed: list[Partition] = []
        near = {one.place for one in asked if client.cluster.leader_for_partition(TopicPartition(*one.place)) != node}
        with self._shelf.changed:
            for topic, partitions in answer.topics:
                for number, code, _, *rest in partitions:
                    one, offset = froms.get(Place(topic, number), (None, 0))
                    if one is None or not self._shelf.has(one):
                        continue
                    if code == 0:
                        self._take(one, offset, rest, is_rack_aware=answer.API_VERSION >= 11)
                    elif code == _OUT_OF_RANGE and one.place not in near:
                        self._take_out_of_range(one, offset)
                    else:
                        failed.append(one)
                        self._note(one, code)
            self._shelf.changed.notify()
        if failed:
            self._rest(client, failed)

    def _take(self, one: Partition, offset: int, rest: list[Any], *, is_rack_aware: bool) -> None:
        """What came for a partition: (ends of its log, ) transactions that were aborted, maybe a replica that is near, and batches."""
        if is_rack_aware and rest[3] >= 0:
            self._near[one.place] = (rest[3], time.monotonic() + self._options.metadata_ms / 1000)
        aborted, batches = rest[2] if is_rack_aware else rest[-2], rest[-1]
        if one.fetched(offset, batches or b"", [Aborted(*each) for each in aborted or ()]):
            self._shelf.was_served(one)
            self._shelf.ready(one)
        elif batches:
            one.rests_until = time.monotonic() + _REST_S

    def _take_out_of_range(self, one: Partition, offset: int) -> None:
        """The log has no such offset, be it that its beginning was deleted or that the topic is another one by now: the options say where to go on."""
        if one.fetch_from != offset or one.nbytes:
            # What was fetched before comes first.
            one.rests_until = time.monotonic() + _REST_S
            return
        self._shelf.troubles.append(Trouble("OFFSET_OUT_OF_RANGE", f"{one.place.topic}/{one.place.partition} has no offset {offset} any more", is_away=False))
        one.lost()

    # ---- where partitions begin, and where logs were cut -------------------------------------------------------------------------------

    async def _ask_begin(self, client: AIOKafkaClient, node: int, asked: list[Partition]) -> None:
        topics: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for one in asked:
            topics[one.place.topic].append((one.place.partition, self._options.reset))
        answer = await self._answer(client, node, OffsetRequest(-1, int(self._options.read_committed), list(topics.items())), asked)
        if answer is not None:
            found = {Place(topic, number): (code, rest[-1]) for topic, partitions in answer.topics for number, code, *rest in partitions}
            self._settle(client, asked, found, lambda one, offset: one.at(Start(offset)))

    async def _ask_ends(self, client: AIOKafkaClient, node: int, asked: list[Partition]) -> None:
        answer = await self._answer(client, node, EpochEnds({one.place: one.epoch for one in asked if one.epoch is not None}), asked)
        if answer is not None:
            self._settle(client, asked, ends_of(answer), self._take_end)

    def _take_end(self, one: Partition, end: int) -> None:
        """Records of the epoch that was read last end at `end` for the leader of now (-1: it does not know of the epoch)."""
        position = one.position
        if position is None or one.doubt is None:
            return
        if 0 <= end < position:
            where = f"{one.place.topic}/{one.place.partition}"
            self._shelf.troubles.append(
                Trouble("LOG_TRUNCATION", f"{where} was cut at offset {end}, and {position} was next: going on from {end}", is_away=False)
            )
            one.at(Start(end))
        else:
            one.confirmed()
            self._shelf.ready(one)

    def _settle(self, client: AIOKafkaClient, asked: list[Partition], found: Mapping[Any, tuple[int, int]], take: Callable[[Partition, int], None]) -> None:
        """Takes an offset for each partition; those for which the broker has none are asked about again."""
        failed: list[Partition] = []
        with self._shelf.changed:
            for one in asked:
                code, offset = found.get(one.place, (_NO_ANSWER, 0))
                if not self._shelf.has(one):
                    continue
                if code == 0:
                    take(one, offset)
                else:
                    failed.append(one)
                    self._note(one, code)
            self._shelf.changed.notify()
        if failed:
            self._rest(client, failed)

    # ---- trouble -----------------------------------------------------------------------------------------------------------------------

    def _note(self, one: Partition, code: int) -> None:
        """A partition for which a broker has an error; under the lock."""
        self._near.pop(one.place, None)
        if code == _NOT_ALLOWED:
            self._shelf.refused = f"TOPIC_AUTHORIZATION_FAILED: {one.place.topic}"
        elif code not in (*_MOVED, _OUT_OF_RANGE, _NO_ANSWER):  # A replica may be behind its leader, which is asked next.
            self._shelf.troubles.append(Trouble(for_code(code).__name__, f"{one.place.topic}/{one.place.partition}", is_away=False))

    def _rest(self, client: AIOKafkaClient, asked: list[Partition]) -> None:
        until = time.monotonic() + _REST_S
        with self._shelf.changed:
            for one in asked:
                one.rests_until = until
                self._near.pop(one.place, None)
        client.force_metadata_update()

    def _says(self, error: Exception) -> None:
        with self._shelf.changed:
            self._shelf.troubles.append(Trouble(type(error).__name__, str(error) or type(error).__name__, is_away=True))
            self._shelf.changed.notify()
