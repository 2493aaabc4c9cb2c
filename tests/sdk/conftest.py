"""A place on the broker for tests of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.producers.cluster import Place, settled


@pytest.fixture
def place(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Topics and journals of one test, and no agent left at its end."""
    yield from settled(kafka, tmp_path, monkeypatch)
