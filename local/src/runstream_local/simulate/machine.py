"""What a simulated fleet takes of this machine, and whether it is there: open files, and room for journals. Looked at before anything begins."""

from __future__ import annotations

import resource
import shutil
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

_FILES_A_RANK = 6  # Of the writer, and in the agent.
_FILES_BESIDE = 256
_SEGMENTS_A_RANK = 2  # The one in use, and the next.
_SEGMENT_BYTES_MAX, _SEGMENT_BYTES_MIN = 1 << 20, 1 << 16
_SEGMENTS_BYTES = 1 << 30  # Of all ranks' segments in use together, as long as they can be that small.
_NAME_BYTES, _VALUE_BYTES, _ROWS_A_SEGMENT = 32, 8, 8
_KEPT_FREE_BYTES = 1 << 30


def segment_bytes(ranks: int) -> int:
    """How large the segments of a fleet's journals are."""
    return max(_SEGMENT_BYTES_MIN, min(_SEGMENT_BYTES_MAX, _SEGMENTS_BYTES // ranks // _SEGMENT_BYTES_MIN * _SEGMENT_BYTES_MIN))


def journals_bytes(ranks: int, metrics: int) -> int:
    """What the journals of a fleet may take."""
    rows = metrics * (_NAME_BYTES + _ROWS_A_SEGMENT * _VALUE_BYTES)  # A segment takes what it must hold.
    return ranks * _SEGMENTS_A_RANK * max(segment_bytes(ranks), rows)


def make_room(ranks: int, metrics: int, journals: Path) -> None:
    """Allows this process, and the agent that it starts, the open files of so many ranks.

    Raises:
        SettingsError: the machine does not allow so many files, or the disk of the journals has too little room.
    """
    there = next(one for one in (journals, *journals.parents) if one.exists())
    wanted, free = journals_bytes(ranks, metrics), shutil.disk_usage(there).free
    if wanted > max(0, free - _KEPT_FREE_BYTES):
        raise SettingsError(
            f"the journals of {ranks:,} ranks with {metrics:,} metrics take up to {_gb(wanted)} and {there} has {_gb(free)} left, of which {_gb(_KEPT_FREE_BYTES)} stay free: "
            f"ask for fewer --ranks or --metrics, or name a larger disk with RUNSTREAM_JOURNAL_DIR"
        )
    files = _FILES_A_RANK * ranks + _FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        raise SettingsError(f"{ranks:,} ranks take {files:,} open files and this machine allows {hard:,}: ask for fewer --ranks, or raise `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
