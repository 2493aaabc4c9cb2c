"""Runs that are recorded where they are, with a store beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream import testing


class Kept:
    """A run, what was recorded of it, and the folder of its store."""

    def __init__(self, recorded: testing.Recorder, run: runstream.Run, store: Path) -> None:
        self.recorded = recorded
        self.run = run
        self.store = store

    @property
    def artifacts(self) -> list[dict[str, Any]]:
        """The artifact records."""
        return self.recorded.artifacts(self.run)

    def contents(self) -> set[str]:
        """The names of all objects in the store."""
        return {path.name for path in self.store.rglob("*") if path.is_file()}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """A run that warns, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", str(tmp_path / "store"))
    with testing.recorder(strict=False) as recorded, runstream.init("artifacts", id=str(tmp_path)) as run:
        yield Kept(recorded, run, tmp_path / "store")
