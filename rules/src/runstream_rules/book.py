"""The rules that are known, and which of them apply to which series from when on.

Rules come one by one, in the order of the rule topic; the newest version of each holds from then on. A rule that writers registered stands once for each of them, with the seq at which that
one made it. What applies to a writer is worked out once and remembered until a rule of its run changes. Whether a frame must wait for rules that are still on their way is decided here too;
waiting is the shell's work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from runstream_rules.blocks import fresh as block_state
from runstream_rules.episodes import Pace, pace_of
from runstream_rules.errors import RuleFailed, RuleRefused
from runstream_rules.kinds import BLOCK_KINDS, SERIES_KINDS, BlockKind, SeriesKind
from runstream_rules.patterns import Matches
from runstream_rules.regions import NOWHERE, Bounds, Stack, stacked
from runstream_rules.validate import check

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule, RuleKind

    Places = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Names = tuple[str, ...]

RuleKey = tuple[str, int]  # Id and version: a new version is another rule as far as episodes go.
_SCOPES_MAX = 50_000  # Writers whose rules are remembered; a bound on memory that costs some work once in a long while.
_PLANS_MAX = 1024  # Lists of names remembered for one writer.
_ALWAYS_MS = -(1 << 62)
_OF_RUNS: tuple[RuleKind, ...] = ("run_state", "straggler", "desync", "disagreement")


K = TypeVar("K", SeriesKind, BlockKind)


class Pick(NamedTuple, Generic[K]):
    """A rule that applies to some columns of a list of names, to rows that have at least this seq and time; and what else of it is the same for all rows."""

    rule: Rule
    key: RuleKey
    kind: K
    columns: Places
    from_seq: int
    from_ms: int
    bounds: Bounds
    pace: Pace
    fresh: Doubles


class Plan(NamedTuple):
    """All rules for a list of names: those that compare values alone side by side, so that one comparison tells whether any of them has anything to say; those that keep state;
    those across ranks. Rows from `from_seq` and `from_ms` on count for all of them."""

    plain: tuple[Pick[SeriesKind], ...]
    plain_columns: Places
    hot: Stack
    keeping: tuple[Pick[SeriesKind], ...]
    blocks: tuple[Pick[BlockKind], ...]
    from_seq: int
    from_ms: int


class _Candidate(NamedTuple):
    rule: Rule
    from_seq: int
    from_ms: int


@dataclass(slots=True)
class _Known:
    """One rule, and by whom it was registered at which seq; a rule without a writer stands under 0."""

    rule: Rule
    active_ms: int
    seqs: dict[int, int] = field(default_factory=dict[int, int])


class Scope:
    """What applies to one writer."""

    def __init__(self, project: str, rank: int, candidates: list[_Candidate], matches: Matches) -> None:
        self.project = project
        self.rank = rank
        self._candidates = candidates
        self._matches = matches
        self._plans: dict[tuple[str, int], tuple[Names, Plan | None]] = {}

    def plan(self, context: str, names: Names) -> Plan | None:
        """The rules for a list of names; None where there are none."""
        if not self._candidates:
            return None
        key = (context, id(names))
        found = self._plans.get(key)
        if found is None or found[0] is not names:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            found = self._plans[key] = (names, self._made(context, names))
        return found[1]

    def _made(self, context: str, names: Names) -> Plan | None:
        plain: list[Pick[SeriesKind]] = []
        keeping: list[Pick[SeriesKind]] = []
        blocks: list[Pick[BlockKind]] = []
        for rule, from_seq, from_ms in self._candidates:
            columns = self._matches.columns(rule.metric, names) if rule.context in ("", context) else None
            if columns is None:
                continue
            key = (rule.rule_id, rule.version)
            if rule.kind in BLOCK_KINDS:
                blocks.append(Pick(rule, key, BLOCK_KINDS[rule.kind], columns, from_seq, from_ms, Bounds(NOWHERE, NOWHERE), pace_of(rule), block_state()))
            else:
                kind = SERIES_KINDS[rule.kind]
                (plain if kind.plain else keeping).append(Pick(rule, key, kind, columns, from_seq, from_ms, kind.bounds(rule), pace_of(rule), kind.fresh(rule)))
        every = [(one.from_seq, one.from_ms) for one in (*plain, *keeping, *blocks)]
        if not every:
            return None
        hot = stacked([one.bounds.hot for one in plain], [len(one.columns) for one in plain])
        together = np.concatenate([one.columns for one in plain]) if plain else np.empty(0, dtype=np.int64)
        return Plan(tuple(plain), together, hot, tuple(keeping), tuple(blocks), max(seq for seq, _ in every), max(ms for _, ms in every))


class RuleBook:
    """All rules by id. It changes only through `learn`, `forget` and `switch_off`; everything else reads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._by_run: dict[str, dict[str, _Known]] = {}  # Under the empty run id: rules for every run.
        self._ordinals: dict[int, int] = {}
        self._ids_of_writer: dict[int, set[str]] = {}
        self._scopes: dict[str, dict[int, Scope]] = {}
        self._scope_count = 0
        self._matches = Matches()
        self._live: set[RuleKey] = set()
        self._kinds: Counter[RuleKind] = Counter()
        self._of_runs: dict[tuple[str, str], tuple[Rule, ...]] = {}

    def __len__(self) -> int:
        return len(self._live)

    def learn(self, rule: Rule) -> RuleRefused | None:
        """Takes a rule, or its withdrawal; an older version than the known one changes nothing. Returns why a rule is refused, the first time that this version is."""
        if rule.writer:
            self._ordinals[rule.writer] = max(self._ordinals.get(rule.writer, 0), rule.ordinal)
            self._ids_of_writer.setdefault(rule.writer, set()).add(rule.rule_id)
        known = self._known.get(rule.rule_id)
        if known is not None and known.rule.version > rule.version:
            return None
        refused: RuleRefused | None = None
        new = known is None or known.rule.version < rule.version or known.rule.deleted != rule.deleted
        if known is None or new:
            self._drop(rule.rule_id)
            refused = None if rule.deleted else _refusal(rule)
            known = self._known[rule.rule_id] = _Known(rule, rule.active_ms or rule.time_ms)
            if not rule.deleted and refused is None:
                self._by_run.setdefault(rule.run_id, {})[rule.rule_id] = known
                self._live.add((rule.rule_id, rule.version))
                self._kinds[rule.kind] += 1
        # Made twice by one writer, it counts from the first time on.
        known.seqs[rule.writer] = min(known.seqs.get(rule.writer, rule.seq), rule.seq)
        active_ms = min(known.active_ms, rule.active_ms or rule.time_ms)
        if new:
            self._of_runs.clear()
        if new or active_ms < known.active_ms or not rule.run_id:
            self._drop_scopes(rule.run_id)
        elif self._scopes.get(rule.run_id, {}).pop(rule.writer, None) is not None:
            self._scope_count -= 1
        known.active_ms = active_ms
        return refused

    def forget(self, rule_id: str, writer: int = 0) -> None:
        """Takes a writer's registration out, as when the compacted topic drops its key; with the last one goes the rule."""
        known = self._known.get(rule_id)
        if writer:
            ids = self._ids_of_writer.get(writer, set())
            ids.discard(rule_id)
            if not ids:
                self._ids_of_writer.pop(writer, None)
                self._ordinals.pop(writer, None)
        if known is None or known.seqs.pop(writer, None) is None:
            return
        if not known.seqs:
            self._drop(rule_id)
        self._drop_scopes(known.rule.run_id)

    def switch_off(self, key: RuleKey, reason: BaseException) -> RuleFailed | None:
        """Stops applying a version of a rule that failed; None when that was done before."""
        if key not in self._live:
            return None
        known = self._known[key[0]]
        self._live.discard(key)
        self._kinds[known.rule.kind] -= 1
        self._of_runs.clear()
        self._by_run.get(known.rule.run_id, {}).pop(key[0], None)
        self._drop_scopes(known.rule.run_id)
        return RuleFailed(*key, reason)

    def has(self, rule_id: str) -> bool:
        """Whether anything is known of a rule, be it that it was withdrawn."""
        return rule_id in self._known

    def has_kind(self, kind: RuleKind) -> bool:
        """Whether a rule of this kind holds, for whatever run."""
        return self._kinds[kind] > 0

    def watches_run(self, run_id: str, project: str) -> bool:
        """Whether a rule watches the run as a whole: its state, or its ranks against each other."""
        return bool(self.of_run(run_id, project))

    def registered_by(self, writer: int) -> list[str]:
        """Ids of the rules that a writer registered."""
        return sorted(self._ids_of_writer.get(writer, ()))

    def is_live(self, key: RuleKey) -> bool:
        """Whether this version of the rule is the one that holds."""
        return key in self._live

    def rule(self, key: RuleKey) -> Rule | None:
        """The rule of this id and version, if it holds."""
        return self._known[key[0]].rule if key in self._live else None

    def ordinal_of(self, writer: int) -> int:
        """How many rules of this writer are known: the greatest ordinal that was seen, since a writer's rules come in order."""
        return self._ordinals.get(writer, 0)

    def of_run(self, run_id: str, project: str) -> tuple[Rule, ...]:
        """The rules that watch a run as a whole, by id: its state, or its ranks against each other."""
        if not any(self._kinds[kind] for kind in _OF_RUNS):
            return ()
        found = self._of_runs.get((run_id, project))
        if found is None:
            if len(self._of_runs) >= _SCOPES_MAX:
                self._of_runs.clear()
            every = [*self._by_run.get("", {}).values(), *(self._by_run.get(run_id, {}).values() if run_id else ())]
            chosen = (known.rule for known in every if known.rule.project in ("", project) and known.rule.kind in _OF_RUNS)
            found = self._of_runs[run_id, project] = tuple(sorted(chosen, key=lambda rule: rule.rule_id))
        return found

    def scope(self, run_id: str, project: str, rank: int, writer: int) -> Scope:
        """What applies to a writer."""
        scopes = self._scopes.setdefault(run_id, {})
        found = scopes.get(writer)
        if found is None or (found.project, found.rank) != (project, rank):
            if self._scope_count >= _SCOPES_MAX:
                self._drop_scopes("")
                scopes = self._scopes.setdefault(run_id, {})
            self._scope_count += writer not in scopes
            found = scopes[writer] = Scope(project, rank, self._candidates(run_id, project, rank, writer), self._matches)
        return found

    def _candidates(self, run_id: str, project: str, rank: int, writer: int) -> list[_Candidate]:
        every = [*self._by_run.get("", {}).values(), *(self._by_run.get(run_id, {}).values() if run_id else ())]
        out: list[_Candidate] = []
        for known in every:
            rule = known.rule
            if rule.project not in ("", project) or rule.rank not in (None, rank) or rule.kind == "run_state":
                continue
            registered = known.seqs.get(writer) if writer else None
            out.append(_Candidate(rule, 0, known.active_ms) if registered is None else _Candidate(rule, registered + 1, _ALWAYS_MS))
        return sorted(out, key=lambda one: one.rule.rule_id)

    def _drop(self, rule_id: str) -> None:
        known = self._known.pop(rule_id, None)
        if known is not None:
            key = (rule_id, known.rule.version)
            self._kinds[known.rule.kind] -= key in self._live
            self._live.discard(key)
            self._of_runs.clear()
            self._by_run.get(known.rule.run_id, {}).pop(rule_id, None)
            if known.rule.run_id and not self._by_run.get(known.rule.run_id):
                self._by_run.pop(known.rule.run_id, None)
            self._drop_scopes(known.rule.run_id)

    def _drop_scopes(self, run_id: str) -> None:
        if run_id:
            self._scope_count -= len(self._scopes.pop(run_id, ()))
        else:
            self._scopes.clear()
            self._scope_count = 0


def _refusal(rule: Rule) -> RuleRefused | None:
    try:
        check(rule)
    except RuleRefused as error:
        return error
    return None


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
