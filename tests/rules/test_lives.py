"""Who runs, who has ended, and who is taken for crashed: by records, by silence, and never for the listener's own deafness."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runstream_rules import StateUnreadable
from runstream_rules.lives import Lives, Patience
from runstream_schemas import wire
from runstream_schemas.records import FINAL_VERSION, Writer

RECORD = Writer(
    writer=7,
    run_id="run",
    project="p",
    version=1_000,
    kind="rank",
    rank=0,
    local_rank=0,
    world_size=1,
    node="n",
    host="h",
    pid=1,
    attempt="a",
    started_ms=0,
    state="running",
    exit_reason="",
    heartbeat_ms=1_000,
    next_seq=5,
    rows_logged=5,
    points_logged=9,
    environment={"k": "v"},
)
PATIENCE = Patience(crashed_ms=60_000, remembered_ms=1_000_000, stored_ms=30_000)


def take(lives: Lives, record: Writer, now_ms: int) -> bool:
    """A record as it comes."""
    return lives.take(record, wire.encode(record), 3, now_ms)


def listening(now_ms: int = 0) -> Lives:
    """Lives that have heard all there was at `now_ms`."""
    lives = Lives(PATIENCE)
    take(lives, RECORD, now_ms)
    assert lives.tick(now_ms, hears=True) == []
    return lives


def test_silence_is_a_crash_in_the_end() -> None:
    """After a minute without a sign of life a record says so, with all that the last one said, and a version between that and any later sign of life."""
    lives = listening()
    assert lives.tick(59_000, hears=True) == []
    (guess,) = lives.tick(60_000, hears=True)
    assert guess == replace(RECORD, state="crashed", version=60_000, exit_reason="no sign of life for 60 s")
    assert guess.version < FINAL_VERSION
    assert lives.tick(120_000, hears=True) == [], "it is said once"


def test_a_run_that_comes_back_is_not_reaped() -> None:
    """A later sign of life makes it a running one, which may fall silent again."""
    lives = listening()
    (guess,) = lives.tick(60_000, hears=True)
    assert not take(lives, guess, 60_001), "our own word, read from the topic, is no news"
    assert take(lives, replace(RECORD, version=61_000), 61_000)
    assert lives.tick(100_000, hears=True) == []
    assert [one.state for one in lives.tick(121_000, hears=True)] == ["crashed"]


def test_who_could_not_hear_judges_nobody() -> None:
    """An hour without Kafka, or a restart, is no silence of the writers: counting begins anew once all has been read."""
    lives = listening()
    for now_ms in range(0, 3_600_000, 1_000):
        assert lives.tick(now_ms, hears=False) == []
    assert lives.tick(3_600_000, hears=True) == []
    assert lives.tick(3_659_000, hears=True) == []
    assert len(lives.tick(3_660_000, hears=True)) == 1


def test_a_last_word_is_the_last() -> None:
    """What its shipper says at the end outranks guesses and late heartbeats; a copy of the journal that knows of more rows outranks it."""
    lives = listening()
    final = replace(RECORD, state="failed", version=FINAL_VERSION | 10, next_seq=5)
    assert take(lives, final, 2_000)
    assert not take(lives, replace(RECORD, version=9_000), 9_000)
    assert (lives.ended[7].next_seq, lives.alive) == (5, {})
    assert take(lives, replace(final, version=FINAL_VERSION | 20, next_seq=10), 10_000)
    assert lives.ended[7].next_seq == 10
    assert lives.tick(500_000, hears=True) == []


def test_older_versions_change_nothing() -> None:
    """Records that come again, or late, are no news."""
    lives = listening()
    assert not take(lives, RECORD, 1)
    assert not take(lives, replace(RECORD, version=999, state="crashed"), 1)


def test_only_news_is_stored() -> None:
    """Heartbeats are stored every half minute, changes of state at once."""
    lives = listening()
    assert lives.changed == {7: 3}
    lives.entry(7, 0)
    lives.changed.clear()
    take(lives, replace(RECORD, version=2_000), 29_000)
    assert not lives.changed
    take(lives, replace(RECORD, version=3_000), 30_000)
    assert lives.changed == {7: 3}


def test_a_restart_knows_what_was_stored() -> None:
    """Alive and ended writers come back with all that a later guess needs; what is no entry is said."""
    lives = listening()
    ended = replace(RECORD, writer=8, kind="hardware", state="finished", version=FINAL_VERSION, next_seq=44)
    take(lives, ended, 5)
    entries = [(writer, entry) for writer in (7, 8) if (entry := lives.entry(writer, 10)) is not None]
    other = Lives(PATIENCE)
    other.restore(entries)
    assert other.alive[7].record == RECORD
    assert other.ended == lives.ended
    assert (other.ended[8].partition, other.ended[8].hardware) == (3, True)
    other.tick(1_000_000, hears=True)
    assert len(other.tick(1_060_000, hears=True)) == 1
    for wrong in (b"", b"\x09" + entries[0][1][1:], entries[0][1][:-3]):
        with pytest.raises(StateUnreadable):
            other.restore([(7, wrong)])


def test_what_ended_long_ago_is_forgotten() -> None:
    """Once no row of a writer can be on its topic any more, its entry goes."""
    lives = listening()
    take(lives, replace(RECORD, writer=8, state="finished", version=FINAL_VERSION), 0)
    lives.tick(60_000, hears=True)
    assert lives.forgotten(999_000) == {}
    assert set(lives.forgotten(1_000_001)) == {7, 8}
    assert [lives.entry(writer, 0) for writer in lives.changed] == [None, None]
