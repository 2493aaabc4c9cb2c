"""Rule files: what docs/rules.md writes is read, and every mistake is told with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runstream_rules import FileRefused, Policy, RuleBook, check, decide
from runstream_rules.files import Entry, read, rule_id_of
from runstream_rules.words import condition, selectors
from runstream_schemas import wire
from runstream_schemas.records import Rule
from runstream_schemas.rule_fields import FIELDS, KINDS
from tests.rules.histories import Row, cut

DOCS = Path(__file__).resolve().parents[2] / "docs" / "rules.md"

WHOLE = """
rules:
  - name: loss explodes
    kind: threshold
    metric: loss
    operator: ">"
    threshold: 1e1
    clear: 5
    for: 30s
    cooldown: 10m
    severity: critical
    project: digits
    context: training
    rank: 0
    text: "{metric} is {value}, asks {labels.team}"
    labels: {team: vision}
    channels: [ops, no]
"""


def entries(text: str) -> list[Entry]:
    """The rules of one file."""
    return read([("rules.yaml", text)])


def problems(text: str, *more: tuple[str, str]) -> list[str]:
    """What is told of files with mistakes."""
    with pytest.raises(FileRefused) as caught:
        read([("rules.yaml", text), *more])
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(one) for one in caught.value.problems]


def blocks() -> list[str]:
    """The YAML of docs/rules.md; examples that show a rule alone stand below `rules:`."""
    found = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return [block if block.startswith("rules:") else f"rules:\n{block}" for block in found]


class TestReading:
    def test_every_field_becomes_the_records(self) -> None:
        """Durations, selectors, labels and channels come as they are meant; words that YAML takes for truth values stay words."""
        (entry,) = entries(WHOLE)
        assert entry.line == 3
        assert entry.rule == Rule(
            rule_id="digits.loss-explodes",
            version=0,
            time_ms=0,
            name="loss explodes",
            kind="threshold",
            metric="loss",
            operator=">",
            threshold=10.0,
            clear=5.0,
            for_s=30.0,
            cooldown_s=600.0,
            severity="critical",
            project="digits",
            context="training",
            rank=0,
            text="{metric} is {value}, asks {labels.team}",
            labels={"team": "vision"},
            channels=("ops", "no"),
        )

    def test_the_pages_examples_are_rules(self) -> None:
        """Every example of docs/rules.md is read, can be applied, and together they have all kinds."""
        every = [entry.rule for block in blocks() for entry in entries(block)]
        for rule in every:
            check(rule)
            assert condition(rule)
        assert {rule.kind for rule in every} == set(KINDS) == set(FIELDS)

    def test_file_to_record_to_core(self) -> None:
        """A rule of a file goes through the wire unchanged and fires."""
        (entry,) = entries("rules:\n- {name: high, kind: threshold, metric: 'lo*', operator: '>', threshold: 2}")
        sent = wire.decode(wire.encode(entry.rule))
        assert isinstance(sent, Rule)
        book = RuleBook()
        assert book.learn(sent) is None
        rows = [Row(n, n, 1000 * n, "", "", ("loss",), (float(n),)) for n in range(5)]
        (alert,) = decide(None, cut(rows, []), book, 10_000, Policy()).alerts
        assert (alert.rule_name, alert.rule_id, alert.step) == ("high", "high", 3)

    @pytest.mark.parametrize(
        ("written", "seconds"), [("30", 30.0), ("1.5", 1.5), ("250ms", 0.25), ("30s", 30.0), ("10m", 600.0), ("2h", 7200.0), ("1d", 86_400.0), ('"5m"', 300.0)]
    )
    def test_durations(self, written: str, seconds: float) -> None:
        """Seconds, or a number with its unit."""
        (entry,) = entries(f"rules: [{{name: a, kind: stale, metric: m, window_s: {written}}}]")
        assert entry.rule.window_s == seconds

    def test_ids_are_made_of_names_and_what_they_select(self) -> None:
        """Rules of two projects may have one name; letters of any script stay."""
        assert rule_id_of("GPU: idle!", "", "") == "gpu-idle"
        assert rule_id_of("Потери растут", "My Project", "r/1") == "my-project.r-1.потери-растут"
        found = entries("rules:\n- {name: a, kind: non_finite, metric: m}\n- {name: a, kind: non_finite, metric: m, project: p}")
        assert [entry.rule.rule_id for entry in found] == ["a", "p.a"]

    def test_what_a_rule_waits_for_in_words(self) -> None:
        """Tables say it shortly."""
        (entry,) = entries(WHOLE)
        assert condition(entry.rule) == "> 10, clear 5, for 30 s"
        assert selectors(entry.rule) == "project digits, context training, rank 0"
        (entry,) = entries("rules: [{name: a, kind: change, metric: m, threshold: 0.2, direction: up, measure: absolute, window: 5}]")
        assert (condition(entry.rule), selectors(entry.rule)) == ("up more than 0.2, absolute, window 5", "")


class TestMistakes:
    def test_all_are_told_at_once_with_their_lines(self) -> None:
        """Unknown fields, wrong types, fields that do not go with the kind, what is left out: each with line, rule, field, what was expected and what came."""
        text = """rules:
  - name: first
    kind: threshold
    metric: loss
    operator: =>
    threshold: "10"
    thresold: 3
    for: soon
    window: 5
  - kind: aggregate
    metric: [a]
  - just words
