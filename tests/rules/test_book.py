"""Which rules apply to what, what is refused, and when a frame waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_rules import RuleBook, RuleRefused, check, must_wait, pattern
from runstream_rules.book import Pick
from runstream_rules.kinds import SeriesKind
from tests.rules.histories import rule


def picks(
    book: RuleBook, *, run_id: str = "run", project: str = "", rank: int = 0, context: str = "training", names: tuple[str, ...] = ("loss",), writer: int = 1
) -> list[Pick[SeriesKind]]:
    """The rules that apply and compare values alone."""
    plan = book.scope(run_id, project, rank, writer).plan(context, names)
    return [] if plan is None else list(plan.plain)


def ids(book: RuleBook, *, run_id: str = "run", project: str = "", rank: int = 0, context: str = "training", names: tuple[str, ...] = ("loss",)) -> list[str]:
    """Ids of the rules that apply."""
    return [pick.rule.rule_id for pick in picks(book, run_id=run_id, project=project, rank=rank, context=context, names=names)]


class TestSelection:
    def test_each_selector_narrows(self) -> None:
        """Run, project, context, rank and name each leave out what is not theirs; empty selects all."""
        book = RuleBook()
        for one in (
            rule("all"),
            rule("run", run_id="run"),
            rule("project", project="p"),
            rule("context", context="validation"),
            rule("rank", rank=1),
            rule("name", metric="acc*"),
        ):
            assert book.learn(one) is None
        assert ids(book) == ["all", "run"]
        assert ids(book, run_id="other") == ["all"]
        assert ids(book, project="p") == ["all", "project", "run"]
        assert ids(book, context="validation") == ["all", "context", "run"]
        assert ids(book, rank=1) == ["all", "rank", "run"]
        assert ids(book, names=("accuracy", "loss")) == ["all", "name", "run"]

    def test_columns_are_those_that_match(self) -> None:
        """A pattern that matches some names picks their columns, and all columns where it matches all."""
        book = RuleBook()
        book.learn(rule("some", metric="grad/*"))
        assert [pick.columns.tolist() for pick in picks(book, names=("loss", "grad/a", "lr", "grad/b"))] == [[1, 3]]
        assert [pick.columns.tolist() for pick in picks(book, names=("grad/a", "grad/b"))] == [[0, 1]]

    def test_what_is_remembered_follows_the_rules(self) -> None:
        """A new rule, a new version and a withdrawal show at once, for lists of names that were asked for before too."""
        book = RuleBook()
        assert ids(book) == []
        book.learn(rule("a", run_id="run"))
        assert ids(book) == ["a"]
        book.learn(rule("a", run_id="run", version=2, metric="lr"))
        assert ids(book) == []
        assert ids(book, names=("lr",)) == ["a"]
        assert not book.is_live(("a", 1))
        book.learn(rule("a", version=1))
        assert ids(book, names=("lr",)) == ["a"]
        book.learn(rule("a", run_id="run", version=3, deleted=True))
        assert ids(book, names=("lr",)) == []
        book.learn(rule("b"))
        book.forget("b")
        assert ids(book) == []
        assert len(book) == 0

    def test_a_rule_may_move_to_another_run(self) -> None:
        """The run that a rule left no longer sees it."""
        book = RuleBook()
        book.learn(rule("a", run_id="one"))
        assert ids(book, run_id="one") == ["a"]
        book.learn(rule("a", run_id="two", version=2))
        assert (ids(book, run_id="one"), ids(book, run_id="two")) == ([], ["a"])

    @given(st.text(max_size=8), st.text(max_size=8))
    def test_a_name_without_wildcards_is_itself(self, metric: str, name: str) -> None:
        """Brackets, dots and backslashes in a name have no meaning."""
        if "*" not in metric and "?" not in metric:
            assert bool(pattern(metric).fullmatch(name)) == (metric == name)
            assert pattern(metric).fullmatch(metric)
        assert pattern("*").fullmatch(name)
        assert bool(pattern("?").fullmatch(name)) == (len(name) == 1)

    @given(st.text("ab*?.", max_size=9), st.text("ab.\n", max_size=12))
    def test_a_pattern_matches_what_a_plain_matcher_matches(self, metric: str, name: str) -> None:
        """Stars and question marks mean what a matcher written by recursion says."""

        def matches(wanted: str, text: str) -> bool:
            if not wanted:
                return not text
            if wanted[0] == "*":
                return any(matches(wanted[1:], text[start:]) for start in range(len(text) + 1))
            return bool(text) and wanted[0] in ("?", text[0]) and matches(wanted[1:], text[1:])

        assert bool(pattern(metric).fullmatch(name)) == matches(metric, name)

    @pytest.mark.timeout(20)
    def test_many_stars_do_not_freeze_anybody(self) -> None:
        """A pattern that a backtracking matcher would try for years is answered at once."""
        assert not pattern("*a" * 40 + "*b").fullmatch("a" * 5_000)
        assert pattern("*a" * 40 + "*b").fullmatch("a" * 5_000 + "b")


class TestRefusal:
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("operator", {"operator": "=>"}),
            ("threshold", {"threshold": None}),
            ("threshold", {"threshold": float("nan")}),
            ("kind", {"kind": "windowed"}),
            ("metric", {"metric": ""}),
            ("name", {"name": ""}),
            ("severity", {"severity": "panic"}),
            ("rank", {"rank": -1}),
            ("version", {"version": -1}),
            ("ordinal", {"ordinal": -1}),
            ("operator", {"kind": "non_finite", "operator": ">"}),
            ("threshold", {"kind": "non_finite", "threshold": 1.0}),
        ],
    )
    def test_a_refusal_names_the_field(self, field: str, fields: dict[str, object]) -> None:
        """The error says which field, what was expected and what came; the book leaves the rule out and counts its ordinal."""
        kind = str(fields.pop("kind", "threshold"))
        wrong = rule("r", kind, writer=9, ordinal=-1 if "ordinal" in fields else 4, **{name: value for name, value in fields.items() if name != "ordinal"})
        with pytest.raises(RuleRefused, match=f"a rule's {field} must be .*, got ") as caught:
            check(wrong)
        assert caught.value.field == field
        book = RuleBook()
        assert isinstance(book.learn(wrong), RuleRefused)
        assert ids(book) == []
        assert book.ordinal_of(9) == max(wrong.ordinal, 0)


class TestWaiting:
    def test_a_frame_waits_for_its_writers_rules(self) -> None:
        """It waits while rules are missing and time is left, and not for rules that were waited for before."""
        assert must_wait(2, known=1, accepted=0, waited_ms=0, wait_ms_max=10_000)
        assert not must_wait(2, known=2, accepted=0, waited_ms=0, wait_ms_max=10_000)
        assert not must_wait(2, known=1, accepted=2, waited_ms=0, wait_ms_max=10_000)
        assert not must_wait(2, known=1, accepted=0, waited_ms=10_000, wait_ms_max=10_000)
        assert not must_wait(0, known=0, accepted=0, waited_ms=0, wait_ms_max=10_000)

    def test_ordinals_survive_compaction(self) -> None:
        """Where a rule was registered again, its first record is gone; the later ordinal speaks for the earlier ones."""
        book = RuleBook()
        book.learn(rule("a", version=2, writer=5, ordinal=3))
        assert book.ordinal_of(5) == 3
        assert book.ordinal_of(6) == 0
