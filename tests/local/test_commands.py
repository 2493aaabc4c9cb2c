"""The commands of the embedded stack, run as people run them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from runstream_local.ports import choose_port
from runstream_local.stack import Stack
from runstream_local.stack_file import is_locked, read_stack
from tests.local.clickhouse_clients import post

# Nothing of the user's own settings and stack: neither variables nor what lies in the usual home folder.
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")} | {"RUNSTREAM_HOME": "/nonexistent/runstream"}


def runstream(*arguments: str, env: dict[str, str] | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runstream.cli", *arguments],
        env={**CLEAN, **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def processes_of(folder: Path) -> list[str]:
    """Returns the command lines of living processes that name the folder."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def wait_until_gone(folder: Path) -> None:
    """Waits until no process of the folder's stack is left, and fails when one is."""
    deadline = time.monotonic() + 30
    while is_locked(folder) or processes_of(folder):
        assert time.monotonic() < deadline, processes_of(folder)
        time.sleep(0.05)


def test_no_stack_is_said_by_each_command(tmp_path: Path) -> None:
    """Without a stack, status says so with 1, down with 0, and sql names the way to one with 2; nobody shows a traceback."""
    # The usual address may answer: somebody may run a ClickHouse there.
    (tmp_path / "config.toml").write_text(f'clickhouse_url = "http://127.0.0.1:{choose_port()}"\n')
    answers = [runstream(*words, "--data", str(tmp_path)) for words in (["status"], ["down"], ["sql", "SELECT 1"], ["runs"])]
    assert [answer.returncode for answer in answers] == [1, 0, 2, 2]
    assert all("no stack runs on" in answer.stdout for answer in answers[:2])
    assert all(len(answer.stderr.splitlines()) == 1 and "RUNSTREAM_CLICKHOUSE_URL" in answer.stderr for answer in answers[2:])
    assert json.loads(runstream("status", "--json", "--data", str(tmp_path)).stdout)["state"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "env", "names"),
    [
        (["--kafka", "127.0.0.1:1"], {}, "--kafka"),
        ([], {"RUNSTREAM_KAFKA": "127.0.0.1:1"}, "RUNSTREAM_KAFKA"),
        (["--clickhouse", "http://127.0.0.1:1"], {}, "--clickhouse"),
        (["--clickhouse", "localhost:8123"], {}, "clickhouse_url"),
        ([], {"RUNSTREAM_KAFAK": "x"}, "RUNSTREAM_KAFKA"),
        ([], {"RUNSTREAM_NOTIFY": "zzz://x"}, "RUNSTREAM_NOTIFY"),
        (["--data", "/proc/x"], {}, "RUNSTREAM_HOME"),
        (["--data", "/etc/passwd"], {}, "/etc/passwd is no folder"),
    ],
)
def test_wrong_settings_are_one_sentence(tmp_path: Path, arguments: list[str], env: dict[str, str], names: str) -> None:
    """A service that does not answer, or a setting that is none, ends `up` with 2 and a sentence that names it; nothing is started."""
    answer = runstream("up", "--data", str(tmp_path), *arguments, env=env)
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert names in answer.stderr
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_names_the_way_round(tmp_path: Path) -> None:
    """Where Kafka cannot be fetched, `up` says so in one sentence with --kafka in it."""
    broken = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": "", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    answer = runstream("up", "--data", str(tmp_path / "data"), env=broken)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "connect to the network once, or point --kafka" in answer.stderr.splitlines()[-1]


