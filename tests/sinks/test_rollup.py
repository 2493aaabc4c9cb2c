"""Rollups stay right under repeats, late rows, kills and passes that overtake one another; and reading through them is exact at any moment."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import uuid
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runstream_schemas import records as rec
from runstream_sinks.clickhouse import Server
from runstream_sinks.rollup import portions, roll_up
from tests.sinks import examples
from tests.sinks.test_tables import insert, one
from tests.sinks.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = 4096
Point = tuple[str, int, int, int, float]  # name, writer, seq, step, value
Rolled = dict[tuple[str, int, int], tuple[Any, ...]]  # by name, writer and block


def test_a_statement_takes_as_many_rows_as_it_may() -> None:
    """Blocks keep their order; one that is too large goes alone; one without rows is noted down all the same."""
    blocks = [(1, 1), (1, 0), (2, 0), (2, 1), (3, 5)]
    rows = {(1, 0): 5, (1, 1): 5, (2, 0): 30, (2, 1): 1}
    assert list(portions(blocks, rows, 10)) == [[(1, 0), (1, 1)], [(2, 0)], [(2, 1), (3, 5)]]
    assert list(portions([], {}, 10)) == []
    assert list(portions(blocks, {}, 10, blocks_max=3)) == [[(1, 0), (1, 1), (2, 0)], [(2, 1), (3, 5)]]


def points_of(random_of: random.Random) -> list[Point]:
    """Two names of two writers over three blocks of seqs, with gaps, steps that repeat, and values that are no numbers."""
    specials = (math.nan, math.inf, -math.inf)
    return [
        (name, writer, seq, seq // 3 * 2, random_of.choice(specials) if random_of.random() < 0.05 else random_of.uniform(-5, 5))
        for name in ("loss", "only/nan")
        for writer in (1, 2)
        for seq in range(0, 3 * BLOCK, 97)
    ]


def frames_of(points: Sequence[Point], run_id: str) -> Iterator[rec.MetricFrame]:
    """One frame a name and writer."""
    by_series: dict[tuple[str, int], list[Point]] = defaultdict(list)
    for point in points:
        by_series[point[0], point[1]].append(point)
    for (name, writer), rows in by_series.items():
        seqs, steps = (np.array([row[place] for row in rows], dtype=np.int64) for place in (2, 3))
        values = np.array([[math.nan if name == "only/nan" else row[4]] for row in rows])
        group = rec.MetricGroup("training", "", (name,), seqs, steps, examples.STARTED_MS + seqs, values)
        yield examples.frame(group, run_id=run_id, writer=writer)


def expected_of(points: Sequence[Point]) -> Rolled:
    """What the points come to, the slow and plain way."""
    blocks: dict[tuple[str, int, int], dict[int, Point]] = defaultdict(dict)
    for point in points:
        blocks[point[0], point[1], point[2] // BLOCK][point[2]] = point
    out: Rolled = {}
    for key, by_seq in blocks.items():
        values = [math.nan if key[0] == "only/nan" else point[4] for point in by_seq.values()]
        finite = [value for value in values if math.isfinite(value)]
        steps, seqs = [point[3] for point in by_seq.values()], list(by_seq)
        last = math.nan if key[0] == "only/nan" else by_seq[max(by_seq)][4]
        low, high = (min(finite), max(finite)) if finite else (math.nan, math.nan)
        ends = (min(steps), max(steps), examples.STARTED_MS + min(seqs), examples.STARTED_MS + max(seqs))
        out[key] = (len(values), len(values) - len(finite), math.fsum(finite), low, high, last, *ends)
    return out


def rolled(server: Server, view: str = "rollups") -> Rolled:
    """What the view shows; a block that it shows twice fails."""
    rows = server.query(
        "SELECT name, writer, block, count, non_finite, sum, min, max, last, first_step, last_step,"
        f" toUnixTimestamp64Milli(first_time), toUnixTimestamp64Milli(last_time) FROM {view}"
    )
    out = {(str(row[0]), int(row[1]), int(row[2])): tuple(row[3:]) for row in rows}
    assert len(out) == len(rows)
    return out


def assert_same(found: Rolled, expected: Rolled) -> None:
    """Equal; NaN is NaN, and sums may differ in their last bits."""
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        for one_value, other in zip(found[key], row, strict=True):
            assert one_value == other or (math.isnan(one_value) and math.isnan(other)) or math.isclose(one_value, other, rel_tol=1e-9, abs_tol=1e-9), key


def minutes_pass(server: Server) -> None:
    """What was inserted is an hour old, and what was computed a little less: as if nothing had happened for a while."""
    server.command(
        "ALTER TABLE rollup_blocks UPDATE written = written - INTERVAL 1 HOUR, computed = computed - INTERVAL 50 MINUTE WHERE 1 SETTINGS mutations_sync = 1"
    )
    server.command("OPTIMIZE TABLE rollup_blocks FINAL")


def stale(server: Server) -> int:
    """How many blocks are stale."""
    return one(server, "SELECT count() FROM rollup_stale")[0]


@pytest.mark.stack
@pytest.mark.parametrize("seed", range(3))
def test_a_rollup_is_what_its_points_come_to_whatever_happens(server: Server, seed: int) -> None:
    """Chunks in any order, rows twice and late, passes at any moment, merges or none: the view is exact after each, through points and through rollups."""
    random_of = random.Random(seed)
    run_id = str(uuid.uuid4())
    points = points_of(random_of)
    random_of.shuffle(points)
    seen: list[Point] = []
    for first in range(0, len(points), 180):
        chunk = points[first : first + 180]
        repeats = random_of.sample(seen, min(len(seen), 60))
        insert(server, "metric_points", *frames_of([*chunk, *repeats], run_id), *frames_of(repeats, run_id))
        seen += chunk
        assert_same(rolled(server), expected_of(seen))
        if random_of.random() < 0.5:
            roll_up(server, run_id=run_id if random_of.random() < 0.5 else None, rows_max=random_of.choice([1, 300, 1_000_000]))
            assert_same(rolled(server), expected_of(seen))
        if random_of.random() < 0.5:
            minutes_pass(server)
            assert_same(rolled(server), expected_of(seen))
        if random_of.random() < 0.3:
            server.command("OPTIMIZE TABLE metric_rollups FINAL")
    minutes_pass(server)
    roll_up(server)
    assert stale(server) == 0
    assert_same(rolled(server), expected_of(points))
    # Nothing is read from the points any more.
    server.command("TRUNCATE TABLE metric_points")
    assert_same(rolled(server), expected_of(points))


@pytest.mark.stack
def test_rows_make_their_blocks_stale_and_no_others(server: Server) -> None:
    """A row that comes late, or again, years after: its block is computed anew, and what did not change is left alone."""
    run_id = str(uuid.uuid4())
    points = points_of(random.Random(7))
    late = points[0]
    insert(server, "metric_points", *frames_of(points[1:], run_id))
    assert stale(server) == 6
    first = roll_up(server)
    assert (first.runs, first.blocks, first.rows) == (1, 6, len(points) - 1)
    # What was written a moment ago may not be all there: for two minutes it is computed again with each pass.
    assert stale(server) == 6
    minutes_pass(server)
    assert stale(server) == 0
    assert roll_up(server).blocks == 0
    insert(server, "metric_points", *frames_of([late], run_id))
    assert server.query("SELECT writer, block FROM rollup_stale") == [(late[1], 0)]
    assert_same(rolled(server), expected_of(points))
    assert roll_up(server).blocks == 1
    minutes_pass(server)
    assert stale(server) == 0
    assert_same(rolled(server), expected_of(points))
    assert roll_up(server, again=True).blocks == 6
    assert_same(rolled(server), expected_of(points))


@pytest.mark.stack
def test_a_pass_that_was_overtaken_takes_nothing_back(server: Server) -> None:
    """Its rollup has seen fewer points, so it does not replace the newer one, even if it comes last."""
    run_id = str(uuid.uuid4())
    points = points_of(random.Random(8))
    insert(server, "metric_points", *frames_of(points[:200], run_id))
    server.command("CREATE TABLE slow_pass AS metric_rollups")
    server.command("INSERT INTO slow_pass SELECT * FROM rollups_now")
    insert(server, "metric_points", *frames_of(points[200:], run_id))
    roll_up(server)
    server.command("INSERT INTO metric_rollups SELECT * FROM slow_pass")
    minutes_pass(server)
    assert stale(server) == 0
    assert_same(rolled(server), expected_of(points))
    server.command("OPTIMIZE TABLE metric_rollups FINAL")
    assert_same(rolled(server), expected_of(points))


@pytest.mark.stack
def test_a_pass_that_is_cut_off_is_made_up_for(server: Server) -> None:
    """Stopped between two statements, what it computed is noted down or computed again."""
    run_id = str(uuid.uuid4())
    points = points_of(random.Random(9))
    insert(server, "metric_points", *frames_of(points, run_id))
    minutes_pass(server)
    asked = iter([False, False, True])
    assert roll_up(server, stopped=lambda: next(asked), rows_max=1).blocks == 2
    assert stale(server) == 4
    assert_same(rolled(server), expected_of(points))
    # Killed after it computed and before it noted that down.
    server.command("INSERT INTO metric_rollups SELECT * FROM rollups_now")
    assert stale(server) == 4
    assert roll_up(server).blocks == 4
    assert stale(server) == 0
    assert_same(rolled(server), expected_of(points))


@pytest.mark.stack
def test_reading_through_rollups_leaves_the_points_alone(server: Server) -> None:
    """Of a series' points, only the granules of stale blocks are read."""
    run_id = str(uuid.uuid4())
    rows = 300_000
    server.command(
        "INSERT INTO metric_points SELECT {run:UUID}, '', 'loss', 'training', 0, number, now64(3), 7, 'a', toDateTime(1790000000), number, number FROM numbers({rows:UInt64})",
        {"run": run_id, "rows": rows},
    )
    minutes_pass(server)
    roll_up(server)
    server.command("INSERT INTO rollup_blocks (run_id, writer, block, written) SELECT {run:UUID}, 7, 3, now64(3)", {"run": run_id})
    plan = "\n".join(line for (line,) in server.query("EXPLAIN indexes = 1 SELECT * FROM rollups WHERE run_id = {run:UUID} AND name = 'loss'", {"run": run_id}))
    of_points = plan.partition(".metric_points)")[2]
    skip = of_points.partition("Name: seqs")[2]
    read, _, all_of_them = skip.partition("Granules: ")[2].partition("\n")[0].partition("/")
    assert int(read) <= 3 < 30 < int(all_of_them)
    assert one(server, "SELECT sum(count), min(min), max(max), sum(sum) FROM rollups WHERE run_id = {run:UUID}", run=run_id) == (
        rows,
        0.0,
        rows - 1.0,
        rows * (rows - 1) / 2,
    )


