"""`runstream rules` and `runstream alerts` on a real broker: what is applied is what workers learn, and what is silenced notifies nobody."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runstream_processors.compacted import read_whole
from runstream_processors.connection import connection_of
from runstream_processors.knowledge import Knowledge
from runstream_processors.letters import Followed
from runstream_processors.rule_topic import RuleTopic
from runstream_processors.silence_topic import SilenceWatch
from runstream_rules.applying import withdrawn
from runstream_schemas import wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import Alert, Rule
from runstream_schemas.settings import Settings, environment_of
from runstream_schemas.topics import TOPICS
from tests.processors.commands import command, fine
from tests.processors.stack import Feed, settings_of
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE = "  - {name: one, kind: threshold, metric: loss, operator: '>', threshold: 1}\n"
TWO = "  - {name: two, kind: non_finite, metric: '*', labels: {team: vision}}\n"


@pytest.fixture(scope="module")
def deployment(kafka: str) -> Settings:
    """Topics of this module's own."""
    return settings_of(kafka)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings of a Kafka that does not answer."""
    monkeypatch.setenv("RUNSTREAM_KAFKA", "127.0.0.1:9")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))


@pytest.fixture
def at(deployment: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Settings]:
    """The deployment in the environment, without rules; those of the test are removed at its end."""
    for name, value in environment_of(deployment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    yield deployment
    topic = RuleTopic(connection_of(deployment), deployment.topic_prefix, 30.0)
    topic.tell(withdrawn(one.rule, 0) for one in topic.known().values() if not one.rule.deleted)


def written(folder: Path, *rules: str, name: str = "rules.yaml") -> str:
    """The path of a rule file."""
    path = folder / name
    path.write_text("rules:\n" + "".join(rules), encoding="utf-8")
    return str(path)


def known(settings: Settings) -> Knowledge:
    """What a worker that starts now knows of rules."""
    knowledge = Knowledge(settings.topic_prefix)
    topic = TOPICS["rule"].full_name(settings.topic_prefix)
    for one in read_whole(connection_of(settings), topic, 20.0).values():
        knowledge.learn("rule", Followed(one.topic, one.partition, one.offset, 0, one.key, one.value), 0)
    return knowledge


def records(settings: Settings, name: str) -> int:
    """How many records the topic has been told."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": "counts"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(f"{settings.topic_prefix}.{name}", 0), timeout=20)[1]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportReturnType]  # untyped
    finally:
        consumer.close()


