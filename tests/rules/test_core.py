"""Whatever the grouping, the repeats and the crashes: the same rows give the same alerts and the same state, and both are what plain Python says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runstream_rules import Outcome, Policy, RuleBook, Series, WriterState, alert_id, decide, dump, load, recompute, summaries_of, summary_frame
from runstream_rules.episodes import FIRING, Episode
from runstream_schemas.records import Alert, MetricFrame, MetricGroup, Rule, SummaryFrame
from tests.rules.histories import RUN_ID, WRITER, Row, cut, expected_transitions, frame, histories, points_of, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW_MS = 1_005_000
SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
RULES = [
    rule("above"),
    rule("below-or-equal", operator="<=", threshold=0.0),
    rule("equal", operator="==", threshold=2.0),
    rule("other", operator="!=", threshold=1.0, metric="loss"),
    rule("at-least", operator=">=", threshold=2.0, context="validation"),
    rule("below", operator="<", threshold=-1.0, metric="lr"),
    rule("broken", "non_finite"),
]


def book_of(rules: Sequence[Rule]) -> RuleBook:
    """A book that has learned these rules."""
    book = RuleBook()
    for one in rules:
        assert book.learn(one) is None
    return book


def feed(frames: Sequence[MetricFrame], rules: Sequence[Rule] = RULES, state: WriterState | None = None) -> tuple[WriterState, list[Alert]]:
    """Takes frames one by one; returns the last state and every alert."""
    book, alerts = book_of(rules), list[Alert]()
    for one in frames:
        outcome = decide(state, [one], book, NOW_MS, Policy())
        state = outcome.state
        alerts += outcome.alerts
    assert state is not None
    return state, alerts


def entries(state: WriterState) -> list[tuple[int, bytes]]:
    """All of a state as bytes."""
    return dump(state, range(len(state.blocks)))


def summaries(outcome: Outcome) -> list[SummaryFrame]:
    """The summaries that a call changed."""
    return [summary_frame(outcome.state, number) for number in outcome.touched]


def described(alerts: Sequence[Alert], rows: Sequence[Row]) -> set[tuple[str, int, Series, int, int]]:
    """Alerts in the oracle's words; the seq of the transition is found by its step, time and value."""
    out: set[tuple[str, int, Series, int, int]] = set()
    for alert in alerts:
        series = Series(alert.metric, alert.context, alert.subject)
        seqs = [
            row.seq
            for row in rows
            if (row.context, row.subject, row.step, row.time_ms) == (alert.context, alert.subject, alert.step, alert.time_ms)
            and any(
                name == alert.metric and np.float64(value).tobytes() == np.float64(alert.value).tobytes()
                for name, value in zip(row.names, row.values, strict=True)
            )
            and (row.seq == alert.seq if alert.version == 0 else row.seq > alert.seq)
        ]
        assert seqs, f"{alert} is of no row"
        out.add((alert.rule_id, alert.version, series, alert.seq, seqs[0]))
    return out


