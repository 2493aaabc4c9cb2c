"""What a reader sees of a load while it lasts: new rows of every rank, and how many points there are. What was logged, and what it cost, is with `pipeline`.

Each call of a rank has one name that is watched. Watched names stand together in the order of the table, so that asking for them all reads next to nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runstream_sinks.clickhouse import Server

WATCHED = "watched/"
_NEW = (
    "SELECT rank, step, toUnixTimestamp64Milli(time) FROM metrics WHERE run_id = {run_id:UUID} AND startsWith(name, {watched:String}) "
    "AND context = '' AND subject = '' AND rank < {ranks:UInt32} AND step > {through:Int64} ORDER BY step"
)
# Rows of parts that can be read, whose repeats are not yet collapsed, and how often a watched row is there once more.
_STORED = """
    SELECT
        (SELECT sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'metric_points' AND active),
        (SELECT count() - uniqExact(name, rank, step) FROM metric_points WHERE run_id = {run_id:UUID} AND startsWith(name, {watched:String}))
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored at a moment (of the monotonic clock): points, each once; and how many rows were repeats of others, which do not count as points."""

    at: float
    points: int
    repeats: int


@dataclass(slots=True)
class Reader:
    """Asks for one run, which has a database of its own; `names` is how many values each call has. Steps of a rank count its calls."""

    server: Server
    run_id: str
    ranks: int
    names: int
    _through: dict[int, int] = field(init=False)  # The step of each rank up to which all have been seen,
    _ahead: dict[int, set[int]] = field(init=False)  # and those beyond it: a large insert becomes readable block by block, in no order.

    def __post_init__(self) -> None:
        """No rank has been seen."""
        self._through = dict.fromkeys(range(self.ranks), -1)
        self._ahead = {rank: set[int]() for rank in range(self.ranks)}

    def new_rows(self) -> list[int]:
        """When the rows were logged, in milliseconds, that were not there at the look before; what a rank lacks is asked for until it comes."""
        found = self.server.query(_NEW, {"run_id": self.run_id, "watched": WATCHED, "ranks": self.ranks, "through": min(self._through.values())})
        out: list[int] = []
        for rank, step, logged_ms in found:
            if step > self._through[rank] and step not in self._ahead[rank]:
                self._ahead[rank].add(step)
                out.append(logged_ms)
        for rank, ahead in self._ahead.items():
            while self._through[rank] + 1 in ahead:
                self._through[rank] += 1
                ahead.remove(self._through[rank])
        return out

    def stored(self) -> Stored:
        """What is stored now. A frame is repeated whole, so that a watched row's repeats tell of those of all its names."""
        [(rows, repeated)] = self.server.query(_STORED, {"run_id": self.run_id, "watched": WATCHED})
        repeats = repeated * self.names
        return Stored(time.monotonic(), rows - repeats, repeats)
