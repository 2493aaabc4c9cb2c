"""What every worker knows whole: the rules, silences, and schemas newer than this release. Learned record by record from three topics.

Reading the topics is the follower's work. A record that cannot be read is logged and skipped: the sinks set it aside, so nothing is lost by it here. A rule that can be
read and not be applied is this module's to set aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from runstream_processors.letters import letter
from runstream_rules import RuleBook
from runstream_rules.silences import Silences
from runstream_schemas import wire
from runstream_schemas.catalogue import Catalogue, bundled, entry
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import Rule, Schema, Silence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runstream_processors.engine import Output
    from runstream_processors.letters import Followed
    from runstream_rules import RuleKey
    from runstream_schemas.records import Alert
    from runstream_schemas.topics import Name

logger = logging.getLogger(__name__)

TOPICS: tuple[Name, ...] = ("rule", "silence", "schema")
# A schema stands on its topic before a record names it, and the follower is behind by half a second at most. So few and short waits are enough, and a flood of records
# that name ids of their own invention holds nobody up for long.
_SCHEMA_WAIT_S = 2.0
_SCHEMA_WAITS_MAX, _SCHEMA_WAITS_MS = 3, 60_000


class Knowledge:
    """Changes only through `learn` and `switch_off`, on the event loop's thread; `wait` lets others sleep until it does."""

    def __init__(self, prefix: str = "") -> None:
        """Takes the prefix of the deployment's topics."""
        self.book = RuleBook()
        self.silences = Silences()
        self.catalogue = Catalogue(bundled().entries())
        self._prefix = prefix
        self._places: dict[str, Followed] = {}
        self._letters: list[Output] = []
        self._changed = asyncio.Event()
        self._schema_waits_ms: list[int] = []
        self.counts: Counter[str] = Counter()

    def schema_patience_s(self, now_ms: int) -> float:
        """How long to wait for schemas that a take of records names and nobody knows yet: some seconds a few times a minute, then not at all."""
        self._schema_waits_ms = [at for at in self._schema_waits_ms if now_ms - at < _SCHEMA_WAITS_MS]
        if len(self._schema_waits_ms) >= _SCHEMA_WAITS_MAX:
            return 0.0
        self._schema_waits_ms.append(now_ms)
        return _SCHEMA_WAIT_S

    def learn(self, name: Name, followed: Followed, now_ms: int) -> None:
        """Takes one record of one of `TOPICS`."""
        try:
            if followed.value is not None:
                self._learn(wire.decode(followed.value, self.catalogue), followed, now_ms)
            elif name == "rule" and followed.key is not None:
                # A rule that a run registered has the writer behind its id.
                rule_id, _, writer = followed.key.decode().partition("/")
                self.book.forget(rule_id, int(writer or 0))
                if not self.book.has(rule_id):
                    self._places.pop(rule_id, None)
            elif name == "silence" and followed.key is not None:
                self.silences.forget(followed.key.decode())
        except (SchemasError, ValueError) as error:
            logger.warning("record not understood", extra={"topic": name, "reason": str(error)})
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Returns when something was learned, or after `timeout_s`."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            pass

    def switch_off(self, failed: Mapping[RuleKey, Exception], now_ms: int) -> None:
        """Stops applying rules that broke: one warning and one dead letter each."""
        for key, reason in failed.items():
            error = self.book.switch_off(key, reason)
            if error is not None:
                self.counts["rules_broken"] += 1
                logger.warning("rule switched off", extra={"rule_id": key[0], "reason": str(error)})
                place = self._places.get(key[0])
                if place is not None:
                    self._letters.append(letter(place, error, self._prefix, now_ms))

    def marked(self, alerts: Iterable[Alert]) -> Iterator[Alert]:
        """The alerts, each with the silence or acknowledgement that was on when it was decided, if any."""
        for alert in alerts:
            silence = self.silences.of(alert, alert.decided_ms) if len(self.silences) else ""
            yield replace(alert, silence=silence) if silence else alert

    def letters(self) -> list[Output]:
        """Dead letters that are still to be sent; they are handed out once."""
        out, self._letters = self._letters, []
        return out

    def _learn(self, record: object, followed: Followed, now_ms: int) -> None:
        if isinstance(record, Rule):
            self._places[record.rule_id] = followed
            refused = self.book.learn(record)
            if refused is not None:
                self.counts["rules_refused"] += 1
                logger.warning("rule refused", extra={"rule_id": record.rule_id, "reason": str(refused)})
                self._letters.append(letter(followed, refused, self._prefix, now_ms))
        elif isinstance(record, Silence):
            self.silences.learn(record)
        elif isinstance(record, Schema):
            self.catalogue.add(entry(record.name, record.version, record.schema))
