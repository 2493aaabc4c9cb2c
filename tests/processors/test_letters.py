"""Dead letters of rules fit a message, whatever was set aside."""

from __future__ import annotations

import hashlib

import pytest

from runstream_processors.letters import Followed, letter
from runstream_rules import RulesError
from runstream_schemas import wire
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import DEAD_LETTER_BYTES_MAX, MESSAGE_BYTES_MAX


@pytest.mark.parametrize("size", [100, 2 * MESSAGE_BYTES_MAX], ids=["usual", "compressed to fit"])
def test_a_rule_of_any_size_is_a_letter_that_fits(size: int) -> None:
    """A record that was compressed into a message may be larger than one: its beginning is kept, with the hash of the whole."""
    value = b"\0\0\0\0\1" + bytes(size)
    output = letter(Followed("runstream.rule", 0, 7, 1, b"k" * size, value), RulesError("refused"), "runstream", 2)
    assert output.value is not None
    record = wire.decode(output.value)
    assert isinstance(record, DeadLetter)
    assert len(output.value) < DEAD_LETTER_BYTES_MAX
    assert record.sha256 == hashlib.sha256(value).hexdigest()
    assert value.startswith(record.value)
    assert (record.value == value) == (record.reason == "refused") == (size == 100)
