"""Rich values as they are stored: each with the version of its name that it belongs to, and lines as arrays."""

# (Columns and conditions are ours; whatever people say goes through parameters.)

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from runstream.read._ask import Store, context_of, count_of, moment, one_of, parsed, wanted
from runstream.read._runs import AnyRun, id_of
from runstream_schemas.records import MediaKind

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from numpy import float64, int64
    from numpy.typing import NDArray

_MEDIA = """
SELECT name, kind, toString(context) AS context, toString(subject) AS subject, rank, step, version, toUnixTimestamp64Milli(time) AS ms, value, mime_type,
    base64Encode(data) AS data64, uri, checksum, size
FROM media
"""
_ORDER = "ORDER BY name, context, subject, rank, version, media.time, media.writer, media.seq"
# A document with few columns a row would take as long as its points: arrays a line come in one row.
_LINES = """
SELECT name, series, toString(context) AS context, toString(subject) AS subject, rank, version,
    arraySort(one -> (one.3, one.4, one.5, one.6), groupArray((step, value, time, writer, seq, place))) AS points,
    arrayMap(one -> one.1, points) AS steps, arrayMap(one -> one.2, points) AS values
FROM media_points
"""


@dataclass(frozen=True, slots=True, eq=False)
class StoredMedia:
    """A rich value. `value` is what was logged, in the form in which it is stored (docs/media.md); of an image its bytes."""

    name: str
    kind: str
    context: str
    subject: str
    rank: int
    step: int | None
    version: int
    time: dt.datetime
    mime_type: str
    size: int
    uri: str
    checksum: str
    facts: Mapping[str, Any]
    _held: Any = field(repr=False)

    @property
    def value(self) -> Any:
        """The value; one in the artifact store is fetched and checked each time it is asked for. Raises ArtifactError where that fails."""
        if not self.uri:
            return self._held
        from runstream.artifacts._fetching import read_bytes

        data = read_bytes(self.uri, self.checksum)
        return data if self.mime_type.startswith("image/") else data.decode() if self.mime_type == "text/plain" else json.loads(data)


@dataclass(frozen=True, slots=True, eq=False)
class StoredLine:
    """A line: steps and values in the order in which they were logged. `series` is its name among several of one call."""

    name: str
    series: str
    context: str
    subject: str
    rank: int
    version: int
    steps: NDArray[int64]
    values: NDArray[float64]


def media(
    run: AnyRun,
    names: str | Sequence[str] | None = None,
    *,
    kind: str | None = None,
    context: str | None = None,
    rank: int | None = None,
    versions: bool = False,
    url: str | None = None,
    database: str | None = None,
) -> list[StoredMedia]:
    """Rich values by name, context, rank and time, all that were logged under each name; lines come by `lines`. Raises ReadError.

    Args:
        run: its id, `project/name`, or the run itself.
        names: a name or several, or patterns with `*` and `?`; all if None.
        kind: only values of this kind, such as `table`.
        context: only those of this phase.
        rank: only those of this rank.
        versions: whether values that `replace=True` took the place of come as well.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Example:
        >>> newest = read.media(run, "confusion", kind="heatmap")[-1].value
    """
    store = Store(url, database)
    where, asked = _conditions(names, context, rank)
    if (fit := one_of("kind", kind, get_args(MediaKind))) is not None:
        where += " AND kind = {kind:String}"
        asked["kind"] = fit
    rows = store.rows(f"{_MEDIA} WHERE run_id = {{run:UUID}} AND kind != 'line'{where} {_ORDER}", run=id_of(store, run), **asked)
    return [_stored(row) for row in (rows if versions else _newest(rows))]


def lines(
    run: AnyRun,
    names: str | Sequence[str] | None = None,
    *,
    context: str | None = None,
    rank: int | None = None,
    versions: bool = False,
    url: str | None = None,
    database: str | None = None,
) -> list[StoredLine]:
    """Lines that were logged as such, with the steps that were given or counted on; metrics come by `metrics`. Arguments are those of `media`. Raises ReadError.

    Example:
        >>> [loss] = read.lines(run, "loss")
    """
    store = Store(url, database)
    where, asked = _conditions(names, context, rank)
    grouped = "GROUP BY name, series, context, subject, rank, version ORDER BY name, context, subject, rank, version, series"
    rows = store.rows(f"{_LINES} WHERE run_id = {{run:UUID}}{where} {grouped}", run=id_of(store, run), **asked)
    return [_line(row) for row in (rows if versions else _newest(rows))]


def _conditions(names: str | Sequence[str] | None, context: str | None, rank: int | None) -> tuple[str, dict[str, object]]:
    where, asked = wanted(names)
    if (phase := context_of(context)) is not None:
        where += " AND context = {context:String}"
        asked["context"] = phase
    if (number := count_of("rank", rank)) is not None:
        where += " AND rank = {rank:UInt32}"
        asked["rank"] = number
    return where, asked


def _newest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the newest version of each name."""
    best: dict[tuple[Any, ...], int] = {}
    for row in rows:
        best[_place(row)] = max(best.get(_place(row), 0), row["version"])
    return [row for row in rows if row["version"] == best[_place(row)]]


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["name"], row["context"], row["subject"], row["rank"]


def _stored(row: dict[str, Any]) -> StoredMedia:
    text, data = row.pop("value"), base64.b64decode(row.pop("data64"))
    is_image = row["kind"] == "image"
    facts: Any = parsed(text) if is_image and text else {}
    held = data if is_image else parsed(text) if text else None
    return StoredMedia(time=moment(row.pop("ms")), facts=facts, _held=held, **row)


def _line(row: Mapping[str, Any]) -> StoredLine:
    values = np.array([np.nan if one is None else float(one) for one in row["values"]], dtype=np.float64)
    where = {name: row[name] for name in ("name", "series", "context", "subject", "rank", "version")}
    return StoredLine(**where, steps=np.array(row["steps"], dtype=np.int64), values=values)
