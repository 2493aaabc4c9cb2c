"""librdkafka's errors by kind: what each asks for, what is said of it, and that a producer at its end is replaced."""

from __future__ import annotations

import logging
import random
import threading
import time

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

import runstream
from runstream_producers import agent as agents
from runstream_producers import states
from runstream_producers.journal import format as fmt
from runstream_producers.kafka import Failure, Kind, Sender, SenderError, keeps_order, kind_of, producer_options
from runstream_producers.loop import Agent
from runstream_schemas.records import MetricFrame
from runstream_schemas.settings import Settings
from tests.producers.cluster import Place
from tests.producers.journals import make_writer
from tests.producers.ledger import check_account, ledger_of
from tests.producers.test_agent import drop_topic, start_agent
from tests.waiting import wait_for

# confluent_kafka annotates its futures without their type.
# pyright: reportUnknownMemberType=false


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.NOT_ENOUGH_REPLICAS, "wait"),
        (KafkaError.NOT_LEADER_FOR_PARTITION, "wait"),
        (KafkaError.REQUEST_TIMED_OUT, "wait"),
        (KafkaError._ALL_BROKERS_DOWN, "unreachable"),
        (KafkaError._TRANSPORT, "unreachable"),
        (KafkaError._AUTHENTICATION, "access"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "access"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "access"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "topic"),
        (KafkaError._UNKNOWN_TOPIC, "topic"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "record"),
        (KafkaError.INVALID_RECORD, "record"),
        (KafkaError._FATAL, "fatal"),
    ],
)
def test_the_kinds_of_errors(code: int, kind: Kind) -> None:
    """Each code asks for one thing."""
    assert kind_of(KafkaError(code)) == kind


@pytest.mark.parametrize(
    ("given", "keeps"),
    [
        ({}, True),
        ({"message.timeout.ms": "0", "linger.ms": "50"}, True),
        ({"message.timeout.ms": "3000"}, False),
        ({"delivery.timeout.ms": "3000"}, False),
        ({"enable.idempotence": "false"}, False),
        ({"enable.idempotence": "False", "acks": "1"}, False),
    ],
)
def test_which_options_keep_the_order(given: dict[str, str], keeps: bool) -> None:
    """Ours do; a time-out of messages, or no idempotence, does not."""
    assert keeps_order(producer_options(Settings(kafka_options=given), "test")) == keeps


@pytest.mark.parametrize("arrived", [0, 1])
def test_an_outage_is_no_refusal(arrived: int) -> None:
    """A record that ran out of time while nothing arrived is not refused. One that did while others arrived is: its topic may be missing, and it must not be sent for ever."""
    sender = Sender({"bootstrap.servers": "127.0.0.1:9", "message.timeout.ms": 300, "log.connection.close": False})
    failures: list[Failure | None] = []
    assert sender.send("t", b"k", b"v", failures.append)
    sender.delivered += arrived
    deadline = time.monotonic() + 20
    while not failures and time.monotonic() < deadline:
        sender.poll(0.1)
    [failure] = failures
    assert failure is not None
    assert (failure.name, failure.kind, failure.refused) == ("_MSG_TIMED_OUT", "wait", arrived > 0)


def test_what_counts_as_a_refusal() -> None:
    """A topic that is unknown does, whatever arrives; the producer's end does not."""
    assert Failure(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), others_arrived=False).refused
    assert not Failure(KafkaError(KafkaError._FATAL, "over", True)).refused


def test_a_fatal_error_is_fatal_whatever_its_code() -> None:
    """What librdkafka marks as fatal ends the producer."""
    assert kind_of(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "fenced", True)) == "fatal"


