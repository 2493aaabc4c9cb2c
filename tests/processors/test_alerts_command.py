"""`runstream alerts`: what fires is listed, and what is acknowledged or silenced notifies nobody."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runstream_feed.connection import connection_of
from runstream_processors.notify.memory import Memory
from runstream_processors.notify.route import route
from runstream_processors.silence_topic import SilenceWatch
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import Alert, Silence
from runstream_schemas.settings import Settings, environment_of
from runstream_sinks.clickhouse import Server
from tests.processors.commands import command, fine
from tests.processors.stack import settings_of
from tests.sinks import examples
from tests.sinks.test_tables import insert
from tests.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings of a Kafka that does not answer."""
    monkeypatch.setenv("RUNSTREAM_KAFKA", "127.0.0.1:9")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def deployment(kafka: str) -> Settings:
    """Topics of this module's own."""
    return settings_of(kafka)


@pytest.fixture
def at(deployment: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The deployment in the environment."""
    for name, value in environment_of(deployment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    return deployment


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
            way = route(ALERT, {}, Memory(1_000_000), watch(ALERT, later), later, 3_600_000)
            assert [(one.outcome, one.reason) for one in way.nobody] == [("silenced", ack["silence_id"])], "the notifier tells nobody"
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
    ids=["no-selector", "duration", "past", "time", "label", "limit"],
)
def test_wrong_arguments(arguments: list[str], said: str) -> None:
    """One sentence and exit code 2, without Kafka."""
    done = command("alerts", *arguments)
    assert (done.code, done.err) == (2, said + "\n")


@pytest.mark.stack
def test_the_list(clickhouse_url: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What fires, newest first, with what holds it back now; what is over only when asked for; the beginning of an id is enough to acknowledge."""
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", clickhouse_url)
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_DATABASE", database)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    now_ms = time.time_ns() // 1_000_000
    over = replace(ALERT, alert_id=new_uuid(), time_ms=ALERT.time_ms - 5000, value=float("nan"))
    other = replace(ALERT, alert_id="b" * 36, rule_id="two", rule_name="two", metric="accuracy", time_ms=ALERT.time_ms - 1000, labels={})
    silence = Silence(silence_id="s", version=1, time_ms=0, author="ada", comment="", starts_ms=1, ends_ms=now_ms + 3_600_000, rule_id="two")
    server = Server(clickhouse_url, database)
    insert(server, "alerts_log", ALERT, over, replace(over, version=1, state="resolved", time_ms=ALERT.time_ms - 2000), other)
    insert(server, "silences_log", silence)
    server.close()
    told = fine("alerts", "ls")["alerts"]
    assert [(one["alert_id"], one["state"], one["silenced_now_by"], one["value"]) for one in told] == [
        (ALERT.alert_id, "firing", "", 2.0),
        (other.alert_id, "firing", "s", 2.0),
    ]
    assert [one["alert_id"] for one in fine("alerts", "ls", "--all")["alerts"]] == [ALERT.alert_id, other.alert_id, over.alert_id]
    (resolved,) = (one for one in fine("alerts", "ls", "--all", "--run", ALERT.run_id)["alerts"] if one["state"] == "resolved")
    assert (resolved["resolved_ms"], resolved["value"]) == (ALERT.time_ms - 2000, "nan")
    assert [one["rule_id"] for one in fine("alerts", "ls", "--rule", "two")["alerts"]] == ["two"]
    table = command("alerts", "ls").out
    assert "firing, silenced" in table
    assert table.endswith("2 alerts\n")
    done = command("alerts", "ack", "zzz")
    assert (done.code, done.err) == (1, "runstream alerts: no alert's id begins with 'zzz': `runstream alerts ls` lists those that fire\n")
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    done = command("alerts", "ls")
    assert (done.code, "does not answer" in done.err) == (2, True)


@pytest.mark.stack
def test_what_a_removed_rule_left_firing(clickhouse_url: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing resolves it any more: it counts as firing no longer, is shown as what it is with --all, and the rule's next version fires anew."""
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", clickhouse_url)
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_DATABASE", database)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    old, again, other = (replace(ALERT, alert_id=new_uuid(), time_ms=ALERT.time_ms - place) for place in range(3))
    again, other = replace(again, rule_version=3), replace(other, rule_id="two")
    server = Server(clickhouse_url, database)
    insert(server, "alerts_log", old, other)
    insert(server, "rules_log", examples.rule("one"), examples.rule("two"))
    assert [one["rule_removed"] for one in fine("alerts", "ls")["alerts"]] == [False, False]
    insert(server, "rules_log", examples.rule("one", version=2, deleted=True))
    assert [one["alert_id"] for one in fine("alerts", "ls")["alerts"]] == [other.alert_id]
    insert(server, "rules_log", examples.rule("one", version=3))
    insert(server, "alerts_log", again)
    server.close()
    assert [one["alert_id"] for one in fine("alerts", "ls")["alerts"]] == [again.alert_id, other.alert_id]
    assert [one["rule_removed"] for one in fine("alerts", "ls", "--all", "--rule", "one")["alerts"]] == [True, False]
    assert "rule removed" in " ".join(command("alerts", "ls", "--all").out.split())