@pytest.mark.stack
def test_a_part_that_refuses_its_settings_ends_up_with_2(tmp_path: Path) -> None:
    """Where only the part itself can tell, its exit code 2 becomes that of `up`, with its last line as the reason; nothing of the stack stays."""
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "log").touch()
    answer = runstream("up", "--detach", "--data", str(tmp_path))
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stderr.startswith("runstream up: kafka did not start (exit code 2): Kafka's storage tool could not format")
    wait_until_gone(tmp_path)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of ClickHouse alone, for the commands that read."""
    with Stack(data=tmp_path_factory.mktemp("engine"), parts=("clickhouse",)) as stack:
        post(stack.clickhouse_url, "CREATE DATABASE runstream")
        sql = "CREATE VIEW runstream.runs AS SELECT generateUUIDv4(0) AS run_id, 'p' AS project, 'n' AS name, 'finished' AS state,"
        post(stack.clickhouse_url, f"{sql} now64(3) AS started, 2 AS writers, 10 AS points")
        yield stack


@pytest.mark.stack
def test_sql_prints_each_format(engine: Stack) -> None:
    """Table, CSV, JSON and Arrow hold the same answer; NaN is not lost in JSON."""
    sql = "SELECT number AS n, 'ä' AS s, if(n = 1, nan, 0.5) AS v FROM numbers(2)"

    def ask(name: str) -> bytes:
        argv = [sys.executable, "-m", "runstream.cli", "sql", "--data", str(engine.data), "--format", name, sql]
        return subprocess.run(argv, env={**CLEAN, "PYTHONIOENCODING": "utf-8"}, capture_output=True, timeout=60, check=True).stdout

    assert ask("csv").decode() == '"n","s","v"\n0,"ä",0.5\n1,"ä",nan\n'
    assert [json.loads(line) for line in ask("json").splitlines()] == [{"n": 0, "s": "ä", "v": 0.5}, {"n": 1, "s": "ä", "v": "nan"}]
    assert pa.ipc.open_stream(ask("arrow")).read_all().column_names == ["n", "s", "v"]  # pyright: ignore[reportUnknownMemberType]  # untyped
    assert "│ 0 │ ä │ 0.5 │" in ask("table").decode()


@pytest.mark.stack
def test_sql_gives_what_no_format_has_a_word_for_as_its_help_says(engine: Stack) -> None:
    """NaN, infinities, missing values and bytes that are no UTF-8, in json and csv."""
    sql = "SELECT 'a\\xffb' AS s, nan AS v, -inf AS w, NULL::Nullable(Float64) AS n"

    def ask(name: str) -> bytes:
        argv = [sys.executable, "-m", "runstream.cli", "sql", "--data", str(engine.data), "--format", name, sql]
        return subprocess.run(argv, env=CLEAN, capture_output=True, timeout=60, check=True).stdout

    assert ask("csv") == b'"s","v","w","n"\n"a\xffb",nan,-inf,\\N\n'
    assert ask("json") == b'{"s":"a\xffb","v":"nan","w":"-inf","n":null}\n'
    told = runstream("sql", "--help").stdout
    assert '"nan"' in told
    assert "UTF-8" in told
    assert "and \\N." in told


@pytest.mark.parametrize(("statement", "stdin"), [("", None), (" \n;", None), ("-", "\n")])
def test_an_empty_statement_is_said(tmp_path: Path, statement: str, stdin: str | None) -> None:
    """There is nothing to run, and nothing is asked."""
    answer = runstream("sql", statement, "--data", str(tmp_path), stdin=stdin)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert len(answer.stderr.splitlines()) == 1
    assert "expected a SQL statement" in answer.stderr


def test_help_names_every_worker() -> None:
    """What `up` says that it starts is what there is."""
    told = runstream("up", "--help").stdout
    assert all(word in told for word in ("Kafka", "ClickHouse", "topics", "tables", "Faust", "sink", "notifier"))


@pytest.mark.stack
def test_sql_errors_are_one_message(engine: Stack) -> None:
    """ClickHouse's message comes without code and version around it, and the command ends with 1."""
    answer = runstream("sql", "SELECT * FROM nowhere", "--data", str(engine.data))
    assert answer.returncode == 1
    assert re.fullmatch(r"Unknown table expression identifier 'nowhere'.*\(UNKNOWN_TABLE\)\n", answer.stderr, re.DOTALL)
    assert answer.stdout == ""


@pytest.mark.stack
def test_sql_reads_standard_input_and_the_settings(engine: Stack) -> None:
    """A dash reads the statement; the address may come from the environment, and the database is `runstream` unless told."""
    env = {"RUNSTREAM_CLICKHOUSE_URL": engine.clickhouse_url}
    assert runstream("sql", "-", "--format", "csv", env=env, stdin="SELECT currentDatabase() AS d\n").stdout == '"d"\n"runstream"\n'
    other = runstream("sql", "SELECT currentDatabase() AS d", "--format", "csv", "--database", "system", env=env)
    assert other.stdout == '"d"\n"system"\n'


