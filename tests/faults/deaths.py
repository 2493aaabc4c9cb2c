"""Brings parts of a stage and of a job to die at named points, and sees whether they did.

Ranks and agents die by their own hand (`trap`); ClickHouse, the broker and the stage's own sink are killed by the proxy that sees their requests pass (`proxy.Ambush`). Workers that join
a group and die by their own hand are `stage`'s guests.
"""

from __future__ import annotations

import contextlib
import random
import signal
import struct
import threading
from collections.abc import Callable

import psutil

from tests.faults import trap
from tests.faults.job import Job, Rank, signalled
from tests.faults.proxy import Ambush, IsAnswer
from tests.faults.schedule import Blow, Part
from tests.faults.stage import Stage
from tests.waiting import holds

Seen = Callable[[], bool]
_PRODUCE, _COMMIT = 0, 8  # Kafka's numbers of requests.
_PRODUCE_BYTES = 1000  # One that carries records; an agent's heartbeat alone is shorter.
_OF_SINKS = b"-sinks"  # In the name of their group.
_HEAD = struct.Struct(">ihh4s")  # Length, kind, version, and the number that the answer bears, too.


def insert(piece: bytes) -> IsAnswer | None:
    """Whether this begins an insert into ClickHouse; what the server sends next is its answer."""
    return (lambda _: True) if b"query=INSERT" in piece else None


def kafka_request(kind: int, piece: bytes, bytes_min: int, mark: bytes) -> IsAnswer | None:
    """Whether this begins a request to Kafka of such a kind."""
    if len(piece) < max(bytes_min, _HEAD.size) or mark not in piece:
        return None
    _, is_kind, version, number = _HEAD.unpack_from(piece)
    if is_kind != kind or version > 20:  # Else a piece of a longer request, whose first bytes mean anything.
        return None
    return lambda answer: answer[4:8] == number


def produce(piece: bytes) -> IsAnswer | None:
    """Whether this begins a request with records."""
    return kafka_request(_PRODUCE, piece, _PRODUCE_BYTES, b"")


def commit(piece: bytes) -> IsAnswer | None:
    """Whether this begins a sink's commit."""
    return kafka_request(_COMMIT, piece, 0, _OF_SINKS)


# By part and point: on which link the request passes, what knows it, whether its answer is waited for. insert, produce, commit: it has been passed on and is not answered. answered,
# stored, committed: the answer has left the server, and the client does not have it.
_REQUESTS: dict[tuple[Part, str], tuple[Part, Callable[[bytes], IsAnswer | None], bool]] = {
    ("clickhouse", "insert"): ("clickhouse", insert, False),
    ("clickhouse", "answered"): ("clickhouse", insert, True),
    ("kafka", "produce"): ("kafka", produce, False),
    ("kafka", "stored"): ("kafka", produce, True),
    ("kafka", "commit"): ("kafka", commit, False),
    ("sinks", "insert"): ("clickhouse", insert, False),
    ("sinks", "answered"): ("clickhouse", insert, True),
    ("sinks", "commit"): ("kafka", commit, False),
    ("sinks", "committed"): ("kafka", commit, True),
}


class Deaths:
    """Lets parts die at named points. `spare` is held while nobody may begin to log; `kills` are those that it took to bring a part there."""

    def __init__(self, stage: Stage, job: Job, draw: random.Random, spare: threading.Lock) -> None:
        self._stage = stage
        self._job = job
        self._draw = draw
        self._spare = spare
        self.kills = 0

    def begin(self, blow: Blow) -> Seen | None:
        """Arms a point; the answer waits, at most as long as the blow says, and tells whether the part died there. None where there is nobody to die."""
        match blow.part:
            case "rank":
                return self._rank(blow.detail, blow.for_s)
            case "agent":
                return self._agent(blow.detail, blow.for_s)
            case _:
                return self._server_or_sink(blow)

    def _rank(self, point: str, limit_s: float) -> Seen | None:
        able = [one for one in self._job.living() if point not in trap.OF_ROWS or one.rank % 2]
        if not able:
            return None
        one = self._draw.choice(able)
        one.doomed = True
        assert one.trap is not None
        one.trap.arm(point)
        if point in trap.OF_ENDS:
            one.stop.touch()
        return lambda: self._rank_died(one, point, limit_s)

    def _rank_died(self, one: Rank, point: str, limit_s: float) -> bool:
        assert one.trap is not None
        died = holds(lambda: one.process.poll() is not None, limit_s)
        one.trap.disarm(point)
        if died or point in trap.OF_ENDS:
            with self._spare:
                self._job.restart(one)
        else:
            one.doomed = False
        return one.trap.sprung(point)

    def _agent(self, point: str, limit_s: float) -> Seen | None:
        traps, pid = self._job.agent_trap, self._job.agent()
        if traps is None or pid is None:
            return None
        traps.arm(point)
        if point in trap.OF_BEGINNINGS:  # Of the next one.
            self.kills += signalled(pid, signal.SIGKILL)
        elif point in trap.OF_JOURNALS_ENDS:  # Of that of a rank which ends.
            with self._spare:
                if living := self._job.living():
                    self._job.kill_and_restart(self._draw.choice(living))
                    self.kills += 1

        def died() -> bool:
            seen = holds(lambda: traps.sprung(point), limit_s)
            traps.disarm(point)
            return seen or traps.sprung(point)

        return died

    def _server_or_sink(self, blow: Blow) -> Seen | None:
        at, asks, answered = _REQUESTS[blow.part, blow.detail]
        link = self._stage.links[at]

        def whom(port: int) -> int | None:
            pid = self._stage.pid(blow.part, limit_s=0.0)
            return pid if pid is None or blow.part == at or port in _ports(pid) else None

        ambush = Ambush(asks, whom, answered, blow.amount / 1000)
        link.lie_in_wait(ambush)

        def died() -> bool:
            ambush.over.wait(blow.for_s)
            killed = link.call_off(ambush)
            # The supervisor has seen it, so that nobody takes the stack for healthy meanwhile.
            return killed and holds(lambda: self._stage.pid(blow.part, limit_s=0.0) != ambush.killed, 10.0)

        return died


def _ports(pid: int) -> set[int]:
    """The local ports of a process's connections."""
    with contextlib.suppress(psutil.Error):
        return {one.laddr.port for one in psutil.Process(pid).net_connections("tcp") if one.laddr}
    return set()
