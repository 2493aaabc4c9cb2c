"""How a process ends, and what its run says of it: scripts that really exit, are killed, fork, spawn and hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import runstream
from runstream import _ends, _hooks
from runstream_producers.journal import format as fmt
from tests.producers.cluster import Place
from tests.producers.journals import read_back
from tests.sdk.conftest import Offline
from tests.waiting import wait_for

BEGIN = "import os, signal, sys, time, runstream\nrun = runstream.init('p')\nrun.log({'a': 1.0})\n"
TERM_SELF = "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(20)\n"
# Blocks in C with the GIL released, whatever signals come: what a collective does whose other ranks are gone.
HANG = "import ctypes; mutex = ctypes.create_string_buffer(64); c = ctypes.CDLL(None); c.pthread_mutex_lock(mutex); print('hangs', flush=True); c.pthread_mutex_lock(mutex)\n"


def run_script(offline: Offline, script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, from its beginning to its end."""
    return subprocess.run([sys.executable, "-c", script], env=offline.place.environ | environ, capture_output=True, text=True, timeout=60, check=False)


def ends(offline: Offline) -> list[tuple[str, str]]:
    """State and reason of all journals; `running` where a journal has no end."""
    out: list[tuple[str, str]] = []
    for folder in offline.folders():
        path = folder / "end.json"
        end = fmt.End.from_json(path.read_text()) if path.exists() else fmt.End("running", "", 0, 0, {})
        out.append((end.state, end.reason))
    return sorted(out)


@pytest.mark.parametrize(
    ("script", "status", "state", "reason"),
    [
        ("sys.exit(3)", 3, "failed", "exit code 3"),
        ("sys.exit('no disk')", 1, "failed", "exit: no disk"),
        ("sys.exit()", 0, "finished", ""),
        ("sys.exit(False)", 0, "finished", ""),
        ("with run:\n    raise SystemExit(4)", 4, "failed", "exit code 4"),
        ("with run:\n    raise SystemExit", 0, "finished", ""),
        ("try:\n    sys.exit(3)\nexcept SystemExit:\n    run.log({'a': 2.0})", 0, "finished", ""),
        ("import threading\nt = threading.Thread(target=sys.exit, args=(3,))\nt.start(); t.join()", 0, "finished", ""),
        ("1 / 0", 1, "failed", "ZeroDivisionError: division by zero"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "killed", "SIGINT (KeyboardInterrupt)"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(20)", -signal.SIGINT, "killed", "SIGINT (KeyboardInterrupt)"),
        ("run.fail('no convergence'); sys.exit(0)", 0, "failed", "no convergence"),
        ("run.mark_preempted('spot'); sys.exit(143)", 143, "preempted", "spot"),
        ("run.mark_preempted(); " + TERM_SELF, -signal.SIGTERM, "preempted", ""),
        (TERM_SELF, -signal.SIGTERM, "killed", "SIGTERM"),
    ],
)
def test_an_end_has_its_state_and_reason(offline: Offline, script: str, status: int, state: str, reason: str) -> None:
    """The exit status is what it would be without us, and the run says how the process ended."""
    done = run_script(offline, BEGIN + script)
    assert done.returncode == status, done.stderr
    assert ends(offline) == [(state, reason)]


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_handler_of_the_user_decides(offline: Offline, order: str) -> None:
    """A handler that was there before is called by ours; one put later on top calls ours, which then ends nothing: either way the user's says what becomes of the process."""
    before = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))\n"
    after = (
        "below = signal.getsignal(signal.SIGTERM)\ndef mine(number, frame):\n    below(number, frame)\n    sys.exit(7)\nsignal.signal(signal.SIGTERM, mine)\n"
    )
    script = before + BEGIN + TERM_SELF if order == "before" else BEGIN + after + TERM_SELF
    done = run_script(offline, script)
    assert done.returncode == 7, done.stderr
    assert ends(offline) == [("killed", "SIGTERM")]


