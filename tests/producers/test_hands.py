"""What is told of a writer by whoever ships its journal: which of several records holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from runstream_producers.claims import claim
from runstream_producers.hands import take_up
from runstream_schemas import records as rec
from runstream_schemas.settings import load
from tests.producers.journals import make_writer
from tests.producers.senders import ListSender


def shipped(folder: Path) -> list[rec.Writer]:
    """Ships a journal whose writer is gone; what was told of it."""
    sender = ListSender()
    hand = take_up(folder, sender, load({"topic_prefix": "t"}, {}))
    assert hand is not None
    for now in range(100):
        if hand.serve(float(now)):
            hand.let_go()
            return [record for one in sender.sent if isinstance(record := one.record, rec.Writer)]
        sender.settle()
    raise AssertionError("the journal was not shipped")


def test_versions_rise_though_the_clock_is_set_back(tmp_path: Path) -> None:
    """A heartbeat that is told later holds, by whatever clock, and also where another process tells it."""
    writer = make_writer(tmp_path)
    first = claim(writer.folder.path)
    assert first is not None
    ahead_ms = 4_000_000_000_000
    versions = [first.next_version(ahead_ms), first.next_version(1000), first.next_version(2000)]
    first.release()
    second = claim(writer.folder.path)
    assert second is not None
    versions.append(second.next_version(3000))
    second.release()
    assert versions == [ahead_ms, ahead_ms + 1, ahead_ms + 2, ahead_ms + 3]


def test_of_last_states_the_one_that_knows_more_holds(tmp_path: Path) -> None:
    """A copy of a journal that was made in the middle of a run and is shipped after it does not say that the run crashed; nor does one whose end is missing."""
    writer = make_writer(tmp_path / "one")
    for _ in range(10):
        writer.log({"a": 1.0})
    name = writer.folder.path.name
    shutil.copytree(tmp_path / "one", tmp_path / "early")
    writer.log({"a": 1.0})
    writer.close("failed", "ValueError")
    shutil.copytree(tmp_path / "one", tmp_path / "late")
    (tmp_path / "late" / name / "end.json").unlink()
    last, early, late = (shipped(tmp_path / base / name)[-1] for base in ("one", "early", "late"))
    assert [(one.state, one.rows_shipped) for one in (last, early, late)] == [("failed", 11), ("crashed", 10), ("crashed", 11)]
    assert last.version > late.version > early.version > 4_000_000_000_000
