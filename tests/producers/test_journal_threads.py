"""Threads, signal handlers and forks around a log call."""

from __future__ import annotations

import contextlib
import dis
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _typeshed import TraceFunction

from runstream_producers.journal import format as fmt
from runstream_producers.journal import quick
from runstream_producers.journal import writer as writing
from runstream_producers.journal.slow import SlowWay
from runstream_producers.journal.tail import Tail
from tests.producers.journals import Reports, bits, make_writer, raw_rows, read_back, read_writer, run_by_turns, segments

WRITER_CODE = frozenset(
    getattr(owner, name).__code__
    for owner, names in (
        (writing.JournalWriter, ("log", "record", "_record")),
        (SlowWay, ("log", "_plan")),
        (Tail, ("add", "append", "define", "rotate", "_take", "write_drops")),
    )
    for name in names
)


_PLACES = frozenset({"RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"})


class Stop(Exception):
    """What a user's own signal handler raises, such as for a time-out."""


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Sets what SIGALRM does in this test."""
    before = signal.getsignal(signal.SIGALRM)

    def use(action: Callable[[], None]) -> None:
        def handler(_number: int, _frame: FrameType | None) -> None:
            action()

        signal.signal(signal.SIGALRM, handler)

    yield use
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupt_at(place: int, action: Callable[[], None], call: Callable[[], None]) -> bool:
    """Runs `call`, and `action` at the n-th place in the writer's own functions at which the interpreter runs signal handlers; says whether it came so far."""
    count = 0
    done = False
    before: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, _argument: object) -> TraceFunction | None:
        nonlocal count, done
        if frame.f_code not in WRITER_CODE:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode" and not done:
            # Handlers run when a function begins, when a loop goes back and when a call has returned, and nowhere else.
            ran = before.get(frame, "RESUME")
            before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            count += ran in _PLACES
            if count == place:
                done = True
                sys.settrace(None)
                action()
        return trace

    with quick.in_python():  # The compiled call has no place to interrupt.
        sys.settrace(trace)
        try:
            call()
        finally:
            sys.settrace(None)
    return done


