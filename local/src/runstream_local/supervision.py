"""The supervisor's decisions, without a process or a clock: from the parts, their states and the time to what should be done now.

`observe` turns what was seen of a process into the next state, `decide` turns all states into actions, `hopeless` says when to give up.

A worker that says `ready` in a file and renews the file's time from its main loop shows that the loop turns. Only the change of that time counts,
never its value, so that no clock that is set, nor a pause of the whole machine, looks like a hung worker; and a file that was never seen to be
renewed tells nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from runstream_local.parts import Part
from runstream_local.processes import describe_exit

__all__ = [
    "Action",
    "End",
    "Kill",
    "Phase",
    "Policy",
    "Seen",
    "Start",
    "State",
    "Stop",
    "decide",
    "end_asked",
    "hopeless",
    "is_healthy",
    "killed",
    "observe",
    "started",
    "stop_asked",
]

Phase = Literal["waiting", "starting", "healthy", "hung", "done", "failed", "stopping", "stopped"]

_WITH_PROCESS: frozenset[Phase] = frozenset({"starting", "healthy", "hung", "stopping"})
_WRONG_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the supervisor is.

    Attributes:
        delay_s_first: pause before the first restart; it doubles with each failure in a row.
        delay_s_max: the longest pause.
        stable_after_s: a part healthy for this long has left its failures behind.
        hung_after_s: a healthy part whose probe fails this long, or that does not renew its file as it did, is ended and started again; longer
            than any collector pause or recovery of a busy machine.
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
    """Where one part stands: its phase and since when, its process, how often it was started again, how and why it last ended.

    `beat` is the time of its file as last seen, in any unit, and `beats` whether this process has been seen to renew it. `trouble` is what it is
    being ended for, `reason` why it last failed; both are for people.
    """

    phase: Phase = "waiting"
    since: float = 0.0
    pid: int | None = None
    restarts: int = 0
    failures: int = 0
    was_healthy: bool = False
    unhealthy_since: float | None = None
    last_exit: int | None = None
    beat: int | None = None
    beats: bool = False
    trouble: str = ""
    reason: str = ""

    @property
    def has_process(self) -> bool:
        """Whether a process of this part may be alive."""
        return self.phase in _WITH_PROCESS


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a part: its exit code if it has ended, whether its probe succeeded if it was probed, the time of its file if it has one."""

    exit_code: int | None = None
    healthy: bool | None = None
    beat: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Start the part."""

    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the part to end."""

    name: str


@dataclass(frozen=True, slots=True)
class End:
    """Ask a part that hangs to end, so that it can be started again; says why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End the part now; says why, for the log."""

    name: str
    reason: str


Action = Start | Stop | End | Kill


def stop_asked(state: State, *, now: float) -> State:
    """Returns the state after the part was asked to end."""
    return replace(state, phase="stopping", since=now)


def end_asked(state: State, reason: str, *, now: float, policy: Policy) -> State:
    """Returns the state after a part that hangs was asked to end."""
    failures = 0 if now - state.since >= policy.stable_after_s else state.failures
    return replace(state, phase="hung", since=now, failures=failures, trouble=reason)


def killed(state: State, reason: str) -> State:
    """Returns the state after a part was killed; what it was asked to end for stays the reason."""
    return replace(state, trouble=state.trouble or reason)


def started(state: State, *, pid: int, now: float) -> State:
    """Returns the state after the part was started."""
    first = state.phase == "waiting"
    return replace(state, phase="starting", since=now, pid=pid, restarts=state.restarts + (not first), unhealthy_since=None, beat=None, beats=False, trouble="")


def observe(part: Part, state: State, seen: Seen, *, now: float, policy: Policy) -> State:
    """Returns the state after one look at the part's process."""
    if not state.has_process:
        return state
    if seen.exit_code is not None:
        ended = replace(state, since=now, pid=None, last_exit=seen.exit_code, unhealthy_since=None, trouble="")
        if state.phase == "stopping":
            return replace(ended, phase="stopped")
        if part.is_task and seen.exit_code == 0:
            return replace(ended, phase="done", failures=0, was_healthy=True)
        was_stable = state.phase == "healthy" and now - state.since >= policy.stable_after_s
        how = describe_exit(seen.exit_code)
        reason = f"{state.trouble}, {how}" if state.trouble else how
        return replace(ended, phase="failed", failures=1 if was_stable else state.failures + 1, reason=reason)
    if state.phase in ("stopping", "hung") or seen.healthy is None:
        return state
    stands_still = state.beats and seen.beat == state.beat
    if seen.beat is not None:
        state = replace(state, beat=seen.beat, beats=state.beats or (state.beat is not None and seen.beat != state.beat))
    if not seen.healthy or stands_still:
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
                sign = "sign of life" if part.health.kind == "file" else "answer"
                return End(part.name, f"no {sign} for {policy.hung_after_s:g} s")
        case "hung":
            if age_s > part.stop_timeout_s:
                return Kill(part.name, f"still there {part.stop_timeout_s:g} s after SIGTERM")
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
