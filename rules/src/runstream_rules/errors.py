"""What can be wrong with what the core is given.

RulesError
├── RuleRefused      a rule's field does not fit; the rule is left out, everything else goes on
├── RuleFailed       a rule failed while it was applied; it is switched off, everything else goes on
├── FileRefused      rule files cannot be read as rules; the message names file, line, rule and field of every mistake
├── DigestRefused    a digest's lists do not fit each other
└── StateUnreadable  bytes that should be a state are not, or are of a version that this release does not read
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


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


class Problem(NamedTuple):
    """A mistake in a rule file: where, in which rule and field (empty where it is the file's own), and what was expected and came."""

    source: str
    line: int
    rule: str
    field: str
    what: str

    def __str__(self) -> str:
        """The mistake as one line, which an editor can jump to."""
        whose = f"{self.rule}: " if self.rule else ""
        said = f"{self.source}:{self.line}: {whose}{f'{self.field} ' if self.field else ''}{self.what}"
        # A name or a text of the file may hold ends of lines, and what a terminal would obey.
        return "".join(one if one.isprintable() else repr(one)[1:-1] for one in said)


class FileRefused(RulesError):
    """Rule files with mistakes: all of them, in the order in which they stand; the message is a line for each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(one) for one in self.problems))


class DigestRefused(RulesError):
    """A digest whose parallel lists are of different lengths, or point beyond each other."""


class StateUnreadable(RulesError):
    """The bytes of a state cannot be read; the message says why."""
