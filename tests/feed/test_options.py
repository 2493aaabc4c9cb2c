"""The options of fetching are librdkafka's, in its names and units."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer

from runstream_feed.options import LATEST, Options, options_of
from runstream_schemas.settings import SettingsError


def test_options_are_librdkafkas() -> None:
    """Its names and units; others mean nothing here; and what is no value is refused in a sentence that does not repeat it."""
    found = options_of(
        {"fetch.wait.max.ms": "7", "queued.max.messages.kbytes": "2", "client.rack": "a", "isolation.level": "read_uncommitted", "linger.ms": "x"}, "me"
    )
    assert found == Options("me", wait_ms=7, ahead_bytes=2048, rack="a", read_committed=False)
    assert options_of({"auto.offset.reset": "largest", "client.id": "you"}, "me") == Options("you", reset=LATEST)
    assert options_of({"queued.max.messages.kbytes": "0", "topic.metadata.refresh.interval.ms": "-1"}, "me") == Options("me", ahead_bytes=1024)
    for wrong in ({"fetch.max.bytes": "secret"}, {"auto.offset.reset": "secret"}, {"isolation.level": "secret"}):
        with pytest.raises(SettingsError, match="RUNSTREAM_KAFKA_OPTIONS") as caught:
            options_of(wrong, "me")
        assert "secret" not in str(caught.value)


def test_librdkafka_reads_as_much() -> None:
    """The names that are understood are names of librdkafka's, with values that it takes."""
    names = {"fetch.wait.max.ms": "7", "fetch.min.bytes": "1", "fetch.max.bytes": "9000000", "fetch.message.max.bytes": "9", "queued.max.messages.kbytes": "2"}
    names |= {"max.partition.fetch.bytes": "9", "topic.metadata.refresh.interval.ms": "5", "client.rack": "a", "client.id": "b", "auto.offset.reset": "latest"}
    Consumer({**names, "isolation.level": "read_committed", "group.id": "g", "receive.message.max.bytes": 10_000_000}).close()
    assert options_of(names, "me").partition_bytes == 9
