"""Dead letters of a real stack: found, shown, and sent again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runstream_feed.records import Place
from runstream_schemas import wire
from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import TOPICS, writer_key
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.ledger import Position
from runstream_sinks.letters import Letter, Wanted, parse_place
from runstream_sinks.malformed import KEY_BYTES_MAX, dead_letter
from runstream_sinks.pipeline import routes
from runstream_sinks.resend import Rules
from runstream_sinks.spans import Span
from tests.sinks import examples
from tests.sinks.replays import command, frames_of, use_settings, wait_until_stored, words
from tests.sinks.test_tables import new_run
from tests.sinks.workers import Pipe, Sent

if TYPE_CHECKING:
    from runstream_schemas import topics
    from runstream_schemas.records import DeadLetter
    from runstream_sinks.pipeline import Message

stack = pytest.mark.stack
SET_ASIDE_MS = examples.STARTED_MS


def letter_of(
    prefix: str,
    name: topics.Name,
    value: bytes,
    *,
    key: bytes | None = b"k",
    partition: int = 0,
    offset: int = 0,
    after_ms: int = 0,
    reason: str = "unreadable",
) -> DeadLetter:
    """The letter that a worker would have written about a record."""
    place = Place(TOPICS[name].full_name(prefix), partition)
    position = Position(place, offset)
    return dead_letter(position=position, time_ms=SET_ASIDE_MS, key=key, value=value, reason=reason, worker="w-1", now_ms=SET_ASIDE_MS + after_ms)


def send_letters(pipe: Pipe, *letters: DeadLetter) -> None:
    """Writes letters to their topic."""
    sent: list[Sent] = [("dead-letter", f"{one.topic}/{one.partition}/{one.offset}".encode(), one) for one in letters]
    pipe.send(*sent)


def messages(pipe: Pipe, name: topics.Name) -> list[Message]:
    """All records of a topic."""
    reader = Reader(pipe.settings, "looks")
    try:
        limits = reader.limits(reader.places([TOPICS[name].full_name(pipe.settings.topic_prefix)]))
        return list(reader.read({place: Span(*some) for place, some in limits.items()}))
    finally:
        reader.close()


@stack
def test_letters_are_found_and_shown_without_their_values(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By topic, time and reason, newest first, in the table and on the topic alike; bytes are shown only to those who ask for them."""
    use_settings(pipe, monkeypatch)
    prefix = pipe.settings.topic_prefix
    worker = pipe.start()
    secret = b"\x00\xffsecret value"
    pipe.send(("event", b"secret key\xff", secret), ("event", b"k", b""), ("param", b"r", b"secret too"))
    send_letters(pipe, letter_of(prefix, "metric", b"old", key=None, offset=7, reason="an old Reason"))
    pipe.wait_for_rows("dead_letters", 4)
    wait_until_stored(pipe)
    seen: dict[str, list[str]] = {}
    for source in ("table", "topic"):
        code, told, err = command(["dlq", "ls", "--json", "--source", source], capsys)
        assert (code, err, told["count"]) == (0, "", 4)
        ids = seen[source] = [one["id"] for one in told["letters"]]
        assert ids[-1] == f"{prefix}.metric/0/7"
        assert told["letters"][-1]["reason"] == "an old Reason"
        by_bytes = {one["value_bytes"]: one for one in told["letters"]}
        assert (by_bytes[len(secret)]["key_bytes"], by_bytes[len(secret)]["schema_id"]) == (11, None)
        assert by_bytes[3]["key_bytes"] is None
        for arguments, count in (
            (["--topic", "event"], 2),
            (["--topic", "event", "--topic", f"{prefix}.param"], 3),
            (["--reason", "OLD reason"], 1),
            (["--since", "1h"], 3),
            (["--until", "1h"], 1),
            (["--since", "1h", "--topic", "metric"], 0),
            (["--limit", "1"], 4),
        ):
            code, told, _ = command(["dlq", "ls", "--json", "--source", source, *arguments], capsys)
            assert (code, told["count"]) == (0, count), arguments
        code, told, _ = command(["dlq", "ls", "--by-reason", "--json", "--source", source], capsys)
        assert (told["count"], sum(one["count"] for one in told["reasons"])) == (4, 4)
    assert sorted(seen["table"]) == sorted(seen["topic"])
    [shown] = [one for one in seen["table"] if one.startswith(f"{prefix}.event/") and one.endswith("/0") and by_id(one, capsys)["value_bytes"] == len(secret)]
    for argv in (["dlq", "ls"], ["dlq", "ls", "--by-reason"], ["dlq", "show", *seen["table"]]):
        code, out, _ = words(argv, capsys)
        assert code == 0
        assert "secret" not in out
        assert secret.hex() not in out
    code, out, _ = words(["dlq", "show", shown, "--hex"], capsys)
    assert code == 0
    assert "00 ff 73 65 63 72 65 74 20 76 61 6c 75 65" in out
    assert b"secret key\xff".hex() in out
    for source in ("table", "topic"):
        code, told, _ = command(["dlq", "show", shown, "--hex", "--json", "--bytes", "4", "--source", source], capsys)
        [one] = told["letters"]
        assert (code, one["value_hex"], one["key_hex"]) == (0, secret[:4].hex(), b"secret key\xff".hex())
    code, _, err = command(["dlq", "show", f"{prefix}.event/0/999"], capsys)
    assert code == 1
    assert "no letter is known" in err
    assert pipe.end(worker)[0] == 0