@pytest.mark.stack
class TestRules:
    def test_what_is_applied_is_what_workers_learn(self, at: Settings, tmp_path: Path) -> None:
        """Added, unchanged without a word to anybody, changed in what is said, pruned, removed, and back again under a newer version."""
        file = written(tmp_path, ONE, TWO)
        assert fine("rules", "apply", file, "--dry-run")["added"] == ["one", "two"]
        assert len(known(at).book) == 0
        assert fine("rules", "apply", file) == {"dry_run": False, "added": ["one", "two"], "changed": [], "unchanged": [], "removed": []}
        assert len(known(at).book) == 2
        told = records(at, "rule")
        assert fine("rules", "apply", file)["unchanged"] == ["one", "two"]
        assert records(at, "rule") == told, "nothing changed, so nobody was told"

        file = written(tmp_path, ONE.replace("threshold: 1", "threshold: 2, for: 30s"))
        changed = fine("rules", "apply", file)
        assert changed["changed"] == [
            {"id": "one", "changes": [{"field": "for", "before": 0.0, "after": 30.0}, {"field": "threshold", "before": 1.0, "after": 2.0}]}
        ]
        (before, _) = (rules := {one["rule_id"]: one for one in fine("rules", "ls")["rules"]})["one"], rules["two"]
        assert (before["threshold"], before["for_s"]) == (2.0, 30.0)
        assert fine("rules", "apply", file, "--prune")["removed"] == ["two"]
        assert len(known(at).book) == 1

        assert fine("rules", "rm", file)["removed"] == ["one"]
        assert len(known(at).book) == 0
        assert fine("rules", "ls")["rules"] == []
        assert fine("rules", "apply", file)["added"] == ["one"]
        (again,) = fine("rules", "ls")["rules"]
        assert again["version"] > before["version"]

    @pytest.mark.usefixtures("at")
    def test_words_for_people(self, tmp_path: Path) -> None:
        """What changed from what to what; the list as a table; a name that is nearly right."""
        command("rules", "apply", written(tmp_path, ONE, TWO))
        done = command("rules", "apply", written(tmp_path, ONE.replace("threshold: 1", "threshold: 2"), TWO))
        assert done.out == "changed    one: threshold 1 → 2\n1 changed, 1 unchanged\n"
        table = command("rules", "ls").out
        assert "one" in table
        assert "> 2" in table
        assert table.endswith("2 rules\n")
        done = command("rules", "rm", "ones")
        assert (done.code, done.err) == (1, "runstream rules: no rule has the id 'ones': did you mean 'one'?\n")

    def test_a_file_with_mistakes_does_nothing(self, at: Settings, tmp_path: Path) -> None:
        """All mistakes with their lines, exit code 2, and not one rule is applied."""
        file = written(tmp_path, ONE, "  - {name: bad, kind: threshold, metric: m, operator: '=>'}\n")
        done = command("rules", "apply", file)
        assert done.code == 2
        assert f"{file}:3: bad: operator must be one of" in done.err
        assert f"{file}:3: bad: threshold is left out" in done.err
        assert done.err.endswith("2 mistakes: nothing was done\n")
        assert len(known(at).book) == 0
        problems = command("rules", "test", file, "--json").object["problems"]
        assert [(one["line"], one["rule"], one["field"]) for one in problems] == [(3, "bad", "operator"), (3, "bad", "threshold")]
        missing = command("rules", "apply", str(tmp_path / "none.yaml"))
        assert missing.code == 2
        assert "cannot be read" in missing.err

    def test_broken_rules_are_told(self, at: Settings) -> None:
        """One whose fields do not fit, and one that a worker switched off: `ls` says why, and its exit code is 1."""
        good = Rule(rule_id="good", version=1, time_ms=0, name="good", kind="non_finite", metric="*")
        unfit = replace(good, rule_id="unfit", kind="threshold")
        broke = replace(good, rule_id="broke")
        Feed(at).raw("rule", [(one.rule_id.encode(), wire.encode(one)) for one in (good, unfit, broke)])
        knowledge = known(at)
        knowledge.letters()  # Of the one that does not fit: that can be seen without.
        knowledge.switch_off({("broke", 1): ZeroDivisionError("division by zero")}, 0)
        Feed(at).raw("dead-letter", [(letter.key, letter.value) for letter in knowledge.letters()])
        done = command("rules", "ls", "--json")
        why = {one["rule_id"]: one["broken"] for one in done.object["rules"]}
        assert done.code == 1
        assert why["good"] == ""
        assert why["unfit"].startswith("its operator must be one of")
        assert "ZeroDivisionError: division by zero" in why["broke"]
        assert "2 broken" in command("rules", "ls").out

    def test_a_rule_that_a_run_registered(self, at: Settings, tmp_path: Path) -> None:
        """It is listed with how many processes registered it, is not pruned, cannot be taken by a file, and once removed stays so when another rank registers it."""
        rule = Rule(rule_id="mine", version=1, time_ms=0, name="mine", kind="non_finite", metric="loss", run_id=new_uuid(), writer=1, ordinal=1, seq=0)
        other = replace(rule, writer=2)
        Feed(at).raw("rule", [(f"mine/{one.writer}".encode(), wire.encode(one)) for one in (rule, other)])
        (listed,) = fine("rules", "ls", "--run", rule.run_id)["rules"]
        assert listed["registered_by"] == 2
        assert fine("rules", "ls", "--run", "another")["rules"] == []
        assert fine("rules", "apply", written(tmp_path, ONE), "--prune")["removed"] == []
        done = command("rules", "apply", written(tmp_path, "  - {name: a, id: mine, kind: non_finite, metric: m}\n"))
        assert (done.code, "which a run registered" in done.err) == (2, True)
        assert fine("rules", "rm", "mine")["removed"] == ["mine"]
        third = replace(rule, writer=3)
        Feed(at).raw("rule", [(b"mine/3", wire.encode(third))])
        assert known(at).book.rule(("mine", 1)) is None

    def test_the_ready_made_rules(self, at: Settings) -> None:
        """They are applied like a file's, and their file can be had."""
        added = fine("rules", "apply", "--ready-made")["added"]
        assert "ready.gpu-idle" in added
        assert len(known(at).book) == len(added) > 10
        assert command("rules", "ready").out.count("  - name: ") == len(added)
        assert command("rules", "apply").err == "name a rule file, or say --ready-made\n"

    @pytest.mark.usefixtures("nowhere")
    def test_a_kafka_that_does_not_answer(self, tmp_path: Path) -> None:
        """One sentence that names the setting, within the time that was given."""
        done = command("rules", "apply", written(tmp_path, ONE), "--timeout", "0.5")
        assert done.code == 2
        assert "RUNSTREAM_KAFKA" in done.err
        assert len(done.err.splitlines()) == 1