ASYNCIO = """
import asyncio, os, signal, sys, runstream
async def main():
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    if sys.argv[1] == "below": loop.add_signal_handler(signal.SIGTERM, asked.set)
    run = runstream.init("p")
    run.log({"a": 1.0})
    if sys.argv[1] == "above": loop.add_signal_handler(signal.SIGTERM, asked.set)
    loop.call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(asked.wait(), 10)
    run.log({"a": 2.0})
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("place", "status", "state", "points"), [("below", 0, "killed", 2), ("above", 0, "finished", 2), ("nowhere", -signal.SIGTERM, "killed", 1)]
)
def test_handlers_of_asyncio(offline: Offline, place: str, status: int, state: str, points: int) -> None:
    """A handler of asyncio's is called and stops the program as it likes, whether it was there before us or came later; without one SIGTERM ends a loop that waits."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASYNCIO, place], env=offline.place.environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")
    [folder] = offline.folders()
    end = fmt.End.from_json((folder / "end.json").read_text())
    assert (end.state, end.points) == (state, points)


def test_an_ignored_signal_stays_ignored(offline: Offline) -> None:
    """Where SIGTERM is ignored, or handled in C, no handler of ours is put."""
    script = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nimport faulthandler; faulthandler.register(signal.SIGUSR1)\n" + BEGIN
    script += "assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN\nassert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL\n"
    script += "os.kill(os.getpid(), signal.SIGTERM)\nos.kill(os.getpid(), signal.SIGUSR1)\n"
    done = run_script(offline, script, RUNSTREAM_PREEMPTION_SIGNALS="SIGUSR1")
    assert done.returncode == 0, done.stderr
    assert "Current thread" in done.stderr
    assert ends(offline) == [("finished", "")]


def test_a_signal_of_preemption(offline: Offline) -> None:
    """SIGUSR1 with a handler of the user's is noted and handled; without one it is left alone unless it is named, and then ends the process as it would have."""
    handled = "import signal, sys\nsignal.signal(signal.SIGUSR1, lambda number, frame: sys.exit(0))\n"
    usr1 = "os.kill(os.getpid(), signal.SIGUSR1)\ntime.sleep(20)\n"
    assert run_script(offline, handled + BEGIN + usr1).returncode == 0
    assert ends(offline) == [("preempted", "SIGUSR1")]
    assert run_script(offline, BEGIN + "assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL\n" + usr1).returncode == -signal.SIGUSR1
    assert ends(offline) == [("preempted", "SIGUSR1"), ("running", "")]
    assert run_script(offline, BEGIN + usr1, RUNSTREAM_PREEMPTION_SIGNALS="SIGUSR1 SIGUSR2").returncode == -signal.SIGUSR1
    assert ends(offline) == [("preempted", "SIGUSR1"), ("preempted", "SIGUSR1"), ("running", "")]


