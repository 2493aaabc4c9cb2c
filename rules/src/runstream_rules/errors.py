"""What can be wrong with what the core is given.

RulesError
├── RuleRefused      a rule's field does not fit; the rule is left out, everything else goes on
└── StateUnreadable  bytes that should be a writer's state are not, or are of a version that this release does not read
"""


class RulesError(Exception):
    """Root of this package's errors."""


class RuleRefused(RulesError):
    """A rule that cannot be applied: `field` names what is wrong with it."""

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(f"a rule's {field} must be {expected}, got {got!r}")
        self.field = field
        self.expected = expected
        self.got = got


class StateUnreadable(RulesError):
    """The bytes of a writer's state cannot be read; the message says why."""
