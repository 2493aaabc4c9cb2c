"""librdkafka's options for every client of the sinks, made in one place. No client is made here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_feed.options import options_of
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from runstream_feed.options import Options
    from runstream_schemas.settings import Settings

CLIENT_ID = "runstream-sinks"
# A worker killed hard is missed after this long, and its partitions wait as long; the broker's default minimum. A worker that is taken for dead by mistake only reads
# some records twice.
SESSION_TIMEOUT_MS = 6_000
# A worker with a name of its own keeps its partitions while it is restarted, which takes longer than that.
STATIC_SESSION_TIMEOUT_MS = 45_000
_OF_MEMBERS = ("group.instance.id", "group.protocol", "group.remote.assignor")


def sinks_group(settings: Settings) -> str:
    """The group of the sink workers."""
    return f"{settings.topic_prefix}-sinks"


def common_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """librdkafka's options of every client of a sink."""
    return {
        "bootstrap.servers": settings.kafka,
        "client.id": CLIENT_ID,
        # A broker that restarts is found again within a second or two instead of ten.
        "reconnect.backoff.max.ms": 2_000,
        "log.connection.close": False,
    }


def consumer_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """librdkafka's options of a consumer that may be a member of the group. What the user passes through comes last, except for what exactness rests on."""
    return {
        **common_config(settings),
        "max.poll.interval.ms": 300_000,
        "topic.metadata.refresh.interval.ms": 10_000,
        **_membership(settings),
        **settings.kafka_options,
        "group.id": sinks_group(settings),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }


def feed_options(settings: Settings) -> Options:
    """How records are fetched, by all readers of the sinks. Raises SettingsError for a value of the user's that says nothing."""
    return options_of(settings.kafka_options, CLIENT_ID)


def asker_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """The same for a consumer that is a member of nothing: it asks about topics and offsets, and reads nothing."""
    return {name: value for name, value in consumer_config(settings).items() if name not in _OF_MEMBERS}


def _membership(settings: Settings) -> dict[str, str | int]:
    """How a worker belongs to the group, in the words of its protocol: with KIP-848 the broker decides how long a member may be silent."""
    options: dict[str, str | int] = {"group.protocol": settings.group_protocol}
    if settings.group_instance_id is not None:
        options["group.instance.id"] = settings.group_instance_id
    if settings.kafka_options.get("group.protocol", settings.group_protocol) == "consumer":
        return options
    is_static = "group.instance.id" in options or "group.instance.id" in settings.kafka_options
    timeout_ms = STATIC_SESSION_TIMEOUT_MS if is_static else SESSION_TIMEOUT_MS
    return {**options, "session.timeout.ms": timeout_ms, "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4}


def producer_config(settings: Settings) -> dict[str, str | int | float | bool]:
    """librdkafka's options of the producer of dead letters: acknowledged by all replicas, tried for ever."""
    return {
        **common_config(settings),
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "partitioner": "murmur2_random",
        **settings.kafka_options,
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
    }
