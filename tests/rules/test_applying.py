"""What applying files comes to, and which alerts a silence is for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runstream_rules.applying import ACTIVE_AFTER_MS, plan, withdrawn
from runstream_rules.silences import Silences
from runstream_schemas.records import Alert, Silence
from tests.rules.histories import rule

if TYPE_CHECKING:
    from runstream_schemas.records import Rule

NOW_MS = 1_700_000_000_000
SILENCE = Silence(silence_id="s", version=1, time_ms=0, author="a", comment="", starts_ms=1000, ends_ms=2000)
ALERT = Alert(
    alert_id="alert",
    version=0,
    state="firing",
    rule_id="r",
    rule_version=1,
    rule_name="high",
    kind="threshold",
    severity="warning",
    run_id="run",
    writer=1,
    seq=0,
    rank=0,
    metric="train/loss",
    context="",
    subject="",
    step=0,
    time_ms=0,
    value=1.0,
    operator=">",
    threshold=0.0,
    text="",
    late=False,
    decided_ms=0,
    project="p",
    labels={"team": "vision", "tier": "1"},
)


def known(*rules: Rule) -> dict[str, Rule]:
    """Rules as the topic has them."""
    return {one.rule_id: one for one in rules}


class TestPlan:
    def test_what_has_not_changed_stays_as_it_is(self) -> None:
        """The same file again tells nobody anything: versions, times and whether a list came as a tuple are no changes."""
        before = rule("r", version=7, time_ms=5, active_ms=10, channels=["ops"], labels={"a": "b"})
        made = plan([rule("r", version=0, channels=("ops",), labels={"a": "b"})], known(before), NOW_MS, prune=True)
        assert (made.records, made.unchanged) == ([], (before,))

    def test_a_new_rule_counts_from_a_little_later_on(self) -> None:
        """So that every worker knows it by then."""
        (new,) = plan([rule("r", version=0)], {}, NOW_MS, prune=False).added
        assert (new.version, new.time_ms, new.active_ms) == (NOW_MS, NOW_MS, NOW_MS + ACTIVE_AFTER_MS)

    def test_a_changed_rule_says_in_what(self) -> None:
        """In the files' words; its version is greater than the one before, even where that is ahead of the clock."""
        before = rule("r", version=NOW_MS + 5, for_s=10.0)
        (changed,) = plan([rule("r", version=0, threshold=2.0)], known(before), NOW_MS, prune=False).changed
        assert changed.rule.version == NOW_MS + 6
        assert [tuple(one) for one in changed.changes] == [("for", 10.0, 0.0), ("threshold", 1.0, 2.0)]

    def test_pruning_takes_what_files_had_and_leaves_what_runs_registered(self) -> None:
        """Without it nothing goes."""
        every = known(rule("old"), rule("kept", version=0), rule("runs", writer=5, run_id="x"), rule("gone", deleted=True))
        assert plan([rule("kept", version=0)], every, NOW_MS, prune=False).removed == ()
        (gone,) = plan([rule("kept", version=0)], every, NOW_MS, prune=True).removed
        assert (gone.rule_id, gone.deleted, gone.version) == ("old", True, NOW_MS)

    def test_a_removed_rule_comes_back_with_a_newer_version(self) -> None:
        """Whether its withdrawal is still on the topic or not."""
        gone = withdrawn(rule("r", version=NOW_MS + 10), NOW_MS)
        assert (gone.version, gone.deleted, gone.writer) == (NOW_MS + 11, True, 0)
        (again,) = plan([rule("r", version=0)], known(gone), NOW_MS, prune=False).added
        assert (again.version, again.deleted) == (NOW_MS + 12, False)


class TestSilences:
    @pytest.mark.parametrize(
        ("selector", "silent"),
        [
            ({}, True),
            ({"alert_id": "alert"}, True),
            ({"alert_id": "other"}, False),
            ({"rule_id": "r", "run_id": "run", "project": "p"}, True),
            ({"rule_id": "r", "run_id": "other"}, False),
            ({"project": "q"}, False),
            ({"metric": "*/loss"}, True),
            ({"metric": "loss"}, False),
            ({"labels": {"team": "vision"}}, True),
            ({"labels": {"team": "vision", "tier": "2"}}, False),
            ({"labels": {"absent": ""}}, False),
        ],
        ids=str,
    )
    def test_selectors_narrow(self, selector: dict[str, object], silent: bool) -> None:
        """Each one leaves out what is not its own; none selects everything."""
        book = Silences()
        book.learn(replace(SILENCE, **selector))
        assert book.of(ALERT, 1500) == ("s" if silent else "")

    @pytest.mark.parametrize(("now_ms", "silent"), [(999, False), (1000, True), (1999, True), (2000, False)])
    def test_a_window_has_its_beginning_and_not_its_end(self, now_ms: int, silent: bool) -> None:
        """By the clock of whoever asks."""
        book = Silences()
        book.learn(SILENCE)
        assert bool(book.of(ALERT, now_ms)) is silent

    def test_one_without_an_end_is_for_ever(self) -> None:
        """As acknowledgements are."""
        book = Silences()
        book.learn(replace(SILENCE, ends_ms=0))
        assert book.of(ALERT, 1 << 60) == "s"

    def test_an_ended_one_is_over_however_versions_come(self) -> None:
        """The newest version holds; one whose key went is forgotten."""
        book = Silences()
        book.learn(replace(SILENCE, version=2, deleted=True))
        book.learn(SILENCE)
        assert book.of(ALERT, 1500) == ""
        assert book.all() == []
        book.learn(replace(SILENCE, version=3, metric="a*"))
        assert book.of(ALERT, 1500) == ""
        book.learn(replace(SILENCE, version=4, metric="t*"))
        assert book.of(ALERT, 1500) == "s"
        book.forget("s")
        assert (len(book), book.of(ALERT, 1500)) == (0, "")

    def test_of_several_the_last_to_end_is_named(self) -> None:
        """One that never ends before all."""
        book = Silences()
        for name, ends_ms in (("short", 1600), ("long", 9000), ("ever", 0)):
            book.learn(replace(SILENCE, silence_id=name, ends_ms=ends_ms))
        assert book.of(ALERT, 1500) == "ever"
        book.forget("ever")
        assert book.of(ALERT, 1500) == "long"
