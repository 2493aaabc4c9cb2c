"""Values that are stored as JSON: what each kind takes, checked, in the one form in which it is stored. Pure; raises BadValue with the shapes that were expected and that came.

value        the scalar
bar          {"x": [...], "y": [...]}
table        {"columns": [...], "rows": [[...], ...]}
heatmap      {"categories": [N names], "values": N x N, or (N+1) x (N+1) with false positives and negatives in the last row and column}
labelmap     {"0": "cat", ...}
evaluation   [{"asset": ..., "boxes": [...], "polygons": [...], "classifications": [...]}, ...]
histogram    {"counts": [n], "edges": [n + 1], "count", "non_finite", "min", "max"}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from runstream.media import _plain
from runstream.media._types import BadValue, Value
from runstream_producers.journal import values as val
from runstream_producers.journal.blobs import array_of

BINS = 64
BINS_MAX = 10_000


def value(name: str, data: Any) -> Value:
    """Any scalar."""
    return _plain.as_json(_plain.scalar("data of value", name, data))


def bar(data: Any) -> Value:
    """Bars: as many heights as places."""
    given = _plain.mapping("data of bar", data, "x and y")
    _plain.known("data of bar", given, ("x", "y"))
    x, y = _plain.items("x of bar", given["x"]), _plain.numbers("y of bar", given["y"])
    if len(x) != len(y):
        raise BadValue(f"x and y of bar must have the same length, got x of shape ({len(x)},) and y of shape {y.shape}")
    return _plain.as_json({"x": [_plain.scalar("each x of bar", "x", one) for one in x], "y": y.tolist()})


def table(data: Any) -> Value:
    """Names with values; rows as mappings; columns as lists; columns with rows; or a table of pandas."""
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        columns = [val.text_of(one) for one in data.columns]
        return _table(columns, data.itertuples(index=False, name=None))
    if isinstance(data, Mapping):
        given = _plain.mapping("data of table", data, "names and values")
        if set(given) == {"columns", "rows"}:
            return _table([val.text_of(one) for one in _plain.items("columns of table", given["columns"])], _plain.items("rows of table", given["rows"]))
        if given and not any(_plain.is_scalar(one) for one in given.values()):
            return _of_columns(given)
        return _plain.as_json({"columns": ["name", "value"], "rows": [[key, _plain.scalar(f"{key!r} of table", key, one)] for key, one in given.items()]})
    rows = _plain.items("data of table", data)
    if not all(isinstance(row, Mapping) for row in rows):
        odd = next(row for row in rows if not isinstance(row, Mapping))
        raise BadValue(f"data of table must be a mapping, a list of mappings or a table of pandas, got a list with {val.told(odd)} in it")
    named = [_plain.mapping("each row of table", row, "names and values") for row in rows]
    columns = list(dict.fromkeys(key for row in named for key in row))
    return _table(columns, [[row.get(key) for key in columns] for row in named])


def _of_columns(given: Mapping[str, Any]) -> Value:
    columns = {key: _plain.items(f"{key!r} of table", one) for key, one in given.items()}
    lengths = {key: len(one) for key, one in columns.items()}
    if len(set(lengths.values())) > 1:
        shapes = ", ".join(f"{key!r} of shape ({length},)" for key, length in list(lengths.items())[:10])
        raise BadValue(f"columns of table must have the same length, got {shapes}")
    return _table(list(columns), zip(*columns.values(), strict=True))


def _table(columns: list[str], rows: Any) -> Value:
    out: list[list[Any]] = []
    for number, row in enumerate(rows):
        cells = list(cast("Sequence[Any]", row)) if isinstance(row, (list, tuple)) else _plain.items(f"row {number} of table", row)
        if len(cells) != len(columns):
            raise BadValue(f"each row of table must have {len(columns)} values, one a column, got row {number} of shape ({len(cells)},)")
        out.append([_plain.scalar(f"{key!r} in row {number} of table", key, cell) for key, cell in zip(columns, cells, strict=True)])
    return _plain.as_json({"columns": columns, "rows": out})


def heatmap(data: Any) -> Value:
    """A matrix over categories, with or without a row and column for false positives and negatives."""
    given = _plain.mapping("data of heatmap", data, "categories and values")
    _plain.known("data of heatmap", given, ("categories", "values"))
    categories = [val.text_of(one) for one in _plain.items("categories of heatmap", given["categories"])]
    values, n = _plain.numbers("values of heatmap", given["values"], 2), len(categories)
    if not n or values.shape not in ((n, n), (n + 1, n + 1)):
        raise BadValue(f"values of heatmap must have shape ({n}, {n}) or ({n + 1}, {n + 1}) for {n} categories, got {values.shape}")
    return _plain.as_json({"categories": categories, "values": values.tolist()})


def labelmap(data: Any) -> Value:
    """Names by the number of their class, or a list of them from 0."""
    pairs: list[tuple[Any, Any]] = (
        list(cast("Mapping[Any, Any]", data).items()) if isinstance(data, Mapping) else list(enumerate(_plain.items("data of labelmap", data)))
    )
    out: dict[str, str] = {}
    for key, label in pairs:
        number = int(key) if isinstance(key, str) and key.strip().lstrip("-").isdecimal() else None if isinstance(key, bool) else val.step_of(key)
        if number is None or not isinstance(label, str):
            raise BadValue(f"data of labelmap must be names by integers, got {val.shown(key)} with {val.shown(label)}")
        if str(number) in out:
            raise BadValue(f"data of labelmap must have each integer once, got {number} twice")
        out[str(number)] = val.text_of(label)
    return _plain.as_json(out)


def evaluation(data: Any) -> Value:
    """What was found in assets such as images: boxes, polygons and classifications, each with a label and a score if there is one."""
    given: list[Any] = [cast("Any", data)] if isinstance(data, Mapping) else _plain.items("data of evaluation", data)
    return _plain.as_json([_asset(number, one) for number, one in enumerate(given)])


def _asset(number: int, data: Any) -> dict[str, Any]:
    where = f"asset {number} of evaluation"
    given = _plain.mapping(where, data, "asset, boxes, polygons and classifications")
    _plain.known(where, given, ("asset",), ("boxes", "polygons", "classifications"))
    return {
        "asset": _plain.scalar(f"asset of {where}", "asset", given["asset"]),
        "boxes": [_box(f"box {at} of {where}", one) for at, one in enumerate(_listed(where, given, "boxes"))],
        "polygons": [_polygon(f"polygon {at} of {where}", one) for at, one in enumerate(_listed(where, given, "polygons"))],
        "classifications": [_classification(f"classification {at} of {where}", one) for at, one in enumerate(_listed(where, given, "classifications"))],
    }


def _listed(where: str, given: Mapping[str, Any], key: str) -> list[Any]:
    return _plain.items(f"{key} of {where}", given.get(key) or [])


def _box(where: str, data: Any) -> dict[str, Any]:
    """From x, y, width and height, in pixels or shares; also as a list of these four, with label and score behind them if there are any."""
    if isinstance(data, (list, tuple)):
        cells = cast("Sequence[Any]", data)
        if not 4 <= len(cells) <= 6:
            raise BadValue(f"{where} must be x, y, width, height, and label and score if wanted, got a list of shape ({len(cells)},)")
        data = dict(zip(("x", "y", "width", "height", "label", "score"), cells, strict=False))
    given = _plain.mapping(where, data, "x, y, width and height")
    _plain.known(where, given, ("x", "y", "width", "height"), ("label", "score"))
    out: dict[str, Any] = {key: _finite(f"{key} of {where}", given[key]) for key in ("x", "y", "width", "height")}
    if out["width"] < 0 or out["height"] < 0:
        raise BadValue(f"{where} must have a width and height from 0, got {out['width']} by {out['height']}")
    return out | _said(where, given)


def _polygon(where: str, data: Any) -> dict[str, Any]:
    given = _plain.mapping(where, data, "points") if isinstance(data, Mapping) else {"points": data}
    _plain.known(where, given, ("points",), ("label", "score"))
    points = _plain.numbers(f"points of {where}", given["points"], 2)
    if points.shape[0] < 3 or points.shape[1] != 2:
        raise BadValue(f"points of {where} must have shape (n, 2) with n from 3, got {points.shape}")
    return {"points": points.tolist()} | _said(where, given)


def _classification(where: str, data: Any) -> dict[str, Any]:
    if isinstance(data, (list, tuple)):
        cells = cast("Sequence[Any]", data)
        if not 1 <= len(cells) <= 2:
            raise BadValue(f"{where} must be a label, and a score if wanted, got a list of shape ({len(cells)},)")
        data = dict(zip(("label", "score"), cells, strict=False))
    given = _plain.mapping(where, data, "label") if isinstance(data, Mapping) else {"label": data}
    _plain.known(where, given, ("label",), ("score",))
    return _said(where, given)


def _said(where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    score = given.get("score")
    return {
        "label": _plain.scalar(f"label of {where}", "label", given.get("label")),
        "score": None if score is None else _finite(f"score of {where}", score),
    }


def _finite(where: str, data: Any) -> float:
    number = None if isinstance(data, bool) else val.number_of(data)
    if number is None or number - number != 0:
        raise BadValue(f"{where} must be a finite number, got {val.shown(data)}")
    return number


def histogram(data: Any, bins: Any = BINS) -> Value:
    """Values of any shape, which are counted; or counts with the edges between them. What is not finite is counted apart."""
    if isinstance(data, Mapping):
        given = _plain.mapping("data of histogram", data, "counts and edges")
        _plain.known("data of histogram", given, ("counts", "edges"))
        counts, edges = _plain.numbers("counts of histogram", given["counts"]), _plain.numbers("edges of histogram", given["edges"])
        if edges.shape[0] != counts.shape[0] + 1 or not counts.shape[0]:
            raise BadValue(f"edges of histogram must have one more than counts, got counts of shape {counts.shape} and edges of shape {edges.shape}")
        if not (rises := edges[1:] > edges[:-1]).all():
            at = int(rises.argmin())
            raise BadValue(f"edges of histogram must rise, got {edges[at].item()} and then {edges[at + 1].item()}")
        if not (counted := (counts >= 0) & (counts < float("inf"))).all():
            raise BadValue(f"counts of histogram must be finite and from 0, got {counts[int(counted.argmin())].item()} among them")
        return _plain.as_json({"counts": counts.tolist(), "edges": edges.tolist(), "count": counts.sum().item(), "non_finite": 0, "min": None, "max": None})
    return _counted(data, bins)


def _counted(data: Any, bins: Any) -> Value:
    import numpy as np

    wanted = None if isinstance(bins, bool) else val.step_of(bins)
    if wanted is None or not 1 <= wanted <= BINS_MAX:
        raise BadValue(f"bins of histogram must be an integer from 1 to {BINS_MAX}, got {val.shown(bins)}")
    try:
        array = array_of(data)
        if array.dtype.kind == "c":
            raise ValueError(f"expected numbers, got {array.dtype} of shape {array.shape}")
    except ValueError as error:
        raise BadValue(f"data of histogram must be an array of numbers, or counts and edges: {error}") from None
    values = array.astype("f8").ravel()
    finite = values[np.isfinite(values)]
    out: dict[str, Any] = {
        "counts": [0],
        "edges": [0.0, 1.0],
        "count": int(finite.size),
        "non_finite": int(values.size - finite.size),
        "min": None,
        "max": None,
    }
    if finite.size:
        scale = 0.25 if np.abs(finite).max() > 1e300 else 1.0  # The width of such a range is no double.
        counts, edges = _binned(finite * scale, wanted)
        if scale != 1.0:  # The next number behind the greatest double would be infinite.
            edges = np.clip(edges, -sys.float_info.max * scale, sys.float_info.max * scale)
        out |= {"counts": counts.tolist(), "edges": (edges / scale).tolist(), "min": float(finite.min()), "max": float(finite.max())}
    return _plain.as_json(out)


def _binned(values: Any, bins: int) -> tuple[Any, Any]:
    """Counts and edges; fewer bins where doubles do not lie close enough for as many."""
    import numpy as np

    try:
        return np.histogram(values, bins=bins)
    except ValueError:
        low, high = values.min(), values.max()
        edges: Any = np.unique(cast("Any", np.linspace(low, high, bins + 1)))
        return np.histogram(values, bins=edges if edges.size > 1 else [np.nextafter(low, -np.inf), np.nextafter(high, np.inf)])
