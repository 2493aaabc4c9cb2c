"""The packed frame codec against fastavro, from numpy and to numpy.

fastavro is given its best: a parsed schema, plain lists by one `tolist` an array, none of the checks that our decoder makes. Frames of several writers and name
lists take turns, as a sink meets them, so that no memo of one frame flatters the codec.
"""

# fastavro's stubs leave its file argument's type open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import fastavro
import numpy as np

from benchmarks.figures import Bar, Figure
from benchmarks.timing import by_turns, median_us
from runstream_schemas import frame, ids
from runstream_schemas.catalogue import bundled
from runstream_schemas.records import MetricFrame, MetricGroup

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES, ROWS, FRAMES = 20, 50, 16
_SCHEMA = bundled().newest("MetricFrame").parsed


def make_frame(number: int) -> MetricFrame:
    """A frame like those of one rank of a training run; each number has another writer, and every fourth another list of names."""
    random = np.random.default_rng(number)
    first = 1000 * number
    group = MetricGroup(
        context="train",
        subject="",
        keys=tuple(f"layer_{number % 4}/block_{one}/grad_norm" for one in range(NAMES)),
        seqs=np.arange(first, first + ROWS),
        steps=np.arange(first, first + ROWS),
        times=1_760_000_000_000 + np.arange(ROWS) * 37,
        values=random.normal(size=(ROWS, NAMES)),
    )
    return MetricFrame(ids.new_uuid(), ids.new_writer(), 1_760_000_000_000, "job/0", number, "node-7", "digits", first, first + ROWS, 0, (group,))


def fastavro_encode(one: MetricFrame) -> bytes:
    """The frame's bytes by fastavro."""
    groups = [
        {
            "context": group.context,
            "subject": group.subject,
            "keys": group.keys,
            "seqs": group.seqs.tolist(),
            "steps": group.steps.tolist(),
            "times": group.times.tolist(),
            "values": group.values.ravel().tolist(),
            "steps_exact": [],
        }
        for group in one.groups
    ]
    datum = {
        "run_id": one.run_id,
        "writer": one.writer,
        "started": one.started,
        "attempt": one.attempt,
        "rank": one.rank,
        "node": one.node,
        "project": one.project,
        "first_seq": one.first_seq,
        "next_seq": one.next_seq,
        "rules_seen": one.rules_seen,
        "groups": groups,
    }
    out = BytesIO()
    fastavro.schemaless_writer(out, _SCHEMA, datum)
    return out.getvalue()


def fastavro_decode(data: bytes) -> MetricFrame:
    """The frame with numpy arrays by fastavro."""
    datum = cast("dict[str, Any]", fastavro.schemaless_reader(BytesIO(data), _SCHEMA, None))
    groups: list[MetricGroup] = []
    for group in datum["groups"]:
        keys = tuple(group["keys"])
        seqs, steps, times = (np.array(group[name], np.int64) for name in ("seqs", "steps", "times"))
        groups.append(MetricGroup(group["context"], group["subject"], keys, seqs, steps, times, np.array(group["values"]).reshape(-1, len(keys))))
    datum["groups"] = tuple(groups)
    return MetricFrame(**datum)


def run(seconds: float) -> Iterator[Figure]:
    """Ratios of our time to fastavro's, and the times a frame."""
    frames = [make_frame(number) for number in range(FRAMES)]
    packed = [frame.encode(one) for one in frames]
    plain = [fastavro_encode(one) for one in frames]
    for ours, theirs, one in zip(packed, plain, frames, strict=True):
        # Both sides must do the same work, or the ratio says nothing.
        assert np.array_equal(frame.decode(ours).groups[0].values, one.groups[0].values)
        assert np.array_equal(fastavro_decode(theirs).groups[0].values, one.groups[0].values)

    def encode_ours() -> None:
        for one in frames:
            frame.encode(one)

    def encode_theirs() -> None:
        for one in frames:
            fastavro_encode(one)

    def decode_ours() -> None:
        for data in packed:
            frame.decode(data)

    def decode_theirs() -> None:
        for data in plain:
            fastavro_decode(data)

    taken = by_turns((encode_ours, encode_theirs, decode_ours, decode_theirs), seconds=seconds)
    encode_us, fastavro_encode_us, decode_us, fastavro_decode_us = (median_us(times, FRAMES) for times in taken)
    n = len(taken[0])
    yield Figure("encode_ratio", encode_us / fastavro_encode_us, "ratio", n, Bar("<=", 0.1))
    yield Figure("decode_ratio", decode_us / fastavro_decode_us, "ratio", n, Bar("<=", 0.1))
    yield Figure("encode", encode_us, "µs", n)
    yield Figure("decode", decode_us, "µs", n)
    yield Figure("fastavro_encode", fastavro_encode_us, "µs", n)
    yield Figure("fastavro_decode", fastavro_decode_us, "µs", n)