"""
        assert problems(text) == [
            "rules.yaml:5: first: operator must be one of <, <=, >, >=, ==, != for a threshold rule, got '=>'",
            "rules.yaml:6: first: threshold must be a number, got '10'",
            "rules.yaml:7: first: thresold is no field of a rule: did you mean threshold?",
            "rules.yaml:8: first: for must be seconds, or a number with ms, s, m, h or d behind it, such as 30s or 2h, got soon",
            "rules.yaml:9: first: window must be left out of a threshold rule, got 5",
            "rules.yaml:10: rule 2: name is needed, and left out",
            "rules.yaml:11: rule 2: metric must be a text, got a list of 1",
            "rules.yaml:12: rule 3: must be a mapping of fields, got just words",
        ]

    def test_what_is_left_out_is_told(self) -> None:
        """Every field that the kind needs, in one go."""
        told = problems("rules:\n- {name: a, kind: aggregate, metric: m}")
        assert [one.split(": ")[2].split(" ")[0] for one in told] == ["operator", "threshold", "aggregate", "window"]
        assert all(one.startswith("rules.yaml:2: a: ") and " is left out, and must be " in one for one in told)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("rules:\n- {name: a, name: b, kind: non_finite, metric: m}", "rules.yaml:2: has 'name' twice, first in line 2: one of them would be lost"),
            ("rules: []\nrules: []", "rules.yaml:2: has 'rules' twice, first in line 1: one of them would be lost"),
            ("", "rules.yaml:1: holds nothing, expected `rules:` and a list of rules"),
            ("- a", "rules.yaml:1: must be `rules:` and a list of rules, got a list of 1"),
            ("rules:\n  a: 1", "rules.yaml:2: rules must be a list of rules, got a mapping"),
            ("rules: []\nruels: []", "rules.yaml:2: ruels is no field of a rule file: expected `rules:` and nothing else"),
            ("rules:\n- {[1]: 2, name: a, kind: non_finite, metric: m}", "rules.yaml:2: has a list or mapping as the name of a field, expected a text"),
            (
                "rules:\n- {name: a, kind: run_state, states: [silent, dead]}",
                "rules.yaml:2: a: states must be some of failed, crashed, killed, preempted, finished, silent, got 'silent', 'dead'",
            ),
            (
                "rules:\n- {name: a, kind: non_finite, metric: m, text: 'is {vlaue}'}",
                "rules.yaml:2: a: text has {vlaue}, and nothing stands for that: docs/rules.md lists the names",
            ),
            ("rules:\n- {name: '!', kind: non_finite, metric: m}", "rules.yaml:2: !: id is needed where the name has neither letter nor digit to make one of"),
            (
                "rules:\n- {name: a, kind: non_finite, metric: m, labels: [x]}",
                "rules.yaml:2: a: labels must be names with texts, such as {team: vision}, got a list of 1",
            ),
            ("rules:\n- {name: a, kind: non_finite, metric: }", "rules.yaml:2: a: metric must be a text, got nothing"),
            ("rules:\n- {name: a, kind: non_finite, metric: m, rank: first}", "rules.yaml:2: a: rank must be an integer, got first"),
            ("rules:\n- {name: a, kind: nonfinite, metric: m}", f"rules.yaml:2: a: kind must be one of {', '.join(KINDS)}, got 'nonfinite'"),
        ],
        ids=lambda one: re.sub(r"\W+", "-", one)[:40],
    )
    def test_a_mistake(self, text: str, said: str) -> None:
        """One sentence, which an editor can jump to."""
        assert problems(text) == [said]

    @pytest.mark.parametrize(
        "text",
        ["rule\r\rises", "a\u2028b", '"ru\\nles": 1', 'rules: [{name: a, kind: threshold, metric: m, "o\\e[31m": 1}]', 'rules: "a\\nb"'],
        ids=["ends of lines", "another end", "key", "escape", "text"],
    )
    def test_a_mistake_is_one_line_whatever_the_file_holds(self, text: str) -> None:
        """Ends of lines and control characters of names and texts are told as what they are."""
        assert problems(text)
        assert all(problem.isprintable() for problem in problems(text))

    def test_what_is_no_yaml_has_a_line_too(self) -> None:
        """The parser's own words, and the line where it gave up."""
        (said,) = problems("rules:\n  - {name: a\n  - b")
        assert said.startswith("rules.yaml:3: is no YAML: ")
        assert problems("rules: &a [*a]")[0] == "rules.yaml:1: has lists and mappings inside each other more than 10 deep"

    def test_what_would_take_for_ever_or_too_deep_is_told(self) -> None:
        """Aliases of aliases count as often as they are used, and brackets within brackets end the reading, not the interpreter."""
        bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{one}: &{one} [{', '.join([f'*{before}'] * 10)}]\n" for before, one in ("ab", "bc", "cd", "de", "ef")
        )
        (said,) = problems(bomb)
        assert said.endswith("has more than 100,000 values, lists and mappings, each alias counted as often as it is used: expected fewer")
        assert said.startswith("rules.yaml:")
        assert problems("rules:\n- " + "[" * 20_000) == ["rules.yaml:2: has lists and mappings inside each other more than 10 deep"]

    def test_what_is_no_character_is_told(self) -> None:
        """A lone surrogate, as it is or as YAML writes it, has its line and what was expected; so has a control character in a name."""
        assert problems("rules:\n- {name: \ud800}") == ["rules.yaml:2: has a lone surrogate, U+D800, which is no character: expected UTF-8"]
        start = "rules:\n- {kind: non_finite, metric: m, name: "
        assert problems(start + '"a\\ud800"}') == ["rules.yaml:2: a\\ud800: name must be without control characters and lone surrogates, got 'a\\ud800'"]
        assert problems(start + '"a\\n"}') == ["rules.yaml:2: a\\n: name must be without control characters and lone surrogates, got 'a\\n'"]

    def test_one_channel_needs_no_list(self) -> None:
        """A text stands for a list of it."""
        assert entries("rules:\n- {name: a, kind: non_finite, metric: m, channels: ops}")[0].rule.channels == ("ops",)

    def test_doubles_are_refused_across_files(self) -> None:
        """A name or an id that another rule has, in whatever file, is told with both places."""
        one = "rules:\n- {name: a, kind: non_finite, metric: m}"
        assert problems(one, ("other.yaml", one)) == ["other.yaml:2: a: name must be one that no other rule has, got 'a', which stands at rules.yaml:2 too"]
        two = "rules:\n\n- {name: b, id: a, kind: non_finite, metric: m}"
        assert problems(one, ("other.yaml", two)) == ["other.yaml:3: b: id must be one that no other rule has, got 'a', which stands at rules.yaml:2 too"]

    def test_mistakes_of_several_files_come_together(self) -> None:
        """A good file beside two bad ones is not read alone."""
        told = problems("rules: 1", ("good.yaml", "rules: []"), ("bad.yaml", "x: 1"))
        assert [one.split(":")[0] for one in told] == ["rules.yaml", "bad.yaml", "bad.yaml"]