@pytest.mark.stack
def test_a_pass_takes_any_number_of_blocks(server: Server) -> None:
    """More than one statement can name, of writers with the longest numbers."""
    run_id = str(uuid.uuid4())
    server.command(
        "INSERT INTO metric_points SELECT {run:UUID}, '', 'loss', 'training', 0, number, now64(3), 9223372036854775000 + number % 7, 'a', toDateTime(1790000000), number * 4096, 1"
        " FROM numbers(9000)",
        {"run": run_id},
    )
    minutes_pass(server)
    assert roll_up(server).blocks == 9000
    assert stale(server) == 0
    assert one(server, "SELECT count(), sum(count) FROM rollups") == (9000, 9000)


@pytest.mark.stack
def test_the_command_makes_passes_until_it_is_asked_to_stop(server: Server, clickhouse_url: str, database: str) -> None:
    """`--every` goes on; SIGTERM ends it with 0; a run that is none is one sentence and exit code 2."""
    run_id = str(uuid.uuid4())
    insert(server, "metric_points", *frames_of(points_of(random.Random(1)), run_id))
    environment = {"RUNSTREAM_CLICKHOUSE_URL": clickhouse_url, "RUNSTREAM_CLICKHOUSE_DATABASE": database, "PATH": "/usr/bin:/bin"}
    argv = [sys.executable, "-m", "runstream.cli", "rollup", "--json"]
    child = subprocess.Popen([*argv, "--every", "0.2"], env=environment, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: one(server, "SELECT sum(count) FROM metric_rollups FINAL") == (len(points_of(random.Random(1))),), "the rollups")
    child.terminate()
    out, _ = child.communicate(timeout=30)
    assert child.returncode == 0
    assert out.splitlines()[0].startswith('{"runs": 1, "blocks": 6, "rows": ')
    done = subprocess.run([*argv, "--run", "none"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected the id of a run, a UUID, got 'none'" in done.stderr
