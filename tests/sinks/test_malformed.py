"""Dead letters, and the bound on them."""

from __future__ import annotations

import hashlib

import pytest

from runstream_schemas import wire
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import MESSAGE_BYTES_MAX
from runstream_sinks.errors import TooManyMalformed
from runstream_sinks.ledger import Place, Position
from runstream_sinks.malformed import WINDOW_RECORDS_MAX, WINDOW_RECORDS_MIN, Window, dead_letter


def letter_of(value: bytes, key: bytes | None = b"k") -> DeadLetter:
    """The letter about some bytes."""
    return dead_letter(position=Position(Place("t.metric", 2), 9), time_ms=5, key=key, value=value, reason="because", worker="w", now_ms=6)


def test_a_letter_carries_bytes_place_and_hash() -> None:
    """Everything that is needed to read the record again once its reader is mended."""
    letter = letter_of(b"\x00\x00\x00\x00\x07rest")
    assert (letter.topic, letter.partition, letter.offset, letter.schema_id, letter.key) == ("t.metric", 2, 9, 7, b"k")
    assert letter.value == b"\x00\x00\x00\x00\x07rest"
    assert letter.sha256 == hashlib.sha256(letter.value).hexdigest()
    assert wire.decode(wire.encode(letter)) == letter


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x00\xff\xff\xff\xff"])
def test_bytes_without_a_usable_schema_id_have_none(value: bytes) -> None:
    """A letter about anything at all can be written."""
    letter = letter_of(value, None)
    assert letter.schema_id is None
    assert wire.decode(wire.encode(letter)) == letter


def test_a_letter_fits_a_message_whatever_it_carries() -> None:
    """A record as large as a message is cut, says so, and keeps the hash of the whole."""
    value = b"x" * MESSAGE_BYTES_MAX
    letter = letter_of(value, b"k" * 100_000)
    assert len(wire.encode(letter)) < MESSAGE_BYTES_MAX
    assert letter.sha256 == hashlib.sha256(value).hexdigest()
    assert "bytes are kept" in letter.reason


def test_a_few_malformed_records_at_the_start_stop_nothing() -> None:
    """Below the least window a share says nothing."""
    window = Window(0.5)
    for _ in range(WINDOW_RECORDS_MIN - 1):
        window.add(malformed=True)
    with pytest.raises(TooManyMalformed, match=r"dead_letter_ratio_max = 0\.5"):
        window.add(malformed=True)


def test_the_share_is_of_the_newest_records() -> None:
    """A good past neither hides an outage for ever nor does an old outage stop a good present."""
    window = Window(0.5)
    for _ in range(WINDOW_RECORDS_MAX):
        window.add(malformed=False)
    for _ in range(WINDOW_RECORDS_MAX // 2):
        window.add(malformed=True)
    for _ in range(WINDOW_RECORDS_MAX):
        window.add(malformed=False)
    for _ in range(WINDOW_RECORDS_MAX // 2):
        window.add(malformed=True)
    with pytest.raises(TooManyMalformed):
        window.add(malformed=True)
