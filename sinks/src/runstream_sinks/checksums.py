"""The SQL that compares two databases' tables: counts and order-free checksums by run, then, where those differ, rows by key. Only texts are made here; `verify` asks.

`cityHash64(*)` is null for a row that has a null, and `sum` leaves it out; as a tuple the columns are hashed with their nulls. Values never leave the engine: examples are keys.
"""

# ruff: noqa: S608
# (Names of databases, tables and columns are ours or checked by the settings; whatever people say goes through parameters.)

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runstream_sinks.tables import TABLES, Name

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

Kind = Literal["missing", "extra"]
# The engine spills to disk past it, so that a run of any size can be compared.
GROUP_BYTES_MAX = 1 << 30
EXAMPLES = 3
NO_HORIZON = "1970-01-01 00:00:00.000"
# By what a row's age is told where it is not stored: when its process started, else the time it carries, since nobody knows when it would have been received.
_NEVER = "'2200-01-01 00:00:00'"
_MOMENTS: dict[Name, str] = {
    "metric_points": "started",
    "hardware_points": "started",
    "summary_series": "started",
    "events_log": "time",
    "params_log": "time",
    "values_log": "time",
    "media_log": "time",
    "artifacts_log": "time",
    "alerts_log": "decided",
    "deliveries_log": "done",
    "dead_letters_log": "set_aside",
}

SHAPES = """
SELECT replaceRegexpOne(name, '_local$', '') AS table, argMax(sorting_key, endsWith(name, '_local')), argMax(engine_full, endsWith(name, '_local'))
FROM system.tables
WHERE database = {here:String} AND table IN (SELECT arrayJoin({tables:Array(String)}))
GROUP BY table
"""
# Rows of processes that started, or that were received, before a view's horizon may have been retired.
HORIZONS = "SELECT name, toString(horizon) FROM `{database}`.retention"
# Columns that both sides have: while a new version of the tables is filled, one side may know more than the other.
COLUMNS = """
SELECT table, groupArray(name)
FROM
(
    SELECT table, name FROM system.columns
    WHERE database IN ({here:String}, {there:String}) AND table IN (SELECT arrayJoin({tables:Array(String)}))
    GROUP BY table, name HAVING count() = 2
)
GROUP BY table
"""
# Keys that one side has and the other has not, or not like this: looked for again when that has moved on.
CANDIDATES = """
CREATE TABLE IF NOT EXISTS verify_candidates
(
    table LowCardinality(String),
    kind LowCardinality(String),
    run String,
    k UInt64,
    v UInt64,
    h UInt64
)
ENGINE = MergeTree
ORDER BY (table, kind, run, k)
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a comparison needs to know of a table: the expression of its sort key, and the column of its version, if it has one."""

    table: Name
    key: str
    version: str | None
    columns: tuple[str, ...]

    @property
    def hash(self) -> str:
        """The checksum of a row."""
        return f"cityHash64(tuple({', '.join(f'`{one}`' for one in self.columns)}))"

    @property
    def run(self) -> str:
        """The run of a row as text; empty where its table has none."""
        kind = TABLES[self.table].columns.get("run_id")
        return {"uuid": "toString(run_id)", "text": "run_id"}.get(kind or "", "''")

    @property
    def in_sequence(self) -> bool:
        """Whether a writer's rows come in the order of their seqs, so that what is older than the oldest that is there can be told."""
        return self.version is None and {"writer", "seq"} <= set(TABLES[self.table].columns)

    def of_runs(self) -> str:
        """A condition: the row is of one of `{runs:Array(String)}`."""
        if TABLES[self.table].columns.get("run_id") == "uuid":
            return "run_id IN (SELECT toUUID(arrayJoin({runs:Array(String)})))"
        return f"{self.run} IN (SELECT arrayJoin({{runs:Array(String)}}))"


def shape(name: Name, sorting_key: str, engine_full: str, columns: Container[str]) -> Shape:
    """The shape of a table from what the engine says of it; of the columns that are written, those in `columns` are compared."""
    arguments = re.match(r"\w*ReplacingMergeTree\(([^)]*)\)", engine_full)
    last = arguments[1].rpartition(",")[2].strip() if arguments else ""
    # A replicated table's last argument may be the name of its replica, in quotes.
    return Shape(name, sorting_key, last if last.isidentifier() else None, tuple(one for one in TABLES[name].columns if one in columns))


def sums(one: Shape, database: str, *, some_runs: bool) -> str:
    """Run, rows and checksum of every run (or of `{runs}`) of a table, repeats collapsed."""
    where = f"WHERE {one.of_runs()}" if some_runs else ""
    return f"SELECT {one.run} AS run, count() AS rows, sum({one.hash}) AS checksum FROM `{database}`.`{one.table}` FINAL {where} GROUP BY run"


def _side(one: Shape, database: str, side: int) -> str:
    sequence = "writer AS w, seq AS s" if one.in_sequence else "toUInt64(0) AS w, toUInt64(0) AS s"
    version = one.version or "toUInt64(0)"
    moment = f"toDateTime64({_MOMENTS.get(one.table, _NEVER)}, 3, 'UTC')"
    return (
        f"SELECT {one.run} AS run, sipHash64(tuple({one.key})) AS k, {version} AS v, {one.hash} AS h, {sequence}, {moment} AS t, {side} AS side "
        f"FROM `{database}`.`{one.table}` FINAL WHERE {one.of_runs()}"
    )


