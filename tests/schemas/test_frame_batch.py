"""Many frames at once against one at a time: the same frames to the bit, and nothing accepted that one at a time refuses."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import frame, frame_batch
from runstream_schemas.errors import MalformedRecord
from tests.schemas.frames import forget, frames, picture, sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_schemas.records import MetricFrame


def shifted(one: MetricFrame, by: int, random: Random) -> MetricFrame:
    """The frame as its writer's next ones are: later seqs, steps and times, other values."""
    groups = tuple(
        group._replace(seqs=group.seqs + by, times=group.times + by, values=group.values * random.random() + random.random()) for group in one.groups
    )
    return one._replace(first_seq=one.first_seq + by, next_seq=one.next_seq + by, groups=groups)


def read(values: Sequence[bytes], start: int = 0) -> dict[int, tuple[object, ...]]:
    """What `decode_many` gives, by place; every place is given once."""
    batches, rest = frame_batch.decode_many(values, start)
    out = {place: picture(batch.frame(at)) for batch in batches for at, place in enumerate(batch.places)}
    places = sorted([*rest, *(place for batch in batches for place in batch.places)])
    assert places == list(range(len(values)))
    return out


def one_by_one(data: bytes) -> tuple[object, ...] | None:
    """What `decode` gives; None where it refuses."""
    try:
        return picture(frame.decode(data))
    except MalformedRecord:
        return None


@given(st.lists(frames(), max_size=4), st.integers(0, 1 << 32))
def test_frames_read_together_are_the_same_frames(drawn: list[MetricFrame], seed: int) -> None:
    """Whatever frames come in whatever order: those that are read together equal those read one by one, to the bit."""
    random = Random(seed)
    many = [one for one in drawn for _ in range(random.randint(1, 9))]
    random.shuffle(many)
    values = [frame.encode(one) for one in many]
    for data in values:
        frame.decode(data)
    for place, found in read(values).items():
        assert found == picture(many[place])


@given(st.integers(0, 1 << 32))
def test_frames_of_one_writer_are_read_together(seed: int) -> None:
    """Frames that differ in seqs, steps, times and values alone make one batch; so do those of writers that log the same names."""
    random = Random(seed)
    bases = [sample(rows=3, writer=1234567890123456789 + number, first_seq=10, next_seq=13) for number in range(3)]
    many = [shifted(base, random.randint(0, 40), random) for base in bases for _ in range(5)]
    values = [b"prefix" + frame.encode(one) for one in many]
    forget()
    assert read(values, 6) == {}
    for data in values[::5]:
        frame.decode(data, 6)
    batches, rest = frame_batch.decode_many(values, 6)
    assert rest == []
    assert [len(one.places) for one in batches] == [15]
    assert {place: picture(batches[0].frame(at)) for at, place in enumerate(batches[0].places)} == {place: picture(one) for place, one in enumerate(many)}


@given(st.integers(0, 1 << 32), st.integers(1, 4))
def test_nothing_is_accepted_that_is_refused_alone(seed: int, mutations: int) -> None:
    """Bytes changed anywhere: a frame is in a batch only if it decodes alone, and then it is the same one."""
    random = Random(seed)
    values = [frame.encode(shifted(sample(rows=random.choice((1, 1, 2))), random.randint(0, 100), random)) for _ in range(12)]
    for data in values:
        frame.decode(data)
    for place in random.sample(range(12), 5):
        raw = bytearray(values[place])
        for _ in range(mutations):
            raw[random.randrange(len(raw))] = random.choice((0, 1, 2, 0x7F, 0x80, 0xFF, random.randrange(256)))
        values[place] = bytes(raw)
    for place, found in read(values).items():
        assert found == one_by_one(values[place])


def test_hostile_columns_are_left_to_the_codec() -> None:
    """Seqs that fall, leave the frame's range or are no whole numbers, and ranges that run backwards, are refused there with their reasons."""
    good = [shifted(sample(rows=2), by, Random(by)) for by in range(6)]
    group = good[0].groups[0]
    bad = [
        good[0]._replace(first_seq=11),
        good[0]._replace(next_seq=11),
        good[0]._replace(groups=(group._replace(seqs=np.array([11, 10])),)),
        good[0]._replace(groups=(group._replace(seqs=np.array([10, 10])),)),
    ]
    values = [frame.encode(one) for one in (*good, *bad)]
    broken = bytearray(values[0])
    at = bytes(broken).index(np.array([10.0, 11.0]).tobytes())
    for number in (np.nan, np.inf, 10.5, 1e300):
        broken[at : at + 8] = np.array([number]).tobytes()
        values.append(bytes(broken))
    for data in values[:6]:
        frame.decode(data)
    assert set(read(values)) == set(range(6))
    assert all(one_by_one(data) is None for data in values[6:])


def test_layouts_are_bounded() -> None:
    """However many layouts come, so many are kept; each is read together all the same."""
    for number in range(frame_batch._ALL_LAYOUTS_MAX + 10):
        one = sample(rows=1, keys=(f"{number:05}",), node="n" * (number % 200))
        values = [frame.encode(one)] * 4
        frame.decode(values[0])
        assert len(read(values)) == 4
        assert max(map(len, frame_batch._layouts.values()), default=0) <= frame_batch._LAYOUTS_MAX
    assert 0 < sum(map(len, frame_batch._layouts.values())) <= frame_batch._ALL_LAYOUTS_MAX


def test_several_layouts_of_one_length_are_told_apart() -> None:
    """Writers that log other names of the same length make batches of their own; a lone frame is left to the codec."""
    many = [sample(rows=1, keys=(name,), writer=1 << 62) for name in ("aaaa", "bbbb", "cccc") for _ in range(5)] + [sample(rows=1, keys=("dddd",))]
    values = [frame.encode(one) for one in many]
    frame.decode(values[0])
    frame.decode(values[-1])
    batches, rest = frame_batch.decode_many(values)
    assert rest == [15]
    assert sorted((batch.groups[0].keys[0], len(batch.places)) for batch in batches) == [("aaaa", 5), ("bbbb", 5), ("cccc", 5)]
