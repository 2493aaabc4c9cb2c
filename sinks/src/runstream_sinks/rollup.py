"""Rolls up the blocks of metrics that are stale: each whole, from its points as they read now. What a rollup holds and when one is stale say `sql/0007_rollups.sql` and docs/guarantees.md.

A pass may be killed anywhere and several may run at once: a block that was computed and not noted down is computed again, and of two computations the one that saw more points holds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runstream_sinks.migrations import Database

# Rows that one statement reads (seconds of work), and blocks that it names (100 KB of its text; ClickHouse takes 256 KB).
ROWS_MAX = 20_000_000
BLOCKS_MAX = 4000

Block = tuple[int, int]  # writer, and seq divided by BLOCK_SEQS

_RUNS = "SELECT DISTINCT run_id FROM rollup_stale ORDER BY run_id"
_ALL_RUNS = "SELECT DISTINCT run_id FROM rollup_blocks ORDER BY run_id"
_STALE = "SELECT writer, block FROM rollup_stale WHERE run_id = {run:UUID}"
_ALL = "SELECT DISTINCT writer, block FROM rollup_blocks WHERE run_id = {run:UUID}"
_SIZES = """
SELECT writer, intDiv(seq, 4096) AS block, count() FROM metric_points
WHERE run_id = {run:UUID} AND (writer, intDiv(seq, 4096)) GLOBAL IN (SELECT writer, block FROM rollup_stale WHERE run_id = {run:UUID})
GROUP BY writer, block
"""
_ALL_SIZES = "SELECT writer, intDiv(seq, 4096) AS block, count() FROM metric_points WHERE run_id = {run:UUID} GROUP BY writer, block"
# The blocks stand in the text, as parameters travel in the URL, which is short; they are numbers.
_COMPUTE = "INSERT INTO metric_rollups SELECT * FROM rollups_now WHERE run_id = {{run:UUID}} AND (writer, block) IN ({blocks})"
_NOTE = """
INSERT INTO rollup_blocks (run_id, writer, block, computed)
SELECT {{run:UUID}}, pair.1, pair.2, fromUnixTimestamp64Milli({{began_ms:Int64}}, 'UTC') FROM (SELECT arrayJoin([{blocks}]) AS pair) AS given
"""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass came to: runs and blocks that were computed, the stored rows they were computed from, and seconds."""

    runs: int
    blocks: int
    rows: int
    seconds: float


def portions(blocks: Sequence[Block], rows: Mapping[Block, int], rows_max: int, blocks_max: int = BLOCKS_MAX) -> Iterator[list[Block]]:
    """The blocks in parts of at most `blocks_max` blocks and `rows_max` rows each, or of one block that has more rows."""
    part: list[Block] = []
    size = 0
    for block in sorted(blocks):
        more = rows.get(block, 0)
        if part and (size + more > rows_max or len(part) >= blocks_max):
            yield part
            part, size = [], 0
        part.append(block)
        size += more
    if part:
        yield part


def roll_up(server: Database, *, run_id: str | None = None, again: bool = False, stopped: Callable[[], bool] = lambda: False, rows_max: int = ROWS_MAX) -> Pass:
    """Computes every stale block, or with `again` every block, of one run or of all. Blocks for as long as that takes, or until `stopped`.

    Raises:
        ServerBusy, ServerRefused: ClickHouse did not answer. What was done so far stays done.
    """
    start = time.monotonic()
    runs: list[str] = [run_id] if run_id else [str(found) for (found,) in server.query(_ALL_RUNS if again else _RUNS)]
    done_runs = done_blocks = done_rows = 0
    for run in runs:
        of_run = {"run": run}
        blocks: list[Block] = [(writer, block) for writer, block in server.query(_ALL if again else _STALE, of_run)]
        rows = {(writer, block): count for writer, block, count in server.query(_ALL_SIZES if again else _SIZES, of_run)}
        for part in portions(blocks, rows, rows_max):
            if stopped():
                return Pass(done_runs, done_blocks, done_rows, time.monotonic() - start)
            _compute(server, run, part)
            done_blocks += len(part)
            done_rows += sum(rows.get(block, 0) for block in part)
        done_runs += bool(blocks)
    return Pass(done_runs, done_blocks, done_rows, time.monotonic() - start)


def _compute(server: Database, run: str, part: Sequence[Block]) -> None:
    # Before the points are read: what is inserted from now on makes the block stale again.
    [(began_ms,)] = server.query("SELECT toUnixTimestamp64Milli(now64(3))")
    given = ", ".join(f"({writer}, {block})" for writer, block in part)
    server.command(_COMPUTE.format(blocks=given), {"run": run})
    server.command(_NOTE.format(blocks=given), {"run": run, "began_ms": began_ms})