def test_sigterm_ends_a_process_whose_main_thread_hangs(offline: Offline) -> None:
    """A handler of Python's would wait for ever for a main thread that hangs in C; the process dies of SIGTERM all the same, and its run says so."""
    with subprocess.Popen([sys.executable, "-c", BEGIN + HANG], env=offline.place.environ, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "hangs\n"
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == -signal.SIGTERM
        assert time.monotonic() - began < _hooks.STUCK_S + _hooks.SIGNAL_TIMEOUT_S + 3
    assert ends(offline) == [("killed", "SIGTERM")]


def test_a_child_that_hangs_dies_of_sigterm_at_once(offline: Offline) -> None:
    """A forked child that has logged nothing has the signals that it would have without us: pools terminate workers that hang in C."""
    script = BEGIN + "pid = os.fork()\nif pid == 0:\n    " + HANG.replace("\n", "\n    ")
    script += "\ntime.sleep(1); began = time.monotonic(); os.kill(pid, signal.SIGTERM)\n"
    script += "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM; assert time.monotonic() - began < 1\n"
    done = run_script(offline, script)
    assert done.returncode == 0, done.stderr
    assert ends(offline) == [("finished", "")]


def test_hooks_chain_and_are_put_once(offline: Offline) -> None:
    """The user's excepthook still gets the exception, several runs and a reloaded module put no hook twice, and a run begun before a reload still ends well."""
    script = "import sys\ncalls = []\nsys.excepthook = lambda *error: print('mine', error[0].__name__, flush=True)\n" + BEGIN
    script += "hooks = sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)\nother = runstream.init('p')\nimport importlib\n"
    script += "for name in ('_live', '_finish', '_run', '_hooks', '_begin', '_init'):\n    importlib.reload(sys.modules['runstream.' + name])\n"
    script += "third = sys.modules['runstream._init'].init('p')\nassert hooks == (sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM))\n1 / 0"
    done = run_script(offline, script)
    assert done.returncode == 1
    assert done.stdout == "mine ZeroDivisionError\n"
    assert ends(offline) == [("failed", "ZeroDivisionError: division by zero")] * 3


def test_init_in_another_thread(offline: Offline) -> None:
    """A run that begins outside of the main thread takes no signals, and ends well."""
    script = "import threading, runstream\nt = threading.Thread(target=lambda: runstream.init('p').log({'a': 1.0}))\nt.start(); t.join()\n"
    script += "import signal; assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL"
    done = run_script(offline, script)
    assert done.returncode == 0, done.stderr
    assert ends(offline) == [("finished", "")]


def test_a_session_that_begins_again(offline: Offline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a person works line by line, another init finishes the run before it and says so; in a script runs stand side by side."""
    first, second = runstream.init("p"), runstream.init("p")
    assert first.alive
    assert second.alive
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    third = runstream.init("p")
    assert (first.alive, second.alive, third.alive) == (True, False, True)
    [warning] = [record.getMessage() for record in caplog.records if record.name == "runstream"]
    assert second.id in warning


MULTIPROCESSING = """
import multiprocessing as mp, os, signal, sys, time
import runstream

def work(number):
    run = runstream.attach()
    run.log({"child": float(number)}, step=number)
    if number == 3:
        raise ValueError("three")
    return run.id

def main(method, kind):
    context = mp.get_context(method)
    run = runstream.init("p")
    run.log({"parent": 1.0}, step=0)
    if kind == "process":
        children = [context.Process(target=work, args=(number,)) for number in range(2, 5)]
        for child in children: child.start()
        for child in children: child.join(20)
        assert [child.exitcode for child in children] == [0, 1, 0]
    else:
        pool = context.Pool(2)
        assert set(pool.map(work, [0, 1, 2, 4], chunksize=1)) == {run.id}
        pool.close()
        pool.join()

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["process", "pool"])
def test_children_of_multiprocessing(offline: Offline, tmp_path: Path, method: str, kind: str) -> None:
    """However they are started, children join their parent's run as writers of their own, and end as what they are though they leave by os._exit."""
    (tmp_path / "script.py").write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), method, kind], env=offline.place.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    identities = [fmt.Identity.from_json((folder / "writer.json").read_text()) for folder in offline.folders()]
    assert len({one.run_id for one in identities}) == 1
    assert {one.project for one in identities} == {"p"}
    found = ends(offline)
    if kind == "process":
        assert found == [("failed", "ValueError: three")] + [("finished", "")] * 3
    else:
        assert set(found) == {("finished", "")}
    rows = [row for folder, one in zip(offline.folders(), identities, strict=True) for row in read_back(folder, one.writer)]
    assert sorted(row.step for row in rows if "child" in row.values) == ([2, 3, 4] if kind == "process" else [0, 1, 2, 4])


POOL = """
import multiprocessing as mp

def work(row):
    run.log(row)
    time.sleep(0.3)

with mp.get_context("fork").Pool(2) as pool:
    pool.map(work, [{"b": 1.0}, {"b": 2.0}], chunksize=1)
"""


def test_a_pool_that_is_terminated_says_so(offline: Offline) -> None:
    """`with Pool()` ends its workers by a word or by SIGTERM, whichever comes first: those that logged say which, and nothing hangs."""
    done = run_script(offline, BEGIN + POOL)
    assert done.returncode == 0, done.stderr
    found = ends(offline)
    assert len(found) == 3
    assert set(found) <= {("finished", ""), ("killed", "SIGTERM")}


