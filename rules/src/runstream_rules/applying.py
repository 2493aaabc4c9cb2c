"""What applying rule files comes to: which rules are new, which changed and in what, which are the same, and which are to go. Pure; sending is the caller's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from runstream_rules.fields import WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runstream_schemas.records import Rule

# So long after it was applied a rule counts: every worker knows it by then, and a replay counts it from the same row on.
ACTIVE_AFTER_MS = 5000


class Change(NamedTuple):
    """A field of a rule that is another now: what files call it, what it was and what it is."""

    field: str
    before: Any
    after: Any


class Changed(NamedTuple):
    """A rule that is another now."""

    rule: Rule
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done; the rules have their versions. `removed` are withdrawals."""

    added: tuple[Rule, ...]
    changed: tuple[Changed, ...]
    unchanged: tuple[Rule, ...]
    removed: tuple[Rule, ...]

    @property
    def records(self) -> list[Rule]:
        """What must be told to everybody, withdrawals first."""
        return [*self.removed, *self.added, *(one.rule for one in self.changed)]


def plan(wanted: Iterable[Rule], known: Mapping[str, Rule], now_ms: int, *, prune: bool) -> Plan:
    """What must be told so that the wanted rules hold.

    Args:
        wanted: rules of files.
        known: by id, the newest version of each rule that is told of now; withdrawn ones may be among them.
        now_ms: epoch milliseconds. Versions are made of it, so that a rule which is applied again after it was removed has a newer one than all it had before.
        prune: whether rules that no run registered, and that are not wanted, are to go.
    """
    added: list[Rule] = []
    changed: list[Changed] = []
    unchanged: list[Rule] = []
    every = list(wanted)
    for rule in every:
        before = known.get(rule.rule_id)
        version = max(now_ms, 0 if before is None else before.version + 1)
        new = replace(rule, version=version, time_ms=now_ms, active_ms=now_ms + ACTIVE_AFTER_MS)
        if before is None or before.deleted:
            added.append(new)
        elif changes := changes_of(before, rule):
            changed.append(Changed(new, changes))
        else:
            unchanged.append(before)
    ids = {rule.rule_id for rule in every}
    gone = [rule for rule_id, rule in sorted(known.items()) if rule_id not in ids and not rule.writer and not rule.deleted] if prune else []
    return Plan(tuple(added), tuple(changed), tuple(unchanged), tuple(withdrawn(rule, now_ms) for rule in gone))


def withdrawn(rule: Rule, now_ms: int) -> Rule:
    """The record that takes a rule back."""
    return replace(rule, version=max(now_ms, rule.version + 1), time_ms=now_ms, active_ms=0, deleted=True, writer=0, ordinal=0, seq=-1)


def changes_of(before: Rule, after: Rule) -> tuple[Change, ...]:
    """The fields in which two rules differ, as far as users write them."""
    pairs = ((word, _plain(getattr(before, name)), _plain(getattr(after, name))) for name, word in WORDS.items())
    return tuple(Change(word, old, new) for word, old, new in pairs if old != new)


def _plain(value: Any) -> Any:
    """A value as JSON has it, so that a list and a tuple of the same are the same."""
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else value
