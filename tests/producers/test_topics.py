"""Topics are created as they are described, once, and an unreachable broker is one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest
from confluent_kafka.admin import AdminClient

from runstream_producers.topics import ensure_topics, wanted
from runstream_schemas.settings import SettingsError, load
from runstream_schemas.topics import SCALED, TOPICS
from tests.producers.cluster import Place


def test_partitions_of_what_carries_metrics_can_be_set() -> None:
    """`RUNSTREAM_PARTITIONS` is for the topics that carry metrics; the others keep their own count."""
    topics = wanted(load({"partitions": 3, "topic_prefix": "p"}, {}))
    assert {name for name, (count, _) in topics.items() if count == 3} == {f"p.{name}" for name in SCALED}
    assert topics["p.rule"][0] == TOPICS["rule"].partitions
    assert topics["p.writer"][1]["cleanup.policy"] == "compact"
    assert topics["p.metric"][1]["retention.ms"] == str(7 * 86_400_000)


@pytest.mark.stack
def test_topics_are_made_once_and_kept(place: Place) -> None:
    """All topics are there with their partitions; a second call creates nothing and changes none, whatever count it would want."""
    assert ensure_topics(place.settings) == []
    topics = AdminClient({"bootstrap.servers": place.kafka}).list_topics(timeout=10).topics
    counts = {name.removeprefix(f"{place.prefix}."): len(topic.partitions) for name, topic in topics.items() if name.startswith(f"{place.prefix}.")}
    assert counts == {name: 2 if name in SCALED else topic.partitions for name, topic in TOPICS.items()}
    assert ensure_topics(load({"partitions": 5}, place.environ)) == []


def test_an_unreachable_broker_is_one_sentence() -> None:
    """The command ends with 2 and names the setting and what it was."""
    settings = load({"kafka": "127.0.0.1:9"}, {})
    with pytest.raises(SettingsError, match=r"RUNSTREAM_KAFKA .*127\.0\.0\.1:9"):
        ensure_topics(settings, timeout_s=1.0)
    argv = [sys.executable, "-m", "runstream_producers.topics", "apply", "--timeout", "1"]
    done = subprocess.run(argv, env={"RUNSTREAM_KAFKA": "127.0.0.1:9"}, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "RUNSTREAM_KAFKA" in done.stderr
    assert "Traceback" not in done.stderr


def test_topics_are_listed_with_what_they_carry() -> None:
    """`ls` needs no broker."""
    argv = [sys.executable, "-m", "runstream_producers.topics", "ls"]
    done = subprocess.run(argv, env={"RUNSTREAM_TOPIC_PREFIX": "p"}, capture_output=True, text=True, timeout=30, check=True)
    assert len(done.stdout.splitlines()) == len(TOPICS)
    assert "p.metric" in done.stdout


def test_options_that_librdkafka_does_not_take_are_one_sentence() -> None:
    """A typo in the options names the setting, and what is wrong with it."""
    settings = load(environ={"RUNSTREAM_KAFKA_OPTIONS": "security.protocol=SLS"})
    with pytest.raises(SettingsError, match=r"RUNSTREAM_KAFKA_OPTIONS must be options that librdkafka takes: .*SLS"):
        ensure_topics(settings, timeout_s=1.0)
