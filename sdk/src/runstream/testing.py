"""Test doubles for programs that log: a recorder that takes down what they log without Kafka or ClickHouse, in strict mode, and a clock that stands still.

Runs inside of `recorder` are real ones: their journals go into a folder that is thrown away at its end, and what was recorded is read from there.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from runstream import _clock, _emit, _module
from runstream._live import live_runs
from runstream_producers.journal import quick, slow, tail, writer
from runstream_producers.journal.export import Logged, rows_of
from runstream_producers.journal.survey import journals_in, open_journal

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from runstream._run import Run

_SEGMENT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Row:
    """A call of `log`: its numbers by name, where and when. `time_s` is epoch seconds."""

    values: dict[str, float]
    step: int
    context: str
    subject: str
    time_s: float
    run_id: str


@dataclass(slots=True)
class Clock:
    """A clock that stands still; `advance` moves it."""

    now_s: float

    def __call__(self) -> float:
        """Epoch seconds."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Moves it on, or back."""
        self.now_s += seconds


@dataclass(slots=True)
class Recorder:
    """What was logged so far, in the order of the calls of each process, also once the recorder has ended. Everything takes an optional run, and else speaks of all."""

    folder: Path
    _before: set[Run] = field(default_factory=set["Run"], repr=False)
    _kept: list[tuple[str, Logged]] | None = field(default=None, repr=False)

    def rows(self, run: Run | None = None) -> list[Row]:
        """The calls of `log`."""
        return [Row(one.values, one.step, one.context, one.subject, one.time_s, run_id) for run_id, one in self._logged(run) if one.values is not None]

    def metric(self, name: str, run: Run | None = None) -> list[float]:
        """The numbers of one metric.

        Example:
            >>> with testing.recorder() as recorded, runstream.init(project="p") as run:
            ...     run.log({"loss": 0.5})
            ...     recorded.metric("loss")
            [0.5]
        """
        return [row.values[name] for row in self.rows(run) if name in row.values]

    def params(self, run: Run | None = None) -> dict[str, Any]:
        """The newest value of each param."""
        return {one["key"]: json.loads(one["value"]) for one in self._records("param", run)}

    def summary(self, run: Run | None = None) -> dict[str, Any]:
        """The newest of each summary value; bytes and tensors as their bytes."""
        return {one["name"]: _value(one) for one in self._records("value", run) if one["role"] == "summary"}

    def values(self, run: Run | None = None) -> list[dict[str, Any]]:
        """Values of metrics that are no numbers, each with `name`, `step`, `kind` and `value`; bytes and tensors as their bytes."""
        return [one | {"value": _value(one)} for one in self._records("value", run) if one["role"] == "metric"]

    def events(self, run: Run | None = None) -> list[dict[str, Any]]:
        """Events, each with `name`, `source`, `subject`, `step`, `time_ms` and `metadata`."""
        return [one | {"metadata": {key: json.loads(text) for key, text in one["metadata"].items()}} for one in self._records("event", run)]

    def alerts(self, run: Run | None = None) -> list[dict[str, Any]]:
        """Alerts that were raised at once, each with `rule_name`, `text` and `severity`."""
        return self._records("alert", run)

    def media(self, run: Run | None = None) -> list[dict[str, Any]]:
        """Rich values, each with `name`, `kind`, `series`, `step` and what it holds, as records have them."""
        return self._records("media", run)

    def artifacts(self, run: Run | None = None) -> list[dict[str, Any]]:
        """Files, folders, models and data sets, each with `kind`, `name`, `path`, `uri`, `checksum`, `size` and `metadata` in JSON."""
        return self._records("artifact", run)

    def rules(self, run: Run | None = None) -> list[dict[str, Any]]:
        """Alert rules that were registered."""
        return self._records("rule", run)

    def changes(self, run: Run | None = None) -> list[dict[str, Any]]:
        """What was said of runs, a change each."""
        return self._records("run", run)

    def _records(self, kind: str, run: Run | None) -> list[dict[str, Any]]:
        return [one.record for _, one in self._logged(run) if one.kind == kind and one.record is not None]

    def _logged(self, run: Run | None) -> Iterator[tuple[str, Logged]]:
        for run_id, one in self._read() if self._kept is None else self._kept:
            if run is None or run_id == run.id:
                yield run_id, one

    def _read(self) -> Iterator[tuple[str, Logged]]:
        journals = [open_journal(folder) for folder in journals_in(self.folder / "offline")]
        for journal in sorted(journals, key=lambda one: one.identity.started_ms):
            for one in rows_of(journal):
                yield journal.identity.run_id, one

    def finish(self) -> None:
        """Ends the runs that were begun here and are still open."""
        for run in live_runs():
            if run not in self._before:
                run.finish(0)

    def keep(self) -> None:
        """Ends what is open and takes everything into memory, since the journals go now."""
        self.finish()
        self._kept = list(self._read())


@contextmanager
def recorder(*, strict: bool = True) -> Generator[Recorder]:
    """Records what is logged by runs that begin inside of it, in this process and those it starts; bad input raises, unless `strict` is off.

    Example:
        >>> with testing.recorder() as recorded:
        ...     with runstream.init(project="p", config={"lr": 0.1}) as run:
        ...         run.log({"loss": 0.5}, step=1, context="training")
        ...     recorded.params(), recorded.rows()[0].step
        ({'lr': 0.1}, 1)
    """
    folder = Path(tempfile.mkdtemp(prefix="runstream-test-"))
    variables = {
        "RUNSTREAM_MODE": "offline",
        "RUNSTREAM_STRICT": "1" if strict else "0",
        "RUNSTREAM_JOURNAL_DIR": str(folder),
        "RUNSTREAM_SEGMENT_BYTES": str(_SEGMENT_BYTES),
        "RUNSTREAM_ARTIFACT_URL": os.environ.get("RUNSTREAM_ARTIFACT_URL", str(folder / "artifacts")),
        "RUNSTREAM_CAPTURE": os.environ.get("RUNSTREAM_CAPTURE", "none"),
    }
    held, client = _module.current(), _emit.swap(None)
    recorded = Recorder(folder, set(live_runs()))
    try:
        with mock.patch.dict(os.environ, variables):
            yield recorded
    finally:
        recorded.keep()
        _emit.swap(client)
        _module.hold(held)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fixed_clock(now_s: float = 1_700_000_000.0) -> Generator[Clock]:
    """Has everything that is logged inside of it the time of a clock that stands still, at these epoch seconds, unless it is moved.

    Example:
        >>> with testing.fixed_clock(1_700_000_000.0) as clock, testing.recorder() as recorded, runstream.init(project="p") as run:
        ...     clock.advance(60)
        ...     run.log({"loss": 0.5})
        ...     recorded.rows()[0].time_s
        1700000060.0
    """
    clock = Clock(now_s)
    with ExitStack() as stack:
        for place, name in ((writer, "_now"), (slow, "_now"), (tail, "_now"), (_clock, "now_s")):
            stack.enter_context(mock.patch.object(place, name, clock))
        stack.enter_context(quick.in_python())
        yield clock


def _value(record: dict[str, Any]) -> Any:
    return base64.b64decode(record["data"]) if record["kind"] in ("bytes", "tensor") else json.loads(record["value"])
