"""Alerts and silences as ClickHouse has them, for `runstream alerts`. Reads and writes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from runstream_rules.silences import Silences
from runstream_schemas.clickhouse import open_answer
from runstream_schemas.records import Alert, Silence

_IDS_MAX = 10
_ALERTS = """
SELECT alert_id, state, rule_id, rule_version, rule, kind, severity, toString(run_id) AS run, writer, seq, rank, metric, context, subject, step, value, operator, threshold,
    text, late, project, labels, baseline, silence, ifNull(toUnixTimestamp64Milli(fired), 0) AS fired_ms, ifNull(toUnixTimestamp64Milli(resolved), 0) AS resolved_ms,
    ifNull(toUnixTimestamp64Milli(fired_decided), 0) AS decided_ms, toUnixTimestamp64Milli(opened) AS opened_ms, rule_removed
FROM alerts
WHERE ({firing:Bool} = false OR (state = 'firing' AND NOT rule_removed)) AND ({run:String} = '' OR run = {run:String}) AND ({rule:String} = '' OR rule_id = {rule:String})
    AND ({project:String} = '' OR project = {project:String})
ORDER BY fired DESC, alert_id LIMIT {limit:UInt32}
"""
_IDS = "SELECT DISTINCT alert_id FROM alerts WHERE startsWith(alert_id, {prefix:String}) ORDER BY alert_id LIMIT {limit:UInt32}"
_SILENCES = """
SELECT silence_id, version, toUnixTimestamp64Milli(time) AS time_ms, author, comment, toUnixTimestamp64Milli(starts) AS starts_ms, toUnixTimestamp64Milli(ends) AS ends_ms,
    alert_id, rule_id, run_id, project, metric, labels, deleted
FROM silences
"""
_JSON = {"output_format_json_quote_64bit_integers": "0", "output_format_json_quote_denormals": "1"}


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An alert as it was when it fired, and whether and when it resolved (epoch milliseconds; 0: it fires). Of a rule that was removed since, nothing resolves it any more."""

    alert: Alert
    resolved_ms: int
    rule_removed: bool

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: 63 bits and what is not finite as text."""
        fields = asdict(self.alert) | {"writer": str(self.alert.writer), "resolved_ms": self.resolved_ms or None, "rule_removed": self.rule_removed}
        return {name: str(one) if isinstance(one, float) and one - one != 0 else one for name, one in fields.items()}


class AlertStore:
    """One ClickHouse; every call raises SqlError where it refuses or does not answer."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database

    def alerts(self, *, firing: bool, run_id: str, rule_id: str, project: str, limit: int) -> list[StoredAlert]:
        """The newest alerts; `firing` leaves out those that are resolved or whose rule was removed since, empty texts select everything."""
        rows = self._rows(_ALERTS, firing=str(firing).lower(), run=run_id, rule=rule_id, project=project, limit=str(limit))
        return [_alert(row) for row in rows]

    def ids(self, prefix: str) -> list[str]:
        """Ids of alerts that begin so; some of them where there are many."""
        return [row["alert_id"] for row in self._rows(_IDS, prefix=prefix, limit=str(_IDS_MAX))]

    def silences(self) -> Silences:
        """The silences and acknowledgements that are stored."""
        book = Silences()
        for row in self._rows(_SILENCES):
            book.learn(Silence(**row))
        return book

    def _rows(self, sql: str, **parameters: str) -> list[dict[str, Any]]:
        escaped = {f"param_{name}": text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n") for name, text in parameters.items()}
        with open_answer(self._url, sql, database=self._database, answer_format="JSONEachRow", settings=escaped | _JSON) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]


def _alert(row: dict[str, Any]) -> StoredAlert:
    number = row["value"]
    alert = Alert(
        alert_id=row["alert_id"],
        version=1 if row["state"] == "resolved" else 0,
        state=row["state"],
        rule_id=row["rule_id"],
        rule_version=row["rule_version"],
        rule_name=row["rule"],
        kind=row["kind"],
        severity=row["severity"],
        run_id=row["run"],
        writer=row["writer"],
        seq=row["seq"],
        rank=row["rank"],
        metric=row["metric"],
        context=row["context"],
        subject=row["subject"],
        step=row["step"],
        time_ms=row["fired_ms"],
        value=float(number),  # ClickHouse writes NaN and infinities as texts, which Python reads.
        operator=row["operator"],
        threshold=row["threshold"],
        text=row["text"],
        late=row["late"],
        decided_ms=row["decided_ms"],
        project=row["project"],
        labels=row["labels"],
        baseline=None if row["baseline"] is None else float(row["baseline"]),
        opened_ms=row["opened_ms"],
        silence=row["silence"],
    )
    return StoredAlert(alert, row["resolved_ms"], bool(row["rule_removed"]))
