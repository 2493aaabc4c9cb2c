"""The notifier as the process it is in production: alerts on the topic, a real broker, a real HTTP server, and a delivery log."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from runstream_schemas import wire
from runstream_schemas.records import Delivery, Silence
from runstream_schemas.topics import BATCH_BYTES_MAX, TOPICS
from tests import bombs
from tests.processors.notify_servers import ALERT, Server, serving, wait_for
from tests.processors.stack import PARTITIONS, Feed, Part, Tail, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_schemas.records import Alert
    from runstream_schemas.settings import Settings

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

TOKEN = "hunter2hunter2"
BOMB = bombs.of("gzip", [bytes(4 * BATCH_BYTES_MAX)])


class Told(NamedTuple):
    """What a delivery record says, in short."""

    alert_id: str
    version: int
    channel: str
    outcome: str
    alerts: int


def told(log: Tail, count: int) -> list[Told]:
    """The delivery log, once it has so many records."""
    records = [one for one in log.until(lambda records: len(records) >= count) if isinstance(one, Delivery)]
    return sorted(Told(one.alert_id, one.version, one.channel, one.outcome, one.alerts) for one in records)


def alert(name: str, **changes: object) -> Alert:
    """An alert of now."""
    return replace(ALERT, alert_id=name, time_ms=time.time_ns() // 1_000_000, **changes)


def feed(settings: Settings, *alerts: Alert) -> None:
    """Puts alerts on their topic."""
    Feed(settings).raw("alert", [(one.alert_id.encode(), wire.encode(one)) for one in alerts])


def posted(server: Server) -> list[str]:
    """The alerts that the server was told of, in all messages."""
    return [one["alert_id"] for post in server.posts for one in post.body["alerts"]]


CHANNELS = """
[ops]
webhook = "{ops}?token={token}"
secret = "{token}"
wait_s = 0.2

[dead]
webhook = "http://me:{token}@127.0.0.1:9/{token}"
wait_s = 0.2
budget_s = 1.0

[mail]
url = "json://me:{token}@127.0.0.1:9/{token}"
wait_s = 0.2
budget_s = 1.0
"""


def test_alerts_reach_their_channels_once_and_the_log_says_so(kafka: str, tmp_path: Path) -> None:
    """Told once through a refusal, a repeat and a restart; late and silenced ones page nobody; dead channels hold up none and have failed; no secret is anywhere.

    Batches that expand past the bound hold nothing up.
    """
    channels = tmp_path / "channels.toml"
    with serving(503) as server:
        channels.write_text(CHANNELS.format(ops=server.url, token=TOKEN))
        settings = settings_of(kafka, channels=channels)
        now_ms = time.time_ns() // 1_000_000
        silence = Silence("quiet", 1, now_ms, "ada", "known", now_ms - 1000, 0, rule_id="noisy")
        Feed(settings).raw("silence", [(b"quiet", wire.encode(silence))])
        log = Tail(settings, "delivery")
        part = Part("notify", settings, tmp_path)
        try:
            part.wait_ready()
            first = alert("a")
            feed(settings, first, first, alert("b", rule_id="other", channels=("ops", "typo")))
            feed(settings, alert("late", late=True), alert("hush", rule_id="noisy", rule_name="noisy"))
            Feed(settings).raw("alert", [(b"x", b"nonsense")])
            for partition in range(PARTITIONS):
                bombs.send(kafka, TOPICS["alert"].full_name(settings.topic_prefix), BOMB, partition)
            # `a` goes to three channels, `b` to one and to one that is not there; the two others to nobody.
            expected = [
                Told("a", 0, "dead", "failed", 1),
                Told("a", 0, "mail", "failed", 1),
                Told("a", 0, "ops", "delivered", 1),
                Told("b", 0, "ops", "delivered", 1),
                Told("b", 0, "typo", "unrouted", 0),
                Told("hush", 0, "", "silenced", 0),
                Told("late", 0, "", "late", 0),
            ]
            assert told(log, 7) == expected
            assert part.stop() == 0, part.said()
            again = Part("notify", settings, tmp_path)
            again.wait_ready()
            # Repeated by a processor that crashed: the delivery log remembers. The end of what was silenced is silenced as well.
            feed(settings, first, alert("hush", rule_id="noisy", version=1, state="resolved"), alert("c", channels=("ops",)))
            assert told(log, 9) == sorted([*expected, Told("hush", 1, "", "silenced", 0), Told("c", 0, "ops", "delivered", 1)])
            assert again.stop() == 0, again.said()
        finally:
            part.kill()
            log.close()
        assert sorted(set(posted(server))) == ["a", "b", "c"]
        assert len(server.posts) == 4, "a, its second try, b and c"
        everything = part.log.read_bytes() + again.log.read_bytes() + b"".join(wire.encode(one) for one in log.records)
        everything += b"".join(post.raw for post in server.posts)
        assert TOKEN.encode() not in everything
        assert b"it answered 503" in part.log.read_bytes()


def test_a_kill_loses_nothing_and_a_storm_is_one_message(kafka: str, tmp_path: Path) -> None:
    """Killed while a channel hangs on a storm of 500 ranks: the next notifier tells all of it in one message, as one storm, and the log has each alert."""
    channels = tmp_path / "channels.toml"
    with serving(0) as server:
        channels.write_text(f'[ops]\nwebhook = "{server.url}"\nwait_s = 1.5\ntimeout_s = 30\n')
        settings = settings_of(kafka, channels=channels)
        log = Tail(settings, "delivery")
        part = Part("notify", settings, tmp_path)
        try:
            part.wait_ready()
            storm = [alert(f"s{rank:03}", rank=rank, value=float(rank)) for rank in range(500)]
            feed(settings, *storm)
            wait_for(lambda: len(server.posts) == 1, part.said)
            part.kill()
            part = Part("notify", settings, tmp_path)
            assert told(log, 500) == [Told(one.alert_id, 0, "ops", "delivered", 500) for one in storm]
            assert part.stop() == 0, part.said()
        finally:
            part.kill()
            log.close()
        assert [post.body["count"] for post in server.posts] == [500, 500]
        [group] = server.posts[1].body["groups"]
        assert (group["ranks_total"], group["worst"]["rank"], group["state"]) == (500, 499, "firing")
