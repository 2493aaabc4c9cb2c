"""A sender that keeps what it is given and answers when it is told to: the shipper's Kafka in tests of its decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaError

from runstream_producers.kafka import Failure, Sender
from runstream_schemas import wire
from runstream_schemas.records import MetricFrame, Record

Answer = Callable[["Failure | None"], None]
UNKNOWN_TOPIC = KafkaError.UNKNOWN_TOPIC_OR_PART
TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE


@dataclass(frozen=True)
class Sent:
    """A record that was handed over, and the way to answer it."""

    topic: str
    key: bytes
    value: bytes
    answer: Answer

    @property
    def record(self) -> Record:
        """The record itself."""
        return wire.decode(self.value)


class ListSender(Sender):
    """Takes records while there is `room`; nothing is answered until `settle` or an answer of one's own."""

    def __init__(self) -> None:
        self.last_error = self.trouble = ""
        self.broken = False
        self.keeps_order = True
        self.room = 1 << 30
        self.sent: list[Sent] = []
        self._open: list[Sent] = []

    @property
    def outdated(self) -> bool:
        """Never."""
        return False

    def send(self, topic: str, key: bytes, value: bytes, on_answer: Answer) -> bool:
        """Takes a record; False where there is no room."""
        if len(self._open) >= self.room:
            return False
        one = Sent(topic, key, value, on_answer)
        self.sent.append(one)
        self._open.append(one)
        return True

    def settle(self, refuse: Callable[[Sent], int | None] = lambda _sent: None) -> int:
        """Answers all that is open: with the error code that `refuse` gives, or success for None. Returns how many there were."""
        waiting, self._open = self._open, []
        for one in waiting:
            code = refuse(one)
            one.answer(None if code is None else Failure(KafkaError(code)))
        return len(waiting)

    def forget(self) -> None:
        """Never answers what is open."""
        self._open.clear()

    def poll(self, timeout_s: float) -> int:  # noqa: ARG002 - it answers when told to, never by itself
        """Answers nothing."""
        return 0

    def waiting(self) -> int:
        """How many have no answer."""
        return len(self._open)

    def flush(self, timeout_s: float) -> int:  # noqa: ARG002 - likewise
        """How many have no answer."""
        return len(self._open)


def frames(sent: Iterable[Sent]) -> list[MetricFrame]:
    """The frames among records, in order."""
    return [record for one in sent if isinstance(record := one.record, MetricFrame)]


def others(sent: Iterable[Sent]) -> list[Record]:
    """The records of other kinds, in order."""
    return [record for one in sent if not isinstance(record := one.record, MetricFrame)]
