"""Silences and acknowledgements: which alerts notify nobody, and why. Whoever decides or notifies asks the same book; reading the topic is the shell's work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_schemas.patterns import pattern

if TYPE_CHECKING:
    import re

    from runstream_schemas.records import Alert, Silence

# Selectors of a silence that name one thing each; a silence has at least one, or it would be for everything.
SELECTORS = ("alert_id", "rule_id", "run_id", "project", "metric", "labels")


class Silences:
    """The silences that are known. It changes through `learn` and `forget`."""

    def __init__(self) -> None:
        self._known: dict[str, Silence] = {}
        self._patterns: dict[str, re.Pattern[str]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, silence: Silence) -> None:
        """Takes a version of a silence; an older one than the known one changes nothing."""
        known = self._known.get(silence.silence_id)
        if known is None or known.version <= silence.version:
            self._known[silence.silence_id] = silence
            self._patterns.pop(silence.silence_id, None)

    def forget(self, silence_id: str) -> None:
        """Takes a silence out, as when the compacted topic drops its key."""
        self._known.pop(silence_id, None)
        self._patterns.pop(silence_id, None)

    def all(self) -> list[Silence]:
        """The silences that were not ended, by when they begin."""
        return sorted((one for one in self._known.values() if not one.deleted), key=lambda one: (one.starts_ms, one.silence_id))

    def of(self, alert: Alert, now_ms: int) -> str:
        """The id of the silence or acknowledgement that keeps an alert from notifying anybody at `now_ms`; empty where there is none. Of several it is the one that ends last."""
        found = [one for one in self._known.values() if holds(one, now_ms) and self.matches(one, alert)]
        return max(found, key=lambda one: (not one.ends_ms, one.ends_ms, one.silence_id)).silence_id if found else ""

    def matches(self, silence: Silence, alert: Alert) -> bool:
        """Whether a silence is for this alert, whatever the time."""
        pairs = (
            (silence.alert_id, alert.alert_id),
            (silence.rule_id, alert.rule_id),
            (silence.run_id, alert.run_id),
            (silence.project, alert.project),
        )
        if any(wanted not in ("", got) for wanted, got in pairs):
            return False
        if silence.metric:
            compiled = self._patterns.get(silence.silence_id)
            if compiled is None:
                compiled = self._patterns[silence.silence_id] = pattern(silence.metric)
            if compiled.fullmatch(alert.metric) is None:
                return False
        return all(alert.labels.get(name) == text for name, text in silence.labels.items())


def holds(silence: Silence, now_ms: int) -> bool:
    """Whether a silence is on at a moment."""
    return not silence.deleted and silence.starts_ms <= now_ms and (silence.ends_ms == 0 or now_ms < silence.ends_ms)
