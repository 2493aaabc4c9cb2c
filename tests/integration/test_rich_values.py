"""Rich values and artifacts are written through the whole pipeline, and read back by SQL and by `runstream.read`, with their types."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import runstream
from runstream import cli, read
from runstream.artifacts import Artifact
from tests.answers import Answers
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

PROJECT = "rich-values"
NOISE = np.random.default_rng(0).integers(0, 256, (70, 80, 3), dtype=np.uint8)
MATRIX = [[5, 1, 0], [2, 7, 1], [1, 0, 0]]


@dataclass
class Written:
    """What was written, and who answers."""

    answers: Answers
    run_id: str
    folder: Path
    artifacts: dict[str, Artifact] = field(default_factory=dict[str, Artifact])

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of an answer about the run."""
        return self.answers.rows(sql, run=self.run_id)


@pytest.fixture(scope="module")
def held() -> dict[str, Written]:
    """What the first test that asks has written."""
    return {}


def write_media(run: runstream.Run) -> None:
    """Every kind, some of them twice."""
    run.log_value("verdict", "good ü", step=4)
    run.log_value("epochs", 3)
    run.log_line("loss", [1.0, 0.5])
    run.log_line("loss", [math.nan])
    run.log_line("loss", {"steps": [10, 20], "values": [0.25, 0.125]})
    run.log_line("loss", [0.0625], context="validation")
    run.log_line("losses", {"steps": [0, 5], "train": [1.0, 2.0], "val": [3.0, 4.0]})
    run.log_line("losses", {"train": [9.0], "val": [8.0]}, replace=True)
    run.log_bar("classes", {"x": ["cat", "dog"], "y": [0.5, 1]}, step=2)
    run.log_table("params", {"lr": 0.5, "on": True, "name": "x", "none": None})
    run.log_heatmap("confusion", {"categories": ["cat", "dog"], "values": MATRIX}, context="testing")
    run.log_labelmap("labels", {0: "cat", 1: "dog"})
    run.log_evaluation("found", {"asset": "a.png", "boxes": [[1, 2, 3, 4, "cat", 0.5]]})
    run.log_image("noise", NOISE, step=1, subject="model/net/1")
    run.log_image("dot", [[0, 255]])
    run.log_histogram("gradients", {"counts": [3, 1], "edges": [0.0, 0.5, 1.0]})
    run.log_text("tale", "Once upon a time")
    run.log_text("long tale", "ü" * 20_000)


def write_artifacts(run: runstream.Run, folder: Path) -> dict[str, Artifact]:
    """A folder, a value, something tracked and something used."""
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "a.txt").write_text("a")
    (folder / "data" / "deep" / "b.json").write_text("{}")
    made = {one.path: one for one in run.upload_artifact(folder / "data", context="training", step=7, metadata={"n": [1]}).artifacts}
    made |= {one.path: one for one in run.log_artifact("scores.json", {"accuracy": 0.5}, "testing").artifacts}
    made |= {one.path: one for one in run.track_artifact("s3://key:secret@bucket/train.parquet")}
    used = run.use_artifact(made["scores.json"], step=8)
    assert used is not None
    return made


