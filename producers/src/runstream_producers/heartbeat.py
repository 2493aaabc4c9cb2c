"""A writer's records: its state and account as the agent sees them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from runstream_schemas import records as rec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_producers.journal.format import Identity

_FINAL = 1 << 62


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of one writer: what it logged, what it dropped by reason, what Kafka has acknowledged."""

    next_seq: int
    rows_logged: int
    points_logged: int
    points_dropped: Mapping[str, int]
    rows_shipped: int
    points_shipped: int


def writer_record(one: Identity, account: Account, *, state: str, reason: str, now_ms: int, alive_ms: int) -> rec.Writer:
    """The writer's record at `now_ms`, whose last sign of life was at `alive_ms`. A final state outranks every heartbeat, whatever clocks say."""
    final = state != "running"
    return rec.Writer(
        writer=one.writer,
        run_id=one.run_id,
        project=one.project,
        version=now_ms | (_FINAL if final else 0),
        kind=cast("rec.WriterKind", one.kind),
        rank=one.rank,
        local_rank=one.local_rank,
        world_size=one.world_size,
        node=one.node,
        host=one.host,
        pid=one.pid,
        attempt=one.attempt,
        started_ms=one.started_ms,
        state=cast("rec.State", state),
        exit_reason=reason,
        heartbeat_ms=alive_ms,
        next_seq=account.next_seq,
        rows_logged=account.rows_logged,
        points_logged=account.points_logged,
        points_dropped=account.points_dropped,
        rows_shipped=account.rows_shipped,
        points_shipped=account.points_shipped,
        environment=one.environment,
    )
