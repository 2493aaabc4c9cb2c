"""The console of real processes: what the terminal sees, what is recorded, and what happens when a process, its children or the helper end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from runstream_producers.journal import format as fmt
from tests.producers.journals import raw_rows
from tests.waiting import wait_for

BEGIN = """
import os, signal, subprocess, sys, time
import runstream
from runstream import _console
run = runstream.init("console", mode="offline", console=True, capture="none")
"""


@dataclass
class Scripts:
    """Runs scripts with a run whose console is recorded; `folder` is where their journals lie."""

    folder: Path
    environ: dict[str, str]

    def start(self, body: str, *, stdin: int | None = None, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Starts a script; its stdout and stderr are pipes unless said otherwise."""
        return subprocess.Popen([sys.executable, "-u", "-c", BEGIN + body], env=self.environ, stdin=stdin, stdout=stdout, stderr=stderr)

    def run(self, body: str, *, stderr: int = subprocess.PIPE) -> tuple[bytes, bytes, int]:
        """What a script wrote to stdout and stderr as somebody sees it, and its exit code; once nobody has them open."""
        with self.start(body, stderr=stderr) as process:
            try:
                out, errors = process.communicate(timeout=30)
            finally:
                process.kill()
        return out or b"", errors or b"", process.returncode

    def events(self) -> list[tuple[str, str]]:
        """Stream and text of what was recorded, once the helper has ended its journal."""
        found: list[tuple[str, str]] = []
        for folder in sorted((self.folder / "offline").glob("w-*")):
            identity = fmt.Identity.from_json((folder / "writer.json").read_text())
            if identity.kind == "console":
                wait_for((folder / "end.json").exists, 10, "the console's journal to end")
                payloads = [json.loads(row.payload) for row in raw_rows(folder, identity.writer) if row.kind == fmt.Kind.EVENT]
                found += [(one["source"], json.loads(one["metadata"]["text"])) for one in payloads]
        return found

    def texts(self) -> list[str]:
        """What was recorded, without its stream."""
        return [text for _, text in self.events()]


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Scripts whose journals lie in a folder of the test; no helper of theirs is left, not even one that a test has stopped."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
    yield Scripts(tmp_path, kept | {"RUNSTREAM_HOME": str(tmp_path / "home"), "RUNSTREAM_JOURNAL_DIR": str(tmp_path)})
    for process in psutil.process_iter(["cmdline"]):
        if any(str(tmp_path) in word for word in process.info["cmdline"] or ()) and process.pid != os.getpid():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def test_everything_that_is_written_is_seen_and_recorded(scripts: Scripts) -> None:
    """Python's prints, writes to the descriptors, C's and children's: each goes where it went before, at once, and is recorded under its stream. After the run nothing is."""
    out, errors, code = scripts.run("""
print("print")
print("warning", file=sys.stderr)
os.write(1, b"descriptor\\n")
subprocess.run(["sh", "-c", "echo child; echo trouble >&2"])
import ctypes
ctypes.CDLL(None).puts(b"from C")
print("using password=hunter2")
print("no end", end="")
run.finish()
print("\\nafter")
subprocess.run(["echo", "child after"])
""")
    assert code == 0
    assert out == b"print\ndescriptor\nchild\nfrom C\nusing password=hunter2\nno end\nafter\nchild after\n"
    assert errors == b"warning\ntrouble\n"
    assert [text for stream, text in scripts.events() if stream == "stderr"] == ["warning", "trouble"]
    assert [text for stream, text in scripts.events() if stream == "stdout"] == ["print", "descriptor", "child", "from C", "using password=[hidden]", "no end"]


