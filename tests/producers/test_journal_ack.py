"""The acknowledged position: two slots, of which one is always whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runstream_producers.journal import format as fmt

counts = st.integers(0, (1 << 64) - 1)
acks = st.builds(
    fmt.Ack,
    generation=st.integers(1, (1 << 64) - 1),
    next_seq=counts,
    position=st.builds(fmt.Position, counts, counts),
    rows=counts,
    points=counts,
    rules=counts,
    rows_aside=counts,
    points_aside=counts,
    done=st.booleans(),
)


def slots(first: bytes, second: bytes) -> bytes:
    """An ack file with these two slots."""
    return first.ljust(fmt.ACK_SLOT_BYTES, b"\0") + second.ljust(fmt.ACK_SLOT_BYTES, b"\0")


@given(acks, acks)
def test_the_newer_slot_counts(one: fmt.Ack, other: fmt.Ack) -> None:
    """Of two whole slots the one of the greater generation is read, wherever it stands."""
    newest = max(one, other, key=lambda ack: ack.generation)
    if one.generation != other.generation:
        assert fmt.read_ack(slots(one.pack(), other.pack())) == newest
        assert fmt.read_ack(slots(other.pack(), one.pack())) == newest


@given(acks, acks, st.integers(0, fmt.ACK_SLOT.size + 3), st.integers(1, 255))
def test_a_torn_slot_leaves_the_other(one: fmt.Ack, torn: fmt.Ack, at: int, flip: int) -> None:
    """A byte that does not fit makes a slot nothing, and the other one is read."""
    raw = bytearray(torn.pack())
    raw[at] ^= flip
    assert fmt.read_ack(slots(one.pack(), bytes(raw))) == one
    assert fmt.read_ack(slots(bytes(raw), one.pack())) == one


@given(st.binary(max_size=300))
def test_bytes_that_are_no_slots_are_the_beginning(data: bytes) -> None:
    """Zeros, noise and short files mean that nothing has been acknowledged."""
    assert fmt.read_ack(data) == fmt.Ack()
    assert fmt.read_ack(bytes(4096)) == fmt.Ack()
