"""What is swept from a folder of journals: what was being made or removed when its process was killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from runstream_producers import claims
from tests.producers.journals import make_writer


def test_what_a_killed_process_was_making_is_removed_after_a_while(tmp_path: Path) -> None:
    """A journal that was never finished being made goes once it is old; one that is being made now, and journals, stay."""
    writer = make_writer(tmp_path)
    old, young, gone = (tmp_path / name for name in (claims.MAKING + "1", claims.MAKING + "2", claims.GONE + "w-3"))
    for path in (old, young, gone):
        path.mkdir()
        (path / "writer.json").write_text("{}")
    before = time.time() - claims.MAKING_S - 60
    os.utime(old, (before, before))
    os.utime(writer.folder.path, (before, before))
    claims.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.name, writer.folder.path.name])