ALERT = Alert(
    alert_id=new_uuid(),
    version=0,
    state="firing",
    rule_id="one",
    rule_version=1,
    rule_name="one",
    kind="threshold",
    severity="critical",
    run_id=new_uuid(),
    writer=1,
    seq=7,
    rank=1,
    metric="train/loss",
    context="",
    subject="",
    step=70,
    time_ms=time.time_ns() // 1_000_000,
    value=2.0,
    operator=">",
    threshold=1.5,
    text="loss is high",
    late=False,
    decided_ms=0,
    project="digits",
    labels={"team": "vision"},
)


@pytest.mark.stack
class TestSilences:
    def test_the_notifier_hears_of_silences(self, at: Settings) -> None:
        """One that was there at its start, one that comes later, an acknowledgement, and their ends."""
        (silence,) = fine("alerts", "silence", "--rule", "one", "--metric", "*/loss", "--label", "team=vision", "--for", "2h", "--comment", "new data")[
            "silences"
        ]
        watch = SilenceWatch(connection_of(at), at.topic_prefix, 20.0)
        now = time.time_ns() // 1_000_000
        try:
            assert watch(ALERT, now) == silence["silence_id"]
            assert watch(ALERT, now + 7_300_000) == ""
            assert watch(replace(ALERT, metric="accuracy"), now) == ""
            assert fine("alerts", "unsilence", silence["silence_id"][:20])["silences"][0]["deleted"]
            wait_for(lambda: not watch(ALERT, now), 10, "the end of the silence")

            (ack,) = fine("alerts", "ack", ALERT.alert_id, "--author", "ada", "--comment", "on it")["silences"]
            assert (ack["alert_id"], ack["author"], ack["ends_ms"]) == (ALERT.alert_id, "ada", 0)
            later = time.time_ns() // 1_000_000 + 1000
            wait_for(lambda: watch(replace(ALERT, version=1, state="resolved"), later) == ack["silence_id"], 10, "the acknowledgement")
            assert watch(replace(ALERT, alert_id=new_uuid()), later) == ""
            assert fine("alerts", "ack", ALERT.alert_id)["silences"][0]["silence_id"] == ack["silence_id"], "acknowledged twice, it is one"
            assert len(fine("alerts", "silences")["silences"]) == 1
            assert "acknowledged" not in command("alerts", "silences").out
            assert fine("alerts", "unsilence", ALERT.alert_id[:13])["silences"][0]["silence_id"] == ack["silence_id"]
            wait_for(lambda: not watch(ALERT, later), 10, "the end of the acknowledgement")
        finally:
            watch.close()
        assert fine("alerts", "silences")["silences"] == []

    @pytest.mark.usefixtures("at")
    def test_one_that_is_not_there(self) -> None:
        """Is said, and the exit code is 1."""
        done = command("alerts", "unsilence", "feed")
        assert (done.code, done.err) == (1, "runstream alerts: no silence's id begins with 'feed': `runstream alerts silences` lists them\n")


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["silence", "--for", "2h"], "say which alerts: --rule, --run, --project, --metric or --label; or --everything"),
        (["silence", "--rule", "a", "--for", "soon"], "--for must be a duration such as 30m or 2h, got 'soon'"),
        (["silence", "--rule", "a", "--until", "2020-01-01"], "the end of a silence must be after its beginning, and after now"),
        (
            ["silence", "--rule", "a", "--until", "later"],
            "--until must be a time such as 2026-11-05T20:00 (UTC unless it says) or 2h from now, got 'later'",
        ),
        (["silence", "--label", "a", "--forever"], "--label must be NAME=TEXT, got 'a'"),
        (["ls", "--limit", "0"], "--limit must be at least 1, got 0"),
    ],
    ids=lambda one: "-".join(one)[:40] if isinstance(one, list) else "said",
)
def test_wrong_arguments(arguments: list[str], said: str) -> None:
    """One sentence and exit code 2, without Kafka."""
    done = command("alerts", *arguments)
    assert (done.code, done.err) == (2, said + "\n")
