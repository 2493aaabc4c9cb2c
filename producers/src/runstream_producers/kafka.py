"""The one module that touches confluent-kafka's producer: options in, typed answers out."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from confluent_kafka import KafkaError, KafkaException, Producer

from runstream_producers.errors import ProducersError
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runstream_schemas.settings import Settings

_log = logging.getLogger(__name__)
# librdkafka repeats itself for as long as a trouble lasts; what matters of it is said here, and only its worst is let through.
_librdkafka = logging.getLogger(f"{__name__}.librdkafka")
_librdkafka.setLevel(logging.CRITICAL)


def producer_options(settings: Settings, client_id: str) -> dict[str, Any]:
    """librdkafka's options for a producer that loses nothing; the user's `kafka_options` come last and win."""
    return {
        "bootstrap.servers": settings.kafka,
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        # Never give up on a record by itself: an outage may last longer than any time-out, and the journal holds the rows meanwhile.
        "message.timeout.ms": 0,
        # How long a topic that Kafka does not know is waited for, before its records are answered with an error.
        "topic.metadata.propagation.max.ms": 10_000,
        # A connection that is silent for so long is given up; the broker itself waits for its replicas for half of that, so that its answer comes in time.
        "socket.timeout.ms": round(settings.register_timeout * 1000),
        "request.timeout.ms": round(settings.register_timeout * 500),
        "linger.ms": settings.linger_ms,
        "compression.type": "lz4",
        # Faust's partitioner, so that records of one key meet its tables' partitions.
        "partitioner": "murmur2_random",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.kbytes": 65_536,
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "log.connection.close": False,
        **settings.kafka_options,
    }


def keeps_order(options: Mapping[str, Any]) -> bool:
    """Whether a producer with these options never lets a record overtake one of its partition that was sent before and failed.

    With a time-out of messages a record may run out of time just before Kafka is back, and the one behind it arrive. Without idempotence those that are under way together
    may change places when one is sent again.
    """
    timeouts_ms = (str(options.get(name, 0)) for name in ("message.timeout.ms", "delivery.timeout.ms"))
    return all(one == "0" for one in timeouts_ms) and str(options.get("enable.idempotence", "")).lower() == "true"


Kind = Literal["wait", "unreachable", "access", "topic", "record", "fatal"]
_KINDS: dict[Kind, tuple[int, ...]] = {
    "record": (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD, KafkaError._BAD_MSG),
    "access": (
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ),
    "topic": (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION, KafkaError.TOPIC_EXCEPTION),
    "unreachable": (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE),
    "fatal": (KafkaError._FATAL,),
}
# What to do about each kind, for the one line that a user reads.
_ADVICE: dict[Kind, str] = {
    "unreachable": "Kafka cannot be reached: check RUNSTREAM_KAFKA and the network, or start a stack with `runstream up`",
    "access": "Kafka refuses this client: check the credentials in RUNSTREAM_KAFKA_OPTIONS and what they may write to",
    "topic": "a topic is missing: `python -m runstream_producers.topics apply` creates them",
}
_TLS_ALERT = "SSL alert"  # How OpenSSL words what the other side has told.
_SAID_AGAIN_S = 300.0  # How often the same trouble is logged.
_PAUSE_S = 0.002  # Before answers are looked for again the first time; twice as long each time after.
_SET_BACK_S = 1.0  # A wall clock that is set back by less is an adjustment, which delays nothing to speak of.


def kind_of(error: KafkaError) -> Kind:
    """What an error asks for.

    `wait`: it passes, and what failed is sent again. `unreachable`, `access`, `topic`: likewise, once somebody has mended the network, the credentials or the topics. `record`: the
    record is refused for good and set aside. `fatal`: this producer is at its end, and another goes on from what is acknowledged.
    """
    return "fatal" if error.fatal() else _kind_of_code(error.code())


def _kind_of_code(code: int) -> Kind:
    for kind, codes in _KINDS.items():
        if code in codes:
            return kind
    return "wait"


def _wall_ahead_s() -> float:
    """By how much the wall clock is ahead of the one that nobody sets."""
    return time.time() - time.monotonic()


class SenderError(ProducersError):
    """No producer can be made of these settings."""


class Failure:
    """Why a record was not delivered: the name of librdkafka's error, what it asks for, and whether the record itself is to blame.

    `refused` says whether it counts as an answer to this record, which is not to be sent for ever. It does not where the producer is at its end, nor where the record ran out
    of time (`message.timeout.ms`) and no other one arrived meanwhile either: that is an outage.
    """

    __slots__ = ("kind", "name", "record_is_bad", "refused", "text")

    def __init__(self, error: KafkaError, *, others_arrived: bool = True) -> None:
        self.name = str(error.name())
        self.text = str(error.str())
        self.kind = kind_of(error)
        self.record_is_bad = self.kind == "record"
        self.refused = self.kind != "fatal" and (others_arrived or self.kind not in ("wait", "unreachable"))


class Sender:
    """Sends records; each answer comes to its own callback inside `poll`, in the calling thread. Once `broken` it sends nothing any more: another has to take over.

    `trouble` is the one sentence on why nothing arrives at present, empty once something has; one that comes after another (`before`) takes it over. `delivered` counts what has
    arrived. `keeps_order` says whether several frames of a writer may be under way at once. Raises SenderError where librdkafka does not take the options.
    """

    def __init__(self, options: dict[str, Any], before: Sender | None = None) -> None:
        self.trouble = "" if before is None else before.trouble
        self.last_error = ""
        self.broken = False
        self.keeps_order = keeps_order(options)
        self.delivered = 0
        self._ahead_s = _wall_ahead_s()
        self._trouble_kind: Kind = "wait" if before is None else before._trouble_kind
        self._said: dict[str, float] = {} if before is None else before._said
        try:
            self._producer = Producer(options | {"error_cb": self._note}, logger=_librdkafka)
        except KafkaException as problem:
            raise SenderError(f"RUNSTREAM_KAFKA_OPTIONS must be options that librdkafka takes: {problem.args[0].str()}") from problem

    def send(self, topic: str, key: bytes, value: bytes, on_answer: Callable[[Failure | None], None]) -> bool:
        """Hands a record over; False where the queue is full, so that the caller waits. The answer is None for success."""

        delivered_before = self.delivered

        def answered(error: KafkaError | None, _message: object) -> None:
            if error is None:
                self.delivered += 1
                self.trouble, self._trouble_kind = "", "wait"
                on_answer(None)
            else:
                self._note(error, topic)
                on_answer(Failure(error, others_arrived=self.delivered > delivered_before))

        try:
            self._producer.produce(topic, value, key, on_delivery=answered)
        except BufferError:
            return False
        except KafkaException as problem:
            answered(problem.args[0], None)
        return True

    def poll(self, timeout_s: float) -> int:
        """Serves answers for at most `timeout_s`; returns how many came, as soon as some have."""
        deadline = time.monotonic() + timeout_s
        pause_s = _PAUSE_S
        # librdkafka waits by the wall clock: were that set back by an hour meanwhile, it would wait for an hour. So it is only asked, and the waiting is done here.
        while not (count := self._serve()) and (left_s := deadline - time.monotonic()) > 0:
            time.sleep(min(left_s, pause_s) if self.waiting() else left_s)
            pause_s *= 2
        return count

    def _serve(self) -> int:
        try:
            return int(self._producer.poll(0.0))
        except KafkaException as problem:
            self._note(problem.args[0])  # A fatal error: confluent-kafka raises it where answers are served, and gives all others to `error_cb`.
            return 1

    @property
    def outdated(self) -> bool:
        """Whether the wall clock has been set back since this sender was made. Threads of librdkafka that wait, such as those that are to connect again, wait by it, and would do so
        for as long as it was set back; ending them wakes them, so that another sender has to take over."""
        ahead_s = _wall_ahead_s()
        self._ahead_s = max(self._ahead_s, ahead_s)
        return ahead_s < self._ahead_s - _SET_BACK_S

    def waiting(self) -> int:
        """Records without an answer yet."""
        return len(self._producer)

    def flush(self, timeout_s: float) -> int:
        """Waits for answers; returns how many are still missing."""
        deadline = time.monotonic() + timeout_s
        while self.waiting() and not self.broken and (left_s := deadline - time.monotonic()) > 0:
            self.poll(left_s)
        return self.waiting()

    def _note(self, error: KafkaError, topic: str = "") -> None:
        """Takes in an error of the connection or of a delivery; each is logged once in a while, not at each of its thousand repetitions."""
        self.broken = self.broken or kind_of(error) == "fatal"
        self.last_error = str(error.str())
        kind = _kind_of_code(error.code())
        # With TLS 1.3 a client's certificate is refused behind the handshake, and librdkafka takes it for a connection that failed.
        if kind == "unreachable" and _TLS_ALERT in self.last_error:
            kind = "access"
        # A broker that refuses us hangs up, too: that it cannot be reached is then not the news.
        if kind in _ADVICE and not (kind == "unreachable" and self._trouble_kind == "access"):
            self._trouble_kind = kind
            self.trouble = f"{_ADVICE[kind]} ({error.name()}: {error.str()}{f' on {topic}' if topic else ''})"
        now = time.monotonic()
        text = f"{error.name()} {topic}"
        if now - self._said.get(text, float("-inf")) >= _SAID_AGAIN_S:
            self._said[text] = now
            _log.warning("kafka trouble kind=%s error=%s topic=%s text=%s", kind_of(error), error.name(), topic, error.str())
