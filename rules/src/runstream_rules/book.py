"""The rules that are known, and which of them apply to which series.

Rules come one by one, in the order of the rule topic; the newest version of each holds from then on. What applies to a list of names is worked out once and
remembered until a rule of that run changes. Whether a frame must wait for rules that are still on their way is decided here too; waiting is the shell's work.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules.errors import RuleRefused
from runstream_rules.kinds import KINDS, Kind
from runstream_rules.validate import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule

    Places = NDArray[np.int64]

RuleKey = tuple[str, int]  # Id and version: a new version is another rule as far as episodes go.
_RUN_PLANS_MAX = 4096  # Lists of names remembered for one run; a run that invents more pays for working them out again.
_RUNS_MAX = 20_000  # Runs with remembered lists; a bound on memory that costs some work once in a long while.


class Pick(NamedTuple):
    """A rule that applies to some columns of a list of names; None stands for all of them."""

    rule: Rule
    key: RuleKey
    kind: Kind
    columns: Places | None


class _Known(NamedTuple):
    rule: Rule
    metric: re.Pattern[str]


class RuleBook:
    """All rules by id. It changes only through `learn` and `forget`; everything else reads."""

    def __init__(self) -> None:
        self._versions: dict[str, Rule] = {}
        self._by_run: dict[str, dict[str, _Known]] = {}  # Under the empty run id: rules for every run.
        self._ordinals: dict[int, int] = {}
        self._plans: dict[str, dict[tuple[object, ...], tuple[Pick, ...]]] = {}
        self._live: set[RuleKey] = set()

    def __len__(self) -> int:
        return len(self._live)

    def learn(self, rule: Rule) -> RuleRefused | None:
        """Takes a rule, or its withdrawal; an older version than the known one changes nothing. Returns why a rule was left out, if it was."""
        if rule.writer:
            self._ordinals[rule.writer] = max(self._ordinals.get(rule.writer, 0), rule.ordinal)
        known = self._versions.get(rule.rule_id)
        if known is not None and known.version > rule.version:
            return None
        self.forget(rule.rule_id)
        self._versions[rule.rule_id] = rule
        if rule.deleted:
            return None
        try:
            check(rule)
        except RuleRefused as refused:
            return refused
        self._by_run.setdefault(rule.run_id, {})[rule.rule_id] = _Known(rule, pattern(rule.metric))
        self._live.add((rule.rule_id, rule.version))
        self._drop_plans(rule.run_id)
        return None

    def forget(self, rule_id: str) -> None:
        """Removes a rule whole, as when the compacted topic drops its key."""
        known = self._versions.pop(rule_id, None)
        if known is None:
            return
        self._live.discard((rule_id, known.version))
        if self._by_run.get(known.run_id, {}).pop(rule_id, None) is not None:
            self._drop_plans(known.run_id)

    def is_live(self, key: RuleKey) -> bool:
        """Whether this version of the rule is the one that holds."""
        return key in self._live

    def ordinal_of(self, writer: int) -> int:
        """How many rules of this writer are known: the greatest ordinal that was seen, since a writer's rules come in order."""
        return self._ordinals.get(writer, 0)

    def picks(self, run_id: str, project: str, rank: int, context: str, names: tuple[str, ...]) -> tuple[Pick, ...]:
        """The rules that apply to a list of names, by rule id, with the columns they apply to. `project` is empty where it is not known."""
        plans = self._plans.get(run_id)
        if plans is None:
            if len(self._plans) >= _RUNS_MAX:
                self._plans.clear()
            plans = self._plans[run_id] = {}
        plan_key = (names, context, rank, project)
        found = plans.get(plan_key)
        if found is None:
            if len(plans) >= _RUN_PLANS_MAX:
                plans.clear()
            found = plans[plan_key] = self._plan(run_id, project, rank, context, names)
        return found

    def _plan(self, run_id: str, project: str, rank: int, context: str, names: tuple[str, ...]) -> tuple[Pick, ...]:
        candidates = [*self._by_run.get("", {}).values(), *(self._by_run.get(run_id, {}).values() if run_id else ())]
        out: list[Pick] = []
        for rule, metric in sorted(candidates, key=lambda known: known.rule.rule_id):
            if rule.project not in ("", project) or rule.context not in ("", context) or rule.rank not in (None, rank):
                continue
            columns = [place for place, name in enumerate(names) if metric.fullmatch(name)]
            if columns:
                chosen = None if len(columns) == len(names) else np.array(columns, dtype=np.int64)
                out.append(Pick(rule, (rule.rule_id, rule.version), KINDS[rule.kind], chosen))
        return tuple(out)

    def _drop_plans(self, run_id: str) -> None:
        if run_id:
            self._plans.pop(run_id, None)
        else:
            self._plans.clear()


def pattern(metric: str) -> re.Pattern[str]:
    """A metric name with `*` for any text and `?` for any one character; every other character stands for itself, case included.

    Matching takes time in proportion to the name, whatever the pattern: each piece between two stars is taken at its first place and never given back (an atomic group),
    since a later place could not make the rest match where the first one does not.
    """
    first, *pieces = ["".join("." if one == "?" else re.escape(one) for one in piece) for piece in metric.split("*")]
    if not pieces:
        return re.compile(first, re.DOTALL)
    *middle, last = pieces
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last, re.DOTALL)


def must_wait(rules_seen: int, known: int, accepted: int, waited_ms: int, wait_ms_max: int) -> bool:
    """Whether a frame is held: its writer had registered more rules than are known, nobody has waited for those yet, and there is time left.

    Args:
        rules_seen: rules the writer had registered before the end of the frame.
        known: `RuleBook.ordinal_of` that writer.
        accepted: the greatest `rules_seen` of a frame of that writer that went through, known or waited for (`WriterState.rules_seen`), so that a rule
            which never comes costs one wait.
        waited_ms: how long this frame has been held.
        wait_ms_max: how long a frame is held at most.
    """
    return rules_seen > max(known, accepted) and waited_ms < wait_ms_max
