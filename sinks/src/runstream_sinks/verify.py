"""Whether the tables hold what the topics hold, or what another database holds: by counts and order-free checksums of each run, then row by row where those differ.

It is right while writes go on, since each direction is looked at when nothing can be under way in it: what the tables lack is missing only if the sinks have passed everything that the other
side had then; what the other side lacks is extra only if that has been moved on to everything that the tables had then. `verify_sides` brings both there.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runstream_sinks import checksums
from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.replay import prepare_tables
from runstream_sinks.retention import RETAINED
from runstream_sinks.tables import TABLE_OF, TABLES, Name
from runstream_sinks.verify_sides import Database, Topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_schemas import topics
    from runstream_schemas.settings import Settings
    from runstream_sinks.checksums import Kind, Shape
    from runstream_sinks.fill import Caller
    from runstream_sinks.verify_sides import Other

RUNS_AT_ONCE = 100
_KINDS: tuple[Kind, ...] = ("missing", "extra")
# A checksum reads the whole of a table.
QUERY_TIMEOUT_S = 3600.0
# Scratch databases of verifications that were killed are removed by later ones once they are this old.
SCRATCH_AGE_S = 86_400


@dataclass(slots=True)
class RunDifference:
    """A run whose rows differ in a table: how many each side has, what is missing here, what is extra here, and the keys of some."""

    run: str
    rows: int
    rows_there: int
    missing: int = 0
    extra: int = 0
    not_covered: int = 0
    missing_keys: list[str] = field(default_factory=list[str])
    extra_keys: list[str] = field(default_factory=list[str])

    def count(self, kind: Kind) -> int:
        """How many are missing, or extra."""
        return self.missing if kind == "missing" else self.extra

    def note(self, kind: Kind, count: int, keys: list[str]) -> None:
        """Sets how many are missing, or extra, and the keys of some."""
        if kind == "missing":
            self.missing, self.missing_keys = count, keys
        else:
            self.extra, self.extra_keys = count, keys


@dataclass(slots=True)
class TableReport:
    """A table's comparison. `not_covered` counts rows that are older than what the other side reaches back to, or than what retention has left here."""

    table: Name
    topic: topics.Name
    key: Sequence[str]
    rows: int = 0
    rows_there: int = 0
    runs: int = 0
    runs_not_covered: int = 0
    not_covered: int = 0
    differing: list[RunDifference] = field(default_factory=list[RunDifference])

    @property
    def equal(self) -> bool:
        """Whether nothing differs as far as the other side reaches."""
        return not self.differing


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. `behind` counts records that the sinks have not stored yet; they were not compared."""

    there: str
    tables: Sequence[TableReport]
    behind: int
    malformed: int
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether no table differs."""
        return all(one.equal for one in self.tables)


