"""A run's state as bytes: one entry for the run, and one for each track, so that what did not change is not written again.

Names and episodes are few and stand as JSON; what there is for each rank stands as columns.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from runstream_rules.episodes import Episode
from runstream_rules.errors import StateUnreadable
from runstream_rules.fleet.ranks import COLUMNS
from runstream_rules.fleet.run import RunWatch, Said
from runstream_rules.fleet.track import RankTrack, _Open

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_rules.fleet.run import TrackKey

_VERSION = 2
_SIZES = struct.Struct("<BII")


def pack_head(run: RunWatch) -> bytes:
    """The run's own entry."""
    ranks = run.ranks
    words = {
        "run_id": run.run_id,
        "project": run.project,
        "heard_ms": run.heard_ms,
        "world": [ranks.world, ranks._world_start],
        "names": ranks.names,
        "said": [[*key, one.firing, one.attempt, one.count, one.rank, one.writer, one.opened_ms] for key, one in sorted(run.said.items())],
        "tracks": sorted(run.tracks),
    }
    columns = b"".join(getattr(ranks, name).astype("<i8").tobytes() for name in COLUMNS)
    return _joined(words, len(ranks), columns)


def pack_track(track: RankTrack) -> bytes:
    """The entry of one track."""
    every = sorted(track.open)
    words = {
        "born_ms": track.born_ms,
        "closed": track.closed,
        "thinned": track.thinned,
        "late": track.late,
        "episodes": [[place, *one] for place, one in sorted(track.episodes.items())],
        "open": [[block, track.open[block].heard_ms, track.open[block].first_ms, track.open[block].last_ms] for block in every],
    }
    columns = track.marks.astype("<i8").tobytes() + b"".join(track.open[block].figures.astype("<f8").tobytes() for block in every)
    return _joined(words, len(track.marks), columns)


def unpack(head: bytes, entry: Callable[[TrackKey], bytes | None]) -> RunWatch:
    """The run in its entry, with the tracks that `entry` has; one that it has not is begun anew.

    Raises:
        StateUnreadable: bytes are no state, or of another version.
    """
    words, size, columns = _parted(head)
    run = RunWatch(words["run_id"], words["project"], words["heard_ms"])
    run.head_changed = False
    ranks = run.ranks
    ranks.world, ranks._world_start = words["world"]
    ranks.names = words["names"]
    if len(columns) != 8 * size * len(COLUMNS):
        raise StateUnreadable(f"the ranks of a run take {8 * size * len(COLUMNS)} bytes, but {len(columns)} came")
    matrix = np.frombuffer(columns, dtype="<i8").reshape(len(COLUMNS), size)
    for row, name in enumerate(COLUMNS):
        setattr(ranks, name, matrix[row].astype(np.int64))
    for rule_id, version, *rest in words["said"]:
        run.said[rule_id, version] = Said(*rest)
    for key in map(tuple, words["tracks"]):
        data = entry(key)
        if data is not None:
            run.tracks[key] = _track(data)
    return run


def _track(data: bytes) -> RankTrack:
    words, size, columns = _parted(data)
    track = RankTrack(words["born_ms"])
    track.closed, track.thinned, track.late = words["closed"], words["thinned"], words["late"]
    track.episodes = {place: Episode(*rest) for place, *rest in words["episodes"]}
    if len(columns) != 8 * size * (1 + len(words["open"])):
        raise StateUnreadable(f"a track's columns take {8 * size * (1 + len(words['open']))} bytes, but {len(columns)} came")
    track.marks = np.frombuffer(columns, dtype="<i8", count=size).astype(np.int64)
    for number, (block, heard_ms, first_ms, last_ms) in enumerate(words["open"], start=1):
        one = track.open[block] = _Open(size, heard_ms)
        one.first_ms, one.last_ms = first_ms, last_ms
        one.figures = np.frombuffer(columns, dtype="<f8", count=size, offset=8 * size * number).astype(np.float64)
    return track


def _joined(words: dict[str, Any], size: int, columns: bytes) -> bytes:
    text = json.dumps(words).encode()
    return _SIZES.pack(_VERSION, len(text), size) + text + columns


def _parted(data: bytes) -> tuple[dict[str, Any], int, bytes]:
    try:
        version, length, size = _SIZES.unpack_from(data)
        if version != _VERSION:
            raise StateUnreadable(f"a run's state of version {version} came, this release reads version {_VERSION}: replay the topics into a new group")
        words = json.loads(data[_SIZES.size : _SIZES.size + length])
    except (struct.error, ValueError) as error:
        raise StateUnreadable(f"a run's state cannot be read: {error}") from error
    return words, size, data[_SIZES.size + length :]