class TestAnyGrouping:
    @SLOW
    @given(histories(), st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
    def test_cuts_do_not_show(self, rows: list[Row], places: list[int], others: list[int]) -> None:
        """Two ways of cutting a history into frames give the same alerts and the same state, bit for bit."""
        one, alerts = feed(cut(rows, places))
        two, same_alerts = feed(cut(rows, others))
        assert entries(one) == entries(two)
        assert repr(alerts) == repr(same_alerts)

    @SLOW
    @given(histories(), st.data())
    def test_repeats_do_not_show(self, rows: list[Row], data: st.DataObject) -> None:
        """A shipper that starts again from an earlier seq, several times and with other cuts, adds nothing."""
        frames: list[MetricFrame] = []
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, len(rows) - 1)) if frames else 0
            reach = frames[-1].next_seq if frames else 0
            again = cut(rows, data.draw(st.lists(st.integers(0, 30))), start=min(start, reach))
            frames += again[: data.draw(st.integers(1, len(again)))]
        frames += cut(rows, [], start=0)
        plain, alerts = feed(cut(rows, range(31)))
        state, same_alerts = feed(frames)
        # An episode is opened and closed once; its alerts are the same objects, however often its rows came.
        assert repr(alerts) == repr(same_alerts)
        assert entries(state) == entries(plain)

    @SLOW
    @given(histories(), st.lists(st.integers(0, 30)), st.lists(st.integers(1, 4)))
    def test_takes_do_not_show(self, rows: list[Row], places: list[int], sizes: list[int]) -> None:
        """Frames taken several at a time give what they give one by one."""
        frames, state, alerts = cut(rows, places), None, list[Alert]()
        book = book_of(RULES)
        for size in [*sizes, len(frames)]:
            if not frames:
                break
            outcome = decide(state, frames[:size], book, NOW_MS, Policy())
            state, frames = outcome.state, frames[size:]
            alerts += outcome.alerts
        assert state is not None
        plain, same_alerts = feed(cut(rows, range(31)))
        assert entries(state) == entries(plain)
        assert repr(alerts) == repr(same_alerts)


class TestAgainstPlainPython:
    @SLOW
    @given(histories(), st.lists(st.integers(0, 30)))
    def test_summaries_are_what_a_recomputation_says(self, rows: list[Row], places: list[int]) -> None:
        """Every figure of every series is the recomputation's, to the last bit."""
        state, _ = feed(cut(rows, places))
        found = {key: one for number in range(len(state.blocks)) for key, one in summaries_of(summary_frame(state, number)).items()}
        points = points_of(rows)
        assert found.keys() == points.keys()
        for series, every in points.items():
            assert found[series].same_as(recompute(every)), (series, found[series], recompute(every))

    @SLOW
    @given(histories(), st.lists(st.integers(0, 30)))
    def test_alerts_are_what_a_loop_over_points_says(self, rows: list[Row], places: list[int]) -> None:
        """Every transition of every rule is found, once, and no other."""
        unique = [replace(row, step=row.seq) for row in rows]
        _, alerts = feed(cut(unique, places))
        assert described(alerts, unique) == expected_transitions(unique, RULES)
        assert len({(alert.alert_id, alert.version) for alert in alerts}) == len(alerts)

    def test_wide_frames_go_the_vectorised_way(self) -> None:
        """A frame of 20 rows and 50 finite columns, repeated with growing seqs, agrees with the recomputation to the last bit."""
        generator = np.random.default_rng(5)
        values = generator.normal(scale=10.0, size=(200, 50)) ** 3
        names = tuple(f"metric/{n}" for n in range(50))
        rows = [Row(seq, seq, 1_000_000 + seq, "training", "", names, tuple(values[seq].tolist())) for seq in range(200)]
        state, _ = feed(cut(rows, range(0, 200, 20)))
        found = summaries_of(summary_frame(state, 0))
        assert all(found[series].same_as(recompute(every)) for series, every in points_of(rows).items())


