"""A worker's timing, and the connection and that timing in Faust's words."""

# Faust's own annotations leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false, reportAny=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import faust

from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_feed.connection import Connection


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a worker waits for what; the session timeout is how long a worker that was killed is missed before others take over."""

    session_timeout_s: float = 8.0
    heartbeat_s: float = 2.0
    # What a take costs goes by its writers, so that one that has waited a little longer and holds more is cheaper by the record; alerts are later by less than this.
    take_within_s: float = 0.1
    take_records_max: int = 2000
    commit_interval_s: float = 1.0
    # A broker that restarts is back well within this; past it the process ends and its supervisor starts it again.
    send_timeout_s: float = 60.0
    # Of taken records that are not stored yet: past it they are stored at once.
    pending_bytes_max: int = 64 << 20
    beat_s: float = 0.25
    # Progress is looked at every five seconds; who has not seen for three times as long that all is read does not hear.
    hears_s: float = 15.0
    # Less than the session timeout, so that a take that hangs cannot cost this worker its place in the group.
    revoke_wait_s: float = 5.0

    # Records wait and no take comes: well past any rebalance and any outage that Kafka's clients ride out by themselves.
    stuck_s: float = 45.0
    call_timeout_s: float = 5.0

    @property
    def frozen_s(self) -> float:
        """How long the event loop may stand still before the place in the group is in doubt: the session timeout less two heartbeats."""
        return self.session_timeout_s - 2 * self.heartbeat_s


def options(connection: Connection, timing: Timing, scratch: Path) -> dict[str, Any]:
    """The keyword arguments of the app; `scratch` is a folder for what Faust insists on writing."""
    return {
        "broker": [f"kafka://{server}" for server in connection.servers],
        "broker_credentials": _credentials(connection),
        "store": "memory://",
        "datadir": str(scratch),
        "autodiscover": False,
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "broker_session_timeout": timing.session_timeout_s,
        "broker_heartbeat_interval": timing.heartbeat_s,
        "broker_commit_interval": timing.commit_interval_s,
        "consumer_max_fetch_size": MESSAGE_BYTES_MAX,
        "consumer_auto_offset_reset": "earliest",
        "table_standby_replicas": 0,
        "stream_wait_empty": False,
        "producer_acks": -1,
        "producer_linger": 0.0,
        "producer_max_batch_size": 1 << 20,
        "producer_max_request_size": MESSAGE_BYTES_MAX,
        "producer_request_timeout": timing.send_timeout_s,
    }


def _credentials(connection: Connection) -> Any:
    if connection.mechanism is not None:
        return faust.SASLCredentials(
            username=connection.username,
            password=connection.password,
            mechanism=connection.mechanism,
            ssl_context=connection.tls,
        )
    return faust.SSLCredentials(context=connection.tls) if connection.tls is not None else None
