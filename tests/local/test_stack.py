"""The supervisor and `Stack` with real processes: small stand-ins where the stack's own parts are not the point."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runstream_local.errors import PartError, StackError
from runstream_local.kafka import is_healthy
from runstream_local.overview import rows, troubles
from runstream_local.parts import Health, Part, standard_parts
from runstream_local.ports import HOST, choose_port, is_free, recall, remember
from runstream_local.stack import Stack, stop_stack
from runstream_local.stack_file import Lock, PartRecord, StackRecord, is_locked, read_stack
from runstream_local.supervision import Policy
from runstream_local.supervisor import Supervisor
from runstream_schemas import settings
from tests.local.clickhouse_clients import post
from tests.local.kafka_clients import make_topic, produce, read_all


def sleeper(name: str, *, tier: int = 0, code: str = "", stop_timeout_s: float = 5.0) -> Part:
    """A part that runs until it is told to stop."""
    return Part(name, (sys.executable, "-c", f"import time\n{code}\ntime.sleep(600)"), Health("alive"), tier=tier, stop_timeout_s=stop_timeout_s)


def stack_of(data: Path, *parts: Part) -> Stack:
    """A stack of such parts and nothing else."""
    return Stack(data=data, parts=(), extra_parts=parts)


def is_gone(pid: int) -> bool:
    """Says whether no living process has the pid; a zombie is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    """Waits until the condition holds, and fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_part_comes_back_with_another_pid(tmp_path: Path) -> None:
    """The death of a part is seen at once, it is started again, and the others are left alone."""
    with stack_of(tmp_path, sleeper("a"), sleeper("b", tier=1)) as stack:
        other = stack.pid("b")
        killed = stack.kill("a")
        stack.wait_healthy(10)
        assert stack.pid("a") != killed
        assert stack.part("a").restarts == 1
        assert stack.part("a").last_exit == -signal.SIGKILL
        assert stack.pid("b") == other


def test_leaving_stops_in_reverse_and_leaves_nothing(tmp_path: Path) -> None:
    """After the block no process, no stack.json and no lock remain, and the upper tier ended before the lower."""
    say = "import signal, sys\ndef end(*_):\n open('order', 'a').write(NAME)\n sys.exit(0)\nsignal.signal(signal.SIGTERM, end)"
    with stack_of(tmp_path, sleeper("a", code=say.replace("NAME", "'a'")), sleeper("b", tier=1, code=say.replace("NAME", "'b'"))) as stack:
        pids = [stack.pid("a"), stack.pid("b")]
        time.sleep(0.3)  # until the handlers are set
    assert (tmp_path / "order").read_text() == "ba"
    assert all(is_gone(pid) for pid in pids)
    assert not (tmp_path / "stack.json").exists()
    assert not is_locked(tmp_path)
    assert not list((tmp_path / "run").glob("plan-*"))


def test_a_part_that_ignores_sigterm_is_killed_in_time(tmp_path: Path) -> None:
    """The stop is bounded whatever a part does, children it started included."""
    code = "import signal, subprocess, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\nopen('child', 'w').write(str(child.pid))"
    with stack_of(tmp_path, sleeper("deaf", code=code, stop_timeout_s=0.5)) as stack:
        pid = stack.pid("deaf")
        wait_for(lambda: (tmp_path / "child").exists() and bool((tmp_path / "child").read_text()))
        started = time.monotonic()
    assert time.monotonic() - started < 4
    assert is_gone(pid)
    wait_for(lambda: is_gone(int((tmp_path / "child").read_text())))


def test_a_supervisor_killed_hard_takes_its_parts_along(tmp_path: Path) -> None:
    """SIGKILL of the supervisor leaves no process, and the folder can be used again at once."""
    stack = stack_of(tmp_path, sleeper("a"))
    stack.start(detached=True)
    stack.wait_healthy(10)
    record = stack.record
    assert record is not None
    pid = stack.pid("a")
    os.kill(record.supervisor, signal.SIGKILL)
    wait_for(lambda: is_gone(pid))
    assert stack.record is None
    with stack_of(tmp_path, sleeper("a")) as again:
        assert again.pid("a") != pid
    stack.stop()


STARTER = """
import sys, time
from pathlib import Path
from runstream_local.parts import Health, Part, standard_parts
from runstream_local.stack import Stack
part = Part("a", (sys.executable, "-c", "import time; time.sleep(600)"), Health("alive"))
stack = Stack(data=Path(sys.argv[1]), parts=(), extra_parts=(part,))
stack.start()
stack.wait_healthy(10)
print(stack.pid("a"), flush=True)
time.sleep(600)
"""


def test_a_stack_ends_with_its_starter_however_that_ends(tmp_path: Path) -> None:
    """A test run that is killed hard leaves no stack behind."""
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    wait_for(lambda: is_gone(pid) and not is_locked(tmp_path))


def test_a_folder_holds_one_stack(tmp_path: Path) -> None:
    """A second start on the same folder is refused and changes nothing."""
    with stack_of(tmp_path, sleeper("a")) as stack:
        before = stack.record
        with pytest.raises(StackError, match="already runs"):
            stack_of(tmp_path, sleeper("b")).start()
        assert stack.record == before


def test_a_part_that_failed_says_why(tmp_path: Path) -> None:
    """What status shows of a part that was started again: how often, how it ended, and the last line of its log."""
    with stack_of(tmp_path, sleeper("a", code="print('all is well')\nprint('opening the valve', flush=True)"), sleeper("b")) as stack:
        wait_for(lambda: "valve" in (tmp_path / "logs" / "a.log").read_text())
        stack.kill("a")
        stack.wait_healthy(10)
        record = stack.record
        assert record is not None
        found = troubles(rows(record, now=time.time(), memory={}))
        assert found == ["a is healthy, restarted once; last failure: killed by SIGKILL; its log ended with: opening the valve"]


@contextmanager
def supervised(data: Path, part: Part, policy: Policy) -> Generator[None]:
    """Supervises a part with a policy of one's own, from a thread, and stops it."""
    supervisor = Supervisor([part], data=data, settings={}, policy=policy)
    thread = threading.Thread(target=supervisor.run, kwargs={"wake_fds": [], "end_fd": None})
    lock = Lock(data)
    thread.start()
    try:
        yield
    finally:
        supervisor.request_stop()
        thread.join(timeout=20)
        assert not thread.is_alive()
        lock.release()