def test_eight_threads_write_every_row_once(tmp_path: Path) -> None:
    """Rows of threads that log at once have seqs 0 to n - 1, each row whole and there once, over many rotations."""
    writer = make_writer(tmp_path)
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for step in range(1500):
            writer.log({f"thread-{number}": float(step), f"x-{step % 3}": 1.0}, step=step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    run_by_turns(threads)
    rows = read_writer(writer)
    assert [row.seq for row in rows] == list(range(8 * 1500))
    assert len(segments(writer.folder.path)) > 5
    for number in range(8):
        mine = [row for row in rows if f"thread-{number}" in row.values]
        assert [row.step for row in mine] == list(range(1500))
        assert all(row.values[f"thread-{number}"] == bits(row.step) for row in mine)


def test_a_signal_handler_may_log_at_any_moment(tmp_path: Path, alarm: Callable[[Callable[[], None]], None]) -> None:
    """A handler that logs and records while calls of the same thread run neither blocks nor loses anything."""
    writer = make_writer(tmp_path)
    calls = itertools.count()

    def log_too() -> None:  # It may be interrupted by itself.
        number = next(calls)
        writer.log({"handler": float(number)}, step=number)
        writer.record(fmt.Kind.EVENT, {"name": str(number)})

    alarm(log_too)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    deadline = time.monotonic() + 0.6
    logged = 0
    while time.monotonic() < deadline:
        writer.log({"loop": float(logged), f"x{logged % 50}": 1.0}, step=logged)
        logged += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    handled = next(calls)
    rows = read_writer(writer)
    assert handled > 100
    assert [row.step for row in rows if "loop" in row.values] == list(range(logged))
    assert sorted(row.step for row in rows if "handler" in row.values) == list(range(handled))
    assert sum(row.kind == fmt.Kind.EVENT for row in raw_rows(writer.folder.path, writer.identity.writer)) == handled
    assert writer.seq == logged + 2 * handled


@pytest.mark.parametrize("first", [False, True], ids=["known names", "new names"])
def test_a_handler_logs_at_every_single_place(tmp_path: Path, *, first: bool) -> None:
    """Whatever bytecode of a call is interrupted by a handler that logs, both rows are there, once."""
    place = 0
    while True:
        place += 1
        writer = make_writer(tmp_path / str(place))
        writer.log({"a" if first else "b": 1.0}, step=0)

        def log_too(writer: writing.JournalWriter = writer) -> None:
            writer.log({"handler": 1.0}, step=1)

        def log(writer: writing.JournalWriter = writer) -> None:
            writer.log({"b": 2.0}, step=2)

        reached = interrupt_at(place, log_too, log)
        writer.log({"b": 3.0}, step=3)
        rows = read_writer(writer)
        assert [row.seq for row in rows] == list(range(len(rows)))
        assert sorted(row.step for row in rows) == ([0, 1, 2, 3] if reached else [0, 2, 3])
        writer.close("finished", "")
        if not reached:
            break
    assert place > 10


@pytest.mark.parametrize("how", ["known names", "new names", "rotation", "record", "bad value"])
@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt])
def test_an_exception_of_a_handler_at_any_place_leaves_a_journal_that_goes_on(tmp_path: Path, how: str, kind: type[BaseException]) -> None:
    """Ctrl-C or a time-out that strikes in the middle of a call comes out of it; what a reader saw stays, later rows follow it, no seq is given twice, no lock is left."""
    place = 0
    while True:
        place += 1
        writer = make_writer(tmp_path / str(place))
        writer.log({"b": 0.0, "c": 1.0}, step=0)
        if how == "rotation":
            while writer.tail.offset + 200 < writer.tail.end:
                writer.log({"b": 0.0, "c": 1.0}, step=0)
        before = len(read_writer(writer))

        def stop() -> None:
            raise kind

        def call(writer: writing.JournalWriter = writer) -> None:
            if how == "record":
                writer.record(fmt.Kind.EVENT, {"name": "x"})
            elif how == "bad value":
                writer.log({"b": 1.0, "c": "text"}, step=1)
            else:
                writer.log({"b": 1.0, "c" if how == "known names" else "new": 1.0, **({f"x{n}": 1.0 for n in range(30)} if how == "rotation" else {})}, step=1)

        before_handler = signal.getsignal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: stop())
        raised = False
        reached = False
        try:
            reached = interrupt_at(place, lambda: signal.raise_signal(signal.SIGUSR1), call)
        except kind:
            raised = reached = True
        finally:
            sys.settrace(None)
            signal.signal(signal.SIGUSR1, before_handler)
        assert raised == reached
        seen = read_writer(writer)  # A reader that looks now must never see these rows change.
        for step in (2, 3):
            thread = threading.Thread(target=writer.log, args=({"b": 2.0, "c": 2.0}, step), daemon=True)
            thread.start()
            thread.join(5)
            assert not thread.is_alive()
        rows = read_writer(writer)
        assert rows[: len(seen)] == seen
        assert [row.step for row in rows[before:]] in ([2, 3], [1, 2, 3])
        all_rows = [row for row in raw_rows(writer.folder.path, writer.identity.writer) if row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP)]
        assert [row.seq for row in all_rows] == list(range(writer.seq))
        assert all_rows[-1].points == writer.points == sum(len(row.values) for row in rows)
        writer.close("finished", "")
        if not reached:
            break
    assert place > 10


@pytest.mark.parametrize("how", ["known names", "new names", "record"])
def test_a_handler_may_finish_the_journal_in_the_middle_of_a_call(tmp_path: Path, how: str) -> None:
    """A handler that logs and closes the journal, as before a preemption, keeps its row, whatever call it interrupts and wherever."""
    place = 0
    while True:
        place += 1
        reports = Reports()
        writer = make_writer(tmp_path / str(place), report=reports)
        writer.log({"b": 0.0}, step=0)

        def close(writer: writing.JournalWriter = writer) -> None:
            writer.log({"handler": 1.0}, step=9)
            writer.close("finished", "asked")

        def call(writer: writing.JournalWriter = writer) -> None:
            if how == "record":
                writer.record(fmt.Kind.EVENT, {"name": "x"})
            else:
                writer.log({"b" if how == "known names" else "c": 1.0}, step=1)

        reached = interrupt_at(place, close, call)
        if not reached:
            break
        end = fmt.End.from_json((writer.folder.path / "end.json").read_text())
        rows = [row for row in raw_rows(writer.folder.path, writer.identity.writer) if row.kind in (fmt.Kind.METRICS, fmt.Kind.EVENT)]
        assert [row.step for row in rows if row.kind == fmt.Kind.METRICS].count(9) == 1
        seqs = [row.seq for row in rows]
        assert seqs == sorted(set(seqs))
        assert seqs[-1] < max(end.next_seq, seqs[-1] + (rows[-1].step != 9))
        writer.log({"late": 1.0})
        assert "closed" in reports.keys
    assert place > 10