class TestCrashes:
    @SLOW
    @given(histories(), st.data())
    def test_entries_written_in_part(self, rows: list[Row], data: st.DataObject) -> None:
        """A crash after any entry of any take, and a replay from the last acknowledged frame, ends in the same state; the alerts are the same by id."""
        stored: dict[int, bytes] = {}
        book, at, frames = book_of(RULES), 0, cut(rows, range(0, 31, data.draw(st.integers(1, 5))))
        sent: dict[tuple[str, int], str] = {}
        crashes = 0
        while at < len(frames):
            state = load(WRITER, stored.get)
            size = data.draw(st.integers(1, 3))
            outcome = decide(state, frames[at : at + size], book, NOW_MS, Policy())
            for alert in outcome.alerts:
                assert sent.setdefault((alert.alert_id, alert.version), repr(alert)) == repr(alert)
            written = dump(outcome.state, outcome.changed)
            crash = crashes < 5 and data.draw(st.booleans())
            stored |= dict(written[: data.draw(st.integers(0, len(written)))] if crash else written)
            crashes += crash
            at += 0 if crash else size
        plain, alerts = feed(cut(rows, range(31)))
        assert stored == dict(entries(plain))
        assert set(sent.values()) == {repr(alert) for alert in alerts}

    def test_blocks_ahead_of_the_head(self) -> None:
        """With 2,500 series a take writes three entries; each prefix of them, replayed, ends in the same state."""
        names = tuple(f"wide/{n}" for n in range(2500))
        rows = [
            Row(seq, seq, 1_000_000, "", "", names[: 900 + 800 * min(seq, 2)], tuple(float(n * seq) for n in range(900 + 800 * min(seq, 2))))
            for seq in range(4)
        ]
        book = book_of([rule("above", threshold=1000.0)])
        first = decide(None, [frame(rows, 0, 1)], book, NOW_MS, Policy())
        then = decide(first.state, [frame(rows, 1, 4)], book, NOW_MS, Policy())
        written = dump(then.state, then.changed)
        assert [number for number, _ in written] == [1, 2, 0]
        for count in range(4):
            stored = dict(dump(first.state, first.changed)) | dict(written[:count])
            again = decide(load(WRITER, stored.get), [frame(rows, 0, 2), frame(rows, 2, 4)], book, NOW_MS, Policy())
            # Rows that a written block had taken gave their alerts before it was written.
            assert entries(again.state) == entries(then.state)
            assert {alert.alert_id for alert in again.alerts} <= {alert.alert_id for alert in (*first.alerts, *then.alerts)}
        assert [len(one.names) for one in summaries(then)] == [1000, 1000, 500]


def loss(*values: float, first_seq: int = 0, time_ms: int = NOW_MS) -> MetricFrame:
    """A frame with one row a value of `loss` in training."""
    rows = [Row(first_seq + n, n, time_ms, "training", "", ("loss",), (value,)) for n, value in enumerate(values)]
    return frame(rows, first_seq, first_seq + len(values))


def take(*frames: MetricFrame, rules: Sequence[Rule], state: WriterState | None = None, now_ms: int = NOW_MS, policy: Policy | None = None) -> Outcome:
    """Takes frames under these rules."""
    return decide(state, frames, book_of(rules), now_ms, policy or Policy())


class TestEpisodes:
    def test_an_episode_fires_and_resolves_once(self) -> None:
        """Firing carries the row that opened it; resolved has the same id, version 1 and the row that closed it."""
        fired, resolved = take(loss(0.5, 2.0, 3.0, 0.9, 0.1), rules=[rule("r", text="{metric} went to {value} at {step} {nonsense}")]).alerts
        assert (fired.state, fired.version, fired.seq, fired.step, fired.value, fired.text) == ("firing", 0, 1, 1, 2.0, "loss went to 2 at 1 {nonsense}")
        assert (resolved.state, resolved.version, resolved.seq, resolved.step, resolved.value) == ("resolved", 1, 1, 3, 0.9)
        assert fired.alert_id == resolved.alert_id == alert_id(("r", 1), RUN_ID, WRITER, Series("loss", "training", ""), 1)

    def test_nan_neither_fires_nor_resolves_a_threshold(self) -> None:
        """NaN compares with nothing, `!=` included: the episode stays as it was."""
        for sign in ("<", "<=", ">", ">=", "==", "!="):
            assert not take(loss(float("nan")), rules=[rule("r", operator=sign, threshold=1.0)]).alerts
        assert [alert.state for alert in take(loss(2.0, float("nan"), 0.0), rules=[rule("r")]).alerts] == ["firing", "resolved"]
        assert [alert.step for alert in take(loss(2.0, float("nan"), 0.0), rules=[rule("r")]).alerts] == [0, 2]

    def test_a_writer_that_ends_leaves_its_episode_firing(self) -> None:
        """A last frame without rows resolves nothing."""
        first = take(loss(2.0), rules=[rule("r")])
        last = take(frame([], 1, 5), rules=[rule("r")], state=first.state)
        assert not last.alerts
        assert last.state.blocks[0].episodes == {("r", 1): {0: Episode(FIRING, 0, NOW_MS, NOW_MS)}}

    def test_a_new_version_opens_its_own_episode(self) -> None:
        """The old version's episode ends without a word, and the new one fires at its next row with another id."""
        first = take(loss(2.0), rules=[rule("r")])
        then = take(loss(2.0, first_seq=1), rules=[rule("r", version=2)], state=first.state)
        assert [(alert.rule_version, alert.state) for alert in then.alerts] == [(2, "firing")]
        assert then.alerts[0].alert_id != first.alerts[0].alert_id
        assert list(then.state.blocks[0].episodes) == [("r", 2)]

    def test_an_old_row_gives_a_late_alert(self) -> None:
        """A row older than the bound is recorded as late; one at the bound is not."""
        policy = Policy(late_ms=60_000)
        assert take(loss(2.0, time_ms=NOW_MS - 60_001), rules=[rule("r")], policy=policy).alerts[0].late
        assert not take(loss(2.0, time_ms=NOW_MS - 60_000), rules=[rule("r")], policy=policy).alerts[0].late


