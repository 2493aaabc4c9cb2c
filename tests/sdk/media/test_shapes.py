"""Each kind of rich value: the forms that it takes come to one form, and what does not fit is told with the shapes that were expected and that came."""

from __future__ import annotations

import base64
import datetime as dt
import json
import zlib
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runstream.media import _images, _lines, _shapes
from runstream.media._types import BadValue, Line

MB = 1 << 20
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg==")


def told(made: Any) -> Any:
    """What is stored, parsed."""
    return json.loads(made.data)


def unpacked(data: bytes) -> np.ndarray[Any, Any]:
    """The pixels of a PNG without filters, read by its specification."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert int.from_bytes(data[at + 8 + length : at + 12 + length], "big") == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height = int.from_bytes(chunks[b"IHDR"][:4], "big"), int.from_bytes(chunks[b"IHDR"][4:8], "big")
    depth, colour = chunks[b"IHDR"][8], chunks[b"IHDR"][9]
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype="u1").reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].copy().view(">u2" if depth == 16 else "u1").reshape(height, width, channels)


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ([0.5, 1], [Line("", [0.5, 1.0])]),
        (3, [Line("", [3.0])]),
        (np.float32(0.5), [Line("", [0.5])]),
        (np.arange(2), [Line("", [0.0, 1.0])]),
        ([], [Line("", [])]),
        ({"steps": [5, 3], "values": (1, 2)}, [Line("", [1.0, 2.0], [5, 3])]),
        ({"steps": [5.0], "values": [True]}, [Line("", [1.0], [5])]),
        ({"a": [1], "b": [2, 3]}, [Line("a", [1.0]), Line("b", [2.0, 3.0])]),
        ({"steps": [7], "a": [1], "b": [2]}, [Line("a", [1.0], [7]), Line("b", [2.0], [7])]),
        ({"steps": [7], "values": {"a": [1]}}, [Line("a", [1.0], [7])]),
        ({"a": {"steps": [7], "values": [1]}, "b": {"values": [2]}}, [Line("a", [1.0], [7]), Line("b", [2.0])]),
    ],
    ids=["list", "number", "scalar", "array", "empty", "steps", "whole", "several", "shared", "nested", "each"],
)
def test_lines_take_every_usual_form(data: Any, wanted: list[Line]) -> None:
    """Steps are given or counted, for one line or several."""
    assert _lines.lines(data) == wanted


def test_long_lines_take_several_records() -> None:
    """Nothing is cut: the pieces together are the line."""
    points = np.random.default_rng(0).normal(size=2 * _lines.POINTS_MAX + 1).tolist()
    pieces = _lines.pieces(Line("a", points, list(range(len(points)))))
    assert [len(one.points) for one in pieces] == [_lines.POINTS_MAX, _lines.POINTS_MAX, 1]
    assert [point for one in pieces for point in one.points] == points
    assert [step for one in pieces for step in one.steps or []] == list(range(len(points)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _lines.lines("abc"), "data of line must be a list of numbers, got a str"),
        (lambda: _lines.lines(None), "got None"),
        (lambda: _lines.lines({}), "got an empty mapping"),
        (lambda: _lines.lines({"steps": [1]}), "got steps alone"),
        (lambda: _lines.lines([1, "x"]), "got a list with a str in it"),
        (lambda: _lines.lines({"steps": [2**64], "values": [1]}), "steps of data of line must be a list of numbers, got a list with an int of 65 bits in it"),
        (lambda: _lines.lines([1, 10**400]), "got a list with an int of 1329 bits in it"),
        (lambda: _shapes.heatmap({"categories": ["a"], "values": [["x"]]}), "values of heatmap must be a matrix of numbers, got a list with a str in it"),
        (lambda: _shapes.histogram({"counts": [1, 2], "edges": [0, 2, 1]}), "edges of histogram must rise, got 2 and then 1"),
        (lambda: _shapes.histogram({"counts": [-1], "edges": [0, 1]}), "counts of histogram must be finite and from 0, got -1 among them"),
        (lambda: _lines.lines(np.zeros((2, 2))), "must be a list of numbers, got float64 of shape (2, 2)"),
        (lambda: _lines.lines({"steps": [1, 2], "values": [1, 2, 3]}), "got steps of shape (2,) and values of shape (3,)"),
        (lambda: _lines.lines({"steps": [0.5], "values": [1]}), "steps of data of line must be integers of at most 64 bits, got 0.5"),
        (lambda: _lines.lines({"a": {"stepz": [1], "values": [1]}}), "line 'a' must have values, steps if wanted, got 'stepz', 'values'"),
        (lambda: _shapes.bar([1]), "data of bar must be a mapping with x and y, got a list"),
        (lambda: _shapes.bar({"x": ["a"]}), "must have x, y, got 'x'"),
        (lambda: _shapes.bar({"x": ["a"], "y": [1, 2]}), "x and y of bar must have the same length, got x of shape (1,) and y of shape (2,)"),
        (lambda: _shapes.table({"a": [1, 2], "b": [1]}), "columns of table must have the same length, got 'a' of shape (2,), 'b' of shape (1,)"),
        (lambda: _shapes.table({"a": 1, "b": object()}), "'b' of table must be a number, a text, a truth value or None, got an object"),
        (lambda: _shapes.table([1, 2]), "a list with an int in it"),
        (lambda: _shapes.table({"columns": ["a"], "rows": [[1, 2]]}), "each row of table must have 1 values, one a column, got row 0 of shape (2,)"),
        (
            lambda: _shapes.heatmap({"categories": ["a", "b", "c"], "values": np.zeros((2, 3))}),
            "values of heatmap must have shape (3, 3) or (4, 4) for 3 categories, got (2, 3)",
        ),
        (lambda: _shapes.heatmap({"categories": ["a"], "values": [[1, 2], [3]]}), "values of heatmap must be a matrix of numbers, got 2 rows of 1, 2 values"),
        (lambda: _shapes.heatmap({"categories": [], "values": np.zeros((0, 0))}), "for 0 categories, got (0, 0)"),
        (lambda: _shapes.labelmap({"cat": 1}), "names by integers, got 'cat' with 1"),
        (lambda: _shapes.labelmap({1: "a", "1": "b"}), "got 1 twice"),
        (lambda: _shapes.evaluation({"boxes": []}), "asset 0 of evaluation must have asset, boxes if wanted"),
        (
            lambda: _shapes.evaluation({"asset": 1, "boxes": [[1, 2, 3]]}),
            "box 0 of asset 0 of evaluation must be x, y, width, height, and label and score if wanted, got a list of shape",
        ),
        (lambda: _shapes.evaluation({"asset": 1, "boxes": [[1, 2, -3, 4]]}), "a width and height from 0, got -3.0 by 4.0"),
        (
            lambda: _shapes.evaluation({"asset": 1, "boxes": [[1, 2, 3, float("nan")]]}),
            "height of box 0 of asset 0 of evaluation must be a finite number, got nan",
        ),
        (lambda: _shapes.evaluation({"asset": 1, "polygons": [[[1, 2], [3, 4]]]}), "must have shape (n, 2) with n from 3, got (2, 2)"),
        (lambda: _shapes.histogram({"counts": [1, 2], "edges": [0, 1]}), "got counts of shape (2,) and edges of shape (2,)"),
        (lambda: _shapes.histogram({"counts": [1], "edges": [1, 1]}), "edges of histogram must rise"),
        (lambda: _shapes.histogram(["a"]), "data of histogram must be an array of numbers"),
        (lambda: _shapes.histogram([1], bins=0), "bins of histogram must be an integer from 1 to 10000, got 0"),
        (
            lambda: _images.image(np.zeros((2, 2, 5)), MB),
            "must have shape (height, width), or (height, width, channels) or (channels, height, width) with 1, 3 or 4 channels, got (2, 2, 5)",
        ),
        (lambda: _images.image(np.zeros((0, 2)), MB), "got (0, 2)"),
        (lambda: _images.image(np.full((2, 2), 1.5), MB), "floats of image must be from 0 to 1, got values from 1.5 to 1.5"),
        (lambda: _images.image(np.full((2, 2), np.nan), MB), "got values from nan to nan"),
        (lambda: _images.image(np.full((2, 2), -1), MB), "integers of image must be from 0 to 255, or of dtype uint16, got int64 from -1 to -1"),
        (lambda: _images.image(b"not an image", MB), "got 12 bytes that begin with b'not an image'"),
        (lambda: _images.image("missing.png", MB), "'missing.png' (No such file or directory)"),
        (lambda: _images.image(__file__, 10), "a value may have 10 bytes (setting media_bytes_max), got "),
        (lambda: _images.image(object(), MB), "a path, bytes, an image of PIL or an array: expected numbers, got an object"),
        (lambda: _shapes.value("x", [1]), "data of value must be a number, a text, a truth value or None, got a list"),
    ],
    ids=lambda one: "" if callable(one) else "".join(letter for letter in one if letter.isalnum() or letter == " ")[-60:],
)
def test_what_does_not_fit_is_told_with_both_shapes(make: Callable[[], object], words: str) -> None:
    """Expected and came, in one sentence."""
    with pytest.raises(BadValue) as refused:
        make()
    assert words in str(refused.value)


def test_values_keep_their_types() -> None:
    """Integers stay integers, truth values stay such, scalars of numpy are Python's, moments and paths are texts, and secrets are hidden by their names."""
    day = dt.date(2026, 9, 1)
    table = _shapes.table({"n": 3, "ok": True, "x": np.float32(0.5), "i": np.int64(7), "none": None, "day": day, "at": Path("a/b"), "api_key": "abc"})
    assert told(table) == {
        "columns": ["name", "value"],
        "rows": [["n", 3], ["ok", True], ["x", 0.5], ["i", 7], ["none", None], ["day", "2026-09-01"], ["at", "a/b"], ["api_key", "[hidden]"]],
    }
    rows = {"columns": ["a", "b"], "rows": [[1, "x"], [2, None]]}
    assert told(_shapes.table([{"a": 1, "b": "x"}, {"a": 2}])) == rows
    assert told(_shapes.table({"a": [1, 2], "b": ["x", None]})) == rows
    assert told(_shapes.table(rows)) == rows
    assert told(_shapes.table(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))) == {"columns": ["a", "b"], "rows": [[1, "x"], [2, "y"]]}
    assert told(_shapes.heatmap({"categories": ["a"], "values": [[1, 2], [3, 4]]})) == {"categories": ["a"], "values": [[1, 2], [3, 4]]}
    assert told(_shapes.labelmap(["cat", "dog"])) == told(_shapes.labelmap({0: "cat", "1": "dog"})) == {"0": "cat", "1": "dog"}
    assert told(_shapes.bar({"x": ["a", 2], "y": np.array([1, 2])})) == {"x": ["a", 2], "y": [1, 2]}
    found = told(
        _shapes.evaluation(
            {"asset": "a.png", "boxes": [[1, 2, 3, 4, "cat", 0.5]], "polygons": [[[0, 0], [1, 0], [1, 1]]], "classifications": ["dog", ("cat", 1)]}
        )
    )
    assert found == [
        {
            "asset": "a.png",
            "boxes": [{"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "label": "cat", "score": 0.5}],
            "polygons": [{"points": [[0, 0], [1, 0], [1, 1]], "label": None, "score": None}],
            "classifications": [{"label": "dog", "score": None}, {"label": "cat", "score": 1.0}],
        }
    ]


@example(values=[1.7976931348623157e308], bins=1)
@example(values=[-1.7976931348623157e308], bins=3)
@example(values=[-1.7976931348623157e308, 1.7976931348623157e308], bins=3)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40), st.integers(1, 20))
def test_histograms_count_every_value(values: list[float], bins: int) -> None:
    """Whatever the doubles: those that are finite are in the bins, the rest are counted apart, and edges rise."""
    made = told(_shapes.histogram(np.array(values, dtype="f8"), bins))
    finite = [one for one in values if np.isfinite(one)]
    assert sum(made["counts"]) == made["count"] == len(finite)
    assert made["non_finite"] == len(values) - len(finite)
    assert len(made["edges"]) == len(made["counts"]) + 1
    assert all(low <= high for low, high in zip(made["edges"], made["edges"][1:], strict=False))
    assert np.isfinite(made["edges"]).all()
    if finite:
        assert (made["min"], made["max"]) == (min(finite), max(finite))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i8", "f4", "?"])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_arrays_are_the_pixels_of_a_png(dtype: str, channels: int) -> None:
    """Of every type and number of channels, channels first or last, read back by the format's own rules."""
    shape = (5, 7) if not channels else (5, 7, channels)
    top = {"u2": 65535, "f4": 1, "?": 1}.get(dtype, 255)
    array = (np.arange(np.prod(shape)).reshape(shape) % 11 / 10 * top).astype(dtype)
    made = _images.image(array, MB)
    assert (made.mime_type, made.facts) == ("image/png", {"width": 7, "height": 5})
    pixels = unpacked(made.data).reshape(shape)
    wanted = np.rint(array.astype("f8") * 255.0) if dtype == "f4" else array * 255 if dtype == "?" else array
    assert np.array_equal(pixels, wanted)
    if channels:
        assert _images.image(np.moveaxis(array, 2, 0), MB).data == made.data


