"""The notifier: what goes where, once; what a real HTTP server receives; what happens when it refuses."""

from __future__ import annotations

import functools
import http.server
import json
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runstream_processors.errors import DeliveryFailed
from runstream_processors.notify import service
from runstream_processors.notify.delivery import Services, Webhook, line, payload
from runstream_processors.notify.notifier import PAUSES_S, Notifier
from runstream_processors.notify.service import channels_of
from runstream_schemas import wire
from runstream_schemas.records import Alert
from runstream_schemas.settings import Settings, SettingsError
from tests.processors.stack import Feed, Part, settings_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

ALERT = Alert(
    alert_id="6f9b1e8e-0000-5000-8000-000000000001",
    version=0,
    state="firing",
    rule_id="r",
    rule_version=1,
    rule_name="loss is high",
    kind="threshold",
    severity="critical",
    run_id="run-1",
    writer=(1 << 63) - 1,
    seq=7,
    rank=1,
    metric="loss",
    context="training",
    subject="",
    step=70,
    time_ms=1_700_000_000_000,
    value=float("inf"),
    operator=">",
    threshold=1.5,
    text="loss went\nto inf",
    late=False,
    decided_ms=1_700_000_000_100,
)


NOW_MS = ALERT.decided_ms + 1000


class Recorder:
    """A channel that notes what it was given; it refuses a number of times first."""

    def __init__(self, kind: str = "webhook", refusals: int = 0) -> None:
        self.kind = kind
        self.refusals = refusals
        self.given: list[Alert] = []

    def deliver(self, alert: Alert) -> None:
        """Notes it, or refuses."""
        if self.refusals:
            self.refusals -= 1
            raise DeliveryFailed(self.kind, "not now")
        self.given.append(alert)


def notifier(*channels: Recorder) -> tuple[Notifier, list[Alert], list[float]]:
    """A notifier with what it said and how long it slept."""
    said: list[Alert] = []
    slept: list[float] = []

    def pause(seconds: float) -> bool:
        if seconds:
            slept.append(seconds)
        return False

    return Notifier(channels, said.append, pause, 3_600_000), said, slept


class TestDecisions:
    def test_a_transition_is_sent_once(self) -> None:
        """The same id and version again is a repeat of a processor that crashed; another version is news."""
        channel = Recorder()
        one, said, _ = notifier(channel)
        for alert in (ALERT, ALERT, replace(ALERT, version=1, state="resolved"), ALERT):
            assert one.take(alert, NOW_MS) == []
        assert [alert.version for alert in channel.given] == [0, 1]
        assert len(said) == 2

    def test_a_late_alert_is_said_and_pages_nobody(self) -> None:
        """It stands in the log and goes to no channel."""
        channel = Recorder()
        one, said, _ = notifier(channel)
        one.take(replace(ALERT, late=True), NOW_MS)
        assert (len(said), channel.given) == (1, [])

    def test_an_alert_that_has_become_old_pages_nobody(self) -> None:
        """A notifier that starts on an old topic says what stands there and wakes nobody."""
        channel = Recorder()
        one, said, _ = notifier(channel)
        one.take(ALERT, ALERT.time_ms + 3_600_001)
        assert (len(said), channel.given) == (1, [])

    def test_being_asked_to_stop_ends_the_tries(self) -> None:
        """Nothing more is tried, and the alert counts as not delivered, so that it is not committed."""
        channel = Recorder(refusals=1000)
        one = Notifier([channel], lambda _: None, lambda seconds: seconds > 0, 3_600_000)
        assert len(one.take(ALERT, NOW_MS)) == 1
        assert channel.refusals == 999

    def test_an_alert_goes_to_the_channels_it_names(self) -> None:
        """No names stand for all channels."""
        webhook, services = Recorder(), Recorder("notify")
        one, _, _ = notifier(webhook, services)
        one.take(replace(ALERT, channels=("notify",)), NOW_MS)
        assert (len(webhook.given), len(services.given)) == (0, 1)
        one.take(replace(ALERT, version=1), NOW_MS)
        assert (len(webhook.given), len(services.given)) == (1, 2)

    def test_a_refusal_is_tried_again_and_bounded(self) -> None:
        """Two refusals cost two pauses; a channel that always refuses is given up and does not hold up the other."""
        twice, other = Recorder(refusals=2), Recorder()
        one, _, slept = notifier(twice, other)
        assert one.take(ALERT, NOW_MS) == []
        assert slept == list(PAUSES_S[:2])
        never, fine = Recorder(refusals=1000), Recorder()
        one, _, slept = notifier(never, fine)
        (failure,) = one.take(ALERT, NOW_MS)
        assert failure.channel == "webhook"
        assert (slept, len(fine.given)) == (list(PAUSES_S), 1)


