"""The embedded broker: its settings, its storage, what it promises clients, and its return after a hard kill."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from runstream_local.kafka import Broker, cluster_id_of, is_healthy, server_properties
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import start_child, stop_child
from tests.local.kafka_clients import cluster_id, make_topic, produce, produce_failures, read_all


def test_one_node_needs_no_second() -> None:
    """Every replication factor is one, so that topics and groups work without a second broker."""
    properties = server_properties(Broker(data=Path("data"), port=1, controller_port=2))
    factors = {key: value for key, value in properties.items() if "replication.factor" in key or key.endswith("min.isr")}
    assert len(factors) == 6
    assert set(factors.values()) == {"1"}
    assert properties["auto.create.topics.enable"] == "false"


def test_only_loopback_is_listened_on() -> None:
    """Neither clients nor the controller are reachable from another machine."""
    properties = server_properties(Broker(data=Path("data"), port=19, controller_port=20))
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:19,CONTROLLER://127.0.0.1:20"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "", "127.0.0.1:", ":"])
def test_an_address_without_a_broker_is_not_healthy(address: str) -> None:
    """Probing nothing, or nonsense, is an answer and no exception."""
    assert not is_healthy(address, timeout_s=0.2)


@pytest.mark.stack
def test_another_cluster_s_broker_is_not_healthy(kafka: str, tmp_path: Path) -> None:
    """Two stacks may be given one address: a broker counts as a folder's own only by the cluster id that the folder was formatted with."""
    own = cluster_id(kafka)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "meta.properties").write_text(f"#\nversion=1\ncluster.id={own}\nnode.id=1\n", encoding="utf-8")
    assert own
    assert cluster_id_of(tmp_path) == own
    assert cluster_id_of(tmp_path / "log") == ""
    assert is_healthy(kafka, cluster_id=own)
    assert not is_healthy(kafka, cluster_id="another")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """The process ends with a sentence that names the port, and the folder is not touched."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        argv = [sys.executable, "-m", "runstream_local.kafka", "--data", str(tmp_path / "data"), "--port", str(port), "--controller-port", str(choose_port())]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, f"port {port} on {HOST} is taken by another program: a stack that is started again takes another port\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.stack
def test_what_is_produced_is_consumed_by_a_group(kafka: str) -> None:
    """An idempotent producer's records come back to a consumer group."""
    topic = make_topic(kafka, partitions=3)
    sent = sorted(str(number).encode() for number in range(500))
    produce(kafka, topic, sent)
    assert read_all(kafka, topic, count=500) == sent


@pytest.mark.stack
def test_a_topic_is_never_made_by_accident(kafka: str) -> None:
    """Writing to a topic that nobody created fails, so a typo cannot become a topic."""
    failures = produce_failures(kafka, f"missing-{uuid.uuid4().hex}", [b"x"], timeout_s=10)
    assert failures == ["UNKNOWN_TOPIC_OR_PART"]


@pytest.mark.stack
def test_a_broker_killed_hard_comes_back_with_every_acknowledged_record(tmp_path: Path) -> None:
    """After SIGKILL the same folder serves again within 20 s, under another controller port, and nothing acknowledged is missing."""
    ensure_jars()
    port = choose_port()

    def start() -> subprocess.Popen[bytes]:
        controller_port = choose_port(avoid=frozenset({port}))
        argv = [sys.executable, "-m", "runstream_local.kafka", "--data", str(tmp_path / "data")]
        argv += ["--port", str(port), "--controller-port", str(controller_port)]
        child = start_child(argv, log=tmp_path / "kafka.log")
        deadline = time.monotonic() + 40
        while not is_healthy(f"{HOST}:{port}"):
            assert child.poll() is None, (tmp_path / "kafka.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return child

    child = start()
    try:
        topic = make_topic(f"{HOST}:{port}", partitions=2)
        sent = sorted(str(number).encode() for number in range(100))
        produce(f"{HOST}:{port}", topic, sent)
        child.send_signal(signal.SIGKILL)
        child.wait()
        killed_at = time.monotonic()
        child = start()
        assert time.monotonic() - killed_at < 20
        assert read_all(f"{HOST}:{port}", topic, count=100) == sent
    finally:
        assert stop_child(child, timeout_s=10) == 143  # Java's own code for an orderly end by SIGTERM