def by_id(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """What `show` tells of one letter."""
    return command(["dlq", "show", name, "--json"], capsys)[1]["letters"][0]


@stack
@pytest.mark.parametrize("source", ["table", "topic"])
def test_what_is_mended_is_sent_again_and_stored_once(pipe: Pipe, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With its key, to its partition, however often; what cannot be sent, or is set aside again, is told for each."""
    use_settings(pipe, monkeypatch)
    prefix, run_id = pipe.settings.topic_prefix, new_run()
    frame = wire.encode(frames_of(run_id)[0])
    old, new = examples.writer(run_id, writer=5, version=1, points_logged=1), examples.writer(run_id, writer=5, version=2, points_logged=2)
    pipe.send_writers(old, new)
    [first, second] = [one for one in messages(pipe, "writer") if one.key == writer_key(5)]
    place = first.position.place
    letters = {
        "stored": letter_of(prefix, "metric", frame, key=b"\xff\x00key", partition=1, offset=3),
        "repeat": letter_of(prefix, "metric", frame, key=b"\xff\x00key", partition=1, offset=9, after_ms=-1),
        "still malformed": letter_of(prefix, "event", b"poison", offset=4),
        "cut": replace(letter_of(prefix, "event", b"x" * 20, offset=30), value=b"x" * 5),
        "foreign": letter_of("other", "event", wire.encode(examples.event(run_id)), offset=5),
        "superseded": letter_of(prefix, "writer", wire.encode(old), key=writer_key(5), partition=place.partition, offset=first.position.offset),
    }
    send_letters(pipe, *letters.values())
    worker = pipe.start()
    pipe.wait_for_rows("dead_letters", len(letters))
    wait_until_stored(pipe)
    assert pipe.count("metrics") == 0
    base = ["dlq", "retry", "--source", source, "--json"]
    code, told, err = command([*base, "--all", "--dry-run"], capsys)
    expected = {f"{one.topic}/{one.partition}/{one.offset}": outcome for outcome, one in letters.items()}
    assert {one["id"]: one["outcome"] for one in told["letters"]} == {
        name: outcome if outcome != "stored" else "would send" for name, outcome in expected.items()
    }
    assert messages(pipe, "metric") == []
    for times in (1, 2):
        code, told, err = command([*base, "--all"], capsys)
        assert {one["id"]: one["outcome"] for one in told["letters"]} == expected, (err, pipe.log())
        assert code == 1
        sent = messages(pipe, "metric")
        assert [(one.key, one.value, one.position.place.partition) for one in sent] == [(b"\xff\x00key", frame, 1)] * times
        assert pipe.count("metrics") == 8
    assert pipe.query("SELECT points_logged FROM writers WHERE writer = 5") == [(2,)]
    assert second.position.offset > first.position.offset
    [poison] = [name for name, outcome in expected.items() if outcome == "still malformed"]
    code, told, _ = command([*base, poison, "--force"], capsys)
    [fate] = told["letters"]
    assert (code, fate["outcome"]) == (1, "set aside again")
    assert "expected a record that begins with 00" in fate["why"]
    code, told, _ = command([*base, "--topic", "metric"], capsys)
    assert (code, told["counts"]) == (0, {"stored": 1, "repeat": 1})
    assert pipe.end(worker)[0] == 0
    code, told, err = command([*base, "--topic", "metric", "--wait", "0", f"{prefix}.metric/1/3", f"{prefix}.metric/0/77"], capsys)
    assert (code, [one["outcome"] for one in told["letters"]]) == (1, ["sent"])
    assert f"no letter is known of {prefix}.metric/0/77" in err


@stack
def test_letters_are_within_reach_while_clickhouse_is_away(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The table's error says where else to look."""
    use_settings(pipe, monkeypatch)
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    send_letters(pipe, letter_of(pipe.settings.topic_prefix, "event", b"poison"))
    code, _, err = command(["dlq", "ls"], capsys)
    assert code == 1
    assert "--source topic reads Kafka instead" in err
    code, told, _ = command(["dlq", "ls", "--source", "topic", "--json"], capsys)
    assert (code, told["count"]) == (0, 1)
    monkeypatch.setenv("RUNSTREAM_KAFKA", "127.0.0.1:9")
    monkeypatch.setattr("runstream_sinks.kafka_reader.ANSWER_TIMEOUT_S", 0.5)
    code, _, err = command(["dlq", "ls", "--source", "topic"], capsys)
    assert code == 1
    assert "Kafka at 127.0.0.1:9 does not answer" in err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["show", "event"], "TOPIC/PARTITION/OFFSET"),
        (["show", "event/1"], "TOPIC/PARTITION/OFFSET"),
        (["show", "event/x/1"], "TOPIC/PARTITION/OFFSET"),
        (["ls", "--since", "17"], "--since must be a time"),
        (["ls", "--topic", "schema"], "--topic must be one of"),
        (["ls", "--limit", "0"], "--limit must be at least 1"),
        (["retry"], "say which letters to send again"),
        (["retry", "--all", "--wait", "-1"], "--wait must be"),
    ],
)
def test_wrong_arguments_are_one_sentence(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And exit code 2, before anything is asked of a server."""
    code, _, err = command(["dlq", *argv], capsys)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_a_letter_is_named_by_the_place_of_its_record() -> None:
    """And found again by it."""
    assert parse_place("a.b/2/17") == ("a.b", 2, 17)
    one = Letter("a.b", 2, 17, "00", 5, None, 3, None, "Reason", "w", 1000)
    assert one.id == "a.b/2/17"
    assert Wanted(places=frozenset({parse_place(one.id)}), topics=frozenset({"a.b"}), since_ms=1000, until_ms=1001, reason="reas").takes(one)
    for other in (
        Wanted(places=frozenset({("a.b", 2, 18)})),
        Wanted(topics=frozenset({"a"})),
        Wanted(since_ms=1001),
        Wanted(until_ms=1000),
        Wanted(reason="x"),
    ):
        assert not other.takes(one)
    with pytest.raises(SettingsError):
        parse_place("a.b")


def test_a_key_that_may_have_been_cut_is_not_sent() -> None:
    """Nobody would find the record under half a key."""
    rules = Rules(routes("t"), Catalogue(bundled().entries()))
    value = wire.encode(examples.event(""))
    whole = letter_of("t", "event", value, key=b"k" * (KEY_BYTES_MAX + 5))
    told = Letter("t.event", 0, 0, hashlib.sha256(value).hexdigest(), 0, KEY_BYTES_MAX, len(value), None, "", "", 0)
    fate = rules.refuse(told, whole)
    assert fate is not None
    assert (fate.outcome, "key" in fate.why) == ("cut", True)
    assert rules.refuse(told, letter_of("t", "event", value, key=b"k")) is None