@pytest.mark.parametrize("how", ["deaf", "stopped"])
def test_a_worker_that_hangs_is_replaced(tmp_path: Path, how: str) -> None:
    """A process whose main loop no longer turns is asked to end, killed when it does not, started again, counted, and said to have hung."""
    ready = tmp_path / "run" / "w.ready"
    ready.parent.mkdir()
    code = f"import os, pathlib, signal, time\nready = pathlib.Path({str(ready)!r})\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "ready.write_text('ready')\nfirst = not os.path.exists('once')\npathlib.Path('once').touch()\nend = time.monotonic() + 5\n"
    code += "while time.monotonic() < end or not first:\n os.utime(ready)\n time.sleep(0.3)\nprint('I hang', flush=True)\n"
    code += "os.kill(os.getpid(), signal.SIGSTOP)" if how == "stopped" else "time.sleep(600)"
    part = Part("w", (sys.executable, "-c", code), Health("file", str(ready)), stop_timeout_s=0.5)

    def record() -> PartRecord | None:
        found = read_stack(tmp_path)
        return None if found is None else found.part("w")

    def replaced() -> bool:
        now = record()
        return now is not None and now.phase == "healthy" and now.restarts == 1

    with supervised(tmp_path, part, Policy(hung_after_s=1.0)):
        wait_for(lambda: (now := record()) is not None and now.phase == "healthy")
        first = record()
        wait_for(replaced, 30)
        second = record()
        assert first is not None
        assert second is not None
        assert first.pid is not None
        assert second.pid != first.pid
        assert is_gone(first.pid)
        assert second.reason == "no sign of life for 1 s, killed by SIGKILL; its log ended with: I hang"
        time.sleep(5)
        assert record() == second


def test_an_older_stack_file_is_read(tmp_path: Path) -> None:
    """A stack.json without what was added later is a stack all the same."""
    lock = Lock(tmp_path)
    part = {"name": "a", "phase": "healthy", "pid": 1, "since": 0.0, "restarts": 0, "address": "", "last_exit": None, "log": "x"}
    record: dict[str, object] = {"supervisor": os.getpid(), "started": 0.0, "state": "running", "settings": {}, "parts": [part]}
    (tmp_path / "stack.json").write_text(json.dumps(record))
    found = read_stack(tmp_path)
    lock.release()
    assert isinstance(found, StackRecord)
    assert found.parts[0].reason == ""


