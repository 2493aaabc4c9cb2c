"""What a channel is: a name that rules use, an address, and how much it may be told. Values only; `channels_file` reads them, `webhook` and `services` send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from runstream_schemas.records import Severity

Kind = Literal["webhook", "apprise"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")


class Secret:
    """A text that neither prints nor compares by accident; `reveal` gives it to the one call that needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a channel is treated; docs/notify.md says what each figure means to people. Times are seconds.

    `wait_s` is short, since it is part of how long every alert takes; `budget_s` spans the restart of a service behind a load balancer.
    """

    wait_s: float = 0.3
    wait_max_s: float = 3.0
    group_s: float = 10.0
    per_minute: float = 20.0
    burst: int = 10
    timeout_s: float = 10.0
    budget_s: float = 120.0
    pending_max: int = 50_000


@dataclass(frozen=True, slots=True)
class Channel:
    """One named way to people. `way` is what may be shown of the address: `webhook`, or the scheme of an Apprise address; `place` is where the channel was set."""

    name: str
    kind: Kind
    way: str
    address: Secret
    secret: Secret | None = None
    severity: Severity = "info"
    policy: Policy = field(default_factory=Policy)
    place: str = "the settings"

    def takes(self, severity: Severity) -> bool:
        """Whether alerts of this severity are for it."""
        return SEVERITIES.index(severity) >= SEVERITIES.index(self.severity)
