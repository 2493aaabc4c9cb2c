"""Owns the check of services that are not ours to start: does what `--kafka` or `--clickhouse` names answer as it should?"""

# confluent_kafka annotates its answers without their type.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping

from runstream_local.errors import SqlError
from runstream_local.sql import ask
from runstream_schemas.settings import SettingsError

__all__ = ["check_clickhouse", "check_kafka", "require_kafka"]

_TIMEOUT_S = 5.0


def check_kafka(servers: str, options: Mapping[str, str]) -> None:
    """Returns when a broker answers; blocks at most 5 s.

    Raises:
        SettingsError: none does.
    """
    if (error := _silence(servers, options)) is not None:
        raise SettingsError(
            f"--kafka (RUNSTREAM_KAFKA) must name a Kafka broker that answers, but {servers} did not within {_TIMEOUT_S:g} s: start it, or leave the "
            f"setting out to have a broker started here"
        ) from error


def require_kafka(servers: str, options: Mapping[str, str]) -> None:
    """Returns when the Kafka that is logged to answers; blocks at most 5 s.

    Raises:
        SettingsError: it does not.
    """
    if (error := _silence(servers, options)) is not None:
        raise SettingsError(
            f"a Kafka that answers is needed, but {servers} did not within {_TIMEOUT_S:g} s: `runstream up` starts a stack here, RUNSTREAM_KAFKA names another"
        ) from error


def _silence(servers: str, options: Mapping[str, str]) -> Exception | None:
    """Why a broker does not answer; None where it does."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        # log_level: the exception says it once; librdkafka would say it many times on stderr.
        AdminClient({"bootstrap.servers": servers, "log_level": 0, **options}).list_topics(timeout=_TIMEOUT_S)
    except (KafkaException, ValueError) as error:
        return error
    return None


def check_clickhouse(url: str) -> None:
    """Returns when ClickHouse answers a query; blocks at most 5 s or so.

    Raises:
        SettingsError: it does not, or refuses this user.
    """
    try:
        ask(url, "SELECT 1", timeout_s=_TIMEOUT_S)
    except SqlError as error:
        raise SettingsError(
            f"--clickhouse (RUNSTREAM_CLICKHOUSE_URL) must name ClickHouse's HTTP interface: {error}; start it, or leave the setting out to have the "
            f"engine started here"
        ) from error