@pytest.fixture
def written(held: dict[str, Written], environment: dict[str, str], answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run that was resumed once, stored to the last row."""
    assert environment
    if "it" in held:
        return held["it"]
    folder = tmp_path_factory.mktemp("artifacts")
    run = runstream.init(PROJECT, "whole", external_id="job-1", mode="inline", capture="none")
    write_media(run)
    made = Written(answers, run.id, folder, write_artifacts(run, folder))
    assert run.finish().shipped
    again = runstream.init(PROJECT, external_id="job-1", mode="inline", capture="none")
    again.log_line("loss", [0.03125, 0.015625])
    again.log_line("losses", {"val": [7.0]})
    write_models(again)
    assert again.finish().shipped

    def stored() -> bool:
        found = made.rows("SELECT balanced FROM account WHERE run_id = {run:UUID} AND kind = 'rank'")
        return (
            len(found) == 2
            and all(row["balanced"] for row in found)
            and len(made.rows("SELECT seq FROM media WHERE run_id = {run:UUID} AND name = 'loss'")) == 5
        )

    wait_for(stored, 60, "the run to be stored")
    wait_for(lambda: len(read.datasets(run)) == 2 and sum(one.saves for one in read.model_versions("net", project=PROJECT)) == 3, 30, "models and data sets")
    held["it"] = made
    return made


def write_models(run: runstream.Run) -> None:
    """What the second start logs: a model, three saves of which two are the same, one by another run of the project, and data sets."""
    estimator: Any = LinearRegression
    line = estimator().fit([[0.0], [1.0]], [0.0, 2.0])
    other = estimator().fit([[0.0], [1.0]], [0.0, 3.0])
    run.log_model(line, "net", layers=True, step=1)
    run.save_model_version(line, "net", "training", 10)
    run.save_model_version(other, "net", "training", 20)
    with run.child("fold") as fold:
        fold.save_model_version(line, "net", "training", 1)
    run.log_dataset(np.zeros((10, 3), dtype="f4"), "train", context="training", metadata={"from": "nowhere"})
    run.log_dataset(pd.DataFrame({"a": [1], "b": ["x"]}), "table")


def test_lines_are_counted_on_across_a_resume(written: Written) -> None:
    """Counted steps go on from the last one, given or counted, whichever start logged it; NaN is a value; phases are lines of their own."""
    lines = {(one.name, one.series, one.context): one for one in read.lines(written.run_id)}
    loss = lines["loss", "", ""]
    assert (loss.steps.tolist(), loss.steps.dtype, loss.values.dtype) == ([0, 1, 2, 10, 20, 21, 22], np.int64, np.float64)
    assert np.array_equal(loss.values, [1.0, 0.5, math.nan, 0.25, 0.125, 0.03125, 0.015625], equal_nan=True)
    assert lines["loss", "", "validation"].steps.tolist() == [0]
    rows = written.rows("SELECT step, value FROM media_points WHERE run_id = {run:UUID} AND name = 'loss' AND context = '' ORDER BY time, writer, seq, place")
    assert [row["step"] for row in rows] == loss.steps.tolist()


def test_a_replaced_line_can_still_be_read(written: Written) -> None:
    """The newest version is shown, older ones are there by number; what a resume appends goes to the newest."""
    newest = {one.series: (one.version, one.steps.tolist(), one.values.tolist()) for one in read.lines(written.run_id, "losses")}
    assert newest == {"train": (1, [0], [9.0]), "val": (1, [0, 1], [8.0, 7.0])}
    every = {(one.version, one.series): (one.steps.tolist(), one.values.tolist()) for one in read.lines(written.run_id, "losses", versions=True)}
    assert every[0, "train"] == ([0, 5], [1.0, 2.0])
    assert every[0, "val"] == ([0, 5], [3.0, 4.0])


def test_every_kind_reads_as_it_was(written: Written) -> None:
    """Small ones from the tables, large ones from the store, with their types, steps, contexts and subjects."""
    found = {one.name: one for one in read.media(written.run_id)}
    values = {name: one.value for name, one in found.items() if one.kind != "image"}
    assert values == {
        "verdict": "good ü",
        "epochs": 3,
        "classes": {"x": ["cat", "dog"], "y": [0.5, 1]},
        "params": {"columns": ["name", "value"], "rows": [["lr", 0.5], ["on", True], ["name", "x"], ["none", None]]},
        "confusion": {"categories": ["cat", "dog"], "values": MATRIX},
        "labels": {"0": "cat", "1": "dog"},
        "found": [
            {"asset": "a.png", "boxes": [{"x": 1, "y": 2, "width": 3, "height": 4, "label": "cat", "score": 0.5}], "polygons": [], "classifications": []}
        ],
        "gradients": {"counts": [3, 1], "edges": [0.0, 0.5, 1.0], "count": 4, "non_finite": 0, "min": None, "max": None},
        "tale": "Once upon a time",
        "long tale": "ü" * 20_000,
    }
    assert type(values["epochs"]) is int
    assert (found["verdict"].step, found["confusion"].context, found["noise"].subject, found["noise"].step) == (4, "testing", "model/net/1", 1)
    noise, dot = found["noise"], found["dot"]
    assert (noise.facts, dot.facts) == ({"width": 80, "height": 70}, {"width": 2, "height": 1})
    assert (bool(noise.uri), bool(dot.uri), bool(found["long tale"].uri)) == (True, False, True)
    assert noise.value[:8] == dot.value[:8] == b"\x89PNG\r\n\x1a\n"
    assert hashlib.sha256(noise.value).hexdigest() == noise.checksum
    assert read.summary(written.run_id) == {"verdict": "good ü", "epochs": 3}
    [row] = written.rows(
        "SELECT kind, JSONExtract(value, 'values', 'Array(Array(Int64))') AS cells FROM media WHERE run_id = {run:UUID} AND name = 'confusion'"
    )
    assert (row["kind"], row["cells"]) == ("heatmap", MATRIX)


def test_artifacts_read_as_they_were(written: Written) -> None:
    """Parent, path, mime type, checksum and id, by SQL and by the reading calls, and their contents; nothing of a password."""
    found = {one.path: one for one in read.artifacts(written.run_id, relation="output") if one.kind in ("file", "folder", "tracked")}
    assert found.keys() == {"data", "a.txt", "deep/b.json", "scores.json", "train.parquet"}
    for path, one in found.items():
        made = written.artifacts[path]
        assert (one.id, one.parent, one.mime_type, one.checksum, one.uri, one.size) == (
            made.id,
            made.parent,
            made.mime_type,
            made.checksum,
            made.uri,
            made.size,
        )
    assert (found["a.txt"].parent, found["data"].parent) == (found["data"].id, written.run_id)
    assert (found["a.txt"].context, found["a.txt"].step, found["a.txt"].metadata) == ("training", 7, {"n": [1]})
    back = found["data"].download(written.folder / "back")
    assert {one.relative_to(back).as_posix(): one.read_text() for one in back.rglob("*") if one.is_file()} == {"a.txt": "a", "deep/b.json": "{}"}
    assert json.loads(read.artifact(found["scores.json"].id).download(written.folder / "back").read_text()) == {"accuracy": 0.5}
    [used] = [one for one in read.artifacts(written.run_id, relation="input") if one.kind == "file"]
    assert (used.id, used.step) == (found["scores.json"].id, 8)
    rows = written.rows(
        "SELECT path, toString(artifact_id) AS id, mime_type, size FROM artifacts WHERE run_id = {run:UUID} AND kind = 'file' AND relation = 'output' ORDER BY path"
    )
    assert [(row["path"], row["id"], row["mime_type"], row["size"]) for row in rows] == [
        (path, found[path].id, found[path].mime_type, found[path].size) for path in ("a.txt", "deep/b.json", "scores.json")
    ]
    assert written.rows("SELECT countIf(position(toString(tuple(*)), 'secret') > 0) AS n FROM artifacts_log WHERE run_id = {run:UUID}") == [{"n": 0}]


def test_models_and_their_versions(written: Written) -> None:
    """Counts are numbers in SQL; versions are numbered from 0 in the order in which they were first saved, and the same content is the same version in every run."""
    [model] = read.models(written.run_id)
    assert (model.name, model.framework, model.parameters, model.trainable, model.bytes) == ("net", "sklearn", 2, 2, 16)
    [layer] = model.layers()
    assert (layer["name"], layer["parameters"], layer["input"]) == ("LinearRegression", 2, 1)
    [row] = written.rows("SELECT framework, parameters, bytes, layers_uri FROM models WHERE run_id = {run:UUID}")
    assert (row["framework"], row["parameters"], row["bytes"], row["layers_uri"]) == ("sklearn", 2, 16, model.layers_uri)
    first, second = read.model_versions("net", project=PROJECT)
    assert [(one.number, one.saves, one.step, one.run_id) for one in (first, second)] == [(0, 2, 10, written.run_id), (1, 1, 20, written.run_id)]
    assert read.model_version("net", project=PROJECT).version == second.version == second.artifact.checksum
    path = read.model_version("net", 0, project=PROJECT).artifact.download(written.folder / "models")
    assert path.name == "net.pkl"
    assert pickle.loads(path.read_bytes()).predict([[2.0]])[0] == pytest.approx(4.0)
    rows = written.rows("SELECT number, version, saves FROM model_versions WHERE project = 'rich-values' AND name = 'net' ORDER BY number")
    assert [(row["number"], row["version"], row["saves"]) for row in rows] == [(0, first.version, 2), (1, second.version, 1)]
    with runstream.init(PROJECT, "user", mode="inline", capture="none") as run:
        used = run.use_artifact("net:latest")
        assert used is not None
        assert (used.checksum, used.relation) == (second.version, "input")
        assert run.use_artifact("net:7") is None


def test_data_sets(written: Written) -> None:
    """What is known of them, by SQL and by the reading calls."""
    found = {one.name: one for one in read.datasets(written.run_id)}
    train, table = found["train"], found["table"]
    assert (train.framework, train.samples, train.batches, train.shuffled, train.context, train.metadata["shape"], train.metadata["from"]) == (
        "numpy",
        10,
        None,
        None,
        "training",
        [10, 3],
        "nowhere",
    )
    assert (table.columns, table.metadata["dtypes"][0]) == (["a", "b"], "int64")
    rows = written.rows("SELECT name, samples, columns, metadata['dtype'] AS dtype FROM datasets WHERE run_id = {run:UUID} ORDER BY name")
    assert [(row["name"], row["samples"], row["columns"], row["dtype"]) for row in rows] == [("table", 1, ["a", "b"], ""), ("train", 10, [], '"float32"')]


def test_the_command_lists_and_fetches(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """By run, by id and by a version's name; what is not there is one sentence."""
    assert cli.main(["artifacts", "ls", written.run_id, "--kind", "file"]) == 0
    listed = capsys.readouterr().out
    assert "a.txt" in listed
    assert "train.parquet" not in listed
    assert cli.main(["artifacts", "get", written.artifacts["a.txt"].id, "--to", str(written.folder / "got"), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).read_text() == "a"
    assert cli.main(["artifacts", "get", f"{PROJECT}/net:1", "--to", str(written.folder / "got")]) == 0
    assert capsys.readouterr().out.strip().endswith("net.pkl")
    assert cli.main(["artifacts", "get", f"{PROJECT}/net:9"]) == 2
    assert "no version 9 of a model 'net'" in capsys.readouterr().err
    assert cli.main(["artifacts", "push"]) == 0
    assert "0 objects sent" in capsys.readouterr().out
