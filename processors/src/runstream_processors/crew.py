"""Several workers under one process: each is started again when it dies or hangs, and all are asked to end when it is.

The workers share the partitions by themselves, as members of one group; nothing here knows Kafka. What is decided (when to start again, who hangs) is plain values and a clock that is
handed in; processes and signals are at the rim.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_schemas.settings import PREFIX, environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from runstream_schemas.settings import Settings

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-m", "runstream_processors", "worker")
WRONG_SETTINGS = 2  # A worker that ends with it would end with it again.
STOP_TIMEOUT_S = 12.0  # A worker is gone ten seconds after SIGTERM.
_LOOK_S = 0.1
_RENEW_S = 1.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Patience:
    """Pauses before a worker is started again: they double with each death in a row, and one that was up for `stable_s` begins anew. `hung_s` is for how long a worker that has renewed
    its ready file may leave it alone."""

    first_s: float = 0.5
    most_s: float = 15.0
    stable_s: float = 30.0
    hung_s: float = 60.0

    def pause_s(self, deaths: int) -> float:
        """The pause after so many deaths in a row."""
        return min(self.most_s, self.first_s * 2.0 ** min(deaths - 1, 30))


@dataclass(slots=True)
class Seat:
    """One worker's place: when it was started, how often it died in a row, when it is due again, and its ready file's time as last seen to change, with when that was.

    All times are of one monotonic clock, but `beat`, of which only the change counts.
    """

    started_s: float = 0.0
    due_s: float = 0.0
    deaths: int = 0
    beat: int | None = None
    beats: int = 0
    beat_s: float = 0.0

    def begun(self, now_s: float) -> None:
        """Its process was started."""
        self.started_s, self.beat, self.beats, self.beat_s = now_s, None, 0, now_s

    def died(self, now_s: float, patience: Patience) -> float:
        """Its process is gone; gives the pause until the next."""
        self.deaths = 1 if now_s - self.started_s >= patience.stable_s else self.deaths + 1
        pause_s = patience.pause_s(self.deaths)
        self.due_s = now_s + pause_s
        return pause_s

    def hangs(self, beat: int | None, now_s: float, patience: Patience) -> bool:
        """Takes the time of its ready file, None where there is none; whether it has not been renewed for too long, although it was before."""
        if beat != self.beat:
            self.beats += self.beat is not None and beat is not None
            self.beat, self.beat_s = beat, now_s
        return self.beats > 0 and now_s - self.beat_s > patience.hung_s


class Crew:
    """The workers while they run. Use it from a process without threads."""

    def __init__(self, settings: Settings, workers: int, argv: Sequence[str] = WORKER, patience: Patience | None = None) -> None:
        """Takes how many; each gets a port for its figures that is its number above the settings' one."""
        self._settings = settings
        self._argv = list(argv)
        self._patience = patience or Patience()
        self._seats = [Seat() for _ in range(workers)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._asked = False
        self._renewed_s = 0.0

    def run(self) -> int:
        """Works until SIGTERM or SIGINT, which end it with 0, or until a worker finds that the settings are wrong, which gives 2."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with tempfile.TemporaryDirectory(prefix="runstream-crew-") as folder:
            try:
                while not self._asked:
                    if self._look(Path(folder), time.monotonic()):
                        return WRONG_SETTINGS
                    time.sleep(_LOOK_S)
            finally:
                self._stop()
        return 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True

    def _look(self, folder: Path, now_s: float) -> bool:
        """Starts who is due, and ends who hangs. True: the settings are wrong."""
        for number, seat in enumerate(self._seats):
            ready = folder / f"{number}.ready"
            process = self._processes.get(number)
            if process is None:
                if now_s >= seat.due_s:
                    self._processes[number] = self._started(number, ready)
                    seat.begun(now_s)
                continue
            code = process.poll()
            if code is not None:
                del self._processes[number]
                if code == WRONG_SETTINGS:
                    return True
                pause_s = seat.died(now_s, self._patience)
                logger.warning("worker ended", extra={"worker": number, "code": code, "again_in_s": pause_s})
            elif seat.hangs(_time_of(ready), now_s, self._patience):
                logger.warning("worker hangs", extra={"worker": number, "pid": process.pid})
                process.kill()
        if len(list(folder.glob("*.ready"))) == len(self._seats):
            self._renew(now_s)
        return False

    def _started(self, number: int, ready: Path) -> subprocess.Popen[bytes]:
        ready.unlink(missing_ok=True)
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment = others | environment_of(self._settings) | own_settings(self._settings, number, ready)
        # A session of its own: Ctrl-C in a terminal reaches this process, which asks the workers to end.
        return subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=_tied_to(os.getpid()),  # this process has no threads
        )

    def _renew(self, now_s: float) -> None:
        """Says that all are ready, or are being started again, and that this loop turns."""
        ready = self._settings.ready_file
        if ready is not None and now_s - self._renewed_s > _RENEW_S:
            self._renewed_s = now_s
            ready.write_text("ready\n", encoding="utf-8")

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for number, process in self._processes.items():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("worker killed", extra={"worker": number, "waited_s": STOP_TIMEOUT_S})
                process.kill()
                process.wait()


def own_settings(settings: Settings, number: int, ready: Path) -> dict[str, str]:
    """The variables that one worker does not share with the others."""
    out = {f"{PREFIX}READY_FILE": str(ready)}
    if settings.metrics_port is not None:
        out[f"{PREFIX}METRICS_PORT"] = str(settings.metrics_port + number)
    return out


def _tied_to(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the worker: it asks to be told to end when its parent dies, however that dies. On Linux only."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None

    def tie() -> None:
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # It died before that.
                os._exit(1)

    return tie


def _time_of(ready: Path) -> int | None:
    try:
        return ready.stat().st_mtime_ns
    except FileNotFoundError:
        return None