def test_the_folder_of_a_stack_that_was_killed_hard_is_free(tmp_path: Path) -> None:
    """After SIGKILL of the supervisor no settings come from the folder, even where its pid has become another process's; a new one clears the file."""
    (tmp_path / "stack.json").write_text(json.dumps({"supervisor": os.getpid(), "settings": {"kafka": "stack:1"}}))
    assert "kafka" not in settings.load({"home": tmp_path}, {}).model_fields_set
    with stack_of(tmp_path, sleeper("a")):
        assert settings.load({"home": tmp_path}, {}).kafka != "stack:1"


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    """One sentence names the setting and the folder, before anything is fetched or started."""
    (tmp_path / "logs").touch()
    for folder in (Path("/proc/x"), tmp_path):
        with pytest.raises(settings.SettingsError, match=f"'home' \\(--data, RUNSTREAM_HOME\\) .*{folder}"):
            Stack(data=folder, parts=(), extra_parts=(sleeper("a"),)).start()


def test_a_folder_remembers_its_ports(tmp_path: Path) -> None:
    """The ports of the first start are taken at each later one, whatever is usual; each part's own, and only those of parts that run here."""
    first = Stack(data=tmp_path, parts=("clickhouse",))
    assert recall(tmp_path) == {}
    kafka, clickhouse = choose_port(), int(first.clickhouse_url.rpartition(":")[2])
    remember(tmp_path, {"clickhouse": clickhouse})
    remember(tmp_path, {"kafka": kafka})
    for usual in (False, True):
        again = Stack(data=tmp_path, usual_ports=usual)
        assert (again.kafka, again.clickhouse_url, again.notices) == (f"{HOST}:{kafka}", f"http://{HOST}:{clickhouse}", ())


def test_a_remembered_port_that_is_anothers_is_said(tmp_path: Path) -> None:
    """While another program has the port another one is taken, the same each time, and said; afterwards the folder returns to its first."""
    home = choose_port()
    remember(tmp_path, {"kafka": home})
    with socket.create_server((HOST, home)):
        away = Stack(data=tmp_path, parts=("kafka",))
        assert away.kafka != f"{HOST}:{home}"
        assert len(away.notices) == 1
        assert f"port {home}" in away.notices[0]
        assert away.kafka.rpartition(":")[2] in away.notices[0]
        remember(tmp_path, {"kafka": int(away.kafka.rpartition(":")[2])})
        assert Stack(data=tmp_path, parts=("kafka",)).kafka == away.kafka
    assert Stack(data=tmp_path, parts=("kafka",)).kafka == f"{HOST}:{home}"


@pytest.mark.parametrize("broken", ["", "[]", "{", '{"kafka": 1}', '{"kafka": ["x", -1, 70000, null]}', "\x00"])
def test_broken_memory_of_ports_is_none(tmp_path: Path, broken: str) -> None:
    """A file that is not ours is passed over, and replaced at the next start."""
    (tmp_path / "ports.json").write_text(broken)
    assert is_free(int(Stack(data=tmp_path, parts=("kafka",)).kafka.rpartition(":")[2]))
    remember(tmp_path, {"kafka": 20_000})
    assert recall(tmp_path)["kafka"] == [20_000]


def test_memory_of_ports_has_a_bound(tmp_path: Path) -> None:
    """The first port stays, and of the others the latest."""
    for port in range(20_000, 20_020):
        remember(tmp_path, {"kafka": port})
    assert recall(tmp_path)["kafka"] == [20_000, *range(20_013, 20_020)]


@pytest.mark.stack
def test_a_broker_that_moves_says_where_it_is(tmp_path: Path) -> None:
    """A stack comes back on the port that it had; when that is taken, clients find the broker, with its data, on the other one."""
    with Stack(data=tmp_path, parts=("kafka",)) as stack:
        topic = make_topic(stack.kafka, partitions=1)
        produce(stack.kafka, topic, [b"1"])
        home = int(stack.kafka.rpartition(":")[2])
    assert recall(tmp_path) == {"kafka": [home]}
    with socket.create_server((HOST, home)), Stack(data=tmp_path, parts=("kafka",)) as stack:
        assert stack.kafka != f"{HOST}:{home}"
        produce(stack.kafka, topic, [b"2"])
        assert read_all(stack.kafka, topic, count=2) == [b"1", b"2"]
    with Stack(data=tmp_path, parts=("kafka",)) as stack:
        assert stack.kafka == f"{HOST}:{home}"
        assert read_all(stack.kafka, topic, count=2) == [b"1", b"2"]


@pytest.mark.parametrize(("code", "times"), [(2, ""), (7, " 3 times")])
def test_a_part_that_cannot_start_is_named_with_its_words(tmp_path: Path, code: int, times: str) -> None:
    """Waiting ends with the part's name, how it ended and what it said; nothing is left running."""
    bad = Part("bad", (sys.executable, "-c", f"import sys; print('the reason'); sys.exit({code})"), Health("file", "never"), tier=1)
    with pytest.raises(PartError, match=f"bad did not start{times} \\(exit code {code}\\): [^$]*the reason") as caught:
        stack_of(tmp_path, sleeper("a"), bad).__enter__()
    assert caught.value.part == "bad"
    assert caught.value.wrong_settings == (code == 2)
    assert code != 2 or "\n" not in str(caught.value)
    assert not is_locked(tmp_path)


