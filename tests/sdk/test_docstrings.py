"""The examples in docstrings run as they stand, beside a run that records; those that read need a stack, and are shown by tests/integration."""

from __future__ import annotations

import doctest
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream import _said, _summary, _types, read, testing

MODULES: tuple[types.ModuleType, ...] = (_said, _summary, _types, testing)


def examples() -> Iterator[tuple[str, doctest.DocTest]]:
    """Each docstring with examples, of what is public in the package and of its classes."""
    finder = doctest.DocTestFinder(recurse=False)
    places: dict[str, Any] = {f"runstream.{name}": getattr(runstream, name) for name in runstream.__all__}
    places |= {f"runstream.Run.{name}": one for name, one in inspect.getmembers(runstream.Run) if not name.startswith("_")}
    places |= {
        f"{module.__name__}.{name}": one
        for module in MODULES
        for name, one in vars(module).items()
        if inspect.isclass(one) and one.__module__ == module.__name__
    }
    places |= {f"runstream.testing.{name}": getattr(testing, name) for name in ("recorder", "fixed_clock")}
    places |= {"runstream.Artifact.download": runstream.Artifact.download, "runstream.Upload.wait": runstream.Upload.wait}
    places["runstream.testing.Recorder.metric"] = testing.Recorder.metric
    for name, one in places.items():
        for found in finder.find(inspect.unwrap(one) if callable(one) else one, name):
            if found.examples:
                yield name, found


EXAMPLES = dict(examples())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what it says, and strict mode has nothing against it."""
    monkeypatch.chdir(tmp_path)
    found = EXAMPLES[name]
    with testing.recorder(), runstream.init(project="examples") as run:
        found.globs = {name: getattr(runstream, name) for name in runstream.__all__} | {"runstream": runstream, "run": run, "testing": testing}
        told: list[str] = []
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, out=told.append)
    assert result.failed == 0, "".join(told)
    assert result.attempted > 0


def test_public_calls_have_examples() -> None:
    """Every public function has a docstring, and those that log have an example."""
    for name in runstream.__all__:
        assert inspect.getdoc(getattr(runstream, name)), name
    wanted = ("log", "log_params", "log_event", "alert_on", "alert", "timed", "define_metric", "update_metadata", "child", "start", "change")
    wanted += ("log_media", "log_line", "log_image", "upload_artifact", "log_artifact", "use_artifact", "log_model", "save_model_version", "log_dataset")
    assert {f"runstream.Run.{name}" for name in wanted} <= set(EXAMPLES)
    for name in read.__all__:
        one = getattr(read, name)
        assert inspect.getdoc(one), name
        assert not inspect.isfunction(one) or "Example:" in (inspect.getdoc(one) or ""), name


def test_the_guide_runs_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of docs/sdk.md, block after block, but for the one that reads."""
    page = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    monkeypatch.setenv("RUNSTREAM_CAPTURE", "all")
    names: dict[str, Any] = {}
    with testing.recorder() as recorded:
        for block in blocks[:3]:
            exec(compile(block, "docs/sdk.md", "exec"), names)
        assert recorded.summary() == {"best_accuracy": 0.9}
        assert {"pushed", "resumed", "checkpoint_finished", "deployed", "run_started"} <= {one["name"] for one in recorded.events()}
    monkeypatch.delenv("RUNSTREAM_CAPTURE")
    exec(compile(blocks[3], "docs/sdk.md", "exec"), names)
