"""Which ends of workers by their own hand a plan explains. The others are wrong: a worker that dies unasked is started again, and nothing else shows it.

Explained, and by what:
- A clock that is set back by more than 5 s: sinks and processors end by design (docs/operations.md). So often as the plan sets that part's clock back, and no more.
- A restart: the part was asked to end, and the code it ends with is of no matter here.
- The supervisor asked it to end since it hung, as a part that is stopped for long does.
- Processors whose engine says why it cannot go on (docs/operations.md: no partitions for 45 s, others have them, Kafka takes nothing, the group's leader knew no topics), where the plan
  holds something that can bring that about. A sink has no such reason.
"""

from __future__ import annotations

import re
from collections import Counter

from runstream_schemas.clocks import SET_BACK_S
from tests.faults.schedule import WORKERS, Part, Plan

_OWN_END = re.compile(r" (sinks|processors) is failed \(exit code (\d+)")
_HUNG = re.compile(r" (sinks|processors) hangs and is asked to end")
# A processor's last words where its engine could not go on, or Kafka did not answer, at its beginning or later; an error that nobody foresaw is none of these.
_ENGINE_ENDS = re.compile(r"worker ends reason=(?:EngineFailed|\w*(?:Timeout|Kafka|Connection)\w*Error)|could not be (?:looked at|read to its end) within")
_SHAKES = ("kill", "die", "restart", "stop", "unknowing", "rebalance", "half open", "cut after request", "reset", "delay", "clock")


def own_ends(supervisor_said: str) -> Counter[Part]:
    """How often each worker ended without a signal, of what the supervisor said."""
    found: Counter[Part] = Counter()
    for name, _ in _OWN_END.findall(supervisor_said):
        found[name] += 1
    return found


def explained(plan: Plan, supervisor_said: str, workers_said: dict[Part, str]) -> Counter[Part]:
    """How many of them may be, at most."""
    asked = Counter(_HUNG.findall(supervisor_said))
    found: Counter[Part] = Counter()
    for part in WORKERS:
        ahead_s = 0
        for blow in plan.blows:
            if blow.kind == "clock" and blow.part == part:
                found[part] += ahead_s - blow.amount > SET_BACK_S
                ahead_s = blow.amount
            found[part] += blow.kind == "restart" and blow.part == part
        found[part] += asked[part]
    if any(blow.kind in _SHAKES and blow.part in ("kafka", "processors", "agent", "sinks") for blow in plan.blows):
        found["processors"] += len(_ENGINE_ENDS.findall(workers_said.get("processors", "")))
    return found


def unexplained(plan: Plan, supervisor_said: str, workers_said: dict[Part, str]) -> Counter[Part]:
    """The ends of workers that nothing explains."""
    return own_ends(supervisor_said) - explained(plan, supervisor_said, workers_said)
