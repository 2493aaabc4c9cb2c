"""The supervisor's decisions, without a process or a clock: from the parts, their states and the time to what should be done now.

`observe` turns what was seen of a process into the next state, `decide` turns all states into actions, `hopeless` says when to give up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runstream_local.parts import Part
from runstream_local.processes import describe_exit

__all__ = ["Action", "Kill", "Phase", "Policy", "Seen", "Start", "State", "Stop", "decide", "hopeless", "is_healthy", "observe", "started", "stop_asked"]

Phase = Literal["waiting", "starting", "healthy", "done", "failed", "stopping", "stopped"]

_WITH_PROCESS: frozenset[Phase] = frozenset({"starting", "healthy", "stopping"})
_WRONG_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the supervisor is.

    Attributes:
        delay_s_first: pause before the first restart; it doubles with each failure in a row.
        delay_s_max: the longest pause.
        stable_after_s: a part healthy for this long has left its failures behind.
        hung_after_s: a healthy part whose probe fails this long is killed; longer than any collector pause or recovery of a busy machine.
        attempts_max: a part that never became healthy in so many attempts will not.
    """

    delay_s_first: float = 0.25
    delay_s_max: float = 15.0
    stable_after_s: float = 30.0
    hung_after_s: float = 30.0
    attempts_max: int = 3

    def delay_s(self, failures: int) -> float:
        """Returns the pause after so many failures in a row."""
        return min(self.delay_s_max, self.delay_s_first * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True)
class State:
    """Where one part stands: its phase and since when, its process, how often it was started again, how it last ended."""

    phase: Phase = "waiting"
    since: float = 0.0
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    was_healthy: bool = False
    unhealthy_since: float | None = None
    last_exit: int | None = None

    @property
    def has_process(self) -> bool:
        """Whether a process of this part may be alive."""
        return self.phase in _WITH_PROCESS


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a part: its exit code if it has ended, whether its probe succeeded if it was probed."""

    exit_code: int | None = None
    healthy: bool | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Start the part."""

    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the part to end."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End the part now; says why, for the log."""

    name: str
    reason: str


Action = Start | Stop | Kill


def stop_asked(state: State, *, now: float) -> State:
    """Returns the state after the part was asked to end."""
    return replace(state, phase="stopping", since=now)


def started(state: State, *, pid: int, now: float) -> State:
    """Returns the state after the part was started."""
    first = state.phase == "waiting"
    return replace(state, phase="starting", since=now, pid=pid, restarts=state.restarts + (not first), unhealthy_since=None)


def observe(part: Part, state: State, seen: Seen, *, now: float, policy: Policy) -> State:
    """Returns the state after one look at the part's process."""
    if not state.has_process:
        return state
    if seen.exit_code is not None:
        ended = replace(state, since=now, pid=None, last_exit=seen.exit_code, unhealthy_since=None)
        if state.phase == "stopping":
            return replace(ended, phase="stopped")
        if part.is_task and seen.exit_code == 0:
            return replace(ended, phase="done", failures=0, was_healthy=True)
        was_stable = state.phase == "healthy" and now - state.since >= policy.stable_after_s
        return replace(ended, phase="failed", failures=1 if was_stable else state.failures + 1)
    if state.phase == "stopping" or seen.healthy is None:
        return state
    if not seen.healthy:
        return state if state.phase == "starting" or state.unhealthy_since is not None else replace(state, unhealthy_since=now)
    if state.phase == "starting":
        return replace(state, phase="healthy", since=now, was_healthy=True)
    return replace(state, unhealthy_since=None)


def decide(parts: Sequence[Part], states: Mapping[str, State], *, stopping: bool, now: float, policy: Policy) -> tuple[Action, ...]:
    """Returns what should be done now; nothing, when there is nothing to do but wait."""
    if stopping:
        return _decide_stop(parts, states, now)
    actions = (_decide_run(part, parts, states, now, policy) for part in parts)
    return tuple(action for action in actions if action is not None)


def _decide_run(part: Part, parts: Sequence[Part], states: Mapping[str, State], now: float, policy: Policy) -> Action | None:
    state = states[part.name]
    age_s = now - state.since
    match state.phase:
        case "waiting":
            # The order holds for the first start only: a worker that comes back must not wait for a broker that is also coming back, it knows how.
            if all(states[other.name].was_healthy for other in parts if other.tier < part.tier):
                return Start(part.name)
        case "failed":
            if age_s >= policy.delay_s(state.failures):
                return Start(part.name)
        case "starting":
            if age_s > part.start_timeout_s:
                return Kill(part.name, f"not healthy within {part.start_timeout_s:g} s")
        case "healthy":
            if state.unhealthy_since is not None and now - state.unhealthy_since > policy.hung_after_s:
                return Kill(part.name, f"no answer for {policy.hung_after_s:g} s")
        case "done" | "stopping" | "stopped":
            pass
    return None


def _decide_stop(parts: Sequence[Part], states: Mapping[str, State], now: float) -> tuple[Action, ...]:
    """Stops the highest tier that still runs; the one below has its turn when this is down, so nobody loses a service that it drains into."""
    running = [part for part in parts if states[part.name].has_process]
    if not running:
        return ()
    tier = max(part.tier for part in running)
    actions: list[Action] = []
    for part in running:
        state = states[part.name]
        if part.tier < tier:
            continue
        if state.phase != "stopping":
            actions.append(Stop(part.name))
        elif now - state.since > part.stop_timeout_s:
            actions.append(Kill(part.name, f"still there {part.stop_timeout_s:g} s after SIGTERM"))
    return tuple(actions)


def hopeless(parts: Sequence[Part], states: Mapping[str, State], *, policy: Policy) -> str | None:
    """Returns why the stack cannot come up, naming the part, or None.

    A part that was healthy once is never given up; one with wrong settings (exit code 2) is given up at once, since trying again changes nothing.
    """
    for part in parts:
        state = states[part.name]
        if state.was_healthy or state.phase != "failed" or state.last_exit is None:
            continue
        if state.last_exit == _WRONG_SETTINGS or state.failures >= policy.attempts_max:
            times = "" if state.failures == 1 else f" {state.failures} times"
            return f"{part.name} did not start{times} ({describe_exit(state.last_exit)})"
    return None


def is_healthy(states: Mapping[str, State]) -> bool:
    """Says whether every part is healthy or has done its work."""
    return all(state.phase in ("healthy", "done") for state in states.values())