class TestShape:
    def test_a_line_is_one_line(self) -> None:
        """Whatever a message holds, a terminal gets one line."""
        assert line(ALERT) == "2023-11-14 22:13:20 CRITICAL firing: loss went to inf [run run-1]"
        assert "\n" not in line(replace(ALERT, late=True))

    def test_json_holds_every_field(self) -> None:
        """Infinite values and 63-bit writers go as text, since JSON readers would lose them."""
        body = json.loads(json.dumps(payload(ALERT), allow_nan=False))
        assert (body["value"], body["threshold"], body["writer"], body["step"]) == ("inf", 1.5, str((1 << 63) - 1), 70)
        assert set(body) == set(Alert.__dataclass_fields__)


class Server(http.server.ThreadingHTTPServer):
    """An HTTP server that keeps what was posted and answers with the codes it was given, then 200."""

    def __init__(self, codes: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes = codes
        self.posted: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(http.server.BaseHTTPRequestHandler):
    """Reads a JSON body."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]  # the base class knows less

    def do_POST(self) -> None:  # the base class's name
        """Keeps the body unless told to refuse."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = self.server.codes.pop(0) if self.server.codes else 200
        if code == 200:
            self.server.posted.append(body)
        self.send_response(code)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""


@contextmanager
def serving(*codes: int) -> Generator[Server]:
    """A server for a while."""
    with Server(list(codes)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


class TestWebhook:
    def test_a_post_arrives(self) -> None:
        """The server gets the alert as JSON."""
        with serving() as server:
            Webhook(server.url).deliver(ALERT)
            assert server.posted[0]["alert_id"] == ALERT.alert_id

    def test_refusals_are_said_without_secrets(self) -> None:
        """An answer of 500 and a server that is not there raise; the message has no path and no token."""
        with serving(500) as server, pytest.raises(DeliveryFailed, match="it answered 500"):
            Webhook(server.url + "?token=secret").deliver(ALERT)
        with pytest.raises(DeliveryFailed) as caught:
            Webhook("http://127.0.0.1:9/hook?token=secret").deliver(ALERT)
        assert "secret" not in str(caught.value)

    # Apprise imports a module that Python deprecates, to read the kind of attached pictures.
    @pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
    def test_apprise_posts_too(self) -> None:
        """A json:// URL of Apprise reaches the same server; a URL of no known kind is refused by name."""
        with serving() as server:
            Services([server.url.replace("http://", "json://")]).deliver(ALERT)
            assert server.posted[0]["type"] == "failure"
        with pytest.raises(SettingsError, match="RUNSTREAM_NOTIFY"):
            channels_of(Settings(notify="nonsense://x"))


def test_tries_that_take_long_are_signs_of_life(tmp_path: Path) -> None:
    """The ready file is renewed before each try, so that a channel that does not answer does not make the notifier look as if it hung."""
    ready = tmp_path / "ready"
    ready.write_text("ready")
    times: list[int] = []

    class Silent(Recorder):
        def deliver(self, alert: Alert) -> None:
            self.given.append(alert)
            times.append(ready.stat().st_mtime_ns)
            os.utime(ready, (0, 0))
            raise DeliveryFailed(self.kind, "no answer")

    pause = functools.partial(service._pause, threading.Event(), ready)
    Notifier([Silent()], lambda _: None, lambda seconds: pause(seconds / 100), 3_600_000).take(ALERT, NOW_MS)
    assert len(times) == 1 + len(PAUSES_S)
    assert all(times)


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_the_notifier_process(kafka: str, tmp_path: Path) -> None:
    """Alerts on the topic reach a real server once each, through a refusal and a repeat; a restart goes on where it was; SIGTERM ends it in time."""
    with serving(503) as server:
        settings = settings_of(kafka, webhook=server.url)
        feed = Feed(settings)
        now = replace(ALERT, time_ms=time.time_ns() // 1_000_000)
        first, second, late = now, replace(now, alert_id="b" * 36), replace(now, alert_id="c" * 36, late=True)
        records = [(alert.alert_id.encode(), wire.encode(alert)) for alert in (first, first, late, second)]
        part = Part("notify", settings, tmp_path)
        try:
            part.wait_ready()
            feed.raw("alert", [*records, (b"x", b"nonsense")])
            wait_for(server, 2)
            assert part.stop() == 0, part.said()
            assert part.said().count("CRITICAL firing") == 3
            part = Part("notify", settings, tmp_path)
            part.wait_ready()
            feed.raw("alert", [(b"d", wire.encode(replace(now, alert_id="d" * 36)))])
            wait_for(server, 3)
            time.sleep(0.5)
            assert sorted(body["alert_id"] for body in server.posted) == sorted([first.alert_id, "b" * 36, "d" * 36])
            assert part.stop() == 0, part.said()
        finally:
            part.kill()


def wait_for(server: Server, count: int) -> None:
    """Waits until so many posts have come."""
    deadline = time.monotonic() + 30
    while len(server.posted) < count:
        assert time.monotonic() < deadline, server.posted
        time.sleep(0.05)