def test_attach_without_a_run(offline: Offline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody above has a run, attach warns once and records nothing."""
    monkeypatch.delenv("_RUNSTREAM_PARENT", raising=False)
    run = runstream.attach()
    run.log({"a": 1.0})
    assert offline.folders() == []
    [warning] = [record.getMessage() for record in caplog.records if record.name == "runstream"]
    assert "runstream.init" in warning


def test_an_id_keeps_attempts_apart(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same id is the same run at every start, and each start another attempt: by the launcher's count of restarts, else by the writer."""
    runs = [runstream.init("p", id="resnet") for _ in range(2)]
    for name, value in {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    for restarts in ("0", "0", "1"):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
        runs.append(runstream.init("p", id="resnet"))
    assert len({run.id for run in runs}) == 1
    identities = [run._journal.identity for run in runs if run._journal is not None]
    attempts = [one.attempt for one in identities]
    assert attempts[:2] == [f"{one.writer:016x}" for one in identities[:2]]
    assert attempts[2] == attempts[3] != attempts[4]


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (SystemExit(None), _ends.FINISHED),
        (SystemExit(2), _ends.Ending("failed", "exit code 2")),
        (KeyboardInterrupt(), _ends.Ending("killed", "SIGINT (KeyboardInterrupt)")),
        (ValueError("x" * 600), _ends.Ending("failed", "ValueError: " + "x" * 488)),
    ],
)
def test_endings(error: BaseException, ending: _ends.Ending) -> None:
    """What an exception means for the run."""
    assert _ends.of_exception(error) == ending


def test_an_exception_whose_text_raises() -> None:
    """It is named all the same."""

    class RudeError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert _ends.of_exception(RudeError()) == _ends.Ending("failed", "RudeError: ")


@pytest.mark.stack
def test_sigterm_is_shipped_and_quick(place: Place) -> None:
    """With an agent the state killed, and why, reach the topic, and SIGTERM ends the process within its bound."""
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + "print('on', flush=True)\ntime.sleep(30)"], env=place.environ, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "on\n"
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=20) == -signal.SIGTERM
        assert time.monotonic() - began < _hooks.SIGNAL_TIMEOUT_S + 2
    wait_for(lambda: any(one.state != "running" for one in place.last_states().values()), 20, place.log)
    [state] = place.last_states().values()
    assert (state.state, state.exit_reason, state.rows_shipped) == ("killed", "SIGTERM", 2)


@pytest.mark.stack
def test_init_does_not_wait(place: Place) -> None:
    """With the agent running, init takes less than 50 ms, as the best of several; with Kafka out of reach it does not wait either."""

    def best_s(begin: Callable[[], runstream.Run]) -> float:
        times: list[float] = []
        for _ in range(5):
            began = time.monotonic()
            run = begin()
            times.append(time.monotonic() - began)
            run.finish(20)
        return min(times)

    first = runstream.init("p")
    place.wait_for_agent()
    assert best_s(lambda: runstream.init("p", config={"lr": 0.1})) < 0.05
    first.finish(20)
    assert os.environ["RUNSTREAM_KAFKA"] == place.kafka


GRACEFUL = """
from runstream import _hooks
_hooks.STUCK_S = 0.4
sys.setswitchinterval(0.3)  # The thread that watches for a stuck main thread comes to look only once the handler is gone again.
ours = signal.signal(signal.SIGTERM, lambda *_: None)
os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, ours)
until = time.monotonic() + 1.5
"""
COMPUTES = "while time.monotonic() < until:\n    sum(range(1000))\n"
WAITS = "import subprocess\nsubprocess.run(['sleep', '1.5'], check=True)\n"
NOHUP = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"


@pytest.mark.parametrize(
    ("before", "goes_on", "last"),
    [("", COMPUTES, signal.SIGTERM), ("", WAITS, signal.SIGTERM), ("", WAITS, signal.SIGHUP), (NOHUP, WAITS, signal.SIGTERM)],
    ids=["computes", "waits", "waits-then-sighup", "waits-under-nohup"],
)
def test_a_signal_that_a_handler_of_the_user_took_for_a_moment_ends_nothing(offline: Offline, before: str, goes_on: str, last: signal.Signals) -> None:
    """A handler that stands for a part of a program, takes a SIGTERM and goes, leaves the process running, though ours stands there again when the signal is looked at, and though the
    main thread then waits for long. The next signal means what it means.
    """
    script = f"run.log({{'after': 1.0}})\nprint('went on', flush=True)\nos.kill(os.getpid(), {int(last)})\n"
    done = run_script(offline, before + BEGIN + GRACEFUL + goes_on + script)
    assert (done.stdout, done.returncode) == ("went on\n", -last), done.stderr
    assert ends(offline) == [("killed", last.name)]
