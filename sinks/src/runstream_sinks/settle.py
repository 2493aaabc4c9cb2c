"""Waits until ClickHouse has caught up with what was stored: repeats are merged away in the background, and until then they make every chart of their runs dearer.

What is waited for are merges that take long. Short ones never end while a run is being written.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_schemas.settings import Settings

# A merge that has run for so long is one of many rows; those of what a live run trickles in end sooner.
_LONG_MERGE_S = 1.0
# ClickHouse looks for the next merge when one has ended: calm is what lasts for longer than a long merge needs to show itself.
_CALM_S = 2.0
_LOOK_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class Merging:
    """What ClickHouse is merging in a database: how many merges that take long, and how many parts its tables have."""

    merges: int
    parts: int


@dataclass(frozen=True, slots=True)
class Settled:
    """How a wait ended: whether ClickHouse was calm by then, after how many seconds, and what it was still doing."""

    calm: bool
    seconds: float
    last: Merging


@dataclass(slots=True)
class Calm:
    """Decides from looks at a server whether it has caught up: no long merge for a while."""

    busy_at: float

    def look(self, merging: Merging, now: float) -> bool:
        """Takes a look; whether it is calm. `now` in seconds of a clock that only goes forward."""
        if merging.merges:
            self.busy_at = now
        return now - self.busy_at >= _CALM_S


def settle(settings: Settings, database: str, *, most_s: float, asked: Callable[[], bool], told: Callable[[Merging], None]) -> Settled:
    """Blocks until ClickHouse has caught up with a database, until `most_s` seconds are over, or until it is asked to stop. Calls `told` with every look.

    Raises:
        ServerBusy, ServerRefused: ClickHouse did not answer, or its user may not read `system.merges` and `system.parts`.
    """
    server = Server(settings.clickhouse_url, database)
    start = time.monotonic()
    calm = Calm(start)
    try:
        while True:
            last = look(server, database, settings.clickhouse_cluster)
            now = time.monotonic()
            told(last)
            if calm.look(last, now):
                return Settled(calm=True, seconds=now - start, last=last)
            if now - start >= most_s or asked():
                return Settled(calm=False, seconds=now - start, last=last)
            time.sleep(_LOOK_INTERVAL_S)  # Nothing tells of the end of a merge; it can only be looked for.
    finally:
        server.close()


def look(server: Server, database: str, cluster: str | None) -> Merging:
    """What a server, or every node of a cluster, is merging in a database; raises as `Server.query` does."""
    merges, parts = ("system.merges", "system.parts") if cluster is None else (_everywhere("merges"), _everywhere("parts"))
    asked = {"database": database, "cluster": cluster or "", "long": _LONG_MERGE_S}
    [(running,)] = server.query(f"SELECT count() FROM {merges} WHERE database = {{database:String}} AND elapsed > {{long:Float64}}", asked)  # noqa: S608 - names of our own
    [(active,)] = server.query(f"SELECT count() FROM {parts} WHERE database = {{database:String}} AND active", asked)  # noqa: S608 - as above
    return Merging(running, active)


def _everywhere(table: str) -> str:
    return f"clusterAllReplicas({{cluster:String}}, system.{table})"
