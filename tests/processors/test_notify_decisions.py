"""Whom an alert goes to, what is a repeat, what is safe to commit, what an answer means, what is signed, and what is said. Values only."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_processors.notify.channels import Channel, Secret
from runstream_processors.notify.ledger import Ledger
from runstream_processors.notify.memory import NOBODY, Memory
from runstream_processors.notify.message import line, payload, worst_of
from runstream_processors.notify.notifier import keep_ms_of
from runstream_processors.notify.outcome import Accepted, Again, Outcome, Refused, backoff_s, of_status
from runstream_processors.notify.route import Route, route
from runstream_processors.notify.services import outcome_of
from runstream_processors.notify.signature import is_genuine, sign
from runstream_schemas.records import Alert
from tests.processors.notify_servers import ALERT

if TYPE_CHECKING:
    from runstream_schemas.records import Severity

NOW_MS = ALERT.decided_ms + 1000
LATE_MS = 3_600_000


def channels(**least: Severity) -> dict[str, Channel]:
    """Channels by name, with the least severity of each."""
    return {name: Channel(name, "webhook", "webhook", Secret("http://x"), severity=severity) for name, severity in least.items()}


def decide(alert: Alert, memory: Memory | None = None, *, silence: str = "", now_ms: int = NOW_MS, **least: Severity) -> Route:
    """The route of an alert among channels."""
    return route(alert, channels(**(least or {"ops": "info", "pager": "critical"})), memory or Memory(LATE_MS), silence, now_ms, LATE_MS)


def nobody(one: Route) -> list[tuple[str, str]]:
    """Channel and outcome of what is not told."""
    assert not one.repeated
    return [(entry.channel, entry.outcome) for entry in one.nobody]


class TestRoute:
    def test_no_names_stand_for_all_channels(self) -> None:
        """Those that take its severity, that is."""
        assert decide(ALERT).channels == ("ops", "pager")
        assert decide(replace(ALERT, severity="warning")).channels == ("ops",)
        assert nobody(decide(replace(ALERT, severity="info"), ops="warning")) == [(NOBODY, "unrouted")]

    def test_names_choose(self) -> None:
        """A name that is no channel is recorded, and the others are told; two mentions are one."""
        found = decide(replace(ALERT, channels=("pager", "typo", "pager")))
        assert (found.channels, nobody(found)) == (("pager",), [("typo", "unrouted")])

    def test_late_alerts_page_nobody(self) -> None:
        """Decided late, or read late, as when a notifier starts on an old topic."""
        assert nobody(decide(replace(ALERT, late=True))) == [(NOBODY, "late")]
        assert nobody(decide(ALERT, now_ms=ALERT.time_ms + LATE_MS + 1)) == [(NOBODY, "late")]
        assert decide(ALERT, now_ms=ALERT.time_ms + LATE_MS).channels

    def test_silenced_alerts_page_nobody_and_name_the_silence(self) -> None:
        """Nor does the end of an alert whose beginning paged nobody, whatever kept it."""
        memory = Memory(LATE_MS)
        found = decide(ALERT, memory, silence="maintenance")
        assert [(one.outcome, one.reason) for one in found.nobody] == [("silenced", "maintenance")]
        memory.note(ALERT.alert_id, 0, NOBODY, NOW_MS)
        over = replace(ALERT, version=1, state="resolved")
        assert nobody(decide(over, memory)) == [(NOBODY, "silenced")]
        assert decide(over).channels == ("ops", "pager")

    def test_each_channel_is_told_once(self) -> None:
        """A repeat is no news to those that were told, and is to those that were not; another transition is news to all."""
        memory = Memory(LATE_MS)
        memory.note(ALERT.alert_id, 0, "ops", NOW_MS)
        assert decide(ALERT, memory).channels == ("pager",)
        memory.note(ALERT.alert_id, 0, "pager", NOW_MS)
        assert decide(ALERT, memory).repeated
        assert decide(replace(ALERT, version=1, state="resolved"), memory).channels == ("ops", "pager")


class TestMemory:
    def test_it_outlasts_the_bound_of_lateness(self) -> None:
        """As long as an alert could page somebody it is remembered, also where its producer's clock is ahead."""
        memory = Memory(keep_ms_of(LATE_MS))
        memory.note("a", 0, "ops", 0)
        memory.note("b", 0, "ops", 2 * LATE_MS)
        assert memory.knows("a", 0, "ops")
        memory.note("c", 0, "ops", 3 * LATE_MS)
        assert [memory.knows(one, 0, "ops") for one in "abc"] == [False, True, True]

    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), max_size=40))
    def test_it_is_bounded_and_forgets_the_oldest(self, notes: list[tuple[int, int]]) -> None:
        """Of so many at most, the last noted are known."""
        memory, now_ms = Memory(10**9, most=4), 0
        for name, pause_ms in notes:
            now_ms += pause_ms
            memory.note(str(name), 0, "ops", now_ms)
        last = list(dict.fromkeys(str(name) for name, _ in reversed(notes)))
        assert len(memory) == min(4, len(last))
        assert all(memory.knows(name, 0, "ops") == (name in last[:4]) for name in map(str, range(10)))