@pytest.mark.stack
def test_another_stack_s_broker_is_not_taken_for_its_own(tmp_path: Path, kafka: str) -> None:
    """Where two stacks were given one port at the same moment, the one that came second says so in place of working on the other's broker."""
    port = int(kafka.rpartition(":")[2])
    (part,) = standard_parts(("kafka",), data=tmp_path, kafka_port=port, controller_port=choose_port(), clickhouse_port=1, host=HOST, env={})
    with pytest.raises(PartError, match=f"kafka did not start 3 times .*port {port} on {HOST} is taken by another program"):
        stack_of(tmp_path, part).__enter__()
    assert not is_locked(tmp_path)


def test_a_task_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    """A task may find its service not quite there yet."""
    code = "import pathlib, sys\np = pathlib.Path('tried')\nif p.exists(): sys.exit(0)\np.touch()\nsys.exit(1)"
    with stack_of(tmp_path, Part("task", (sys.executable, "-c", code), Health("exit")), sleeper("b", tier=1)) as stack:
        assert stack.part("task").phase == "done"
        assert stack.part("task").restarts == 1


def test_a_ready_file_of_an_earlier_life_does_not_count(tmp_path: Path) -> None:
    """A worker is healthy when it says so itself, after each start anew."""
    ready = tmp_path / "run" / "w.ready"
    code = f"import time, pathlib\ntime.sleep(0.5)\npathlib.Path({str(ready)!r}).write_text('ready\\n')\ntime.sleep(600)"
    with stack_of(tmp_path, Part("w", (sys.executable, "-c", code), Health("file", str(ready)))) as stack:
        stack.kill("w")
        assert stack.part("w").phase != "healthy"
        stack.wait_healthy(10)


def test_an_unknown_part_is_said(tmp_path: Path) -> None:
    """A typo in a part's name is an error with the names there are."""
    with pytest.raises(PartError, match="kafka, clickhouse, topics"):
        Stack(data=tmp_path, parts=("kafak",))


@pytest.mark.stack
def test_services_survive_their_own_death_and_the_stacks(tmp_path: Path) -> None:
    """Broker and engine, killed hard one after the other and then stopped in order, hold what they had acknowledged; settings find them by folder."""
    with Stack(data=tmp_path, parts=("kafka", "clickhouse")) as stack:
        found = settings.load({"home": tmp_path}, {})
        assert (found.kafka, found.clickhouse_url) == (stack.kafka, stack.clickhouse_url)
        topic = make_topic(stack.kafka, partitions=2)
        produce(stack.kafka, topic, [b"1", b"2"])
        post(stack.clickhouse_url, "CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
        assert post(stack.clickhouse_url, "INSERT INTO t FORMAT CSV\n1\n").status == 200
        for name in ("kafka", "clickhouse"):
            stack.kill(name)
        stack.wait_healthy(60)
        assert read_all(stack.kafka, topic, count=2) == [b"1", b"2"]
    with Stack(data=tmp_path, parts=("kafka", "clickhouse")) as stack:
        assert post(stack.clickhouse_url, "SELECT * FROM t").text == "1\n"
        assert read_all(stack.kafka, topic, count=2) == [b"1", b"2"]
    assert not is_healthy(stack.kafka, timeout_s=0.5)


def test_asking_whether_a_stack_runs_never_keeps_one_from_starting(tmp_path: Path) -> None:
    """Readers that poll the lock without a pause do not make a supervisor believe that another one holds it."""
    (tmp_path / "supervisor.lock").touch()
    ask = "import sys\nfrom pathlib import Path\nfrom runstream_local.stack_file import is_locked\nwhile True: is_locked(Path(sys.argv[1]))"
    readers = [subprocess.Popen([sys.executable, "-c", ask, str(tmp_path)]) for _ in range(3)]
    try:
        time.sleep(0.5)
        for _ in range(20):
            lock = Lock(tmp_path)
            assert is_locked(tmp_path)
            lock.release()
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def test_a_lock_that_is_held_is_refused(tmp_path: Path) -> None:
    """A second supervisor gives up after a moment."""
    lock = Lock(tmp_path)
    with pytest.raises(BlockingIOError):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    """`down` twice, or on an empty folder, is fine."""
    assert stop_stack(tmp_path) is False
    (tmp_path / "stack.json").write_text(json.dumps({"supervisor": 1}))
    assert stop_stack(tmp_path) is False