class TestAccount:
    def test_a_gap_is_said_once_and_remembered(self) -> None:
        """A frame that begins beyond the mark leaves a gap; rows that fill it later are left out and say nothing."""
        first = take(loss(0.1, 0.2), rules=[])
        then = take(loss(0.3, first_seq=5), rules=[], state=first.state)
        assert then.gaps == ((2, 5),)
        assert (then.state.head.gaps, then.state.head.gap_seqs, then.state.head.mark) == (1, 3, 6)
        late = take(loss(9.0, 9.0, 9.0, first_seq=2), rules=[rule("r")], state=then.state)
        assert (late.alerts, late.gaps, late.changed, late.rows_repeated) == ((), (), (), 3)
        assert late.state is not then.state
        assert entries(late.state) == entries(then.state)

    def test_a_frame_of_another_run_is_refused(self) -> None:
        """A writer belongs to one run; a frame that says another changes nothing and is counted."""
        first = take(loss(0.1), rules=[])
        other = take(loss(2.0, first_seq=1)._replace(run_id="other"), rules=[rule("r")], state=first.state)
        assert (other.frames_refused, other.alerts, entries(other.state)) == (1, (), entries(first.state))

    def test_series_past_the_bound_are_counted(self) -> None:
        """A writer that invents names without end is followed up to the bound, always for the same ones."""
        policy = Policy(series_max=3)
        rows = [Row(seq, seq, NOW_MS, "", "", (f"a{seq}", "b"), (1.0, 2.0)) for seq in range(5)]
        outcome = take(frame(rows, 0, 5), rules=[], policy=policy)
        (summary,) = summaries(outcome)
        assert summary.names == ["a0", "b", "a1"]
        assert outcome.series_refused == 3
        assert list(summary.counts) == [1, 5, 1]

    def test_a_name_that_stands_twice_counts_once(self) -> None:
        """Of two columns with one name the last counts."""
        seqs = np.arange(2, dtype=np.int64)
        group = MetricGroup("", "", ("a", "b", "a"), seqs, seqs, seqs, np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
        outcome = take(frame([], 0, 2)._replace(groups=(group,)), rules=[])
        (summary,) = summaries(outcome)
        assert dict(zip(summary.names, summary.sums, strict=True)) == {"a": 9.0, "b": 7.0}

    def test_nothing_given_is_changed(self) -> None:
        """Deciding twice from one state gives the same twice: no state is changed by what comes after it."""
        first = take(loss(0.1, 5.0), rules=[rule("r")])
        before = entries(first.state)
        one = take(loss(0.2, first_seq=2), rules=[rule("r")], state=first.state)
        two = take(loss(0.2, first_seq=2), rules=[rule("r")], state=first.state)
        assert entries(first.state) == before
        assert entries(one.state) == entries(two.state)
        assert one.alerts == two.alerts
