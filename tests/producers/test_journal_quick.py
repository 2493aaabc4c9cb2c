"""The compiled log call: it writes what Python's writes, byte for byte, and leaves the rest to it."""

from __future__ import annotations

import enum
import itertools
import json
import os
import runpy
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_producers.journal import format as fmt
from runstream_producers.journal import plans, quick
from runstream_producers.journal.writer import JournalWriter
from tests.producers.journals import Reports, bits, make_writer, raw_rows, read_writer, run_by_turns, segments

pytestmark = pytest.mark.skipif(not quick.COMPILED, reason="the log call was not compiled here: set-up says why")


class Phase(enum.Enum):
    """A context of the user's."""

    WARM = "warm"


class Texts(str):
    """A text that is more than a text."""


class InPython:
    """Counts the calls that were handed to Python."""

    def __init__(self, writer: JournalWriter) -> None:
        self._slow = writer.tail.slow
        self.calls = 0
        writer.tail.slow = self

    def __call__(self, *args: Any, **options: Any) -> None:
        self.calls += 1
        self._slow(*args, **options)


def said(writer: JournalWriter) -> list[tuple[Any, ...]]:
    """All rows of a journal, as their bytes say them, without the moments at which they were written."""
    out: list[tuple[Any, ...]] = []
    for row in raw_rows(writer.folder.path, writer.identity.writer):
        payload = row.payload if row.kind == fmt.Kind.METRICS else {key: value for key, value in json.loads(row.payload).items() if key != "time_ms"}
        out.append((row.kind, row.key_set, row.seq, row.step, row.points, payload))
    return out


NAMES = st.sampled_from(["loss", "lr", "val/loss", "é", "x" * 40, ""])
NUMBERS = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.booleans(), st.floats(width=32).map(np.float32), st.integers(-9, 9).map(np.int64), st.booleans().map(np.bool_)
)
CALLS = st.tuples(
    st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=5),
    st.one_of(st.none(), st.integers(-(2**65), 2**65), st.booleans()),
    st.sampled_from([None, "", "val", Phase.WARM]),
    st.sampled_from(["", None, "model/m/1"]),
)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(st.tuples(CALLS, st.integers(1, 3)), min_size=1, max_size=12))
def test_both_write_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[Any, int]]) -> None:
    """Whatever is logged, each call several times: the journals of the compiled call and of Python's are equal but for the times of their rows."""
    folder = tmp_path_factory.mktemp("both")
    journals: list[list[tuple[Any, ...]]] = []
    for name in ("compiled", "python"):
        writer = make_writer(folder / name)
        for (data, step, context, subject), times in calls:
            for _ in range(times):
                (writer.log if name == "compiled" else writer.tail.slow)(dict(data), step, context=context, subject=subject)
        journals.append(said(writer))
        writer.close("finished", "")
    assert journals[0] == journals[1]


