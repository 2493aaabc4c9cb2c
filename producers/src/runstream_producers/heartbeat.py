"""A writer's records: its state and account as the agent sees them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from runstream_schemas import records as rec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_producers.journal.format import Identity


@dataclass(frozen=True, slots=True)
class Account:
    """Counts of one writer: what it logged, what it dropped by reason, what Kafka has acknowledged."""

    next_seq: int
    rows_logged: int
    points_logged: int
    points_dropped: Mapping[str, int]
    rows_shipped: int
    points_shipped: int


def final_version(next_seq: int, *, said: bool) -> int:
    """The version of a writer's last state, above every heartbeat's. Of several, as when a copy of its journal is shipped as well, the one that knows of more rows holds,
    and of two that know the same the one whose end the writer `said` itself.
    """
    return rec.FINAL_VERSION | next_seq << 1 | said


def writer_record(one: Identity, account: Account, *, state: str, reason: str, version: int, alive_ms: int) -> rec.Writer:
    """The writer's record, whose last sign of life was at `alive_ms`."""
    return rec.Writer(
        writer=one.writer,
        run_id=one.run_id,
        project=one.project,
        version=version,
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
