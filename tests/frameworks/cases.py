"""What scripts of this folder share: each case is a run of its own, and what became of it is written down for the tests that started the script.

A script imports its framework once and goes through all of its cases, since importing one takes seconds.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import runstream
from runstream_producers.journal import format as fmt
from tests.producers.journals import raw_rows, read_back


@dataclass
class Case:
    """What became of one run: its rows as (step, context, values), its params as kind and text, what was dropped, what is kept as an array, what was said, and what else was noted."""

    rows: list[tuple[int, str, dict[str, float]]] = field(default_factory=list[tuple[int, str, dict[str, float]]])
    params: dict[str, str] = field(default_factory=dict[str, str])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    tensors: dict[str, tuple[str, list[int], str]] = field(default_factory=dict[str, tuple[str, list[int], str]])
    told: list[str] = field(default_factory=list[str])
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""

    @property
    def values(self) -> dict[str, float]:
        """The values of the only row."""
        [(_, _, values)] = self.rows
        return values

    def series(self, name: str) -> list[float]:
        """The values of a name, in the order in which they were logged."""
        return [values[name] for _, _, values in self.rows if name in values]


class _Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Cases:
    """Goes through cases; a case that raises ends there and is written down with its error, and the others go on."""

    def __init__(self) -> None:
        self._done: dict[str, Case] = {}
        self._told = _Told()
        logging.getLogger("runstream").addHandler(self._told)

    @contextmanager
    def __call__(self, name: str) -> Generator[tuple[runstream.Run, dict[str, Any]]]:
        """A run for a case, and a dictionary for what else is to be noted."""
        case = self._done[name] = Case()
        self._told.lines = case.told
        run = runstream.init("frameworks", id=name)
        try:
            yield run, case.notes
        except Exception as error:  # noqa: BLE001 - the test of this case says what it was
            case.error = f"{type(error).__name__}: {error}"
        run.finish(10)
        case.dropped = dict(run.points_dropped)
        assert run._journal is not None
        case.rows = rows_of(run._journal.folder.path)
        case.params = _params_of(run._journal.folder.path, run._journal.identity.writer)
        case.tensors = _tensors_of(run._journal.folder.path, run._journal.identity.writer)

    def write(self, path: str) -> None:
        """Writes all cases for `cases_of`."""
        Path(path).write_text(json.dumps({name: asdict(case) for name, case in self._done.items()}))


def _params_of(folder: Path, writer: int) -> dict[str, str]:
    payloads = [json.loads(row.payload) for row in raw_rows(folder, writer) if row.kind == fmt.Kind.PARAM]
    return {one["key"]: f"{one['kind']} {one['value']}" for one in payloads}


def _tensors_of(folder: Path, writer: int) -> dict[str, tuple[str, list[int], str]]:
    """Values that are arrays: type, shape, and their elements in base64."""
    payloads = [json.loads(row.payload) for row in raw_rows(folder, writer) if row.kind == fmt.Kind.VALUE]
    return {one["name"]: (one["dtype"], one["shape"], one["data"]) for one in payloads if one["kind"] == "tensor"}


def cases_of(path: Path) -> dict[str, Case]:
    """The cases that a script wrote."""
    cases = {name: Case(**case) for name, case in json.loads(path.read_text()).items()}
    for case in cases.values():
        case.rows = [(step, context, values) for step, context, values in case.rows]
    return cases


def rows_of(folder: Path) -> list[tuple[int, str, dict[str, float]]]:
    """The metric rows of a journal as (step, context, values)."""
    writer = fmt.Identity.from_json((folder / "writer.json").read_text()).writer
    return [(row.step, row.context, {name: struct.unpack("<d", raw)[0] for name, raw in row.values.items()}) for row in read_back(folder, writer)]
