"""TLS and logins: producers, consumers and the administration of topics over each way in that Kafka has, and what is said where one is shut."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream_local.kafka import is_healthy
from runstream_local.processes import start_child, stop_child
from runstream_producers.kafka import Failure, Sender, producer_options
from runstream_producers.topics import ensure_topics
from runstream_schemas.settings import Settings, SettingsError, load
from runstream_sinks import kafka_reader
from runstream_sinks.errors import KafkaAway, KafkaRefused
from runstream_sinks.kafka import Source
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.spans import Span
from tests.conftest import wait_until_healthy
from tests.local.secured import CLIENTS, PASSWORD, PROTOCOLS, USER, Secured, add_scram_user, prepared
from tests.processors.stack import Part

pytestmark = pytest.mark.stack

TLS, CERTIFICATE = "ssl.ca.location", "ssl.certificate.location"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One broker for all tests here."""
    folder = tmp_path_factory.mktemp("secured")
    place, command = prepared(folder)
    log = folder / "kafka.log"
    child = start_child(command, log=log)
    try:
        wait_until_healthy(child, log, lambda: is_healthy(place.address("PLAINTEXT")))
        add_scram_user(place.address("PLAINTEXT"))
        yield place
    finally:
        stop_child(child, timeout_s=10)


def settings_for(secured: Secured, tmp_path: Path, listener: str, **options: str) -> Settings:
    """Settings as a user writes them for a listener."""
    protocol = PROTOCOLS[listener]
    more = {name.replace("_", "."): value for name, value in options.items()}
    if more.get(CERTIFICATE) == "client":
        more |= {CERTIFICATE: str(secured.client), "ssl.key.location": str(secured.client.with_suffix(".key"))}
    if more.get(CERTIFICATE) == "stranger":
        more |= {CERTIFICATE: str(secured.stranger), "ssl.key.location": str(secured.stranger.with_suffix(".key"))}
    if protocol != "PLAINTEXT":
        more["security.protocol"] = protocol
    if protocol.endswith("SSL"):
        more.setdefault(TLS, str(secured.authority))
    environ = {"RUNSTREAM_KAFKA": secured.address(listener), "RUNSTREAM_TOPIC_PREFIX": f"s{uuid.uuid4().hex[:8]}", "RUNSTREAM_HOME": str(tmp_path)}
    environ["RUNSTREAM_KAFKA_OPTIONS"] = ";".join(f"{name}={value}" for name, value in more.items())
    return load(environ=environ)


WAYS: dict[str, tuple[str, dict[str, str]]] = {
    "plaintext": ("PLAINTEXT", {}),
    "ssl": ("SSL", {}),
    "plain login": ("SASL_PLAINTEXT", {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": PASSWORD}),
    "plain login, ssl": ("SASL_SSL", {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": PASSWORD}),
    "scram login": ("SASL_PLAINTEXT", {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": USER, "sasl_password": PASSWORD}),
    "scram login, ssl": ("SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": USER, "sasl_password": PASSWORD}),
    "scram 512 login": ("SASL_PLAINTEXT", {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": PASSWORD}),
    "scram 512 login, ssl": ("SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": PASSWORD}),
    "client certificate": (CLIENTS, {"ssl_certificate_location": "client"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_part_gets_in(secured: Secured, tmp_path: Path, way: str) -> None:
    """Topics are made, a record is sent as shippers send, and both who read it do: a reader that is told what to read, and a member of the sinks' group."""
    listener, options = WAYS[way]
    settings = settings_for(secured, tmp_path, listener, **options)
    topic = f"{settings.topic_prefix}.event"
    assert topic in ensure_topics(settings)
    answers: list[Failure | None] = []
    sender = Sender(producer_options(settings, "test"))
    assert sender.send(topic, b"key", b"value", answers.append)
    assert sender.flush(20.0) == 0
    assert answers == [None]
    reader = Reader(settings, f"{settings.topic_prefix}-test")
    try:
        places = reader.places([topic])
        reader.start({place: Span(*limits) for place, limits in reader.limits(places).items()})
        values = [message.value for _ in range(50) if not reader.done for message in reader.poll(records_max=10, timeout_s=1.0)]
        assert values == [b"value"]
    finally:
        reader.close()
    source = Source(settings, lambda _: None)
    try:
        source.subscribe([topic], on_assign=lambda _: None, on_revoke=lambda _places, _lost: None)
        values = []
        deadline = time.monotonic() + 20
        while not values and time.monotonic() < deadline:
            values = [message.value for message in source.poll(records_max=1, timeout_s=0.2)]
        assert values == [b"value"]
    finally:
        source.close()


@pytest.mark.parametrize("way", ["scram 512 login, ssl", "client certificate"])
def test_faust_gets_in(secured: Secured, tmp_path: Path, way: str) -> None:
    """A processors' worker, whose clients are Faust's, joins its group, reads its tables and is ready."""
    listener, options = WAYS[way]
    settings = settings_for(secured, tmp_path, listener, **options)
    ensure_topics(settings)
    worker = Part("worker", settings, tmp_path)
    try:
        worker.wait_ready()
        assert worker.stop() == 0, worker.said()
    finally:
        worker.kill()


SHUT: dict[str, tuple[str, dict[str, str]]] = {
    "wrong password": ("SASL_PLAINTEXT", {"sasl_mechanism": "PLAIN", "sasl_username": USER, "sasl_password": "wrong-secret"}),
    "wrong password, scram": ("SASL_SSL", {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": USER, "sasl_password": "wrong-secret"}),
    "wrong authority": ("SSL", {"ssl_ca_location": "stranger"}),
    "no certificate": (CLIENTS, {}),
    "a stranger's certificate": (CLIENTS, {"ssl_certificate_location": "stranger"}),
}


@pytest.mark.parametrize("way", SHUT)
def test_who_may_not_in_is_told_why(secured: Secured, tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipper says that Kafka refuses this client and keeps the record; the administration and the reader end with a sentence; no password is told."""
    listener, options = SHUT[way]
    if "ssl_ca_location" in options:
        options = {"ssl_ca_location": str(secured.stranger)}
    settings = settings_for(secured, tmp_path, listener, **options)
    answers: list[Failure | None] = []
    sender = Sender(producer_options(settings, "test"))
    assert sender.send(f"{settings.topic_prefix}.event", b"key", b"value", answers.append)
    for _ in range(100):
        sender.poll(0.1)
        if "refuses this client" in sender.trouble:
            break
    assert "Kafka refuses this client" in sender.trouble
    # Besides the record, errors that nobody has been told of yet are counted.
    assert answers == []
    assert sender.waiting() >= 1
    with pytest.raises(SettingsError, match="RUNSTREAM_KAFKA") as told:
        ensure_topics(settings, timeout_s=1.0)
    monkeypatch.setattr(kafka_reader, "ANSWER_TIMEOUT_S", 1.0)
    reader = Reader(settings, f"{settings.topic_prefix}-test")
    try:
        with pytest.raises((KafkaAway, KafkaRefused)) as refused:
            reader.places([f"{settings.topic_prefix}.event"])
    finally:
        reader.close()
    said = f"{sender.trouble} {told.value} {refused.value} {caplog.text}"
    assert "wrong-secret" not in said