def test_nothing_is_recorded_unless_asked_for(scripts: Scripts) -> None:
    """Off is the default: descriptors are left alone, and no helper is started."""
    quiet = BEGIN.replace("console=True, ", "")
    done = subprocess.run(
        [sys.executable, "-c", f"{quiet}\nprint(os.environ.get('_RUNSTREAM_CONSOLE'))"], env=scripts.environ, capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b"None\n"
    assert scripts.texts() == []


def test_one_place_keeps_one_order(scripts: Scripts) -> None:
    """Where stdout and stderr go to the same place they come there in the order in which they were written, to the last line, and so they are recorded."""
    out, _, _ = scripts.run(
        'for number in range(300):\n    print(number)\n    print(number, file=sys.stderr)\nrun.finish()\nprint("end")', stderr=subprocess.STDOUT
    )
    wanted = [str(number) for number in range(300) for _ in (0, 1)]
    assert out.decode().split() == [*wanted, "end"]
    assert scripts.events() == [("stdout+stderr", text) for text in wanted]


def test_a_terminal_sees_lines_at_once(scripts: Scripts) -> None:
    """On a terminal each line of Python and of C is there while the process waits, before anything ends."""
    master, slave = pty.openpty()
    process = scripts.start(
        'import ctypes\nprint("python")\nctypes.CDLL(None).puts(b"c")\nsys.stdin.readline()', stdin=subprocess.PIPE, stdout=slave, stderr=slave
    )
    try:
        os.close(slave)
        seen = b""
        deadline = time.monotonic() + 20
        while b"c\r\n" not in seen and time.monotonic() < deadline:
            seen += os.read(master, 1000)
        assert seen == b"python\r\nc\r\n"
    finally:
        process.communicate(b"\n", timeout=20)
        os.close(master)
    assert scripts.texts() == ["python", "c"]


@pytest.mark.parametrize(
    "ending",
    ["os.kill(os.getpid(), 9)", "os._exit(3)", "os.kill(os.getpid(), 15)", "1 / 0", "sys.exit(2)"],
    ids=["sigkill", "exit", "sigterm", "raises", "sys-exit"],
)
def test_last_words_are_seen_and_recorded(scripts: Scripts, ending: str) -> None:
    """However a process ends, what it wrote until then is shown and recorded, tracebacks included."""
    out, errors, code = scripts.run(f'print("first")\nprint("last")\nsys.stdout.flush()\n{ending}')
    assert code != 0
    assert out == b"first\nlast\n"
    texts = scripts.texts()
    # What one stream had is in order; two pipes have none between them.
    assert [one for one in texts if one in ("first", "last")] == ["first", "last"]
    assert (b"ZeroDivisionError" in errors) == ("ZeroDivisionError: division by zero" in texts) == ("/" in ending)


def test_a_child_that_lives_on_is_seen_until_its_end(scripts: Scripts) -> None:
    """A child that outlives the run writes where it did; what it writes after the run has ended is not recorded, and what it writes after its parent was killed is."""
    body = 'child = subprocess.Popen(["sh", "-c", "read line; echo late"], stdin=subprocess.PIPE)\nprint("run")\n'
    out, _, _ = scripts.run(f"{body}run.finish()\nchild.communicate(b'x\\n')")
    assert out == b"run\nlate\n"
    assert scripts.texts() == ["run"]
    out, _, _ = scripts.run(f"{body}sys.stdout.flush()\nos.kill(os.getpid(), 9)")
    assert out == b"run\nlate\n", "its pipe ends with its parent"
    assert scripts.texts().count("late") == 1


def test_forked_children_are_heard_and_end_nothing(scripts: Scripts) -> None:
    """Forked children, those that log among them, are recorded as their parent is; their end is not the end of it."""
    out, _, _ = scripts.run("""
for number in range(3):
    if os.fork() == 0:
        run.log({"loss": 1.0})
        print("child", number, flush=True)
        os._exit(0)
    os.wait()
import multiprocessing
def work(): print("worker", flush=True)
process = multiprocessing.get_context("fork").Process(target=work)
process.start(); process.join()
print("parent")
run.finish()
""")
    assert out.decode().splitlines() == ["child 0", "child 1", "child 2", "worker", "parent"]
    assert scripts.texts() == ["child 0", "child 1", "child 2", "worker", "parent"]


def test_programs_that_are_started_do_not_record_twice(scripts: Scripts) -> None:
    """A program with a run of its own whose console is that of the process above leaves it to that; one whose streams go elsewhere records its own."""
    child = BEGIN.replace('"console"', '"below"') + 'print("below")'
    out, _, _ = scripts.run(f"subprocess.run([sys.executable, '-c', {child!r}])\nprint('above')\nrun.finish()")
    assert out == b"below\nabove\n"
    assert scripts.texts() == ["below", "above"]


def test_a_second_run_leaves_the_console_to_the_first(scripts: Scripts) -> None:
    """One console is recorded for one run: the second is told so; once the first has ended another has it."""
    _, errors, _ = scripts.run("""
second = runstream.init("console", mode="offline", console=True, capture="none")
print("first")
run.finish()
print("nobody")
third = runstream.init("console", mode="offline", console=True, capture="none")
print("third")
""")
    assert errors.count(b"another run of this process has it") == 1
    assert sorted(text for stream, text in scripts.events() if stream == "stdout") == ["first", "third"]


HELPER = "helper = run._console._helper\n"


def test_a_helper_that_dies_takes_nothing_with_it(scripts: Scripts) -> None:
    """Killed in the middle, it leaves training and its children their streams, and it is told; nothing that was written before or after is missing, and nothing fails."""
    out, errors, code = scripts.run(f"""
{HELPER}os.write(1, b"before\\n")
child = subprocess.Popen(["sh", "-c", "read line; echo child"], stdin=subprocess.PIPE)
while run._console._page.get() != (1, 0): time.sleep(0.01)
os.kill(helper, signal.SIGSTOP)
print("meanwhile", flush=True)
os.kill(helper, signal.SIGKILL)
while run._console.active: time.sleep(0.01)
print("after", flush=True)
child.communicate(b"x\\n")
run.log({{"loss": 1.0}})
time.sleep(0.1)
run.finish()
""")
    assert code == 0
    assert out == b"before\nmeanwhile\nafter\nchild\n"
    assert b"recorded no more" in errors


def test_a_helper_that_stalls_is_done_without(scripts: Scripts) -> None:
    """One that reads no more keeps training waiting for some seconds at most, even where far more is written than a pipe holds; then streams are as they were before."""
    out, errors, code = scripts.run(f"""
_console.capture.STALL_S = 0.2
_console.capture._LOOK_S = 0.1
{HELPER}os.write(1, b"before\\n")
while run._console._page.get() != (1, 0): time.sleep(0.01)
os.kill(helper, signal.SIGSTOP)
for number in range(3):
    os.write(1, b"x" * (1 << 20) + b"\\n")
print("after")
run.finish()
""")
    assert code == 0
    assert [len(part) for part in out.split(b"\n")] == [6, *[1 << 20] * 3, 5, 0]
    assert b"recorded no more" in errors


def test_nobody_who_reads_is_met_as_without_us(scripts: Scripts) -> None:
    """`train | head` ends the training by its broken pipe, as it does without a console."""
    process = scripts.start("try:\n    while True:\n        print('x' * 1000)\nexcept BrokenPipeError:\n    os._exit(7)")
    try:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(30) == 7
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def test_a_flood_reaches_the_terminal_whole(scripts: Scripts) -> None:
    """A hundred thousand lines are all shown; some are recorded, and how many were left out is one event."""
    out, _, _ = scripts.run("for number in range(100_000):\n    print('line', number)\nrun.finish()")
    assert out == b"".join(b"line %d\n" % number for number in range(100_000))
    texts = scripts.texts()
    left_out = [text for text in texts if text.endswith("lines left out")]
    assert len(left_out) == 1
    assert len(texts) - 1 + int(left_out[0].split()[0]) == 100_000


@pytest.mark.parametrize("closed", [">&-", "2>&-"], ids=["stdout", "stderr"])
def test_a_process_without_streams_runs_on(scripts: Scripts, closed: str) -> None:
    """Where a descriptor is closed from the start there is nothing to record, and whoever has its number by now keeps it; it is told, and the run is as any other."""
    script = (
        f"import logging\nlogging.basicConfig(filename={str(scripts.folder / 'log')!r})\n{BEGIN}\nrun.log({{'loss': 1.0}})\nassert run.finish(0).rows_left >= 0"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script], env=scripts.environ, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0
    assert "without stdout or stderr" in (scripts.folder / "log").read_text()


def test_no_process_and_no_descriptor_is_left(scripts: Scripts) -> None:
    """When a run has ended its helper is gone, and the process has the descriptors that it had."""
    out, errors, _ = scripts.run("""
run.finish()
before = sorted(os.listdir("/proc/self/fd"))
for _ in range(3):
    with runstream.init("console", mode="offline", console=True, capture="none") as one:
        print("x")
        helper = one._console._helper
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{helper}") and time.monotonic() < deadline: time.sleep(0.01)
def left():
    # Descriptors that are new, but for a run's map of what is acknowledged.
    new = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd") if number not in before]
    return [os.readlink(path) for path in new if os.path.exists(path) and not os.readlink(path).endswith("/ack")]
while left() and time.monotonic() < deadline: time.sleep(0.01)
print(os.path.exists(f"/proc/{helper}"), left())
""")
    assert out == b"x\nx\nx\nFalse []\n", errors


def test_what_somebody_else_put_at_a_descriptor_stays(scripts: Scripts) -> None:
    """A file that training has put in the place of stdout meanwhile is not taken away by the end of the run; what it saved of ours and puts back later is shown."""
    out, _, code = scripts.run("""
print("before")
kept = os.dup(1)
file = os.open(os.environ["RUNSTREAM_JOURNAL_DIR"] + "/file", os.O_WRONLY | os.O_CREAT)
os.dup2(file, 1)
run.finish()
print("into the file")
os.dup2(kept, 1)
print("after")
""")
    assert code == 0
    assert out == b"before\nafter\n"
    assert (scripts.folder / "file").read_text() == "into the file\n"
    assert scripts.texts() == ["before"]
