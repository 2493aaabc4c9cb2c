"""The account of a run, from ClickHouse alone: what each writer logged, dropped, shipped, and what of it is stored.

For the demo, for tests that kill things, and for whoever asks whether a run is whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    class Querying(Protocol):
        """A server that answers queries."""

        def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[tuple[Any, ...]]:
            """The rows of a query."""
            ...


_WRITERS = """
SELECT writer, kind, rank, state, rows_logged, points_logged, points_dropped, rows_shipped, points_shipped
FROM writers WHERE run_id = {run_id:UUID} ORDER BY kind, rank, writer
"""
_RETIRED = "SELECT writer, points_retired FROM account WHERE run_id = {run_id:UUID} AND points_retired > 0"
# Rows before FINAL count every repeat that is not merged away yet; how many those are depends on what ClickHouse has merged so far.
_STORED = """
SELECT writer, sum(points), sum(before)
FROM
(
    SELECT writer, 0 AS points, count() AS before FROM {table:Identifier} WHERE run_id = {run_id:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, count() AS points, 0 AS before FROM {table:Identifier} FINAL WHERE run_id = {run_id:UUID} GROUP BY writer
)
GROUP BY writer
"""


@dataclass(frozen=True, slots=True)
class WriterAccount:
    """One writer's account in points. `rows_before_final` counts stored repeats as well; `points_retired` is what retention took."""

    writer: int
    kind: str
    rank: int
    state: str
    rows_logged: int
    points_logged: int
    rows_shipped: int
    points_shipped: int
    points_stored: int
    rows_before_final: int
    points_dropped: Mapping[str, int] = field(default_factory=dict[str, int])
    points_retired: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every point that a log call accepted was shipped and is stored, once, or was retired."""
        return self.points_logged == self.points_shipped == self.points_stored + self.points_retired


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a run: one entry for each writer that said something of itself or has points stored."""

    run_id: str
    writers: tuple[WriterAccount, ...]

    @property
    def balanced(self) -> bool:
        """Whether every writer's account balances; False for a run without writers."""
        return bool(self.writers) and all(one.balanced for one in self.writers)

    @property
    def points_logged(self) -> int:
        """Points that log calls accepted."""
        return sum(one.points_logged for one in self.writers)

    @property
    def points_shipped(self) -> int:
        """Points that Kafka acknowledged."""
        return sum(one.points_shipped for one in self.writers)

    @property
    def points_stored(self) -> int:
        """Points in the views `metrics` and `hardware`."""
        return sum(one.points_stored for one in self.writers)

    @property
    def repeats(self) -> int:
        """Stored rows that a view does not show since they repeat another: what replays left behind and no merge has removed yet."""
        return sum(one.rows_before_final - one.points_stored for one in self.writers)


def account(url: str, database: str, run_id: str) -> Account:
    """The account of a run. Blocks for a few queries.

    Raises:
        ServerBusy, ServerRefused: ClickHouse did not answer.
    """
    from runstream_sinks.clickhouse import Server

    server = Server(url, database)
    try:
        return read_account(server, run_id)
    finally:
        server.close()


def read_account(server: Querying, run_id: str) -> Account:
    """As `account`, over a connection at hand."""
    stored: dict[int, tuple[int, int]] = {}
    for table in ("metric_points", "hardware_points"):
        for writer, points, before in server.query(_STORED, {"table": table, "run_id": run_id}):
            known = stored.get(writer, (0, 0))
            stored[writer] = (known[0] + points, known[1] + before)
    retired: dict[int, int] = dict(server.query(_RETIRED, {"run_id": run_id}))
    found: list[WriterAccount] = []
    for writer, kind, rank, state, rows_logged, points_logged, dropped, rows_shipped, points_shipped in server.query(_WRITERS, {"run_id": run_id}):
        points, before = stored.pop(writer, (0, 0))
        account = WriterAccount(
            writer, kind, rank, state, rows_logged, points_logged, rows_shipped, points_shipped, points, before, dropped, retired.get(writer, 0)
        )
        found.append(account)
    # Points whose writer never told its state: an account that does not balance.
    found += [WriterAccount(writer, "", 0, "", 0, 0, 0, 0, points, before) for writer, (points, before) in sorted(stored.items())]
    return Account(run_id, tuple(found))
