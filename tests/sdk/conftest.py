"""A place on the broker for tests of whole runs, and settings for runs that need none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream import _module
from runstream._live import live_runs
from runstream_producers.journal import format as fmt
from tests.producers.cluster import Place, settle, settled
from tests.producers.journals import Logged, raw_rows, read_back


@pytest.fixture
def place(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Topics and journals of one test, and no agent left at its end."""
    yield from settled(kafka, tmp_path, monkeypatch)


@dataclass
class Offline:
    """Runs without a broker, whose journals are read where they lie."""

    place: Place

    def journal(self, run: runstream.Run) -> tuple[Path, int]:
        """The journal's folder and writer."""
        assert run._journal is not None
        return run._journal.folder.path, run._journal.identity.writer

    def records(self, run: runstream.Run, kind: fmt.Kind) -> list[dict[str, Any]]:
        """The payloads of a kind."""
        return [json.loads(row.payload) for row in raw_rows(*self.journal(run)) if row.kind == kind]

    def rows(self, run: runstream.Run) -> list[Logged]:
        """The metric rows."""
        return read_back(*self.journal(run))

    def rows_at(self, folder: Path) -> list[Logged]:
        """The metric rows of another process's journal."""
        return read_back(folder, fmt.Identity.from_json((folder / "writer.json").read_text()).writer)

    def folders(self) -> list[Path]:
        """The folders of all journals."""
        return sorted((self.place.journals / "offline").glob("w-*"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """Settings of mode offline; runs that a test leaves open are finished."""
    yield Offline(settle("127.0.0.1:9", tmp_path, monkeypatch, mode="offline"))
    for run in live_runs():
        run.finish(0)
    _module._Current.run = None
    _module._Current.told.clear()
