"""The account of a run: what each writer says it logged, dropped and shipped, beside what ClickHouse stores, and where the two differ.

`read` asks ClickHouse; judging is pure. Journals on this machine that wait to be shipped are the command's matter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runstream.sql import open_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

SET_ASIDE = "set_aside"  # The reason under which points are dropped that Kafka refused: they were logged, and never ship.

# Of a process that started before the horizon, retention may have taken points, or rows of any kind.
_WRITERS = """
WITH
    (SELECT max(horizon) FROM retention WHERE name = 'metrics') AS metrics_horizon,
    (SELECT max(horizon) FROM retention WHERE name = 'hardware') AS hardware_horizon,
    (SELECT max(horizon) FROM retention WHERE name IN ('metrics', 'hardware', 'events', 'params', 'media', 'artifacts')) AS rows_horizon
SELECT writer, kind, rank, node, attempt, state, exit_reason, next_seq, rows_logged, rows_shipped, points_logged, points_shipped, points_dropped,
    ifNull(toDateTime(started) < if(kind = 'hardware', hardware_horizon, metrics_horizon), 0) AS points_old, ifNull(toDateTime(started) < rows_horizon, 0) AS rows_old
FROM writers WHERE run_id = {run:UUID} ORDER BY kind DESC, rank, started, writer
"""
_STORED = """
SELECT writer, sum(points) AS points, sum(rows) AS rows
FROM
(
    SELECT writer, count() AS points, uniqExact(seq) AS rows FROM metrics WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, count() AS points, uniqExact(seq) AS rows FROM hardware WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM events WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM params_history WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM values_log WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM media_log WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM artifacts_log WHERE run_id = {run:UUID} GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM alerts_log WHERE run_id = {run:UUID} AND kind = 'code' GROUP BY writer
    UNION ALL
    SELECT writer, 0 AS points, uniqExact(seq) AS rows FROM run_changes WHERE run_id = {run:UUID} GROUP BY writer
)
WHERE writer != 0
GROUP BY writer
"""
_RULES = "SELECT greatest(count(), max(ordinal)) AS rules FROM rules_log FINAL WHERE run_id = {run:String} AND writer != 0"
_RUNS = """
SELECT toString(run_id) AS run_id, project, name, state
FROM runs
WHERE toString(run_id) LIKE {prefix:String} OR concat(project, '/', name) = {named:String}
ORDER BY started DESC
LIMIT 20
"""
_JSON = {"output_format_json_quote_64bit_integers": "0"}


@dataclass(frozen=True, slots=True)
class WriterAccount:
    """One writer's counts. `points_dropped` is by reason; `rows_dropped` is how many rows and records were given up whole; `rules_max` is how many of its rows may be rules,
    which ranks share and the store keeps once; what is retired was shipped and taken by retention.
    """

    writer: int
    kind: str
    rank: int
    state: str
    rows_logged: int
    rows_shipped: int
    rows_stored: int
    points_logged: int
    points_shipped: int
    points_stored: int
    points_dropped: Mapping[str, int]
    rows_dropped: int = 0
    rules_max: int = 0
    points_retired: int = 0
    rows_retired: int = 0

    @property
    def troubles(self) -> list[str]:
        """Where the account does not balance, in words; empty where it does."""
        if not self.state:
            return [f"{self.points_stored} points are stored of a writer that never told its state"]
        aside = self.points_dropped.get(SET_ASIDE, 0)
        found: list[str] = []
        if aside:
            found.append(f"{aside} points were refused by Kafka and set aside on the node")
        rest = self.points_logged - self.points_shipped - aside
        if rest:
            found.append(f"{rest} points logged and not shipped" if rest > 0 else f"{-rest} more points shipped than logged")
        rest = self.points_shipped - self.points_stored - self.points_retired
        if rest:
            found.append(f"{rest} points shipped and not stored" if rest > 0 else f"{-rest} more points stored than shipped")
        rest = self.rows_logged - self.rows_shipped
        if rest and not found:
            found.append(f"{rest} rows logged and not shipped" if rest > 0 else f"{-rest} more rows shipped than logged")
        rest = self.rows_shipped - self.rows_stored - self.rows_retired
        if not found and not 0 <= rest <= self.rules_max:
            found.append(f"{rest} rows shipped and not stored" if rest > 0 else f"{-rest} more rows stored than shipped")
        if found and self.state == "running":
            newer = self.points_stored + self.points_retired - self.points_logged
            if newer >= 0:  # The store knows more than the writer has told yet: nothing is behind.
                found = found[: bool(aside)]
            found.append("it is still running, and what it says is a heartbeat old" + (f": {newer} more points are stored by now" if newer > 0 else ""))
        return found

    def to_json(self) -> dict[str, Any]:
        """The account as JSON has it."""
        names = (
            "rows_logged",
            "rows_dropped",
            "rows_shipped",
            "rows_stored",
            "rows_retired",
            "points_logged",
            "points_shipped",
            "points_stored",
            "points_retired",
        )
        counts = {name: getattr(self, name) for name in names}
        who = {"writer": self.writer, "kind": self.kind, "rank": self.rank, "state": self.state}
        return who | counts | {"points_dropped": dict(self.points_dropped), "balanced": not self.troubles, "troubles": self.troubles}


@dataclass(frozen=True, slots=True)
class Found:
    """A run that was found by name."""

    run_id: str
    project: str
    name: str
    state: str


class Store:
    """The questions to one database; each blocks for a query and raises `runstream.sql.SqlError`."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database

    def _rows(self, sql: str, **parameters: str) -> list[dict[str, Any]]:
        settings = _JSON | {f"param_{name}": value for name, value in parameters.items()}
        with open_answer(self._url, sql, database=self._database, answer_format="JSONEachRow", settings=settings) as answer:
            return [json.loads(line) for line in answer]

    def runs(self, named: str) -> list[Found]:
        """Runs whose id begins so, or whose project and name are these; newest first."""
        literal = named.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return [Found(**row) for row in self._rows(_RUNS, prefix=f"{literal}%", named=named)]

    def read(self, run_id: str) -> list[WriterAccount]:
        """The account of every writer of a run that said something of itself or has rows stored."""
        stored = {int(row["writer"]): (int(row["rows"]), int(row["points"])) for row in self._rows(_STORED, run=run_id)}
        rules = int(self._rows(_RULES, run=run_id)[0]["rules"])
        found: list[WriterAccount] = []
        for row in self._rows(_WRITERS, run=run_id):
            rows, points = stored.pop(int(row["writer"]), (0, 0))
            rows_shipped, points_shipped = int(row["rows_shipped"]), int(row["points_shipped"])
            found.append(
                WriterAccount(
                    writer=int(row["writer"]),
                    kind=row["kind"],
                    rank=int(row["rank"]),
                    state=row["state"],
                    rows_logged=int(row["rows_logged"]),
                    rows_shipped=rows_shipped,
                    rows_stored=rows,
                    points_logged=int(row["points_logged"]),
                    points_shipped=points_shipped,
                    points_stored=points,
                    points_dropped={reason: int(count) for reason, count in row["points_dropped"].items()},
                    rows_dropped=max(0, int(row["next_seq"]) - int(row["rows_logged"])),
                    rules_max=rules,
                    points_retired=max(0, points_shipped - points) if row["points_old"] else 0,
                    rows_retired=max(0, rows_shipped - rows) if row["rows_old"] else 0,
                )
            )
        found += [WriterAccount(writer, "", 0, "", 0, 0, rows, 0, 0, points, {}) for writer, (rows, points) in sorted(stored.items())]
        return found