@pytest.mark.stack
def test_sql_into_a_pipe_that_closes_is_no_error(engine: Stack) -> None:
    """`runstream sql ... | head` ends quietly."""
    command = f"{sys.executable} -m runstream.cli sql --data {engine.data} --format csv 'SELECT * FROM numbers(3000000)' | head -2"
    done = subprocess.run(["bash", "-c", command], env=CLEAN, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == '"number"\n0\n'
    assert done.stderr == ""


@pytest.mark.stack
def test_runs_come_from_the_view(engine: Stack) -> None:
    """The list shows what the view `runs` holds."""
    row = json.loads(runstream("runs", "--json", "--data", str(engine.data)).stdout)
    assert (row["project"], row["name"], row["state"], row["writers"], row["points"]) == ("p", "n", "finished", 2, 10)
    assert "finished" in runstream("runs", "--data", str(engine.data)).stdout


@pytest.mark.stack
def test_up_detached_status_and_down(tmp_path: Path) -> None:
    """The whole stack comes up, says how to reach it, is shown, is not started twice, keeps its data over a restart, and goes without a trace."""
    up = runstream("up", "--detach", "--data", str(tmp_path))
    try:
        assert up.returncode == 0, up.stderr
        assert up.stdout == f"export RUNSTREAM_HOME={tmp_path}\n"
        env = {"RUNSTREAM_HOME": str(tmp_path)}
        status = json.loads(runstream("status", "--json", env=env).stdout)
        assert status["state"] == "running"
        assert {part["name"]: part["state"] for part in status["parts"]} == {
            "kafka": "healthy",
            "clickhouse": "healthy",
            "topics": "done",
            "migrate": "done",
            "processors": "healthy",
            "sinks": "healthy",
            "notifier": "healthy",
        }
        assert all(part["memory_bytes"] > 1e7 for part in status["parts"] if part["state"] == "healthy")
        assert runstream("sql", "CREATE TABLE kept (a Int32) ENGINE = MergeTree ORDER BY a", env=env).returncode == 0
        before = read_stack(tmp_path)
        again = runstream("up", env=env)
        assert again.returncode == 0
        assert "already runs" in again.stderr
        assert read_stack(tmp_path) == before
    finally:
        down = runstream("down", "--data", str(tmp_path))
    assert (down.returncode, down.stdout) == (0, f"the stack on {tmp_path} has stopped\n")
    wait_until_gone(tmp_path)
    with Stack(data=tmp_path, parts=("clickhouse",)) as stack:
        assert post(stack.clickhouse_url, "SELECT count() FROM runstream.kept").text == "0\n"


def start_up(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Starts `runstream up` in the foreground of a terminal of its own; returns it and the terminal."""
    terminal, inner = pty.openpty()
    argv = [sys.executable, "-m", "runstream.cli", "up", "--data", str(folder)]
    env = {**CLEAN, "TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, env=env, start_new_session=True)
    os.close(inner)
    return child, terminal


def read_terminal(terminal: int, until: str, timeout_s: float) -> str:
    """Reads what the terminal shows until a text appears, and fails when it does not in time."""
    text = ""
    deadline = time.monotonic() + timeout_s
    while until not in text:
        assert time.monotonic() < deadline, text[-3000:]
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 65536).decode(errors="replace")
    return text


@pytest.mark.stack
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_up_in_the_foreground_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and even SIGKILL of `runstream up`, in the middle of the start, end every part."""
    child, terminal = start_up(tmp_path)
    try:
        read_terminal(terminal, "clickhouse", 30)
        assert processes_of(tmp_path)
        os.kill(child.pid, number)
        # The terminal must be read, or the command would wait for it.
        while child.poll() is None:
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    os.read(terminal, 65536)
                except OSError:  # the other end has closed
                    break
        assert child.wait(timeout=40) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        wait_until_gone(tmp_path)
    finally:
        os.close(terminal)


@pytest.mark.stack
def test_up_without_a_terminal_prints_plain_lines(tmp_path: Path) -> None:
    """Each change of a part is one line, and `down` from elsewhere ends the foreground too, with 0."""
    argv = [sys.executable, "-m", "runstream.cli", "up", "--data", str(tmp_path)]
    with subprocess.Popen(argv, env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        lines: list[str] = []
        for line in child.stderr:
            lines.append(line.strip())
            if " is up: " in line:
                runstream("down", "--data", str(tmp_path))
        assert child.wait(timeout=40) == 0
    assert any(re.fullmatch(r"kafka is healthy \(pid \d+\) at 127\.0\.0\.1:\d+", line) for line in lines)
    assert not any("\x1b" in line for line in lines)
    wait_until_gone(tmp_path)
