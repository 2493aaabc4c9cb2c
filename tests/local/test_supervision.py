"""The supervisor's decisions, on values alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_local.parts import Health, Part, dump_parts, load_parts, standard_parts
from runstream_local.supervision import (
    Action,
    End,
    Kill,
    Policy,
    Seen,
    Start,
    State,
    Stop,
    decide,
    end_asked,
    hopeless,
    is_healthy,
    killed,
    observe,
    started,
    stop_asked,
)

POLICY = Policy(delay_s_first=1.0, delay_s_max=8.0, stable_after_s=30.0, hung_after_s=20.0, attempts_max=3)
BROKER = Part("broker", ("broker",), Health("alive"), tier=0, start_timeout_s=60, stop_timeout_s=10)
TOPICS = Part("topics", ("topics",), Health("exit"), tier=1)
WORKER = Part("worker", ("worker",), Health("file", "ready"), tier=2, stop_timeout_s=15)
PARTS = (BROKER, TOPICS, WORKER)

HEALTHY = State(phase="healthy", pid=1, was_healthy=True)
DONE = State(phase="done", was_healthy=True, last_exit=0)


def run(states: dict[str, State], now: float) -> tuple[Action, ...]:
    """Decides while the stack is to run."""
    return decide(PARTS, states, stopping=False, now=now, policy=POLICY)


def stop(states: dict[str, State], now: float) -> tuple[Action, ...]:
    """Decides while the stack is to stop."""
    return decide(PARTS, states, stopping=True, now=now, policy=POLICY)


def see(part: Part, state: State, now: float, *, exit_code: int | None = None, healthy: bool | None = None, beat: int | None = None) -> State:
    """Looks once."""
    return observe(part, state, Seen(exit_code, healthy, beat), now=now, policy=POLICY)


def test_tiers_start_one_after_the_other() -> None:
    """A part waits for everything below it to be healthy or done."""
    states = {part.name: State() for part in PARTS}
    assert run(states, 0) == (Start("broker"),)
    states["broker"] = started(states["broker"], pid=1, now=0)
    assert run(states, 1) == ()
    states["broker"] = see(BROKER, states["broker"], 2, healthy=True)
    assert run(states, 2) == (Start("topics"),)
    states["topics"] = started(states["topics"], pid=2, now=2)
    assert run(states, 3) == ()
    states["topics"] = see(TOPICS, states["topics"], 4, exit_code=0)
    assert states["topics"].phase == "done"
    assert run(states, 4) == (Start("worker"),)
    states["worker"] = see(WORKER, started(states["worker"], pid=3, now=4), 5, healthy=True)
    assert is_healthy(states)
    assert run(states, 100) == ()


def test_a_part_that_died_comes_back_after_a_pause_that_grows() -> None:
    """Each failure in a row doubles the pause up to its bound; the parts above are left alone."""
    states = {"broker": replace(HEALTHY, since=0), "topics": DONE, "worker": HEALTHY}
    pauses: list[float] = []
    now = 1.0
    for _ in range(5):
        states["broker"] = see(BROKER, states["broker"], now, exit_code=-9)
        died_at = now
        while not run(states, now):
            now += 0.5
        assert run(states, now) == (Start("broker"),)
        pauses.append(now - died_at)
        states["broker"] = see(BROKER, started(states["broker"], pid=9, now=now), now, healthy=True)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]
    assert states["broker"].restarts == 5


def test_a_stable_part_has_left_its_failures_behind() -> None:
    """After half a minute of health the next death counts as the first."""
    state = replace(HEALTHY, since=0, failures=6)
    assert see(BROKER, state, 29, exit_code=1).failures == 7
    assert see(BROKER, state, 30, exit_code=1).failures == 1


def test_a_worker_returns_while_its_broker_is_away() -> None:
    """The order is for the first start; later everybody comes back as soon as they can."""
    failed = replace(HEALTHY, phase="failed", pid=None, failures=1, since=0)
    states = {"broker": replace(failed, failures=9), "topics": DONE, "worker": failed}
    assert run(states, 1) == (Start("worker"),)


def test_a_start_that_takes_too_long_is_ended() -> None:
    """A part not healthy within its time is killed, and then counts as failed."""
    states = {"broker": started(State(), pid=1, now=0), "topics": State(), "worker": State()}
    assert run(states, 60) == ()
    assert [type(action) for action in run(states, 60.1)] == [Kill]
    assert see(BROKER, states["broker"], 61, exit_code=-9).failures == 1


def test_a_part_that_hangs_is_ended_and_one_that_recovers_is_not() -> None:
    """Only probes that fail without a break for the whole bound count."""
    state = see(BROKER, HEALTHY, 10, healthy=False)
    assert run({"broker": state, "topics": DONE, "worker": HEALTHY}, 30) == ()
    assert run({"broker": state, "topics": DONE, "worker": HEALTHY}, 30.1) == (End("broker", "no answer for 20 s"),)
    recovered = see(BROKER, state, 25, healthy=True)
    assert run({"broker": recovered, "topics": DONE, "worker": HEALTHY}, 40) == ()


def hung(states: dict[str, State], now: float) -> bool:
    """Whether the worker is to be ended now."""
    return run(states, now) == (End("worker", "no sign of life for 20 s"),)


def test_a_worker_that_no_longer_renews_its_file_hangs() -> None:
    """A file that was renewed and then stands still for the whole bound, although it says ready, is a hung worker; whatever its time is."""
    states = {"broker": HEALTHY, "topics": DONE, "worker": started(State(), pid=1, now=0)}
    now = 0.0
    for beat in (500, 400, 900):  # a clock that was set back in between
        now += 2
        states["worker"] = see(WORKER, states["worker"], now, healthy=True, beat=beat)
        assert states["worker"].unhealthy_since is None
    for _ in range(11):
        now += 2
        states["worker"] = see(WORKER, states["worker"], now, healthy=True, beat=900)
        assert hung(states, now) == (now > 28)
    renewed = see(WORKER, states["worker"], now, healthy=True, beat=901)
    assert not hung(states | {"worker": renewed}, now + 100)


def test_a_file_that_was_never_renewed_tells_nothing() -> None:
    """A worker that writes its file once, as also after each restart, is left alone."""
    states = {"broker": HEALTHY, "topics": DONE, "worker": started(State(), pid=1, now=0)}
    for now in range(0, 1000, 2):
        states["worker"] = see(WORKER, states["worker"], now, healthy=True, beat=7)
    assert not hung(states, 1000)
    renewing = see(WORKER, states["worker"], 1000, healthy=True, beat=8)
    assert renewing.beats
    assert not started(see(WORKER, renewing, 1001, exit_code=1), pid=2, now=1002).beats


def test_a_part_that_hangs_is_asked_and_then_killed_and_comes_back() -> None:
    """SIGTERM first, SIGKILL once its time to stop is over, then a start; the reason tells why and how it ended."""
    asked = end_asked(replace(HEALTHY, since=0, failures=4), "no sign of life for 20 s", now=100, policy=POLICY)
    states = {"broker": HEALTHY, "topics": DONE, "worker": asked}
    assert run(states, 115) == ()
    assert run(states, 115.1) == (Kill("worker", "still there 15 s after SIGTERM"),)
    dead = see(WORKER, killed(asked, "still there 15 s after SIGTERM"), 116, exit_code=-9)
    assert (dead.phase, dead.failures, dead.reason) == ("failed", 1, "no sign of life for 20 s, killed by SIGKILL")
    obeyed = see(WORKER, asked, 101, exit_code=0)
    assert (obeyed.phase, obeyed.reason) == ("failed", "no sign of life for 20 s, exit code 0")
    assert run(states | {"worker": dead}, 117) == (Start("worker"),)
    assert started(dead, pid=2, now=117).restarts == 1
    assert stop(states, 101) == (Stop("worker"),)


def test_the_reason_outlives_the_return() -> None:
    """A part that came back still tells how it ended before, but a start that is too slow is not told of the next process."""
    state = killed(started(State(), pid=1, now=0), "not healthy within 60 s")
    again = see(BROKER, started(see(BROKER, state, 61, exit_code=-9), pid=2, now=62), 63, healthy=True)
    assert (again.phase, again.trouble, again.reason) == ("healthy", "", "not healthy within 60 s, killed by SIGKILL")


def test_stopping_goes_from_the_top_down_and_has_a_bound() -> None:
    """A tier is asked once those above it are gone; who overstays is killed."""
    states = {"broker": HEALTHY, "topics": DONE, "worker": HEALTHY}
    assert stop(states, 0) == (Stop("worker"),)
    states["worker"] = stop_asked(states["worker"], now=0)
    assert stop(states, 15) == ()
    assert stop(states, 15.1) == (Kill("worker", "still there 15 s after SIGTERM"),)
    states["worker"] = see(WORKER, states["worker"], 16, exit_code=-9)
    assert states["worker"].phase == "stopped"
    assert stop(states, 16) == (Stop("broker"),)
    states["broker"] = see(BROKER, stop_asked(states["broker"], now=16), 17, exit_code=143)
    assert stop(states, 17) == ()


def test_nothing_is_started_while_stopping() -> None:
    """A part that waits for its restart when the stop comes stays down."""
    states = {"broker": replace(State(), phase="failed", failures=1), "topics": State(), "worker": State()}
    assert stop(states, 1000) == ()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (replace(State(), phase="failed", failures=1, last_exit=2), "broker did not start (exit code 2)"),
        (replace(State(), phase="failed", failures=3, last_exit=-9), "broker did not start 3 times (killed by SIGKILL)"),
        (replace(State(), phase="failed", failures=2, last_exit=1), None),
        (replace(State(), phase="failed", failures=50, last_exit=2, was_healthy=True), None),
        (replace(HEALTHY, last_exit=2), None),
    ],
)
def test_giving_up_is_for_what_never_worked(state: State, reason: str | None) -> None:
    """Wrong settings end it at once, other failures after three; what was healthy once is never given up."""
    states = {"broker": state, "topics": State(), "worker": State()}
    assert hopeless(PARTS, states, policy=POLICY) == reason


def test_the_plan_survives_its_file() -> None:
    """What the supervisor reads is what was written for it."""
    parts = (replace(BROKER, env={"A": "ä=1"}), TOPICS, WORKER)
    assert load_parts(dump_parts(parts)) == parts


def test_workers_serve_their_figures_at_ports_of_their_own() -> None:
    """With one port set for all: the sinks have it, processors and notifier the next two; without one, none has any."""

    def ports(env: dict[str, str]) -> dict[str, str | None]:
        names = ("sinks", "processors", "notifier")
        parts = standard_parts(names, data=Path("x"), kafka_port=1, controller_port=2, clickhouse_port=3, host="h", env=env)
        return {part.name: part.env.get("RUNSTREAM_METRICS_PORT") for part in parts}

    assert ports({"RUNSTREAM_METRICS_PORT": "9100"}) == {"sinks": "9100", "processors": "9101", "notifier": "9102"}
    assert set(ports({}).values()) == {None}


@given(st.lists(st.tuples(st.sampled_from(["tick", "die", "ok", "sick"]), st.floats(0.1, 40)), max_size=60), st.integers(0, 60))
def test_whatever_happens_a_stop_ends_within_its_bounds(history: list[tuple[str, float]], stop_at: int) -> None:
    """Through any history of deaths and probes, a part has at most one process, and once asked to stop everything is gone in bounded time."""
    states = {part.name: State() for part in PARTS}
    now, pid, asked_at = 0.0, 0, None

    def step(seen: Seen, *, stopping: bool) -> None:
        nonlocal pid
        for part in PARTS:
            states[part.name] = observe(part, states[part.name], seen, now=now, policy=POLICY)
        for action in decide(PARTS, states, stopping=stopping, now=now, policy=POLICY):
            state = states[action.name]
            match action:
                case Start():
                    assert not state.has_process
                    assert not stopping
                    pid += 1
                    states[action.name] = started(state, pid=pid, now=now)
                case Stop():
                    assert state.has_process
                    states[action.name] = stop_asked(state, now=now)
                case End(reason=reason):
                    assert state.phase == "healthy"
                    states[action.name] = end_asked(state, reason, now=now, policy=POLICY)
                case Kill():
                    part = next(part for part in PARTS if part.name == action.name)
                    states[action.name] = observe(part, state, Seen(-9), now=now, policy=POLICY)

    looks = {"tick": Seen(), "die": Seen(1), "ok": Seen(None, True), "sick": Seen(None, False)}
    for index, (event, wait_s) in enumerate(history):
        now += wait_s
        step(looks[event], stopping=index >= stop_at)
    asked_at = now
    while any(state.has_process for state in states.values()):
        now += 0.5
        step(Seen(), stopping=True)
        assert now - asked_at < sum(part.stop_timeout_s for part in PARTS) + 5
