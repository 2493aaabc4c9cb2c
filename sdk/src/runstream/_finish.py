"""What a run knows of its account, and its end: how it is noted, how the journal is closed, and what `finish` waits for and says."""

from __future__ import annotations

import math
import time as clock
from typing import TYPE_CHECKING, cast

from runstream import _checks, _ends, _live
from runstream._delivery import Delivery
from runstream._told import in_signal, warn
from runstream._types import Finished
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream._console import Console
    from runstream._rows import Rows
    from runstream._run import Run
    from runstream_producers.journal.writer import JournalWriter
    from runstream_schemas.settings import Settings

TIMEOUT_S = 30.0
_TIMEOUT_MAX_S = 1e8  # Three years, which clocks can still add.


class Finishing(_checks.Reports):
    """The account and the end of a run. `_rows` is where it writes, `_journal` the same where that is a journal."""

    _settings: Settings
    _rows: Rows
    _journal: JournalWriter | None
    closing = False  # Its journal is being ended: a signal that would end the process meanwhile is held until that is done.

    def _begin_end(self) -> None:
        self._ending: _ends.Ending | None = None
        self._finished: Finished | None = None
        self._delivery = Delivery(self._settings)
        self._console: Console | None = None
        if self._journal is not None:
            self._delivery.follow(self._journal)

    @property
    def points_logged(self) -> int:
        """Metric values that this process has logged."""
        return self._rows.points

    @property
    def points_dropped(self) -> Mapping[str, int]:
        """Metric values that were given up, by reason."""
        return dict(self._rows.dropped)

    @property
    def rows_shipped(self) -> int:
        """Rows and records of this process that Kafka has acknowledged."""
        return self._delivery.ack().rows

    @property
    def points_shipped(self) -> int:
        """Metric values of this process that Kafka has acknowledged."""
        return self._delivery.ack().points

    @property
    def next_seq(self) -> int:
        """The seq of what this process logs next."""
        return self._rows.seq

    @property
    def alive(self) -> bool:
        """Whether it has not been finished in this process."""
        return self._finished is None

    @_checks.guarded(None)
    def fail(self, reason: str) -> None:
        """Says that the run went wrong: `finish` will record it as failed, with the reason."""
        self.note(_ends.Ending("failed", _checks.text_of("fail", "reason", reason, self._report)))

    @_checks.guarded(None)
    def mark_preempted(self, reason: str = "") -> None:
        """Says that the run ends because its machine is taken away, whatever else is known of its end: `finish` will record it as preempted."""
        self._ending = _ends.Ending(
            "preempted", _checks.text_of("mark_preempted", "reason", reason, self._report) or (self._ending.reason if self._ending else "")
        )

    def note(self, ending: _ends.Ending) -> None:
        """Notes how the run ends; what was noted first holds, since what follows comes of it. Safe in signal handlers."""
        if self._ending is None:
            self._ending = ending

    def ends_at_exit(self) -> None:
        """Says to calls that come later, from `__del__` or another's `atexit`, what has ended the run."""
        if self._journal is not None:
            self._journal.tail.closed_by = "the interpreter's exit had ended the run (call finish yourself where something is logged so late)"

    def close_journal(self, deadline: float) -> None:
        """Ends the journal with what has been noted, once rows that wait for a device are read, at `deadline` at the latest; from here on nothing is recorded."""
        self.end_uploads(deadline)
        if self._console is not None:
            self._console.end()
        self._rows.wait_for_devices(deadline)
        ending = self._ending or _ends.FINISHED
        self.closing = True
        try:
            self._rows.close(ending.state, ending.reason)
        finally:
            self.closing = False
            _live.send_held()

    def capture_console(self) -> None:
        """Records what this process and its children write from here on; where that cannot be, it is told."""
        if self._journal is None:
            return
        from runstream import _console

        self._console, why = _console.begin(self._journal, self._settings)
        if why:
            self._report("console", f"what is written to stdout and stderr is not recorded: {why}", always=True)

    def end_uploads(self, deadline: float) -> None:
        """Waits for uploads that go on beside training, at most until `deadline` of the monotonic clock; a run that has none waits for none."""

    @untraced
    def finish(self, timeout: float = TIMEOUT_S) -> Finished:
        """Ends this process's part and waits, at most `timeout` seconds, until everything is acknowledged. Never raises; what is left is shipped by the agent, or
        by the next one on this node. Calling it again returns the same answer. A timeout that is no number is told, and 30 s are waited; one below 0 is told, and 0.
        """
        if self._finished is not None:
            return self._finished
        seconds = val.number_of(timeout)
        if seconds is not None and seconds < 0:
            self._report("timeout", f"timeout of finish must be a number of seconds from 0, got {val.shown(timeout)}: nothing is waited for")
        if seconds is None or math.isnan(seconds) or isinstance(timeout, bool):
            self._report("timeout", f"timeout of finish must be a number of seconds, got {val.shown(timeout)}: {TIMEOUT_S:g} s are waited")
            seconds = TIMEOUT_S
        return self.finish_within(min(max(0.0, seconds), _TIMEOUT_MAX_S))

    def finish_within(self, timeout: float, *, quiet: bool = False) -> Finished:
        """As `finish`; `quiet` says nothing of what is left."""
        if self._finished is not None:
            return self._finished
        deadline = clock.monotonic() + timeout
        self.close_journal(deadline)
        rows = self._rows.rows
        try:
            self._delivery.wait(deadline)
            if self._console is not None and self._delivery.ships:
                self._console.wait(deadline)
        finally:  # Also when Ctrl-C ends the waiting: then it is not begun again at exit.
            self._delivery.stop(deadline, join=not in_signal())
            self._finished = self._answer(rows)
            _live.let_go(cast("Run", self))
        if self._delivery.ships and not self._delivery.ack().done and not quiet:
            left = self._finished.rows_left
            what = f"{left} rows were" if left else "the end of the run was"
            why = f". {self._finished.trouble}" if self._finished.trouble else ""
            warn(f"{what} not shipped within {timeout:g} s; what is left is kept in {self._finished.folder} and shipped by the agent once Kafka answers{why}")
        return self._finished

    def _answer(self, rows: int) -> Finished:
        """What `finish` says of so many rows. A forked child that has logged nothing has nothing to ship, and what its parent logged is its parent's."""
        ack, folder = self._delivery.ack(), self._delivery.folder
        if self._journal is None and self._settings.mode != "disabled":
            return Finished(shipped=False, rows_left=0, folder=None, trouble="nothing was recorded, since no journal could be written")
        if folder is not None and not ack.done:
            return Finished(shipped=False, rows_left=max(0, rows - ack.rows - ack.rows_aside), folder=folder, trouble=self._delivery.trouble)
        aside = f"{ack.rows_aside} rows were refused by Kafka for good and set aside beside the journals" if ack.rows_aside else ""
        return Finished(shipped=not aside, rows_left=0, folder=folder, trouble=aside)

    def after_fork(self) -> None:
        """In a forked child: acknowledgements, agent and end are the parent's until the child logs and so begins a journal of its own."""
        self._delivery.forget()
        self._finished = self._ending = self._console = None
        self._rows.after_fork()

    def begun_in_child(self) -> None:
        """A forked child has begun a journal of its own."""
        if self._journal is not None:
            self._delivery.follow(self._journal)
