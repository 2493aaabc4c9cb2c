"""Calls that log rich values: what is recorded where, and that nothing raises into training."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runstream
from runstream import testing
from runstream.media import MediaType
from tests.sdk.artifacts.conftest import Kept, kept
from tests.sdk.media.test_shapes import PIXEL

__all__ = ["kept"]


def test_small_values_are_in_the_record_and_large_ones_in_the_store(kept: Kept) -> None:
    """At the bound, one byte decides; ordinary images are stored once, however often they are logged."""
    bound = 16 << 10
    kept.run.log_text("small", "x" * bound)
    kept.run.log_text("large", "x" * (bound + 1))
    kept.run.log_image("pixel", PIXEL)
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    kept.run.log_image("noise", noise, step=1)
    kept.run.log_image("noise", noise, step=2)
    small, large, pixel, *noises = kept.recorded.media(kept.run)
    assert (json.loads(small["value"]), small["size"]) == ("x" * bound, bound)
    assert "uri" not in small
    assert (large["value"], large["size"], large["mime_type"]) == ("", bound + 1, "text/plain")
    assert base64.b64decode(pixel["data"]) == PIXEL
    assert "data" not in noises[0]
    assert noises[0]["checksum"] == noises[1]["checksum"]
    assert kept.contents() == {large["checksum"], noises[0]["checksum"]}
    assert json.loads(noises[0]["value"]) == {"width": 80, "height": 80}


def test_a_call_of_several_lines_begins_one_version(kept: Kept) -> None:
    """And every record of one process has a time that is not before the last one's, whatever the clock does."""
    with testing.fixed_clock(1000.0) as clock:
        kept.run.log_line("losses", {"a": [1], "b": [2]}, replace=True, context="validation", subject="model/n/1", step=9)
        clock.advance(-500)
        kept.run.log_line("losses", [3])
    records = kept.recorded.media(kept.run)
    assert [(one["series"], one["replaces"], one["counted"], one["time_ms"]) for one in records] == [
        ("a", True, True, 1_000_000),
        ("b", False, True, 1_000_000),
        ("", False, True, 1_000_000),
    ]
    assert {(one["context"], one["subject"], one["step"]) for one in records[:2]} == {("validation", "model/n/1", 9)}


def test_the_newest_value_is_in_the_summary(kept: Kept) -> None:
    """With its type."""
    kept.run.log_value("epochs", 3)
    kept.run.log_value("epochs", 4)
    kept.run.log_value("verdict", "good")
    assert kept.recorded.summary(kept.run) == {"epochs": 4, "verdict": "good"}
    assert [one["value"] for one in kept.recorded.media(kept.run)] == ["3", "4", '"good"']


def test_every_kind_goes_by_its_name(kept: Kept) -> None:
    """As text in any case, or as a MediaType."""
    data: dict[str, Any] = {
        "value": 1,
        "line": [1],
        "bar": {"x": [1], "y": [2]},
        "table": {"a": 1},
        "heatmap": {"categories": ["a"], "values": [[1]]},
        "labelmap": ["a"],
        "evaluation": {"asset": 1},
        "image": PIXEL,
        "histogram": [1.0],
        "text": "x",
    }
    assert set(data) == {one.value for one in MediaType}
    for kind in MediaType:
        kept.run.log_media(kind.value, data[kind.value], kind)
        kept.run.log_media(kind.value, data[kind.value], kind.name)
    assert [one["kind"] for one in kept.recorded.media(kept.run)] == [kind.value for kind in MediaType for _ in range(2)]


class Hostile:
    """Raises at whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_bad_input_is_told_once_and_recorded_not_at_all(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever comes, one sentence and no exception."""
    run: Any = kept.run
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    for call, words in (
        (lambda: run.log_media("x", 1, "graph"), "kind of log_media must be one of value, line, bar"),
        (lambda: run.log_line("", [1]), "name of log_line must be a text that is not empty"),
        (lambda: run.log_line("n" * 10_001, [1]), "at most 10000 characters, got 10001"),
        (lambda: run.log_line("l", [1], stepp=3), "log_line takes step, context, subject and replace, got 'stepp'"),
        (lambda: run.log_line("l", [1], replace="yes"), "replace of log_line must be True or False"),
        (lambda: run.log_line("l", [1], step="x"), "step of log_line must be an integer"),
        (lambda: run.log_text("t", 5), "data of text must be a text, got an int"),
        (lambda: run.log_text("h", Hostile()), "text 'h' was not logged"),
        (lambda: run.log_image("h", Hostile()), "was not"),
        (lambda: run.log_image("p", "/dev/zero"), "it is no file"),
        (lambda: run.log_table("h", {"a": Hostile()}), "was not"),
        (lambda: run.log_table("d", {"a": deep}), "was not"),
        (lambda: run.log_histogram("h", deep), "was not"),
        (lambda: run.log_histogram("b", [1], bins="many"), "bins of histogram must be an integer"),
        (lambda: run.log_heatmap("h", {"categories": ["a", "b"], "values": [[1]]}), "must have shape (2, 2) or (3, 3) for 2 categories, got (1, 1)"),
    ):
        caplog.clear()
        call()
        assert words in caplog.text, words
    caplog.clear()
    run.log_text("t", 5)
    assert caplog.text == ""
    assert {one["name"] for one in kept.recorded.media(kept.run)} == {"l"}


def test_values_past_the_bound_are_refused_whole(kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With their size; lines as well, of which no part is logged."""
    monkeypatch.setenv("RUNSTREAM_MEDIA_BYTES_MAX", "1000")
    with runstream.init("media", id="bound") as run:
        run.log_text("t", "x" * 1001)
        run.log_line("l", {"a": [1.0], "b": [1.0] * 100})
        run.log_text("fits", "x" * 1000)
    assert "a value may have 1,000 bytes (setting media_bytes_max), got 1,001" in caplog.text
    assert "got 1,616" in caplog.text
    assert [one["name"] for one in kept.recorded.media(run)] == ["fits"]


def test_strict_mode_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words are an error."""
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", str(tmp_path))
    with testing.recorder(), runstream.init("p") as run, pytest.raises(runstream.StrictError, match=r"got steps of shape \(1,\) and values of shape \(2,\)"):
        run.log_line("l", {"steps": [1], "values": [1, 2]})


def test_a_store_that_fails_does_not_end_training(kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One try, no pause, one sentence; the record is not written, since there would be nothing behind it."""
    Path("file").touch()
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", "file/inside")
    with runstream.init("media", id="unwritable") as run:
        run.log_text("t", "x" * 100_000)
        run.log_text("small", "x")
    assert "failed with NotADirectoryError" in caplog.text or "failed with FileExistsError" in caplog.text
    assert [one["name"] for one in kept.recorded.media(run)] == ["small"]


def test_a_number_with_a_step_is_the_point_at_that_step(kept: Kept) -> None:
    """And a list with one is counted on."""
    kept.run.log_line("loss", 0.5, step=100)
    kept.run.log_line("loss", [0.4], step=7)
    records = kept.recorded.media(kept.run)
    assert [(one["counted"], one["steps"], one["points"]) for one in records] == [(False, [100], [0.5]), (True, [], [0.4])]
