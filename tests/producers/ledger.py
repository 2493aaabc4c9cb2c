"""What was logged against what frames carry: the same points, each once, and every seq accounted for."""

from __future__ import annotations

from collections.abc import Iterable

from runstream_schemas.records import MetricFrame

# Context, subject, name, step and the bits of the value, by seq.
Point = tuple[str, str, str, int, bytes]
Ledger = dict[int, set[Point]]


def ledger_of(frames: Iterable[MetricFrame], writer: int | None = None) -> Ledger:
    """The points of frames by seq; a seq that comes again must come with the same points."""
    ledger: Ledger = {}
    for frame in frames:
        if writer is not None and frame.writer != writer:
            continue
        for group in frame.groups:
            raw = group.values.astype("<f8").tobytes()
            width = 8 * len(group.keys)
            for row, (seq, step) in enumerate(zip(group.seqs.tolist(), group.steps.tolist(), strict=True)):
                line = raw[row * width : (row + 1) * width]
                points = {(group.context, group.subject, key, step, line[8 * one : 8 * one + 8]) for one, key in enumerate(group.keys)}
                assert ledger.setdefault(seq, points) == points, f"seq {seq} came with other points"
    return ledger


def check_account(frames: Iterable[MetricFrame], *, until: int, first: int = 0) -> int:
    """Checks that frames in order account for every seq from `first` to `until` without a gap; returns how many seqs came more than once."""
    reached = first
    repeated = 0
    for frame in frames:
        assert frame.first_seq <= reached, f"seqs {reached} to {frame.first_seq} are missing"
        repeated += reached - frame.first_seq
        reached = max(reached, frame.next_seq)
        for group in frame.groups:
            assert all(frame.first_seq <= seq < frame.next_seq for seq in group.seqs.tolist())
    assert reached == until
    return repeated