def _keys(one: Shape, here: str, there: str) -> str:
    """One row a key of `{runs}`: what each side has under it."""
    return f"""
SELECT
    run, k, any(w) AS w, any(s) AS s, any(t) AS t,
    countIf(side = 1) AS here, maxIf(v, side = 1) AS here_v, sumIf(h, side = 1) AS here_h,
    countIf(side = 2) AS there, maxIf(v, side = 2) AS there_v, sumIf(h, side = 2) AS there_h,
    there > 0 AND (here = 0 OR here_v < there_v OR (here_v = there_v AND here_h != there_h)) AS missing,
    here > 0 AND (there = 0 OR there_v < here_v OR (here_v = there_v AND here_h != there_h)) AS extra
FROM ({_side(one, here, 1)} UNION ALL {_side(one, there, 2)})
GROUP BY run, k
"""


def _oldest(one: Shape, there: str) -> str:
    return f"SELECT writer AS w, min(seq) AS oldest, count() AS known FROM `{there}`.`{one.table}` WHERE {one.of_runs()} GROUP BY w"


def _covered(one: Shape, *, complete: bool) -> str:
    """Whether the other side reaches back to a key that it has not: always where nothing was removed from it, else as far as can be told."""
    if complete:
        return "1"
    return "(there > 0 OR (known > 0 AND s >= oldest))" if one.in_sequence else "there > 0"


_SETTINGS = f"SETTINGS max_bytes_before_external_group_by = {GROUP_BYTES_MAX}"


def _judged(one: Shape, here: str, there: str, *, complete: bool) -> str:
    """One row a key of `{runs}`: whether it is missing here, extra here, or cannot be told.

    What `here` lacks cannot be told from before `{horizon}`, since retention may have taken it; what `there` lacks, from before its oldest records.
    """
    covered = _covered(one, complete=complete)
    retired = "(here = 0 AND t < toDateTime64({horizon:String}, 3, 'UTC'))"
    return f"""
SELECT
    run, k, here_v, here_h, there_v, there_h,
    missing AND NOT {retired} AS is_missing,
    extra AND {covered} AS is_extra,
    (missing AND {retired}) OR (extra AND NOT {covered}) AS is_untold
FROM ({_keys(one, here, there)}) AS keys
LEFT JOIN ({_oldest_or_none(one, there)}) AS old USING w
"""


def differences(one: Shape, here: str, there: str, *, complete: bool) -> str:
    """For each of `{runs}`: keys that `here` lacks, keys that `there` lacks, those of either that cannot be told, and hashes of some that are missing."""
    return f"""
SELECT run, countIf(is_missing), countIf(is_extra), countIf(is_untold), groupArrayIf({EXAMPLES})(k, is_missing)
FROM ({_judged(one, here, there, complete=complete)})
GROUP BY run {_SETTINGS}
"""


def _oldest_or_none(one: Shape, there: str) -> str:
    if one.in_sequence:
        return _oldest(one, there)
    return "SELECT toUInt64(0) AS w, toUInt64(0) AS oldest, toUInt64(0) AS known WHERE 0"


def note_candidates(one: Shape, here: str, there: str, *, complete: bool, scratch: str, kind: Kind) -> str:
    """Notes the keys of `{runs}` that are missing here, or extra here."""
    side = "there" if kind == "missing" else "here"
    return f"""
INSERT INTO `{scratch}`.verify_candidates (table, kind, run, k, v, h)
SELECT '{one.table}', '{kind}', run, k, {side}_v, {side}_h
FROM ({_judged(one, here, there, complete=complete)})
WHERE is_{kind} {_SETTINGS}
"""


def standing(one: Shape, database: str, *, scratch: str, kind: Kind) -> str:
    """For each of `{runs}`: the noted keys of a kind that a database still lacks, and hashes of some."""
    noted = f"SELECT run, k, v, h, 1 AS side FROM `{scratch}`.verify_candidates WHERE table = '{one.table}' AND kind = '{kind}'"
    return f"""
SELECT run, countIf(lacks), groupArrayIf({EXAMPLES})(k, lacks)
FROM
(
    SELECT
        run, k,
        countIf(side = 1) AS noted, maxIf(v, side = 1) AS noted_v, sumIf(h, side = 1) AS noted_h,
        countIf(side = 2) AS found, maxIf(v, side = 2) AS found_v, sumIf(h, side = 2) AS found_h,
        noted > 0 AND (found = 0 OR found_v < noted_v OR (found_v = noted_v AND found_h != noted_h)) AS lacks
    FROM
    (
        {noted} AND run IN (SELECT arrayJoin({{runs:Array(String)}}))
        UNION ALL
        SELECT run, k, v, h, side FROM ({_side(one, database, 2)})
    )
    GROUP BY run, k
)
GROUP BY run {_SETTINGS}
"""


def examples(one: Shape, database: str) -> str:
    """The keys behind `{hashes:Array(UInt64)}` as texts."""
    return (
        f"SELECT toString(tuple({one.key})) FROM `{database}`.`{one.table}` FINAL "
        f"WHERE {one.of_runs()} AND sipHash64(tuple({one.key})) IN (SELECT arrayJoin({{hashes:Array(UInt64)}}))"
    )


def key_columns(one: Shape) -> Sequence[str]:
    """What the places of an example stand for."""
    return [part.strip("` ") for part in one.key.split(",")]
