"""The rules as their topic has them now, and telling it of changes: what `runstream rules` works on. What a change is, the core says (`applying`)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_processors.compacted import Reader, read_whole, write
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import DeadLetter, Rule
from runstream_schemas.rule_fields import refusals
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_feed.connection import Connection
    from runstream_processors.compacted import Found

# Letters of broken rules are looked for among so many of the newest ones: a flood of malformed records may have made millions.
LETTERS_MAX = 2000


@dataclass(frozen=True, slots=True)
class Known:
    """A rule as the topic has it: its newest version, by how many writers it was registered (0: from a file), the places of its records, and why no worker applies it (empty: they do)."""

    rule: Rule
    writers: int
    places: tuple[str, ...]
    broken: str = ""


class RuleTopic:
    """The rule topic of one deployment."""

    def __init__(self, connection: Connection, prefix: str, timeout_s: float) -> None:
        """Every call takes at most about `timeout_s` seconds, and raises NotReady where Kafka does not answer by then."""
        self._connection = connection
        self._topic = TOPICS["rule"].full_name(prefix)
        self._letters = TOPICS["dead-letter"].full_name(prefix)
        self._timeout_s = timeout_s

    def known(self) -> dict[str, Known]:
        """All rules by id, withdrawn ones included; records that cannot be read are left out, as everywhere."""
        found: dict[str, list[tuple[Rule, Found]]] = {}
        for one in read_whole(self._connection, self._topic, self._timeout_s).values():
            try:
                rule = wire.decode(one.value or b"")
            except SchemasError:
                continue
            if isinstance(rule, Rule):
                found.setdefault(rule.rule_id, []).append((rule, one))
        return {rule_id: _known(every) for rule_id, every in sorted(found.items())}

    def reasons(self) -> dict[str, str]:
        """Why rules were set aside, by the place of their record, as far as the newest dead letters say."""
        with contextlib.closing(Reader(self._connection, self._letters, self._timeout_s, tail=LETTERS_MAX)) as reader:
            every = reader.rest()
        out: dict[str, str] = {}
        for one in every:
            place = one.key.decode(errors="replace")
            if place.startswith(f"{self._topic}/") and one.value is not None:
                letter = wire.decode(one.value)
                if isinstance(letter, DeadLetter):
                    out[place] = letter.reason
        return out

    def tell(self, rules: Iterable[Rule]) -> None:
        """Tells everybody of rules and withdrawals; returns when Kafka has them.

        A withdrawal is a record, which the sinks store. The key of a rule that no run registered then goes off the topic; of others the withdrawal stays, since ranks that register the
        rule later must not bring it back.
        """
        records: list[tuple[bytes, bytes | None]] = []
        for rule in rules:
            key = rule.rule_id.encode()
            records.append((key, wire.encode(rule)))
            if rule.deleted and not rule.run_id:
                records.append((key, None))
        write(self._connection, self._topic, records, self._timeout_s)


def _known(every: list[tuple[Rule, Found]]) -> Known:
    newest = max(every, key=lambda one: (one[0].version, one[0].deleted))[0]
    writers = len({rule.writer for rule, _ in every if rule.writer})
    wrong = [] if newest.deleted else refusals(newest)
    broken = f"its {wrong[0].field} must be {wrong[0].expected}, got {wrong[0].got!r}" if wrong else ""
    places = tuple(f"{one.topic}/{one.partition}/{one.offset}" for rule, one in every if rule.version == newest.version)
    return Known(newest, writers, places, broken)