@given(st.lists(st.integers(0, 3), max_size=30), st.randoms(use_true_random=False))
def test_an_offset_is_safe_once_all_before_it_have_their_outcomes(outcomes: list[int], random: Any) -> None:
    """In whatever order outcomes come: what is committed never passes a record that still waits, and in the end is everything."""
    ledger, waiting, committed = Ledger(), list[int](), 0
    for offset, count in enumerate(outcomes):
        ledger.begin(3, offset)
        ledger.expect(3, offset, count)
        waiting += [offset] * count
    random.shuffle(waiting)
    while True:
        for partition, safe in ledger.safe().items():
            assert (partition, safe > committed or safe == 0) == (3, True)
            committed = safe
            assert all(offset >= safe for offset in waiting)
        if not waiting:
            break
        ledger.done(3, waiting.pop())
    assert committed == len(outcomes)
    ledger.forget([3])
    ledger.done(3, 0)
    assert ledger.safe() == {}


class TestOutcome:
    @pytest.mark.parametrize(
        ("status", "after", "expected"),
        [
            (204, None, Accepted()),
            (500, None, Again("it answered 500")),
            (503, "7", Again("it answered 503", 7.0)),
            (429, "Tue, 14 Nov 2023 22:13:50 GMT", Again("it answered 429", 30.0)),
            (429, "Tue, 14 Nov 2023 22:00:00 GMT", Again("it answered 429")),
            (429, "soon", Again("it answered 429")),
            (429, "nan", Again("it answered 429")),
            (503, "1e12", Again("it answered 503", 86_400.0)),
            (408, None, Again("it answered 408")),
            (410, "5", Refused("it answered 410")),
            (401, None, Refused("it answered 401")),
        ],
    )
    def test_answers(self, status: int, after: str | None, expected: Outcome) -> None:
        """Servers' troubles pass and requests' do not; Retry-After is seconds or a date."""
        assert of_status(status, after, 1_700_000_000.0) == expected

    def test_redirects_are_told(self) -> None:
        """They are not followed, and the reason says what to do."""
        outcome = of_status(308)
        assert isinstance(outcome, Refused)
        assert "redirects are not followed" in outcome.reason

    def test_pauses_double_within_bounds(self) -> None:
        """From half a second to half a minute; luck takes up to a half off."""
        assert [backoff_s(tries, 0.0) for tries in (1, 2, 3, 7, 50)] == [0.5, 1.0, 2.0, 30.0, 30.0]
        assert backoff_s(3, 1.0) == 1.0

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            (["Failed to send JSON POST notification: Service Unavailable, error=503."], Again("it answered 503")),
            (["Failed to send Slack notification to #x: invalid, error=404."], Refused("it answered 404")),
            (["A Connection error occurred sending Email", "Socket Exception: (535, b'5.7.8 no hunter2')"], Refused("the mail server answered 535")),
            (["Socket Exception: {'a@b': (450, b'busy hunter2')}"], Again("the mail server answered 450")),
            (["A Connection error occurred", "Socket Exception: [Errno 111] Connection refused"], Again("nobody listens at its address")),
            (["Socket Exception: certificate verify failed hunter2"], Refused("its certificate is not trusted")),
            (["hunter2 is odd"], Again("the service did not take it, and Apprise does not say why")),
        ],
        ids=["503", "404", "login", "busy", "refused", "certificate", "unknown"],
    )
    def test_apprise_is_read_and_never_quoted(self, said: list[str], expected: Outcome) -> None:
        """Codes and our own words come of its log lines, and nothing else of them."""
        assert outcome_of(said) == expected


class TestSignature:
    def test_the_example_of_the_docs(self) -> None:
        """Anybody can compute it: HMAC-SHA256 over the time, a dot and the body."""
        header = sign(b"secret", b'{"a":1}', 1_700_000_000)
        digest = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
        assert header == f"t=1700000000,v1={digest}"
        assert is_genuine(b"secret", b'{"a":1}', header, 1_700_000_299)

    @pytest.mark.parametrize(
        ("secret", "body", "header", "now_s"),
        [
            (b"other", b"{}", None, 0),
            (b"secret", b"{ }", None, 0),
            (b"secret", b"{}", None, 301),
            (b"secret", b"{}", None, -301),
            (b"secret", b"{}", "", 0),
            (b"secret", b"{}", "t=x,v1=y", 0),
            (b"secret", b"{}", "t=1700000000,v1=é", 0),
        ],
        ids=["secret", "body", "old", "future", "none", "nonsense", "letters"],
    )
    def test_what_is_not_genuine(self, secret: bytes, body: bytes, header: str | None, now_s: int) -> None:
        """Another secret, another body, another time, or no signature."""
        given = sign(b"secret", b"{}", 1_700_000_000) if header is None else header
        assert not is_genuine(secret, body, given, 1_700_000_000 + now_s)


class TestShape:
    def test_a_line_is_one_line(self) -> None:
        """Whatever a message holds, a terminal gets one line."""
        assert line(ALERT) == f"2023-11-14 22:13:20Z CRITICAL firing: loss went to inf [run {ALERT.run_id}]"
        assert "\n" not in line(replace(ALERT, late=True, time_ms=1 << 62))

    def test_json_holds_every_field(self) -> None:
        """Infinite values and 63-bit writers go as text, since JSON readers would lose them."""
        body = json.loads(json.dumps(payload(ALERT), allow_nan=False))
        assert (body["value"], body["threshold"], body["writer"], body["step"]) == ("inf", 1.5, str((1 << 63) - 1), 70)
        assert set(body) == set(Alert.__dataclass_fields__)

    def test_the_worst_is_the_one_that_is_not_finite_or_the_farthest_off(self) -> None:
        """For rules on too little, the least."""
        some = [replace(ALERT, value=value) for value in (3.0, 9.0, 1.0)]
        assert worst_of(some).value == 9.0
        assert worst_of([replace(one, operator="<") for one in some]).value == 1.0
        assert worst_of([*some, ALERT]).value == float("inf")
