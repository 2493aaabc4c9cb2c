"""Partitions that come and go: rebalances every second, both group protocols, members with names of their own; and what a worker shows of it."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer

from runstream_local.ports import HOST, choose_port
from runstream_schemas.topics import TOPICS
from runstream_sinks.kafka_config import SESSION_TIMEOUT_MS, STATIC_SESSION_TIMEOUT_MS, asker_config, consumer_config
from runstream_sinks.tables import TABLE_OF
from tests.sinks.expected import expected
from tests.sinks.replays import shown, wait_until_stored
from tests.sinks.test_deaths import records_of
from tests.sinks.test_tables import new_run
from tests.sinks.test_watch import figures, get
from tests.sinks.workers import PARTITIONS, Pipe, Sent, settings_of, wait_for

if TYPE_CHECKING:
    from tests.sinks.proxy import Proxy


def passer_by(pipe: Pipe, protocol: str) -> Consumer:
    """A member of the group that is given partitions and leaves them as they are."""
    settings = pipe.settings
    consumer = Consumer(
        {"bootstrap.servers": settings.kafka, "group.id": f"{settings.topic_prefix}-sinks", "group.protocol": protocol, "enable.auto.commit": False}
    )
    consumer.subscribe([TOPICS[name].full_name(settings.topic_prefix) for name in TABLE_OF])
    return consumer


def moves(pipe: Pipe, what: str) -> int:
    """How often the workers were given partitions, or lost some."""
    return len(re.findall(rf"partitions {what} partitions=[1-9]", pipe.log()))


# With KIP-848 a worker learns what it is to give away, or is given, by its heartbeat, which the broker wants every 5 s and no sooner.
@pytest.mark.stack
@pytest.mark.parametrize(("protocol", "rounds"), [("classic", 5), ("consumer", 2)])
def test_rebalances_every_second_lose_and_double_nothing(pipe: Pipe, protocol: str, rounds: int) -> None:
    """Partitions are taken from two workers and given back, over and over, while records come: every view shows each once, and the workers go on."""
    run_id = new_run()
    environ = {"RUNSTREAM_GROUP_PROTOCOL": protocol}
    workers = [pipe.start(environ=environ, ready=ready) for ready in (True, False)]
    sent: list[Sent] = []
    for number in range(rounds):
        member = passer_by(pipe, protocol)
        sent += (more := records_of(run_id, 10 * number))
        pipe.send(*more)
        wait_for(lambda member=member: member.poll(0.05) is not None or bool(member.assignment()), "partitions for one more member")
        before = moves(pipe, "assigned")
        member.close()
        wait_for(lambda before=before: moves(pipe, "assigned") > before, "the workers to have them back")
    wait_until_stored(pipe)
    assert shown(pipe) == expected(pipe, sent)
    assert all(worker.poll() is None for worker in workers), pipe.log()
    assert moves(pipe, "revoked") >= (rounds if protocol == "classic" else 1)
    assert [pipe.end(worker)[0] for worker in workers] == [0, 0]


@pytest.mark.stack
def test_a_worker_with_a_name_keeps_its_partitions_through_a_restart(pipe: Pipe) -> None:
    """Nobody else is rebalanced by it; and of two workers with one name the first stops and says why."""
    other = pipe.start(environ={"RUNSTREAM_GROUP_INSTANCE_ID": "b"})
    first = pipe.start(environ={"RUNSTREAM_GROUP_INSTANCE_ID": "a"})
    wait_for(lambda: pipe.log().count("partitions assigned") >= 3, "the partitions to be shared")
    before = pipe.log().count("partitions assigned")
    assert pipe.end(first)[0] == 0
    again = pipe.start(environ={"RUNSTREAM_GROUP_INSTANCE_ID": "a"})
    sent = records_of(new_run(), 0)
    pipe.send(*sent)
    wait_until_stored(pipe)
    assert pipe.log().count("partitions assigned") == before + 1
    assert shown(pipe) == expected(pipe, sent)
    pipe.start(environ={"RUNSTREAM_GROUP_INSTANCE_ID": "a"}, ready=False)
    assert again.wait(timeout=30) == 1, pipe.log()
    assert "sink worker stops reason=" in pipe.log()
    assert "KafkaRefused: " in pipe.log()
    assert other.poll() is None


@pytest.mark.stack
def test_of_two_workers_with_one_name_the_newer_stops_under_kip_848(pipe: Pipe) -> None:
    """The broker lets the first one go on; the second says why it ends."""
    environ = {"RUNSTREAM_GROUP_INSTANCE_ID": "a", "RUNSTREAM_GROUP_PROTOCOL": "consumer"}
    first = pipe.start(environ=environ)
    second = pipe.start(environ=environ, ready=False)
    assert second.wait(timeout=30) == 1, pipe.log()
    assert "KafkaRefused: _FATAL" in pipe.log()
    assert first.poll() is None


@pytest.mark.stack
def test_a_revocation_waits_no_longer_than_its_budget(pipe: Pipe, proxy: Proxy) -> None:
    """An insert that hangs holds nobody up: the partitions go, what was in flight is read again by their next owner, and what comes of it collapses."""
    sent = [one for one in records_of(new_run(), 0) if one[0] == "metric"]
    pipe.send(*sent)
    proxy.hold_next_insert(0.5)
    pipe.start(environ={"RUNSTREAM_CLICKHOUSE_URL": proxy.url})
    assert proxy.holding.wait(30), pipe.log()
    member = passer_by(pipe, "classic")
    wait_for(lambda: member.poll(0.05) is not None or bool(member.assignment()), "partitions for one more member", timeout_s=20)
    assert "out of time, the rest will be read again" in pipe.log()
    assert pipe.committed("metric", PARTITIONS) == 0
    member.close()
    proxy.let_go()
    wait_until_stored(pipe)
    assert shown(pipe) == expected(pipe, sent)


def test_membership_is_said_in_the_words_of_the_protocol() -> None:
    """With KIP-848 the broker says how long a member may be silent; a member with a name may be longer; what a user passes through comes last."""

    def config(**more: object) -> dict[str, str | int | float | bool]:
        return consumer_config(settings_of("127.0.0.1:1", "http://127.0.0.1:1", "none", **more))

    assert config()["session.timeout.ms"] == SESSION_TIMEOUT_MS
    assert config()["group.protocol"] == "classic"
    assert config(group_instance_id="a")["group.instance.id"] == "a"
    assert config(group_instance_id="a")["session.timeout.ms"] == STATIC_SESSION_TIMEOUT_MS
    assert config(group_instance_id="a", kafka_options={"session.timeout.ms": "7000"})["session.timeout.ms"] == "7000"
    for one in (config(group_protocol="consumer"), config(kafka_options={"group.protocol": "consumer"})):
        assert one["group.protocol"] == "consumer"
        assert not {"session.timeout.ms", "heartbeat.interval.ms"} & one.keys()
    assert config(kafka_options={"enable.auto.commit": "true"})["enable.auto.commit"] is False
    asker = asker_config(settings_of("127.0.0.1:1", "http://127.0.0.1:1", "none", group_instance_id="a", group_protocol="consumer"))
    assert not {"group.instance.id", "group.protocol"} & asker.keys()


@pytest.mark.stack
def test_figures_and_health_follow_what_happens(pipe: Pipe, proxy: Proxy) -> None:
    """Rows, inserts, letters, lags and rebalances are counted; offsets that stand still while records wait turn health red, and green again once they move."""
    port = choose_port()
    shows = {"RUNSTREAM_METRICS_PORT": str(port), "RUNSTREAM_METRICS_HOST": HOST, "RUNSTREAM_STALL_AFTER": "1", "RUNSTREAM_LOG_FORMAT": "json"}
    worker = pipe.start(environ=shows | {"RUNSTREAM_CLICKHOUSE_URL": proxy.url})
    prefix = pipe.settings.topic_prefix

    def now() -> dict[tuple[str, tuple[str, ...]], float]:
        return figures(get(f"http://{HOST}:{port}/metrics")[1].encode())

    def lag() -> float:
        return sum(value for (name, _), value in now().items() if name == "runstream_sink_lag_records")

    def health() -> tuple[int, str]:
        return get(f"http://{HOST}:{port}/healthz")

    proxy.cuts_left = 1
    pipe.send(*records_of(new_run(), 0), ("event", b"k", b"poison"))
    wait_until_stored(pipe)
    wait_for(lambda: ("runstream_sink_seconds_since_commit", ()) in now() and lag() == 0, "no lag")
    assert health() == (200, "ok\n")
    found = now()
    assert found["runstream_sink_rows_total", ("metric_points",)] == 120
    assert found["runstream_sink_insert_rows_sum", ("metric_points",)] == 120
    assert found["runstream_sink_insert_bytes_sum", ("metric_points",)] > 120 * 40
    assert found["runstream_sink_insert_retries_total", ("connection",)] == 1
    assert found["runstream_sink_records_total", (f"{prefix}.metric",)] == 15
    assert found["runstream_sink_dead_letters_total", (f"{prefix}.event",)] == 1
    assert found["runstream_sink_rebalances_total", ("assigned",)] == 1
    assert found["runstream_sink_commits_total", ("sent",)] > 0
    assert len([name for name, _ in found if name == "runstream_sink_lag_seconds"]) == found["runstream_sink_partitions", ()] > 0

    proxy.hold_next_insert(0.5)
    pipe.send(*records_of(new_run(), 10))
    wait_for(lambda: health()[0] == 503, "red")
    assert "stand still while records wait" in health()[1]
    assert lag() > 0
    proxy.let_go()
    wait_until_stored(pipe)
    wait_for(lambda: health()[0] == 200, "green")
    assert pipe.end(worker)[0] == 0
    assert {json.loads(line)["logger"] for line in pipe.log().splitlines()} == {"runstream.sinks"}


@pytest.mark.stack
def test_a_port_that_is_taken_is_one_sentence(pipe: Pipe) -> None:
    """The setting is named and the exit code is 2; so it is for options that librdkafka does not take, whose values are not repeated."""
    with socket.create_server((HOST, 0)) as taken:
        worker = pipe.start(ready=False, environ={"RUNSTREAM_METRICS_PORT": str(taken.getsockname()[1]), "RUNSTREAM_METRICS_HOST": HOST})
        assert worker.wait(timeout=30) == 2
    assert "metrics_port" in pipe.log()
    worker = pipe.start(ready=False, environ={"RUNSTREAM_KAFKA_OPTIONS": "isolation.level=secret-9"})
    assert worker.wait(timeout=30) == 2
    assert "kafka_options" in pipe.log()
    assert "secret-9" not in pipe.log()
    assert "Traceback" not in pipe.log()
