"""`python -m runstream._console.helper`: reads what a training process writes, shows it at once where it went before, and records it as events in a journal of its own.

A thread a stream, so that one that is shown on a terminal which waits keeps no other one. It outlives the training process, however that ends, until nobody has its streams open
any more: the last words of a killed process are shown and recorded.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runstream._console import wire
from runstream._console.lines import Budget, Line, Lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_producers.journal.writer import JournalWriter

READ_BYTES = 256 << 10
TICK_S = 0.5
DRAIN_S = 2.0  # For what lies in the pipes when the run ends.
SEGMENT_BYTES = 1 << 20
BYTES_MAX = 256 << 20
EARLY_LINES_MAX = 10_000  # That come before the journal is open, which takes a fraction of a second.


class Recorder:
    """Writes lines as events; before the journal is open it keeps them, and once the run has ended it writes none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._early: list[tuple[str, int, Line]] = []
        self._journal: JournalWriter | None = None
        self._closed = False

    def open(self, folder: Path, identity_text: str) -> Path | None:
        """Opens the journal; gives its folder, or None where none can be written."""
        from runstream_producers.errors import JournalError
        from runstream_producers.journal.format import Identity
        from runstream_producers.journal.writer import JournalWriter
        from runstream_schemas import ids

        def identity() -> Identity:
            rank = Identity.from_json(identity_text)
            return replace(rank, writer=ids.new_writer(), kind="console", pid=os.getpid(), started_ms=time.time_ns() // 1_000_000, environment={})

        def report(_key: str, _sentence: str) -> None:
            """Nobody reads what a helper says; what a journal has no room for is counted in it."""

        try:
            journal = JournalWriter(folder, identity, segment_bytes=SEGMENT_BYTES, bytes_max=BYTES_MAX, report=report)
        except (OSError, JournalError):
            self.close()
            return None
        with self._lock:
            early, self._early = self._early, []
            self._journal = journal
            for stream, time_ms, line in early:
                self._write(stream, time_ms, line)
        return journal.folder.path

    def take(self, stream: str, lines: Iterable[Line]) -> None:
        """Records lines of a stream."""
        found = list(lines)
        if not found or self._closed:
            return
        time_ms = time.time_ns() // 1_000_000
        with self._lock:
            for line in found:
                if self._journal is not None:
                    self._write(stream, time_ms, line)
                elif len(self._early) < EARLY_LINES_MAX and not self._closed:
                    self._early.append((stream, time_ms, line))

    def _write(self, stream: str, time_ms: int, line: Line) -> None:
        from runstream_producers.journal.format import Kind
        from runstream_schemas import ids

        metadata: dict[str, object] = {"text": line.text}
        if line.left_out:
            metadata |= {"lines": line.left_out, "bytes": line.bytes_left_out, "reason": line.reason}
        payload = {
            "event_id": ids.new_uuid(),
            "time_ms": time_ms,
            "name": "console_left_out" if line.left_out else "console",
            "source": stream,
            "subject": "",
            "step": None,
            "metadata": {name: json.dumps(value) for name, value in metadata.items()},
        }
        if self._journal is not None and not self._closed:
            self._journal.record(Kind.EVENT, payload)

    def tick(self) -> None:
        """What a journal wants to be done beside its calls."""
        if self._journal is not None:
            self._journal.flush_drops()

    def give_up(self) -> None:
        """Records nothing any more."""
        self._closed = True

    def close(self) -> None:
        """Ends the journal."""
        with self._lock:
            self._closed = True
            self._early.clear()
            if self._journal is not None:
                self._journal.close("finished", "the console ended")


class Relay:
    """One stream: shows what comes, then has it recorded."""

    def __init__(self, stream: wire.Stream, budget: Budget, recorder: Recorder, helper: Helper) -> None:
        self.stream = stream
        self._lines = Lines(budget)
        self._recorder = recorder
        self._helper = helper
        self._lock = threading.Lock()
        self.over = False
        self.thread = threading.Thread(target=self._run, name=f"relay-{stream.name}")

    def _run(self) -> None:
        source = self.stream.source
        waiting = select.poll()
        waiting.register(source, select.POLLIN)
        while True:
            waiting.poll()
            with self._lock:
                data = os.read(source, READ_BYTES)
                if not data:
                    break
                self._helper.read(self.stream, data)
                self._record(self._lines.feed(data, time.monotonic()))
        self._record(self._lines.end(time.monotonic()))
        self.over = True

    def _record(self, lines: Iterable[Line]) -> None:
        """Has lines recorded; whatever goes wrong with that, what comes is shown."""
        try:
            self._recorder.take(self.stream.name, lines)
        except Exception:  # noqa: BLE001 - a mistake of ours must not keep training's words from its terminal; nobody reads what a helper says
            self._recorder.give_up()

    def tick(self, now: float) -> None:
        """Looks after lines that are not over; not while it shows something."""
        if self._lock.acquire(blocking=False):
            try:
                if not self.over:
                    self._record(self._lines.tick(now))
            finally:
                self._lock.release()

    def drained(self, deadline: float) -> bool:
        """Whether everything that was written by now has been shown and taken, by `deadline` of the monotonic clock; then its last line is taken, too."""
        while time.monotonic() < deadline:
            if self.over:
                return True
            if self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                try:
                    if waiting_bytes(self.stream.source) == 0:
                        self._record(self._lines.end(time.monotonic()))
                        return True
                finally:
                    self._lock.release()
            time.sleep(0.002)
        return False


class Helper:
    """The whole of it: relays, recorder, and the words from the training process."""

    def __init__(self, orders: wire.Orders) -> None:
        self._orders = orders
        self._page = wire.Page(orders.page)
        self._counts = threading.Lock()
        self._reads = self._showing = 0
        self._recorder = Recorder()
        budget = Budget(orders.lines_per_s)
        self._relays = [Relay(one, budget, self._recorder, self) for one in orders.streams]

    def read(self, stream: wire.Stream, data: bytes) -> None:
        """Notes that something was read, and shows it. Ends this process where nobody reads what is shown any more, so that the training process meets that as it would without us."""
        self._count(1)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(stream.shown, left) :]
        except BrokenPipeError:
            self._recorder.close()
            os._exit(0)
        except OSError:
            pass  # A terminal that is gone, a disk that is full: it is recorded all the same.
        finally:
            self._count(0)

    def _count(self, begun: int) -> None:
        with self._counts:
            self._reads += begun
            self._showing += 1 if begun else -1
            self._page.put(self._reads, self._showing)

    def run(self) -> None:
        """Works until nobody has the streams open."""
        for relay in self._relays:
            relay.thread.start()
        journal = self._recorder.open(Path(self._orders.folder), self._orders.identity)
        if journal is not None:
            self._answer(f"{wire.JOURNAL}{journal}")
        control = select.poll()
        control.register(self._orders.control, select.POLLIN)
        heard = True
        while not all(relay.over for relay in self._relays):
            events = control.poll(TICK_S * 1000) if heard else time.sleep(TICK_S)
            if events:
                word = os.read(self._orders.control, 16)
                if wire.END in word:
                    self._end()
                heard = bool(word)  # The training process has died, or been replaced; its children may write on.
            for relay in self._relays:
                relay.tick(time.monotonic())
            self._recorder.tick()
        self._recorder.close()

    def _end(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        for relay in self._relays:
            relay.drained(deadline)
        self._recorder.close()
        self._answer(wire.DRAINED)

    def _answer(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._orders.answers, f"{line}\n".encode("utf-8", "surrogateescape"))


def waiting_bytes(descriptor: int) -> int:
    """Bytes that lie in a pipe."""
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))[0]


def main() -> None:
    """Runs the helper with the orders of its argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    Helper(wire.Orders.from_json(sys.argv[1])).run()


if __name__ == "__main__":
    main()