class Comparison:
    """The live tables, called here, against another side, called there."""

    def __init__(self, server: Server, database: str, scratch: str, runs: frozenset[str]) -> None:
        self._server = server
        self._here = database
        self._scratch = scratch
        self._runs = sorted(runs)
        self._horizons: dict[Name, str] = {}

    def compare(self, other: Other, names: Sequence[topics.Name]) -> list[TableReport]:
        """Compares the tables of topics; see the module's words."""
        other.begin()
        shapes = self._shapes(names, other.database)
        self._horizons = self._find_horizons()
        reports = [self._first_look(topic, shapes[TABLE_OF[topic]], other) for topic in names]
        if other.may_be_ahead and any(one.missing for report in reports for one in report.differing):
            other.wait_for_tables()
            for report in reports:
                self._look_again(shapes[report.table], report, "missing", self._here, other.database)
        if any(one.extra for report in reports for one in report.differing):
            other.move_on()
            for report in reports:
                self._look_again(shapes[report.table], report, "extra", other.database, self._here)
        for report in reports:
            report.differing = [one for one in report.differing if one.missing or one.extra]
        return reports

    def _shapes(self, names: Sequence[topics.Name], there: str) -> dict[Name, Shape]:
        tables: list[Name] = [TABLE_OF[name] for name in names]
        asked = {"here": self._here, "there": there, "tables": tables}
        columns: dict[str, set[str]] = {table: set(names) for table, names in self._server.query(checksums.COLUMNS, asked)}
        said = {name: (key, engine) for name, key, engine in self._server.query(checksums.SHAPES, asked)}
        return {table: checksums.shape(table, *said[table], columns[table]) for table in tables}

    def _find_horizons(self) -> dict[Name, str]:
        """Before when rows of a table may have been retired."""
        tables: dict[str, Name] = {view: name for view, (table, _) in RETAINED.items() for name in TABLES if name == table}
        has_retention = self._server.query("SELECT 1 FROM system.tables WHERE database = {here:String} AND name = 'retention'", {"here": self._here})
        found = self._server.query(checksums.HORIZONS.format(database=self._here)) if has_retention else ()
        return {tables[view]: horizon for view, horizon in found if view in tables}

    def _first_look(self, topic: topics.Name, shape: Shape, other: Other) -> TableReport:
        here, there = self._sums(shape, self._here), self._sums(shape, other.database)
        complete = other.complete(topic)
        report = TableReport(shape.table, topic, checksums.key_columns(shape))
        report.rows, report.rows_there = sum(rows for rows, _ in here.values()), sum(rows for rows, _ in there.values())
        report.runs = len(here.keys() | there.keys())
        differing: dict[str, RunDifference] = {}
        for run in sorted(here.keys() | there.keys()):
            rows, rows_there = here.get(run, (0, 0))[0], there.get(run, (0, 0))[0]
            if run not in there and not complete:
                report.runs_not_covered += 1
                report.not_covered += rows
            elif here.get(run) != there.get(run):
                differing[run] = RunDifference(run, rows, rows_there)
        for some in _some(list(differing)):
            sql = checksums.differences(shape, self._here, other.database, complete=complete)
            horizon = self._horizons.get(shape.table, checksums.NO_HORIZON)
            for run, missing, extra, not_covered, hashes in self._server.query(sql, {"runs": some, "horizon": horizon}):
                one = differing[run]
                one.extra, one.not_covered = extra, not_covered
                one.note("missing", missing, self._keys(shape, other.database, run, hashes))
                report.not_covered += not_covered
            for kind in _KINDS:
                runs = [run for run in some if differing[run].count(kind)]
                if runs:
                    noting = checksums.note_candidates(shape, self._here, other.database, complete=complete, scratch=self._scratch, kind=kind)
                    self._server.command(noting, {"runs": runs, "horizon": horizon})
        report.differing = list(differing.values())
        return report

    def _look_again(self, shape: Shape, report: TableReport, kind: Kind, lacking: str, having: str) -> None:
        """Whether a side that has moved on still lacks the rows that were noted."""
        by_run = {one.run: one for one in report.differing}
        for some in _some([one.run for one in report.differing if one.count(kind)]):
            for run in some:
                by_run[run].note(kind, 0, [])
            for run, count, hashes in self._server.query(checksums.standing(shape, lacking, scratch=self._scratch, kind=kind), {"runs": some}):
                by_run[run].note(kind, count, self._keys(shape, having, run, hashes))

    def _sums(self, shape: Shape, database: str) -> dict[str, tuple[int, int]]:
        found = self._server.query(checksums.sums(shape, database, some_runs=bool(self._runs)), {"runs": self._runs} if self._runs else {})
        return {run: (rows, checksum) for run, rows, checksum in found}

    def _keys(self, shape: Shape, database: str, run: str, hashes: Sequence[Any]) -> list[str]:
        if not hashes:
            return []
        return sorted(text for (text,) in self._server.query(checksums.examples(shape, database), {"runs": [run], "hashes": list(hashes)}))


def _some(runs: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(runs), RUNS_AT_ONCE):
        yield runs[start : start + RUNS_AT_ONCE]


def verify(settings: Settings, names: Sequence[topics.Name], runs: frozenset[str], against: str | None, caller: Caller) -> Report:
    """Compares the live tables of topics with what the topics hold (`against` None), or with another database. Blocks for about as long as a replay takes.

    Raises:
        SinksError: ClickHouse or Kafka refused, or do not answer; Stopped where it was asked to.
    """
    began = time.monotonic()
    database = settings.clickhouse_database if against else prepare_tables(settings, None)
    server = Server(settings.clickhouse_url, None, timeout_s=QUERY_TIMEOUT_S)
    scratch = _make_scratch(settings, server)
    other: Topics | Database | None = None
    try:
        other = Topics(settings, names, runs, scratch, caller) if against is None else Database(settings, names, against, caller)
        reports = Comparison(server, database, scratch, runs).compare(other, names)
        return Report(other.name, reports, other.behind, other.malformed, time.monotonic() - began)
    finally:
        if isinstance(other, Topics):
            other.close()
        server.command(f"DROP DATABASE IF EXISTS `{scratch}`")
        server.close()


def _make_scratch(settings: Settings, server: Server) -> str:
    """A new database for one verification; what others left behind long ago is removed."""
    stem = f"{settings.clickhouse_database}_verify_"
    now = int(time.time())
    for (name,) in server.query("SELECT name FROM system.databases WHERE startsWith(name, {stem:String})", {"stem": stem}):
        stamp = str(name).removeprefix(stem).partition("_")[0]
        if stamp.isdigit() and int(stamp) < now - SCRATCH_AGE_S:
            server.command(f"DROP DATABASE IF EXISTS `{name}`")
    scratch = f"{stem}{now}_{secrets.token_hex(4)}"
    create_database(settings.clickhouse_url, scratch)
    made = Server(settings.clickhouse_url, scratch)
    try:
        made.command(checksums.CANDIDATES)
    finally:
        made.close()
    return scratch
