"""Models and data sets of real libraries: what is counted, what is saved and comes back, and that the same model is the same version from every process."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks.started import environment, needs, run_module

pytestmark = pytest.mark.timeout(300)


def cases(framework: str, folder: Path, hash_seed: str = "0") -> dict[str, Any]:
    """What the script says of a framework."""
    run_module("model_cases", framework, str(folder / "said.json"), environ=environment(folder, PYTHONHASHSEED=hash_seed))
    return json.loads((folder / "said.json").read_text())


def counts(said: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Parameters, trainable ones and bytes."""
    return said["parameters"], said["trainable"], said["bytes"]


@needs("torch")
def test_torch(tmp_path: Path) -> None:
    """Shared parameters count once, frozen ones are not trained, buffers take memory; loaders say how they load; states come back bit for bit."""
    said = cases("torch", tmp_path)
    net = said["net"]
    # Conv 4*1*9 + 4, norm 4 + 4, linear 16*8 + 8, linear 8*8 + 8; buffers 4 + 4 floats and a count of 8 bytes.
    assert (net["framework"], net["class"]) == ("torch", "torch.nn.modules.container.Sequential")
    assert counts(net) == (40 + 8 + 136 + 72, 256 - 36, 256 * 4 + 8 * 4 + 8)
    conv, _, flat, linear, _ = net["layers"]
    assert conv == {"name": "0", "type": "torch.nn.modules.conv.Conv2d", "parameters": 40, "trainable": 4, "input": 1, "output": 4, "dtype": "float32"}
    assert (flat["parameters"], linear["input"], linear["output"]) == (0, 16, 8)
    assert counts(said["lazy"]) == (0, 0, 0)
    assert said["state"]["parameters"] == 256 + 9
    assert said["equal"]
    assert said["version"]["same"]
    assert said["state-is-the-same-version"]
    assert (said["version"]["file"], said["version"]["framework"]) == ("net.pt", "torch")
    sets = said["datasets"]
    assert {key: sets["plain"][key] for key in ("samples", "batches", "batch_size", "workers", "shuffled", "drop_last")} == {
        "samples": 10,
        "batches": 3,
        "batch_size": 4,
        "workers": 0,
        "shuffled": False,
        "drop_last": False,
    }
    assert (sets["shuffled"]["shuffled"], sets["shuffled"]["batches"], sets["shuffled"]["workers"]) == (True, 2, 2)
    assert (sets["subset"]["samples"], sets["subset"]["of"], sets["of-subset"]["samples"], sets["of-subset"]["batches"]) == (3, 10, 3, 2)
    assert (sets["whole"]["samples"], "samples" in sets["stream"], sets["stream"]["batch_size"], sets["by-itself"]["batches"]) == (10, False, 2, 10)


@needs("tensorflow")
def test_keras(tmp_path: Path) -> None:
    """Counts, layers with their shapes, and a model that is the same version however often it is saved, though keras notes the time."""
    said = cases("tensorflow", tmp_path)
    net = said["net"]
    assert (net["framework"], *counts(net)) == ("keras", 15 + 8, 15, 23 * 4)
    first, second = net["layers"]
    assert (first["input"], first["output"], first["parameters"], first["dtype"]) == ([None, 4], [None, 3], 15, "float32")
    assert (second["parameters"], second["trainable"]) == (8, 0)
    assert counts(said["unbuilt"]) == (None, None, None)
    assert said["equal"]
    assert said["version"]["same"]
    assert said["version"]["file"] == "net.keras"
    assert (said["datasets"]["tf"]["framework"], said["datasets"]["tf"]["samples"]) == ("tensorflow", 7)


@needs("jax")
def test_jax(tmp_path: Path) -> None:
    """Trees of arrays, by their paths."""
    said = cases("jax", tmp_path)
    net = said["net"]
    assert (net["framework"], net["class"], *counts(net)) == ("jax", "builtins.dict", 8, 8, 6 * 4 + 2 * 2)
    assert {one["name"]: one["dtype"] for one in net["layers"]} == {"['params']['dense']['kernel']": "float32", "['params']['dense']['bias']": "bfloat16"}
    assert said["version"]["same"]
    assert said["arrays"] == {"['params']['dense']['kernel']": [[3, 2], "float32"], "['params']['dense']['bias']": [[2], "float32"]}


@needs("sklearn")
def test_scikit_learn_numpy_and_pandas(tmp_path: Path) -> None:
    """What `fit` learned counts, steps are layers, and two processes save the same version."""
    said = cases("sklearn", tmp_path)
    assert counts(said["line"])[0] == 5
    assert [one["name"] for one in said["whole"]["layers"]] == ["standardscaler", "logisticregression"]
    logistic = said["whole"]["layers"][1]
    assert (logistic["input"], logistic["output"]) == (4, 3)
    assert said["forest"]["parameters"] > 30
    assert said["network"]["parameters"] == 4 * 5 + 5 + 5 * 3 + 3
    assert said["unfitted"]["parameters"] is None
    assert said["equal"]
    assert said["version"]["same"]
    (tmp_path / "other").mkdir()
    assert cases("sklearn", tmp_path / "other", hash_seed="7")["version"]["id"] == said["version"]["id"]
    sets = said["datasets"]
    assert (sets["array"]["framework"], sets["array"]["samples"], sets["array"]["shape"], sets["array"]["dtype"], sets["array"]["bytes"]) == (
        "numpy",
        30,
        [30, 4],
        "float64",
        960,
    )
    assert sets["fields"]["columns"] == ["id", "score"]
    assert (sets["table"]["columns"], sets["table"]["dtypes"][0], sets["table"]["samples"]) == (["a", "b"], "int64", 3)
    assert (sets["series"]["columns"], sets["list"]["samples"], sets["columns"]["samples"], sets["columns"]["columns"]) == (["a"], 2, 2, ["a", "b"])


def where(module: str) -> pytest.MarkDecorator:
    """Skips a test by the name of a library that no set-up of ours installs."""
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed, and no requirement of this project")


@where("datasets")
def test_hugging_face(tmp_path: Path) -> None:
    """Rows, columns, features and splits; a stream has no length."""
    said = cases("datasets", tmp_path)
    assert (said["one"]["framework"], said["one"]["samples"], said["one"]["columns"], said["one"]["fingerprint"]) == ("datasets", 3, ["a", "b"], "abc")
    assert (said["splits"]["samples"], said["splits"]["splits"]) == (6, {"train": 3, "test": 3})
    assert "samples" not in said["stream"]
    assert said["stream"]["columns"] == ["a", "b"]


@where("PIL")
def test_pil(tmp_path: Path) -> None:
    """Images of any mode become PNG, and PIL reads our PNGs as what they were made of."""
    assert cases("PIL", tmp_path) == {"types": ["image/png"], "modes": 9, "jpeg": "image/jpeg", "same": True, "ours": True}