def test_trouble_is_one_sentence_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that nobody answers at is said to be unreachable, once in the log however often librdkafka repeats it; being refused outweighs it; a fatal error breaks."""
    sender = Sender({"bootstrap.servers": "127.0.0.1:9", "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 100, "log.connection.close": False})
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        sender.poll(0.1)
    assert "Kafka cannot be reached" in sender.trouble
    assert "RUNSTREAM_KAFKA" in sender.trouble
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(lines) == len(set(lines)) <= 3
    sender._note(KafkaError(KafkaError._AUTHENTICATION, "bad password"))
    sender._note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    assert "refuses" in sender.trouble
    assert not sender.broken
    sender._note(KafkaError(KafkaError._FATAL, "over", True))
    assert sender.broken


def test_options_that_librdkafka_does_not_take() -> None:
    """They are one sentence that names the setting."""
    with pytest.raises(SenderError, match=r"RUNSTREAM_KAFKA_OPTIONS.*no\.such\.option"):
        Sender({"no.such.option": "1"})


@pytest.mark.stack
def test_trouble_goes_once_something_arrives(place: Place) -> None:
    """After a delivery nothing is wrong any more."""
    sender = Sender(producer_options(place.settings, "test"))
    sender._note(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"), "t")
    assert "on t" in sender.trouble
    assert sender.send(f"{place.prefix}.event", b"k", b"v", lambda _failure: None)
    assert sender.flush(20) == 0
    assert sender.trouble == ""


@pytest.mark.stack
def test_a_producer_at_its_end_is_replaced(place: Place) -> None:
    """After a fatal error another producer goes on from what is acknowledged: every row arrives, under the same agent and lock."""
    writer = make_writer(place.folder)
    begun: list[Agent] = []
    code: list[int] = []
    thread = threading.Thread(target=lambda: code.append(agents.serve(place.folder, place.settings, begun.append)), daemon=True)
    thread.start()
    for number in range(3000):
        writer.log({"a": float(number)}, step=number)
        if number in (500, 1500):
            count = len(begun)
            wait_for(lambda: bool(begun), 20, "an agent")
            begun[-1]._sender._note(KafkaError(KafkaError._FATAL, "fenced", True))
            wait_for(lambda before=count: len(begun) > max(1, before), 20, "another producer")
    writer.close("finished", "")
    thread.join(30)
    assert code == [0]
    frames = place.read("metric", MetricFrame)
    check_account(frames, until=3000)
    assert sorted(ledger_of(frames)) == list(range(3000))


@pytest.mark.stack
def test_a_real_fatal_error_is_no_crash(place: Place) -> None:
    """librdkafka's own fatal error, which confluent-kafka raises where answers are served, ends the producer and not the agent: the next one goes on, in the same process,
    with the same hardware readings.
    """
    drop_topic(place, "metric")
    admin = AdminClient({"bootstrap.servers": place.kafka})
    name = f"{place.prefix}.metric"
    admin.create_topics([NewTopic(name, num_partitions=2, replication_factor=1, config={"max.message.bytes": "2000"})])[name].result(timeout=20)
    writer = make_writer(place.folder)
    agent = start_agent(place, kafka_options="enable.gapless.guarantee=true", hardware_interval="1")
    draw = random.Random(1)
    for number in range(6):
        # With that option a refused record is fatal, and a frame of so many random values is refused by the topic.
        writer.log({f"n{one}": draw.random() for one in range(500 if number % 3 == 1 else 1)}, step=number)
        wait_for(lambda seqs=number + 1: fmt.read_ack((writer.folder.path / "ack").read_bytes()).next_seq == seqs, 20, place.log)
    writer.close("finished", "")
    assert agent.wait(20) == 0, place.log()
    log = place.log(1 << 20)
    assert "Traceback" not in log
    assert log.count("agent begins") >= 3, log
    assert sorted(ledger_of(place.read("metric", MetricFrame))) == [0, 2, 3, 5]
    states = place.last_states().values()
    assert {state.kind: state.points_dropped for state in states} == {"rank": {"set_aside": 1000}, "hardware": {}}
    assert len(states) == 2


def test_a_producer_after_another_takes_its_trouble_over() -> None:
    """What was wrong stays said until something arrives, and is not logged again for each producer."""
    options = {"bootstrap.servers": "127.0.0.1:9", "log.connection.close": False}
    first = Sender(options)
    first._note(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, "no PID", True))
    assert first.broken
    assert "Kafka refuses this client" in first.trouble
    second = Sender(options, first)
    assert (second.broken, second.trouble) == (False, first.trouble)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("options", "words"),
    [
        # A broker without SASL refuses who asks for it.
        ("security.protocol=sasl_plaintext;sasl.mechanism=PLAIN;sasl.username=u;sasl.password=secret", "Kafka refuses this client"),
        ("no.such.option=1", "RUNSTREAM_KAFKA_OPTIONS must be options that librdkafka takes"),
    ],
)
def test_finish_says_what_is_wrong(
    kafka: str, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, options: str, words: str
) -> None:
    """Where Kafka refuses the client, or no client can be made, finish keeps its time and says so, and where the rows are kept; no password is told."""
    monkeypatch.setenv("RUNSTREAM_KAFKA_OPTIONS", options)
    monkeypatch.setenv("RUNSTREAM_AGENT_IDLE_TIMEOUT", "3")
    run = runstream.init("p")
    run.log({"a": 1.0})
    assert run._journal is not None
    folder = run._journal.folder.path.parent
    wait_for(lambda: states.trouble_of(folder) != "", 20, "the agent to say what is wrong")
    began = time.monotonic()
    done = run.finish(1.0)
    assert time.monotonic() - began < 1.5
    assert not done.shipped
    assert words in done.trouble
    [line] = [record.getMessage() for record in caplog.records if record.name == "runstream"]
    assert words in line
    assert str(done.folder) in line
    assert "secret" not in line + (folder / "agent.log").read_text()
    place.environ["RUNSTREAM_KAFKA_OPTIONS"] = options
    place.kill_agents()