def test_files_are_kept_as_they_are(tmp_path: Path) -> None:
    """By their bytes and not by their names."""
    path = tmp_path / "image.jpg"
    path.write_bytes(PIXEL)
    for given_as in (path, str(path), PIXEL, bytearray(PIXEL)):
        made = _images.image(given_as, MB)
        assert (made.mime_type, made.data) == ("image/png", PIXEL)
    for start, kind in ((b"\xff\xd8\xff\xe0", "image/jpeg"), (b"GIF89a", "image/gif"), (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"), (b"", "")):
        assert _images.type_of(start) == kind


@pytest.mark.parametrize(("data", "wanted"), [(Decimal("1.5"), 1.5), (Fraction(1, 2), 0.5), (np.int32(3), 3)], ids=["decimal", "fraction", "numpy"])
def test_numbers_of_any_type_are_values_and_cells(data: Any, wanted: float) -> None:
    """Those that are no array's as well."""
    assert told(_shapes.value("v", data)) == wanted
    assert told(_shapes.table([{"a": data}]))["rows"] == [[wanted]]


def test_a_number_is_the_point_at_the_step_of_its_call() -> None:
    """A list is counted on as ever."""
    assert _lines.lines(0.5, 100) == [Line("", [0.5], [100])]
    assert _lines.lines([0.5], 100) == [Line("", [0.5])]
