"""`runstream rules` and `runstream alerts` on a real broker: what is applied is what workers learn, and what is silenced notifies nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runstream_feed.connection import connection_of
from runstream_processors.compacted import read_whole
from runstream_processors.knowledge import Knowledge
from runstream_processors.letters import Followed
from runstream_processors.rule_topic import RuleTopic
from runstream_rules.applying import withdrawn
from runstream_schemas import wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import Rule
from runstream_schemas.settings import Settings, environment_of
from runstream_schemas.topics import TOPICS
from tests.processors.commands import command, fine
from tests.processors.stack import Feed, settings_of

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
        return consumer.get_watermark_offsets(TopicPartition(f"{settings.topic_prefix}.{name}", 0), timeout=20)[1]
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
