"""The Python in docs/media.md and docs/artifacts.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from runstream import testing


@pytest.mark.parametrize("page", ["media.md", "artifacts.md"])
def test_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strict mode has nothing against it, and it records what it says."""
    [block] = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[3] / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    with testing.recorder() as recorded:
        exec(compile(block, page, "exec"), names)
    assert len(recorded.media()) + len(recorded.artifacts()) >= 6
