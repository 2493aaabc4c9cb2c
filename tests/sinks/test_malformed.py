"""Dead letters, and how many may be made."""

from __future__ import annotations

import hashlib

import pytest

from runstream_feed.records import Place
from runstream_schemas import wire
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import MESSAGE_BYTES_MAX
from runstream_sinks.ledger import Position
from runstream_sinks.malformed import AT_ONCE, NO_BOUNDS, PER_S, Allowance, Floods, Policy, dead_letter


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


def test_an_allowance_holds_at_once_what_one_broken_producer_leaves() -> None:
    """Then records are set aside at a bounded rate, which never ends altogether."""
    allowance = Allowance(0.5, now=0.0)
    assert sum(allowance.take(0.0) for _ in range(2 * AT_ONCE)) == AT_ONCE
    assert sum(allowance.take(1.05) for _ in range(100)) == PER_S
    assert sum(allowance.take(1e6) for _ in range(2 * AT_ONCE)) == AT_ONCE


def test_good_records_bring_the_share_that_may_be_malformed() -> None:
    """A share up to the setting goes on without a wait, for ever."""
    allowance = Allowance(0.2, now=0.0)
    while allowance.take(0.0):
        pass
    for _ in range(400):
        allowance.good()
    assert sum(allowance.take(0.0) for _ in range(1000)) in (99, 100)


def test_a_share_of_one_is_no_bound() -> None:
    """Who sets it wants everything aside at once."""
    allowance = Allowance(1.0, now=0.0)
    assert all(allowance.take(0.0) for _ in range(3 * AT_ONCE))


def test_a_clock_that_stands_still_or_goes_back_brings_nothing() -> None:
    """Time only adds."""
    allowance = Allowance(0.5, now=100.0)
    while allowance.take(100.0):
        pass
    assert not allowance.take(50.0)


def test_the_bound_that_says_no_is_named() -> None:
    """A run is one partition's, a share the whole topic's."""
    floods = Floods(Policy(ratio_max=0.5, run_max=2), now=0.0)
    assert [floods.refuses(0, 0.0) is None for _ in range(3)] == [True, True, False]
    assert "2 records in a row of partition 0" in (floods.refuses(0, 0.0) or "")
    assert floods.refuses(1, 0.0) is None
    floods.good(0)
    assert floods.refuses(0, 0.0) is None
    floods = Floods(Policy(ratio_max=0.5, run_max=0), now=0.0)
    while (bound := floods.refuses(0, 0.0)) is None:
        pass
    assert "dead_letter_ratio_max" in bound


def test_past_the_bound_on_runs_the_rate_is_bounded() -> None:
    """It never stands still altogether, and no store builds up while nothing comes."""
    floods = Floods(Policy(ratio_max=1.0, run_max=5), now=0.0)
    assert sum(floods.refuses(0, 0.0) is None for _ in range(100)) == 5
    assert sum(floods.refuses(0, 1.05) is None for _ in range(100)) == PER_S
    assert sum(floods.refuses(0, 1e6) is None for _ in range(100)) == PER_S
    floods.forget(0)
    assert sum(floods.refuses(0, 1e6) is None for _ in range(100)) == 5


def test_who_only_counts_has_no_bounds() -> None:
    """A replay reads floods again at full speed."""
    floods = Floods(NO_BOUNDS, now=0.0)
    assert all(floods.refuses(0, 0.0) is None for _ in range(3 * AT_ONCE))
