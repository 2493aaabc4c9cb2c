"""Hardware readings as arrays: one series for each reading of each node."""

# ruff: noqa: S608
# (Columns and conditions are ours; whatever people say goes through parameters.)

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from runstream.read._ask import Store, text_of, wanted
from runstream.read._runs import AnyRun, id_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy import float64
    from numpy.typing import NDArray

_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True, eq=False)
class HardwareSeries:
    """One reading of one node in arrays of the same length, by time: `values` float64 in the unit that its name ends with, `times` float64 in epoch seconds. A gap has no element.

    Attributes:
        name: the reading without its labels, such as `gpu.power_w`.
        labels: such as `{"device": "0"}`; texts, all of them.
        node: the node that was read.
    """

    name: str
    labels: Mapping[str, str]
    node: str
    times: NDArray[float64]
    values: NDArray[float64]


def hardware(
    run: AnyRun, names: str | Sequence[str] | None = None, *, node: str | None = None, url: str | None = None, database: str | None = None
) -> list[HardwareSeries]:
    """The hardware readings of a run, sorted by name, labels and node.

    Args:
        run: its id, `project/name`, or the run itself.
        names: a name or several without labels, such as `gpu.power_w`, or patterns with `*` and `?`; all if None.
        node: only of this node.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Raises:
        ReadError: there is no such run, or no ClickHouse is named or answers.

    Example:
        >>> power = read.hardware(run, "gpu.power_w")
    """
    store = Store(url, database)
    where, asked = wanted(names)
    wanted_node = text_of("node", node)
    if wanted_node is not None:
        where += " AND node = {node:String}"
        asked["node"] = wanted_node
    sql = f"""
        SELECT name, named, node, arraySort(groupArray((ms, value))) AS points
        FROM (
            SELECT splitByChar('{{', toString(hardware.name))[1] AS name, toString(hardware.name) AS named, toString(w.node) AS node,
                toUnixTimestamp64Milli(hardware.time) AS ms, hardware.value AS value
            FROM hardware LEFT JOIN (SELECT writer, node FROM writers WHERE run_id = {{run:UUID}}) AS w ON hardware.writer = w.writer
            WHERE hardware.run_id = {{run:UUID}}
        )
        WHERE true{where}
        GROUP BY name, named, node ORDER BY name, named, node
    """
    return [
        _series(row["name"], row["named"], row["node"], [(float(ms), float(value)) for ms, value in row["points"]])
        for row in store.rows(sql, run=id_of(store, run), **asked)
    ]


def _series(name: str, named: str, node: str, points: Sequence[tuple[float, float]]) -> HardwareSeries:
    table = np.array(points, dtype=np.float64).reshape(-1, 2)
    return HardwareSeries(name, dict(_LABEL.findall(named[len(name) :])), node, table[:, 0] / 1000.0, table[:, 1])
