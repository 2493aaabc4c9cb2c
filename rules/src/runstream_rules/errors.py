"""What can be wrong with what the core is given.

RulesError
├── RuleRefused      a rule's field does not fit; the rule is left out, everything else goes on
├── RuleFailed       a rule failed while it was applied; it is switched off, everything else goes on
├── FileRefused      a rule file cannot be read as rules; the message names file, line and field
├── DigestRefused    a digest's lists do not fit each other
└── StateUnreadable  bytes that should be a state are not, or are of a version that this release does not read
"""

from __future__ import annotations


class RulesError(Exception):
    """Root of this package's errors."""


class RuleRefused(RulesError):
    """A rule that cannot be applied: `field` names what is wrong with it."""

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(f"a rule's {field} must be {expected}, got {got!r}")
        self.field = field
        self.expected = expected
        self.got = got


class RuleFailed(RulesError):
    """A rule that broke while it was applied to rows: its id and version, and what was raised."""

    def __init__(self, rule_id: str, version: int, reason: BaseException) -> None:
        super().__init__(f"rule {rule_id!r} version {version} failed and is switched off until its next version: {type(reason).__name__}: {reason}")
        self.rule_id = rule_id
        self.version = version


class FileRefused(RulesError):
    """A rule file with a mistake: `line` counts from 1, and the message says what was expected, what came and where."""

    def __init__(self, source: str, line: int, problem: str) -> None:
        super().__init__(f"{source}:{line}: {problem}")
        self.source = source
        self.line = line
        self.problem = problem


class DigestRefused(RulesError):
    """A digest whose parallel lists are of different lengths, or point beyond each other."""


class StateUnreadable(RulesError):
    """The bytes of a state cannot be read; the message says why."""