def test_an_exception_of_a_time_out_is_not_swallowed(tmp_path: Path, alarm: Callable[[Callable[[], None]], None]) -> None:
    """A handler's exception that strikes while a value is turned into a number comes out of log, though what values raise is swallowed."""

    class Slow:
        def __float__(self) -> float:
            time.sleep(5)
            return 1.0

    def stop() -> None:
        raise Stop

    writer = make_writer(tmp_path)
    alarm(stop)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(Stop):
        writer.log({"a": Slow()})
    writer.log({"a": 1.0})
    assert [row.seq for row in read_writer(writer)] == [0]


def test_a_handler_that_logs_and_raises_loses_no_row(tmp_path: Path) -> None:
    """SystemExit out of a handler that logged before: its row is written on the way out."""
    for place in range(1, 9):
        writer = make_writer(tmp_path / str(place))
        writer.log({"b": 0.0}, step=0)

        def leave(writer: writing.JournalWriter = writer) -> None:
            writer.log({"handler": 1.0}, step=9)
            raise SystemExit

        def call(writer: writing.JournalWriter = writer) -> None:
            writer.log({"b": 1.0}, step=1)

        with contextlib.suppress(SystemExit):
            assert not interrupt_at(place, leave, call), "the call went on though the handler raised"
        assert 9 in [row.step for row in read_writer(writer)]


def wait_for_child(pid: int) -> int:
    """The exit code of a forked child, bounded."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def test_a_fork_in_the_middle_of_logging_is_a_writer_of_its_own(tmp_path: Path) -> None:
    """Children forked while threads log begin journals of their own, with seqs from 0; the parent's rows go on as if nothing had been."""
    begun: list[int] = []
    writer = writing.JournalWriter(
        tmp_path,
        _identity_of_process,
        segment_bytes=1 << 16,
        bytes_max=1 << 30,
        report=Reports(),
        begun_in_child=lambda: begun.append(os.getpid()),
    )
    parent = writer.identity.writer
    stop = threading.Event()
    counts = [0] * 4

    def work(number: int) -> None:
        while not stop.is_set():
            writer.log({f"thread-{number}": float(counts[number])}, step=counts[number])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for one in threads:
        one.start()
    codes: list[int] = []
    for child in range(8):
        time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                writer.after_fork()
                assert (writer.seq, writer.points) == (0, 0)
                for step in range(100):
                    writer.log({"child": float(child)}, step=step)
                assert begun == [os.getpid()]
                writer.close("finished", "")
                code = 0
            finally:
                os._exit(code)
        codes.append(wait_for_child(pid))
    stop.set()
    for one in threads:
        one.join()
    assert codes == [0] * 8
    rows = read_writer(writer)
    assert [row.seq for row in rows] == list(range(sum(counts)))
    for number in range(4):
        assert [row.step for row in rows if f"thread-{number}" in row.values] == list(range(counts[number]))
    folders = {folder for folder in tmp_path.glob("w-*") if folder != writer.folder.path}
    assert len(folders) == 8
    for folder in folders:
        one = fmt.Identity.from_json((folder / "writer.json").read_text())
        assert one.writer != parent
        child_rows = read_back(folder, one.writer)
        assert [(row.seq, row.step) for row in child_rows] == [(step, step) for step in range(100)]
        assert fmt.End.from_json((folder / "end.json").read_text()).state == "finished"


def _identity_of_process() -> fmt.Identity:
    from dataclasses import replace

    from tests.producers.journals import identity

    return replace(identity(), pid=os.getpid())


def test_a_child_that_logs_nothing_makes_nothing(tmp_path: Path) -> None:
    """A forked child that only closes what it inherited leaves the parent's journal as it was."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1.0})
    pid = os.fork()
    if pid == 0:
        try:
            writer.after_fork()
            writer.close("finished", "")
            writer.flush_drops()
        finally:
            os._exit(0)
    assert wait_for_child(pid) == 0
    writer.log({"a": 2.0})
    assert [row.seq for row in read_writer(writer)] == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == [writer.folder.path.name]
    assert not (writer.folder.path / "end.json").exists()


def test_a_child_without_a_place_for_its_journal_goes_on(tmp_path: Path) -> None:
    """Where a forked child can make no journal, its calls return, and it is told once."""
    reports = Reports()
    writer = make_writer(tmp_path / "j", report=reports)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            writer.after_fork()
            writer.tail._base = Path("/proc/nowhere")
            for _ in range(100):
                writer.log({"a": 1.0})
            code = 0 if reports.keys == {"child"} and len(reports.told) == 1 and writer.dropped == {"journal_full": 100} else 2
        finally:
            os._exit(code)
    assert wait_for_child(pid) == 0
