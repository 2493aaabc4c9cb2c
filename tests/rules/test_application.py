"""From when on a rule counts, what a broken one does to others, and what is done at heartbeats and ends."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_rules import Policy, RuleBook, RuleFailed, decide, dump, let_go, load, pulse, tracks
from runstream_rules.kinds import SERIES_KINDS
from tests.rules.histories import RUN_ID, WRITER, Row, cut, frame, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_rules import Outcome, WriterState
    from runstream_rules.kinds import Seen
    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

NOW_MS = 1_100_000


def rows_of(values: Sequence[float], *, first_seq: int = 0, name: str = "m") -> list[Row]:
    """A row a second."""
    return [Row(first_seq + n, first_seq + n, 1_000_000 + 1000 * (first_seq + n), "", "", (name,), (value,)) for n, value in enumerate(values)]


def book_of(*rules: Rule) -> RuleBook:
    """A book that has learned these rules."""
    book = RuleBook()
    for one in rules:
        assert book.learn(one) is None
    return book


def take(book: RuleBook, rows: list[Row], state: WriterState | None = None) -> Outcome:
    """All rows in one frame."""
    return decide(state, cut(rows, [], start=rows[0].seq), book, NOW_MS, Policy())


def steps(outcome: Outcome) -> list[tuple[str, int]]:
    """State and step of each alert."""
    return [(alert.state, alert.step) for alert in outcome.alerts]


class TestFromWhenOn:
    @given(st.integers(0, 9), st.lists(st.integers(0, 10)))
    def test_a_rule_counts_from_the_row_after_it_was_made(self, seq: int, places: list[int]) -> None:
        """However rows are cut, a rule that its writer made at a seq sees the rows after it and no other: rows before it in one frame do not count."""
        book = book_of(rule("r", threshold=0.0, run_id=RUN_ID, writer=WRITER, ordinal=1, seq=seq))
        rows = [row for row in rows_of([1.0] * 10) if row.seq != seq]
        state, found = None, list[tuple[str, int]]()
        for one in cut(rows, places):
            outcome = decide(state, [one], book, NOW_MS, Policy())
            state = outcome.state
            found += steps(outcome)
        assert found == ([("firing", seq + 1)] if seq < 9 else [])

    def test_windows_begin_with_the_rule(self) -> None:
        """Rows before the rule are not in its window."""
        book = book_of(rule("r", "aggregate", aggregate="max", window=3, operator=">", threshold=0.0, writer=WRITER, ordinal=1, seq=4))
        assert steps(take(book, rows_of([1.0] * 10))) == [("firing", 7)]

    def test_another_writer_counts_by_time(self) -> None:
        """A process that did not register the rule is watched from the time of the call on; a rule from a file from the time that it names."""
        for one in (
            rule("r", threshold=0.0, writer=5, ordinal=1, seq=40, time_ms=1_003_000),
            rule("r", threshold=0.0, time_ms=1_000_000, active_ms=1_003_000),
        ):
            assert steps(take(book_of(one), rows_of([1.0] * 6))) == [("firing", 3)]

    def test_of_several_registrations_the_first_counts(self) -> None:
        """Made twice by one writer, it counts from the first seq on; made by several, others count from the earliest call on."""
        book = book_of(
            rule("r", threshold=0.0, writer=WRITER, ordinal=1, seq=2),
            rule("r", threshold=0.0, writer=WRITER, ordinal=2, seq=6),
            rule("s", threshold=0.0, writer=5, ordinal=1, seq=0, time_ms=1_007_000),
            rule("s", threshold=0.0, writer=6, ordinal=1, seq=0, time_ms=1_004_000),
        )
        assert sorted((alert.rule_id, alert.step) for alert in take(book, rows_of([1.0] * 10)).alerts) == [("r", 3), ("s", 4)]

    def test_a_rule_stays_as_long_as_one_writer_stands_for_it(self) -> None:
        """Each registration is withdrawn by itself; with the last one goes the rule, and what was known of its writers."""
        book = book_of(rule("r", threshold=0.0, run_id=RUN_ID, writer=5, ordinal=3), rule("r", threshold=0.0, run_id=RUN_ID, writer=6, ordinal=1))
        assert [book.registered_by(writer) for writer in (5, 6, 7)] == [["r"], ["r"], []]
        book.forget("r", 5)
        assert len(book) == 1
        assert (book.ordinal_of(5), book.ordinal_of(6)) == (0, 1)
        assert steps(take(book, rows_of([1.0]))) == [("firing", 0)]
        book.forget("r", 6)
        assert len(book) == 0
        assert steps(take(book, rows_of([1.0]))) == []

    def test_a_withdrawn_rule_is_not_brought_back_by_a_late_rank(self) -> None:
        """After version 2 withdrew it, a rank that registers version 1 changes nothing."""
        book = book_of(rule("r", run_id=RUN_ID, writer=5, ordinal=1), rule("r", run_id=RUN_ID, version=2, deleted=True))
        book.learn(rule("r", run_id=RUN_ID, writer=6, ordinal=1))
        assert len(book) == 0

    def test_a_refusal_is_said_once(self) -> None:
        """Many ranks that register a broken rule hear of it once; its ordinals count all the same."""
        book = RuleBook()
        wrong = rule("r", operator="=>", writer=5, ordinal=1)
        assert book.learn(wrong) is not None
        assert book.learn(replace(wrong, writer=6)) is None
        assert (book.ordinal_of(5), book.ordinal_of(6), len(book)) == (1, 1, 0)


class _Broken:
    """A kind that divides by zero once a value is above 5."""

    fields = frozenset[str]()
    finite = True
    plain = False

    def check(self, rule: Rule) -> None:
        """Refuses nothing."""

    bounds = SERIES_KINDS["non_finite"].bounds

    def fresh(self, rule: Rule) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """One number, whatever the rule."""
        assert rule.window == 1
        return np.zeros(1)

    def look(self, rule: Rule, state: np.ndarray[tuple[int, ...], np.dtype[np.float64]], rows: Rows) -> Seen:
        """Breaks."""
        if rows.values.max() > 5.0:
            raise ZeroDivisionError("float division by zero")
        state[:] = rows.values[-1]
        return SERIES_KINDS["threshold"].look(rule, state, rows)


class TestBrokenRules:
    def test_a_rule_that_breaks_is_switched_off_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a kind raises is handed over with the rule's id; other rules and summaries go on, its state goes, and it is applied no more until its next version."""
        book = book_of(rule("good", threshold=5.0), rule("wrong", "divergence", window=1, metric="m"))
        monkeypatch.setitem(SERIES_KINDS, "divergence", _Broken())
        book.learn(rule("other", threshold=100.0))  # What was worked out is worked out anew.
        first = take(book, rows_of([1.0]))
        assert set(first.state.blocks[0].tracks) == {("wrong", 1)}
        then = take(book, rows_of([9.0], first_seq=1), first.state)
        assert steps(then) == [("firing", 1)]
        assert list(then.failed) == [("wrong", 1)]
        assert not then.state.blocks[0].tracks
        assert then.state.blocks[0].longs[0, 0] == 2
        failed = book.switch_off(("wrong", 1), then.failed["wrong", 1])
        assert isinstance(failed, RuleFailed)
        assert "rule 'wrong' version 1 failed and is switched off until its next version: ZeroDivisionError" in str(failed)
        assert book.switch_off(("wrong", 1), then.failed["wrong", 1]) is None
        assert not take(book, rows_of([9.0], first_seq=2), then.state).failed
        book.learn(rule("wrong", "divergence", version=2, window=1, metric="m"))
        assert list(take(book, rows_of([9.0], first_seq=2), then.state).failed) == [("wrong", 2)]

    def test_windows_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Series past the room for windows are not followed by that rule, and are counted; the rule goes on for the others."""
        monkeypatch.setattr("runstream_rules.judge.DOUBLES_MAX", 25)
        assert tracks.DOUBLES_MAX > 25
        book = book_of(rule("r", "aggregate", aggregate="max", window=10, operator=">", threshold=0.0))
        wide = [Row(0, 0, 1_000_000, "", "", ("a", "b", "c"), (1.0, 2.0, 3.0))]
        outcome = decide(None, [frame(wide, 0, 1)], book, NOW_MS, Policy())
        assert outcome.unfollowed == {("r", 1): 1}
        assert outcome.state.blocks[0].tracks["r", 1].places.tolist() == [0, 1]


class TestStale:
    def stale(self, **fields: object) -> RuleBook:
        """A rule that wants a point every 10 seconds."""
        return book_of(rule("s", "stale", window_s=10.0, metric="m", **fields))

    def test_a_heartbeat_finds_a_silent_series(self) -> None:
        """The newest point is of 1,002 s: a heartbeat at 1,011 s says nothing, one at 1,012 s fires, later ones say nothing more, and the next point resolves."""
        book = self.stale()
        state = take(book, rows_of([1.0, 1.0, 1.0])).state
        for beat_ms, fired in ((1_011_000, []), (1_012_000, [("firing", 12_000 - 2_000)]), (1_030_000, [])):
            state, alerts, changed = pulse(state, beat_ms, 3, book, NOW_MS, Policy())
            assert [(alert.state, round(alert.value * 1000)) for alert in alerts] == fired
            assert changed == ([0] if fired else [])
        outcome = take(book, rows_of([1.0], first_seq=31), state)
        (resolved,) = outcome.alerts
        assert (resolved.state, resolved.seq, resolved.step) == ("resolved", 2, 31)

    def test_a_processor_that_is_behind_raises_no_alarm(self) -> None:
        """A heartbeat that speaks of rows which have not come says nothing."""
        book = self.stale()
        state = take(book, rows_of([1.0, 1.0, 1.0])).state
        assert pulse(state, 1_500_000, 4, book, NOW_MS, Policy()) == (state, [], [])

    def test_the_silence_has_one_id(self) -> None:
        """Judged again after a restart, and from bytes, it is the same alert."""
        book = self.stale()
        state = take(book, rows_of([1.0, 1.0])).state
        first = pulse(state, 1_020_000, 2, book, NOW_MS, Policy())[1][0]
        loaded = load(WRITER, dict(dump(state, [0])).get)
        assert loaded is not None
        assert pulse(loaded, 1_025_000, 2, book, NOW_MS, Policy())[1][0].alert_id == first.alert_id

    def test_a_cooldown_holds(self) -> None:
        """Fired at 1,012 s, it does not fire again before 1,112 s."""
        book = self.stale(cooldown_s=100.0)
        state = pulse(take(book, rows_of([1.0, 1.0, 1.0])).state, 1_012_000, 3, book, NOW_MS, Policy())[0]
        state = take(book, rows_of([1.0], first_seq=20), state).state
        for beat_ms, count in ((1_111_000, 0), (1_112_000, 1)):
            state, alerts, _ = pulse(state, beat_ms, 21, book, NOW_MS, Policy())
            assert len(alerts) == count

    def test_the_writers_end_resolves_it(self) -> None:
        """What was silent is no longer expected to speak; nothing fires at the end."""
        book = self.stale()
        state = take(book, rows_of([1.0])).state
        assert pulse(state, 1_012_000, 1, book, NOW_MS, Policy(), alive=False)[1] == []
        state = pulse(state, 1_012_000, 1, book, NOW_MS, Policy())[0]
        state, alerts, _ = pulse(state, 1_013_000, 1, book, NOW_MS, Policy(), alive=False)
        assert [alert.state for alert in alerts] == ["resolved"]
        assert pulse(state, 1_013_000, 1, book, NOW_MS, Policy(), alive=False)[1] == []


class TestEnd:
    def test_the_mark_of_a_writer_that_is_over_stays(self) -> None:
        """Its series go; what comes again is known as repeated."""
        book = book_of(rule("r", "aggregate", aggregate="max", window=3, operator=">", threshold=0.0))
        rows = rows_of([1.0, 2.0, 3.0])
        state = let_go(take(book, rows).state)
        ((number, data),) = dump(state, [0])
        assert (number, len(data) < 150) == (0, True)
        loaded = load(WRITER, {0: data}.get)
        assert loaded is not None
        assert loaded.head.over
        again = take(book, rows, loaded)
        assert (again.rows_repeated, again.alerts, again.changed) == (3, (), ())
