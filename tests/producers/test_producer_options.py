"""Settings that users know, as librdkafka is told of them."""

from __future__ import annotations

import pytest

from runstream_producers.kafka import Sender, producer_options
from runstream_schemas.settings import Settings, load


def test_settings_become_options() -> None:
    """Units are librdkafka's, nothing gives up on a record by itself, and what the user passes through comes last."""
    options = producer_options(
        load({"kafka": "b:1", "linger_ms": 7, "register_timeout": 2.5, "kafka_options": {"linger.ms": "9", "client.id": "mine"}}), "agent"
    )
    assert (options["bootstrap.servers"], options["linger.ms"], options["client.id"]) == ("b:1", "9", "mine")
    assert (options["socket.timeout.ms"], options["request.timeout.ms"], options["message.timeout.ms"]) == (2500, 1250, 0)
    assert producer_options(load({"linger_ms": 7}), "agent")["linger.ms"] == 7


@pytest.mark.parametrize("end", ["least", "greatest"])
def test_librdkafka_takes_whatever_the_settings_allow(end: str) -> None:
    """At either end of their ranges the settings make a producer."""
    given: dict[str, object] = {"kafka": "127.0.0.1:9"}
    for name in ("register_timeout", "linger_ms", "batch_size", "batch_interval"):
        field = Settings.model_fields[name]
        given[name] = field.ge if end == "least" else field.le
    assert None not in given.values()
    Sender(producer_options(load(given), "agent"))