def test_what_it_takes_and_what_it_hands_on(tmp_path: Path) -> None:
    """Usual calls are not handed on once their names are known; unusual ones are, and everything is read back as it was meant."""
    writer = make_writer(tmp_path)
    known = {"a": 1.0, "b": 2}
    writer.log(known)
    writer.log({"a": np.float32(0.5), "b": np.int64(2)}, step=1)
    writer.log(known, context="val")
    writer.log(known, context=Phase.WARM, subject="model/m/1")
    handed = InPython(writer)
    usual: list[Callable[[], None]] = [
        lambda: writer.log(known),
        lambda: writer.log(known, 7),
        lambda: writer.log(known, step=8),
        lambda: writer.log(known, step=None, time=None, source=None, context=None, subject=""),
        lambda: writer.log({"".join(("a",)): True, "b": float("nan")}, step=9),
        lambda: writer.log({"a": np.float32(0.5), "b": np.int64(3)}, step=10),
        lambda: writer.log(known, context="val"),
        lambda: writer.log(known, step=-(2**63), context=Phase.WARM, subject="model/m/1"),
    ]
    for call in usual:
        call()
    assert handed.calls == 0
    unusual: list[Callable[[], None]] = [
        lambda: writer.log({"b": 2, "a": 1.0}, step=20),
        lambda: writer.log({"a": 1.0}, step=21),
        lambda: writer.log({"a": 1.0, "c": 2.0}, step=22),
        lambda: writer.log({"a": 1.0, "b": 10**400}, step=23),
        lambda: writer.log({"a": 1.0, "b": 1j}, step=24),
        lambda: writer.log({"a": 1.0, Texts("b"): 2.0}, step=25),
        lambda: writer.log(known, step=2**64),
        lambda: writer.log(known, time=5.0, step=26),
        lambda: writer.log(known, source="mine", step=27),
        lambda: writer.log({"a": {"x": 1.0}}, step=28),
    ]
    for call in unusual:
        before = handed.calls
        call()
        assert handed.calls == before + 1
    rows = read_writer(writer)
    assert [row.step for row in rows[4:12]] == [1, 7, 8, 2, 9, 10, 1, -(2**63)]
    assert rows[8].values == {"a": bits(1.0), "b": bits(float("nan"))}
    assert rows[9].values == {"a": bits(0.5), "b": bits(3.0)}
    assert [(row.context, row.subject) for row in rows[10:12]] == [("val", ""), ("warm", "model/m/1")]
    with pytest.raises(TypeError):
        writer.log()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        writer.log(known, steps=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        writer.log(known, 1, step=2)  # type: ignore[misc]


def test_a_row_that_it_gave_up_leaves_zeros(tmp_path: Path) -> None:
    """Behind the last row stand zeros, though names or a value turned out to be others in the middle of a row."""
    writer = make_writer(tmp_path)
    names = [f"n{index}" for index in range(30)]
    writer.log(dict.fromkeys(names, 1.0), step=0)
    writer.log({**dict.fromkeys(names, 1.0), "n29": "text"}, step=1)
    other = {**dict.fromkeys(names[:-1], 1.0), "other": 1.0}
    writer.tail.slow = lambda *_args, **_options: None
    writer.log(other, step=2)
    writer.log({**dict.fromkeys(names, 1.0), "n29": 1j}, step=3)
    written = segments(writer.folder.path)[-1].read_bytes()
    assert not any(written[writer.tail.offset :])


class Armed:
    """Reading it as a number runs code: here, what is done while the compiled call is in the middle of a row."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def __float__(self) -> float:
        self._action()
        return 1.0


def test_a_class_that_calls_itself_numpys_runs_no_code_in_the_middle_of_a_row(tmp_path: Path) -> None:
    """Its values are left to Python, where closing the journal from within one is nothing worse than a row that is not recorded."""
    writer = make_writer(tmp_path)
    named = type("float64", (Armed,), {"__module__": "numpy"})
    names = [f"n{index}" for index in range(9)]
    for _ in range(3):
        writer.log(dict.fromkeys(names, named(lambda: None)))
    assert named not in plans.quick_types
    handed = InPython(writer)
    writer.log(dict.fromkeys(names, named(lambda: writer.close("finished", ""))))
    assert handed.calls == 1
    assert len(read_writer(writer)) == 3


@pytest.mark.parametrize("offset", [-8, -(2**63), 1 << 15, 2**63 - 60], ids=["before", "far before", "behind", "far behind"])
def test_it_writes_within_its_segment_alone(tmp_path: Path, offset: int) -> None:
    """Whatever is said of how much is written, a row that would stand outside of the mapping is left to Python."""
    rows = quick.Rows()
    handed: list[Any] = []
    rows.slow = lambda *_args, **_options: handed.append(1)
    rows.learn(1, ("a",), None, "", plans.Scopes().plain, plans.quick_types)
    data = bytearray(1 << 15)
    rows.map, rows.offset, rows.end, rows.direct = data, offset, 2**63 - 1, True
    rows.log({"a": 1.0})
    assert handed == [1]
    assert not any(data)


def test_the_last_step_that_there_is_is_left_to_python(tmp_path: Path) -> None:
    """A step counter that stands at the end of 64 bits is not counted on."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1.0})
    writer.log({"a": 1.0})
    scope = writer._scopes.plain
    scope.next_step = 2**63 - 1
    handed = InPython(writer)
    writer.log({"a": 1.0})
    assert (handed.calls, scope.next_step) == (1, 2**63)


def test_slow_may_be_replaced_by_the_call_that_it_takes(tmp_path: Path) -> None:
    """What takes a call lives until the call is over."""
    rows = quick.Rows()
    ended: list[str] = []

    class Slow:
        def __call__(self, *_: Any) -> str:
            rows.slow = lambda *_args: None
            return "answer"

        def __del__(self) -> None:
            ended.append("gone")

    slow: Any = Slow()
    rows.slow = slow
    del slow
    answer: Any = rows.log({})
    assert (answer, ended) == ("answer", ["gone"])


def test_threads_both_ways_at_once(tmp_path: Path) -> None:
    """Compiled calls, calls in Python, records and drops of several threads: every seq is there once, every row whole, and the account is right."""
    writer = make_writer(tmp_path)
    many = 1500

    def usual(number: int) -> None:
        for step in range(many):
            writer.log({f"t{number}": float(step), "x": 1.0}, step=step)

    def by_python(number: int) -> None:
        for step in range(many):
            writer.log({f"t{number}": float(step), "x": 1.0}, step=step, context="".join(("v", "al")))

    def records(_number: int) -> None:
        for step in range(many // 4):
            writer.record(fmt.Kind.EVENT, {"name": str(step)})
            writer.log({"bad": 1j})
            writer.flush_drops()

    threads = [threading.Thread(target=work, args=(number,)) for number, work in enumerate((usual, by_python, usual, by_python, records))]
    run_by_turns(threads)
    rows = read_writer(writer)
    for number in range(4):
        mine = [row for row in rows if f"t{number}" in row.values]
        assert [row.values[f"t{number}"] for row in mine] == [bits(step) for step in range(many)]
    taken = [row.seq for row in raw_rows(writer.folder.path, writer.identity.writer) if row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP)]
    assert taken == list(range(writer.seq))
    assert writer.points == 8 * many
    assert writer.dropped == {"bad_value": many // 4}


def test_a_journal_that_is_closed_while_threads_log(tmp_path: Path) -> None:
    """What the end says was logged is what is there, and nothing is written after it."""
    for turn in range(20):
        reports = Reports()
        writer = make_writer(tmp_path / str(turn), report=reports)
        writer.log({"a": 0.0}, step=0)
        stop = threading.Event()

        def work(writer: JournalWriter = writer, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                writer.log({"a": 1.0}, step=1)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for one in threads:
            one.start()
        time.sleep(0.002)
        writer.close("finished", "")
        stop.set()
        for one in threads:
            one.join()
        end = fmt.End.from_json((writer.folder.path / "end.json").read_text())
        rows = read_writer(writer)
        assert [row.seq for row in rows] == list(range(end.next_seq))
        assert end.points == len(rows)
        writer.log({"a": 2.0})
        assert "closed" in reports.keys
        assert len(read_writer(writer)) == len(rows)


@pytest.fixture
def timer() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Has something done every 200 microseconds by a signal handler."""
    before = signal.getsignal(signal.SIGALRM)

    def use(action: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda _number, _frame: action())
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)

    yield use
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_handlers_between_compiled_calls(tmp_path: Path, timer: Callable[[Callable[[], None]], None]) -> None:
    """Handlers that log the same names as the loop that they interrupt lose nothing and write nothing twice."""
    writer = make_writer(tmp_path)
    calls = itertools.count()
    writer.log({"who": 0.0, "n": -1.0})
    timer(lambda: writer.log({"who": 1.0, "n": float(next(calls))}, step=0))
    deadline, logged = time.monotonic() + 0.4, 0
    while time.monotonic() < deadline:
        writer.log({"who": 2.0, "n": float(logged)}, step=logged)
        logged += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    handled = next(calls)
    rows = read_writer(writer)
    assert handled > 20
    for who, count in ((1.0, handled), (2.0, logged)):
        assert sorted(struct.unpack("<d", row.values["n"])[0] for row in rows if row.values["who"] == bits(who)) == list(range(count))
    assert [row.seq for row in rows] == list(range(writer.seq))


def test_it_keeps_nothing_once_plans_are_forgotten(tmp_path: Path) -> None:
    """Names, contexts and scopes are let go with their segment, and a writer with its last reference."""
    writer = make_writer(tmp_path)
    keys, context = tuple(f"k{index}-{os.getpid()}" for index in range(3)), "context " * 2
    counts = [sys.getrefcount(one) for one in (*keys, context)]
    for turn in range(100):
        writer.tail.learn(turn, keys, context, "", writer._scopes.plain, set())
    writer.tail.forget_plans()
    assert [sys.getrefcount(one) for one in (*keys, context)] == counts


SCRIPT = """
import json, sys
if sys.argv[1] == "not built":
    sys.modules["runstream_producers.journal._quick"] = None
import runstream
run = runstream.init("tests", mode="offline")
for step in range(100):
    run.log({"loss": 1.0 / (step + 1)}, step=step)
print(json.dumps([type(run.log).__name__, run.points_logged]))
run.finish()
"""


@pytest.mark.parametrize(("how", "asked"), [("not built", ""), ("asked", "false"), ("compiled", "")], ids=["not built", "asked", "compiled"])
def test_python_alone(tmp_path: Path, how: str, asked: str) -> None:
    """Where the compiled call was not built, or is not wanted, a process records the same without it."""
    environment = os.environ | {"RUNSTREAM_JOURNAL_DIR": str(tmp_path), "RUNSTREAM_HOME": str(tmp_path)} | ({"RUNSTREAM_COMPILED": asked} if asked else {})
    ended = subprocess.run([sys.executable, "-c", SCRIPT, how], env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ended.stdout.splitlines()[0]) == ["builtin_function_or_method" if how == "compiled" else "method", 100]


def test_a_machine_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what is missing and leaves no file behind."""
    folder = Path(__file__).parents[2] / "producers"
    source = folder / "src" / "runstream_producers" / "journal" / "_quick.c"
    compile_into = runpy.run_path(str(folder / "build_quick.py"))["compile_into"]
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    assert "no-such-compiler" in compile_into(source, tmp_path / "_quick.so")
    monkeypatch.setenv("CC", "false")
    assert compile_into(source, tmp_path / "_quick.so") == "false ended with 1"
    assert not list(tmp_path.iterdir())
