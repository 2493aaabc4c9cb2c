"""Channels against real servers: HTTP that refuses, hangs and asks to wait, mail over SMTP; and that no channel waits for another."""

from __future__ import annotations

import queue
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from runstream_local.ports import choose_port
from runstream_processors.notify.channels import Channel, Secret
from runstream_processors.notify.figures import Figures
from runstream_processors.notify.lane import Batch, Item
from runstream_processors.notify.message import Message, message_of, trial_message
from runstream_processors.notify.outcome import Accepted, Again, Outcome, Refused
from runstream_processors.notify.runner import Finished, Runner
from runstream_processors.notify.sending import LEFT_BEHIND_MAX, Bounded
from runstream_processors.notify.services import Service
from runstream_processors.notify.signature import HEADER, is_genuine
from runstream_processors.notify.webhook import MESSAGE_HEADER, Webhook
from tests.processors.notify_servers import ALERT, channel, serving, wait_for

if TYPE_CHECKING:
    from collections.abc import Generator

    from runstream_processors.notify.sending import Way

TOKEN = "hunter2hunter2"
# Apprise imports a module that Python deprecates, to read the kind of attached pictures.
APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def message(count: int = 1, **changes: object) -> Message:
    """The message of some alerts."""
    some = [replace(ALERT, alert_id=f"a{number}", rank=number, **changes) for number in range(count)]
    return message_of(Batch("m-1", (tuple(Item(one, 0, number, 0) for number, one in enumerate(some)),), (0,)), "ops")


class TestWebhook:
    def test_a_post_is_signed_and_says_what_it_is(self) -> None:
        """The receiver can check who sent it from the secret, the header and the raw body; a login in the address goes as a header."""
        with serving() as server:
            url = server.url.replace("http://", f"http://me:{TOKEN}@")
            assert Webhook(channel(url, secret="s3cret"), time.time).send(message(3)) == Accepted()
        [post] = server.posts
        assert is_genuine(b"s3cret", post.raw, post.headers[HEADER.lower()], time.time())
        assert not is_genuine(b"other", post.raw, post.headers[HEADER.lower()], time.time())
        assert post.headers[MESSAGE_HEADER.lower()] == post.body["id"] == "m-1"
        assert post.headers["authorization"].startswith("Basic ")
        assert (post.body["type"], post.body["count"], len(post.body["alerts"])) == ("group", 3, 3)

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            (503, Again("it answered 503")),
            ((429, "7"), Again("it answered 429", 7.0)),
            (410, Refused("it answered 410")),
            (302, Refused("it answered 302, and redirects are not followed: set the address it points to")),
            (0, Again("it did not answer in time")),
        ],
        ids=["503", "429", "410", "302", "hangs"],
    )
    def test_answers_are_outcomes(self, answer: int | tuple[int, str], expected: Outcome) -> None:
        """What passes, what does not, what asks to wait, and what says nothing."""
        with serving(answer) as server:
            assert Webhook(channel(f"{server.url}?token={TOKEN}", timeout_s=0.3), time.time).send(message()) == expected
            assert HEADER.lower() not in server.posts[0].headers

    def test_nobody_there(self) -> None:
        """Said without the address."""
        assert Webhook(channel(f"http://127.0.0.1:9/hook?token={TOKEN}"), time.time).send(message()) == Again("nobody listens at its address")


