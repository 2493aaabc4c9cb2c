"""Bounds as people write them, the offsets they come to, how fast to read, and what is left of a replay that was begun."""

from __future__ import annotations

import pytest

from runstream_feed.records import Place
from runstream_schemas.settings import SettingsError
from runstream_sinks.errors import KafkaRefused
from runstream_sinks.kafka_reader import Kept
from runstream_sinks.pace import CATCH_UP_S, Pace
from runstream_sinks.replay_plan import Note, Request, go_on, parse_note, remarks, spans_to_read
from runstream_sinks.spans import BEGINNING, END, At, Bound, Offset, Span, parse_bound, parse_topics, resolve
from runstream_sinks.tables import TABLE_OF

NOW = 1_762_351_800.0
PLACE = Place("t.metric", 0)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("beginning", BEGINNING),
        ("END", END),
        ("120000", Offset(120_000)),
        ("0", Offset(0)),
        ("now", At(1_762_351_800_000)),
        ("90s", At(1_762_351_710_000)),
        ("2h", At(1_762_344_600_000)),
        ("1.5d", At(1_762_222_200_000)),
        ("@1762351800", At(1_762_351_800_000)),
        ("@1762351800.25", At(1_762_351_800_250)),
        ("2025-11-05", At(1_762_300_800_000)),
        ("2025-11-05T14:10", At(1_762_351_800_000)),
        ("2025-11-05T15:10:00+01:00", At(1_762_351_800_000)),
    ],
)
def test_bounds_are_read_as_people_write_them(text: str, bound: Bound) -> None:
    """Times without a zone are UTC; plain digits are an offset."""
    assert parse_bound("--from", text, NOW) == bound


@pytest.mark.parametrize("text", ["yesterday", "", "-5", "2 hours", "12h30", "٣", "@", "2025-13-01"])
def test_a_bound_that_is_none_is_one_sentence(text: str) -> None:
    """It names the option, and what may stand there."""
    with pytest.raises(SettingsError, match="--from must be a time such as") as caught:
        parse_bound("--from", text, NOW)
    assert "\n" not in str(caught.value)


def test_topics_go_by_either_name() -> None:
    """With the deployment's prefix or without, each once; none named is all that have a table."""
    assert parse_topics("--topic", ["metric", "t.event", "t.metric"], "t") == ("metric", "event")
    assert set(parse_topics("--topic", [], "t")) == set(TABLE_OF)
    for wrong in ("schema", "metrics", "other.metric"):
        with pytest.raises(SettingsError, match="--topic must be one of"):
            parse_topics("--topic", [wrong], "t")


@pytest.mark.parametrize(
    ("since", "until", "span"),
    [
        (BEGINNING, END, Span(10, 50)),
        (END, END, Span(50, 50)),
        (Offset(0), Offset(20), Span(10, 20)),
        (Offset(30), Offset(20), Span(30, 30)),
        (Offset(90), Offset(99), Span(50, 50)),
        (At(1), At(2), Span(17, 33)),
    ],
)
def test_a_span_lies_within_what_is_there(since: Bound, until: Bound, span: Span) -> None:
    """What was removed, or has not come yet, is not part of it."""
    assert resolve(since, until, low=10, high=50, at_since=17, at_until=33) == span


def test_a_time_after_all_records_is_their_end() -> None:
    """Kafka has no offset for it."""
    assert resolve(At(1), At(2), low=10, high=50, at_since=None, at_until=None) == Span(50, 50)
    assert resolve(BEGINNING, At(2), low=10, high=50, at_since=None, at_until=None) == Span(10, 50)


def test_a_pace_is_kept() -> None:
    """Rows are waited for; a pause of one's own is made up for only a little."""
    pace = Pace(1000.0)
    assert pace.wait_s(0, 100.0) <= 0
    assert pace.wait_s(500, 100.1) == pytest.approx(0.4)
    assert pace.wait_s(500, 101.0) <= 0
    assert pace.wait_s(500, 200.0) <= 0
    assert pace.wait_s(500 + int(1000 * CATCH_UP_S), 200.0) == pytest.approx(0.0, abs=0.01)
    assert pace.wait_s(500 + 5000, 200.0) == pytest.approx(5.0 - CATCH_UP_S)
    assert Pace(None).wait_s(10**9, 0.0) == 0


def test_a_slow_pace_takes_small_pieces() -> None:
    """As many records as come to a tenth of a second, at least one."""
    assert Pace(1000.0).records_max(0, 0) == 1
    assert Pace(1000.0).records_max(100, 100) == 100
    assert Pace(1e6).records_max(2000, 100) == 5000
    assert Pace(None).records_max(0, 0) > 10**9


def test_a_replay_that_was_begun_goes_on() -> None:
    """From the offset that is held, to the end that was set at the beginning; one that is done is over."""
    other = Place("t.metric", 1)
    kept = {PLACE: Kept(15, Note(30).text()), other: Kept(9, Note(9).text())}
    assert go_on(kept, "g") == {PLACE: Span(15, 30), other: Span(9, 9)}
    assert go_on({PLACE: Kept(30, Note(30, done=True).text())}, "g") == {}
    assert go_on({}, "g") == {}
    for text in ("", "other", "[]", '{"end": 3}'):
        assert parse_note(text) is None
        with pytest.raises(KafkaRefused, match="no replay wrote"):
            go_on({PLACE: Kept(15, text)}, "g")


def test_bounds_are_set_once_but_a_filling_catches_up() -> None:
    """What another database is filled with has no end but what is there by now; `follow` has none at all."""
    begun, fresh = {PLACE: Span(15, 30)}, {PLACE: Span(0, 90), Place("t.metric", 1): Span(0, 5)}
    assert spans_to_read(Request(("metric",)), begun, fresh) == {PLACE: Span(15, 30), Place("t.metric", 1): Span(0, 5)}
    fills = Request(("metric",), into="shadow")
    assert fills.fills
    assert spans_to_read(fills, begun, fresh)[PLACE] == Span(15, 90)
    assert spans_to_read(Request(("metric",), into="shadow", follow=True), begun, fresh)[PLACE] == Span(15, None)
    assert not Request(("metric",), into="shadow", runs=frozenset({"x"})).fills


def test_what_is_no_longer_kept_is_said() -> None:
    """Where an offset was asked for that has been removed."""
    assert "begins at offset 10" in remarks(Offset(3), {PLACE: Span(10, 20)})[0]
    assert remarks(Offset(10), {PLACE: Span(10, 20)}) == []
    assert remarks(BEGINNING, {PLACE: Span(10, 20)}) == []
