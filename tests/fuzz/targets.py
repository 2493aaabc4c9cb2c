"""All targets, by name."""

from __future__ import annotations

from tests.fuzz.batches import BATCHES
from tests.fuzz.journals import JOURNAL, SEALS
from tests.fuzz.records import FRAME, WIRE
from tests.fuzz.rule_files import RULES

TARGETS = {one.name: one for one in (FRAME, WIRE, JOURNAL, SEALS, RULES, BATCHES)}