class _Mails:
    """Keeps what it is given; addresses decide what is refused."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    async def handle_RCPT(self, _server: object, _session: object, envelope: Any, address: str, _options: object) -> str:  # noqa: N802  # the library's name
        """Refuses by name."""
        if address.startswith("busy"):
            return f"451 try later, {TOKEN}"
        if address.startswith("nobody"):
            return f"550 no such mailbox, {TOKEN}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802  # the library's name
        """Keeps the mail."""
        self.bodies.append(envelope.content.decode())
        return "250 OK"


@contextmanager
def mailing() -> Generator[tuple[_Mails, str]]:
    """A mail server that wants a password, and the beginning of its address."""

    def check(_server: object, _session: object, _envelope: object, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == TOKEN.encode(), handled=False)

    mails, port = _Mails(), choose_port()
    controller = Controller(mails, hostname="127.0.0.1", port=port, authenticator=check, auth_require_tls=False, auth_required=True)
    controller.start()
    try:
        yield mails, f"127.0.0.1:{port}"
    finally:
        controller.stop()


def mail(place: str, to: str = "ops", password: str = TOKEN) -> Service:
    """A channel that mails."""
    url = f"mailto://me:{password}@{place}?smtp=127.0.0.1&mode=insecure&from=me@example.com&to={to}@example.com"
    return Service(Channel("mail", "apprise", "mailto", Secret(url)))


@APPRISE
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_mail_goes_over_a_real_server(capfd: pytest.CaptureFixture[str]) -> None:
    """A mail arrives with title and text; what the server refuses is an outcome with its code and without its words; a server that is gone says so."""
    with mailing() as (mails, place):
        assert mail(place).send(message(2)) == Accepted()
        assert "loss is high firing on 2 ranks" in mails.bodies[0].replace("=\r\n", "").replace("\r\n ", " ")
        assert mail(place, to="nobody").send(message()) == Refused("the mail server answered 550")
        assert mail(place, to="busy").send(message()) == Again("the mail server answered 451")
        assert mail(place, password="wrong").send(message()) == Refused("the mail server answered 535")
    assert mail(place).send(message()) == Again("nobody listens at its address")
    out, err = capfd.readouterr()
    assert TOKEN not in out + err


@APPRISE
def test_apprise_posts_and_tells_codes() -> None:
    """The kind of the message goes along: success only once nothing of a rule fires any more."""
    with serving(200, 200, 200, 500, 404) as server:
        service = Service(Channel("json", "apprise", "json", Secret(server.url.replace("http://", "json://"))))
        over = message(state="resolved", version=1)
        for one in (message(), replace(over, still_firing=1), over):
            assert service.send(one) == Accepted()
        assert [post.body["type"] for post in server.posts] == ["failure", "info", "success"]
        assert service.send(message()) == Again("it answered 500")
        assert service.send(message()) == Refused("it answered 404")


@APPRISE
def test_pagerduty_has_the_key_of_the_rule_and_run() -> None:
    """What is told of one rule and run has one key of an incident, another run has another, and a key in the address stays."""

    class Said(Service):
        """Looks at the key instead of calling PagerDuty."""

        def key(self, one: Message) -> str:
            [plugin] = self._apprise
            plugin.send = _takes
            assert self.send(one) == Accepted()
            return plugin.dedup

    url = "pagerduty://AbcdefghijklmnopqrstuvW@apikeyapikeyapikey1?action=map"
    service = Said(Channel("pager", "apprise", "pagerduty", Secret(url)))
    first = service.key(message())
    assert first == service.key(message(state="resolved", version=1))
    assert first != service.key(message(run_id="other"))
    assert Said(Channel("pager", "apprise", "pagerduty", Secret(f"{url}&dedup=mine"))).key(message()) == "mine"


def _takes(**_: object) -> bool:
    return True


class _Hangs:
    """Never comes back, until it is let go."""

    def __init__(self) -> None:
        self.go: queue.SimpleQueue[None] = queue.SimpleQueue()

    def send(self, message: Message) -> Outcome:  # noqa: ARG002  # hangs whatever it is told
        """Hangs."""
        self.go.get(timeout=30)
        return Accepted()


class _Breaks:
    def send(self, message: Message) -> Outcome:  # noqa: ARG002  # breaks whatever it is told
        """Raises what quotes a secret."""
        raise RuntimeError(TOKEN)


def test_a_try_has_an_end_whatever_a_library_does(caplog: pytest.LogCaptureFixture) -> None:
    """A call that hangs is left behind, a few of them at most; one that raises is an outcome, and its words are not logged."""
    hangs = _Hangs()
    way = Bounded(hangs, "ops", 0.05)
    assert [way.send(trial_message("ops", "m")) for _ in range(LEFT_BEHIND_MAX)] == [Again("it did not answer in time")] * LEFT_BEHIND_MAX
    assert way.send(trial_message("ops", "m")) == Again("earlier tries have not come back yet")
    for _ in range(LEFT_BEHIND_MAX):
        hangs.go.put(None)
    wait_for(lambda: not any(thread.is_alive() for thread in way._left_behind), lambda: "threads that hang", 5.0)
    hangs.go.put(None)
    assert Bounded(hangs, "ops", 5.0).send(trial_message("ops", "m")) == Accepted()
    assert Bounded(_Breaks(), "ops", 5.0).send(trial_message("ops", "m")) == Again("its library failed")
    assert TOKEN not in caplog.text


@contextmanager
def running(*ways: tuple[Channel, Way]) -> Generator[tuple[dict[str, Runner], queue.SimpleQueue[Finished], Figures]]:
    """Runners for a while, and what they finished."""
    figures, finished = Figures(), queue.SimpleQueue[Finished]()
    runners = {one.name: Runner(one, way, figures, finished.put) for one, way in ways}
    for runner in runners.values():
        runner.start()
    try:
        yield runners, finished, figures
    finally:
        for runner in runners.values():
            runner.stop()
        for runner in runners.values():
            runner.join(5.0)


def item(number: int) -> Item:
    """An alert of a rule of its own."""
    return Item(replace(ALERT, alert_id=f"a{number}", rule_id=f"r{number}"), 0, number, time.time_ns() // 1_000_000)


def test_retries_end_in_delivery_or_in_failure() -> None:
    """503 twice and then 200 is a delivery at the third try, after growing pauses; 410 is a failure at the first; Retry-After is waited for."""
    with serving(503, 503, 200, 410, (503, "1"), 200) as server:
        one = channel(server.url, secret="s3cret")
        with running((one, Webhook(one, time.time))) as (runners, finished, figures):
            ends: list[Finished] = []
            for number in range(3):
                assert runners["ops"].add(item(number))
                ends.append(finished.get(timeout=20))
    assert [(end.settled.outcome, end.settled.tries, end.settled.reason) for end in ends] == [
        ("delivered", 3, ""),
        ("failed", 1, "it answered 410"),
        ("delivered", 2, ""),
    ]
    ids = [post.body["id"] for post in server.posts]
    assert (len(set(ids[:3])), len(set(ids[4:])), len(set(ids))) == (1, 1, 3)
    assert server.posts[5].at_s - server.posts[4].at_s >= 1.0
    assert server.posts[1].at_s - server.posts[0].at_s >= 0.25
    page = figures.page().decode()
    assert 'runstream_notifier_messages_total{channel="ops",outcome="failed"} 1.0' in page
    assert 'runstream_notifier_tries_total{channel="ops",result="again"} 3.0' in page
    assert 'runstream_notifier_pending{channel="ops"} 0.0' in page


def test_a_dead_channel_holds_up_no_other() -> None:
    """While one hangs, ten alerts reach the other; what the dead one cannot deliver in its budget has failed, with the reason."""
    with serving(*[0] * 50) as dead, serving() as live:
        slow = channel(dead.url, name="dead", timeout_s=0.2, budget_s=1.5)
        quick = channel(live.url, name="live", burst=100)
        with running((slow, Webhook(slow, time.time)), (quick, Webhook(quick, time.time))) as (runners, finished, _):
            for number in range(10):
                assert runners["dead"].add(item(number))
                assert runners["live"].add(item(number))
            wait_for(lambda: len(live.posts) == 10, lambda: len(live.posts), 10.0)
            ends: list[Finished] = []
            while not any(end.channel.name == "dead" for end in ends):
                ends.append(finished.get(timeout=20))
    [failed] = [end for end in ends if end.channel.name == "dead"]
    assert (failed.settled.outcome, failed.settled.reason) == ("failed", "it did not answer in time")
    assert failed.settled.tries >= 2
