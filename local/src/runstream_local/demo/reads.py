"""The questions that the demo asks ClickHouse, and their answers as plain values. Each is SQL that a user could type into `runstream sql`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Rows = list[dict[str, Any]]
# Asks a question with {name:Type} parameters and gives the rows.
Ask = Callable[[str, dict[str, str]], Rows]

STORED = "SELECT (SELECT count() FROM metrics WHERE run_id = {run:UUID}) AS metrics, (SELECT count() FROM hardware WHERE run_id = {run:UUID}) AS hardware"

ALERTS = """
SELECT alert_id, rule, severity, state, rank, metric, step, value, text, fired_latency_ms
FROM alerts WHERE run_id = {run:UUID} ORDER BY fired, rule"""

# 1,437 training images in batches of 64 are 22 steps an epoch.
CURVE = """
SELECT rank, intDiv(step, 22) AS epoch, min(step) AS first_step, avgIf(value, isFinite(value)) AS loss, countIf(NOT isFinite(value)) AS non_finite
FROM metrics WHERE run_id = {run:UUID} AND context = 'training' AND name = 'loss'
GROUP BY rank, epoch ORDER BY rank, epoch"""

SUMMARIES = """
SELECT context, name, rank, count, non_finite, min, min_step, max, max_step, mean, last
FROM summaries WHERE run_id = {run:UUID} AND context != '' ORDER BY context, name, rank"""

SUMMARISED = "SELECT sum(count) AS points FROM summaries WHERE run_id = {run:UUID} AND rank = {rank:UInt32} AND context != ''"

HARDWARE = """
SELECT toUInt32OrZero(extract(name, 'rank="([0-9]+)"')) AS process,
       avgIf(value, name LIKE 'process.cpu.utilization%') AS cpu_mean, maxIf(value, name LIKE 'process.cpu.utilization%') AS cpu_max,
       maxIf(value, name LIKE 'process.memory.rss\\_bytes%') AS memory_max, maxIf(value, name LIKE 'process.threads%') AS threads, uniqExact(seq) AS readings
FROM hardware WHERE run_id = {run:UUID} AND name LIKE 'process.%' GROUP BY process ORDER BY process"""

CHECKPOINTS = """
SELECT rank, count() AS checkpoints, sum(toUInt64OrZero(metadata['bytes'])) AS bytes, max(toFloat64OrZero(metadata['seconds'])) AS seconds_max
FROM events WHERE run_id = {run:UUID} AND name = 'checkpoint_finished' GROUP BY rank ORDER BY rank"""

ACCOUNT = """
SELECT kind, rank, state, points_logged, points_shipped, points_stored, points_dropped_total AS points_dropped, rows_logged, rows_shipped, balanced
FROM account WHERE run_id = {run:UUID} ORDER BY kind DESC, rank"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the demo holds what it promises, and if not, why."""

    balanced: bool
    alerted: bool
    reasons: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything does."""
        return self.balanced and self.alerted


def verdict(account: Rows, alerts: Rows, logged: dict[int, int], summarised: dict[int, int]) -> Verdict:
    """Judges the end of the demo, by rank: `logged` is what the rank's process itself counted, which no part of the pipeline had a hand in; `summarised` the values in its summaries."""
    reasons = [
        f"the summaries of rank {rank} hold {summarised.get(rank, 0)} values of {points}" for rank, points in logged.items() if summarised.get(rank) != points
    ]
    ranks = {int(row["rank"]): row for row in account if row["kind"] == "rank"}
    for rank, points in logged.items():
        row = ranks.get(rank)
        if row is None:
            reasons.append(f"rank {rank} is missing from the account")
        elif not int(row["points_logged"]) == int(row["points_shipped"]) == int(row["points_stored"]) == points:
            reasons.append(
                f"rank {rank} logged {points} points, the account says {row['points_logged']} logged, {row['points_shipped']} shipped, {row['points_stored']} stored"
            )
    reasons += [f"the hardware readings of rank {row['rank']}'s node do not balance" for row in account if row["kind"] == "hardware" and not row["balanced"]]
    reasons += [f"{row['kind']} {row['rank']} is still {row['state']}" for row in account if row["state"] == "running"]
    reasons += ["no writer of hardware readings is in the account"] * (not any(row["kind"] == "hardware" for row in account))
    balanced = not reasons
    alerted = any(row["severity"] == "critical" and int(row["rank"]) == 1 for row in alerts)
    if not alerted:
        reasons.append("the alert on the rank that diverges did not fire")
    reasons += [f"alert {row['rule']!r} fired on rank 0, which trains well" for row in alerts if int(row["rank"]) == 0]
    return Verdict(balanced, alerted and len(reasons) == 0, tuple(reasons))
