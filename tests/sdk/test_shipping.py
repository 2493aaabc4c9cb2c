"""From `log` to the topics, on a real broker: everything arrives, whatever is killed on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runstream
from runstream import _agent
from runstream_schemas import records as rec
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.rank import expected, row
from tests.told import make, told
from tests.waiting import wait_for

pytestmark = pytest.mark.stack


def start_rank(place: Place, counts: Path, rows: int, pause_s: float) -> subprocess.Popen[str]:
    """A rank in a process of its own."""
    make(counts)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sdk.rank", str(counts), str(rows), str(pause_s)], env=place.environ, stdout=subprocess.PIPE, text=True
    )


def returned(counts: Path) -> int:
    """How many calls of a rank have returned."""
    [number] = told(counts)
    return number


def test_everything_that_is_logged_arrives(place: Place) -> None:
    """Rows, params, events, rules and what is said of the run are on their topics, the writer's account balances, and its journal is gone."""
    run = runstream.init("tests", "all", config={"lr": 0.1}, tags=["x"], owner="me", metadata={"a": 1})
    rule = run.alert_on("loss", ">", 1e6, severity="critical", channels=["slack"])
    for number in range(3000):
        run.log(row(number), step=number)
    run.log({"accuracy": 0.5}, step=7, time=1.7e9, context=runstream.Context.VALIDATION, subject="model/x/1")
    event = run.log_event("checkpoint_started", metadata={"bytes": 5}, source="trainer", step=3, subject="checkpoint/1")
    done = run.finish(timeout=20)
    assert (done.shipped, done.rows_left) == (True, 0), place.log()
    assert (run.points_logged, run.points_shipped, run.rows_shipped) == (9001, 9001, 3001 + 4)
    assert done.folder is not None
    wait_for(lambda: not Path(str(done.folder)).exists(), 5, "the journal to go")

    frames = place.read("metric", MetricFrame)
    assert check_account(frames, until=3001 + 4) == 0
    ledger = ledger_of(frames)
    [validation] = [seq for seq, points in ledger.items() if any(context for context, *_ in points)]
    assert ledger.pop(validation) == {("validation", "model/x/1", "accuracy", 7, struct.pack("<d", 0.5))}
    assert ledger == expected(3000, first_seq=3)
    assert {frame.run_id for frame in frames} == {run.id}
    assert frames[-1].rules_seen == 1
    [said] = place.read("run", rec.Run)
    assert (said.run_id, said.name, said.owner, said.tags, said.metadata, said.seq) == (run.id, "all", "me", ("x",), {"a": "1"}, 0)
    [param] = place.read("param", rec.Param)
    assert (param.key, param.kind, param.value, param.seq) == ("lr", "float", "0.1", 1)
    [registered] = place.read("rule", rec.Rule)
    assert (registered.rule_id, registered.ordinal, registered.threshold, registered.channels) == (rule, 1, 1e6, ("slack",))
    [happened] = place.read("event", rec.Event)
    assert (happened.event_id, happened.name, happened.source, happened.step, happened.subject) == (event, "checkpoint_started", "trainer", 3, "checkpoint/1")
    assert happened.metadata == {"bytes": "5"}
    [state] = place.last_states().values()
    assert (state.state, state.exit_reason, state.next_seq) == ("finished", "", 3005)
    assert (state.rows_logged, state.rows_shipped, state.points_logged, state.points_shipped) == (3005, 3005, 9001, 9001)
    assert state.points_dropped == {}
    assert len(place.read("schema", rec.Schema)) >= 10


def test_points_survive_an_agent_that_is_killed_again_and_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent is killed three times while a rank logs: the SDK starts another each time, and every point arrives."""
    monkeypatch.setattr(_agent, "WATCH_S", 0.1)
    monkeypatch.setattr(_agent, "START_PAUSE_S", 1.0)
    run = runstream.init("tests", "killed agents")
    stop = threading.Event()
    logged = 0

    def work() -> None:
        nonlocal logged
        while not stop.is_set():
            run.log(row(logged), step=logged)
            logged += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    killed: set[int] = set()
    try:
        agent = 0
        for _ in range(3):
            agent = place.wait_for_agent(other_than=agent)
            shipped = run.rows_shipped
            wait_for(lambda before=shipped: run.rows_shipped > before, 20, place.log)
            os.kill(agent, signal.SIGKILL)
            killed.add(agent)
    finally:
        stop.set()
        thread.join()
    done = run.finish(timeout=30)
    assert len(killed) == 3
    assert done.shipped, place.log()
    frames = place.read("metric", MetricFrame)
    check_account(frames, until=logged + 1)
    assert ledger_of(frames) == expected(logged, first_seq=1)
    [state] = place.last_states().values()
    assert (state.state, state.rows_logged, state.rows_shipped) == ("finished", logged + 1, logged + 1)


def test_a_rank_that_is_killed_is_shipped_and_ends_as_crashed(place: Place, tmp_path: Path) -> None:
    """After SIGKILL every call that had returned is on the topic, the writer's last record says crashed, and the journal goes."""
    counts = tmp_path / "counts"
    rank = start_rank(place, counts, 10_000_000, 0.0)
    try:
        wait_for(lambda: returned(counts) > 2000, 20, "the rank to log")
    finally:
        rank.kill()
        rank.wait()
        rank.communicate()
    rows = returned(counts)
    wait_for(lambda: any(one.state != "running" for one in place.last_states().values()), 30, place.log)
    [state] = place.last_states().values()
    assert state.state == "crashed"
    assert "without a word" in state.exit_reason
    frames = place.read("metric", MetricFrame)
    ledger = ledger_of(frames)
    assert rows <= len(ledger) <= rows + 1
    assert ledger == expected(len(ledger), first_seq=1)
    check_account(frames, until=len(ledger) + 1)
    assert state.rows_logged == state.rows_shipped == len(ledger) + 1
    wait_for(lambda: not list(place.folder.glob("w-*")), 5, "the journal to go")


def test_two_ranks_and_their_agent_end_by_themselves(place: Place, tmp_path: Path) -> None:
    """Ranks that start at once share one agent; each gets its answer from finish, and the agent idles out."""
    ranks = [start_rank(place, tmp_path / f"counts-{number}", 500, 0.001) for number in range(2)]
    answers = [rank.communicate(timeout=60)[0] for rank in ranks]
    assert all("shipped=True, rows_left=0" in answer for answer in answers), answers
    frames = place.read("metric", MetricFrame)
    writers = {frame.writer for frame in frames}
    assert len(writers) == 2
    for writer in writers:
        assert ledger_of(frames, writer) == expected(500, first_seq=1)
    wait_for(lambda: place.agent() == 0, 10, "the agent to idle out")
    assert "agent ends" in place.log()


def test_the_agent_holds_nothing_of_its_parent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its own session and working directory, and no descriptor of the process that started it, inheritable ones included."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    try:
        run = runstream.init("tests", "descriptors")
        agent = place.wait_for_agent()
        assert os.getsid(agent) == agent != os.getsid(0)
        assert Path(f"/proc/{agent}/cwd").readlink() == Path("/")
        pipe = str(Path(f"/proc/self/fd/{write_end}").readlink())
        held: set[str] = set()
        for one in Path(f"/proc/{agent}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                held.add(str(one.readlink()))
        assert pipe not in held
        names = {Path(f"/proc/{agent}/fd/{number}").readlink() for number in (1, 2)}
        assert names == {place.folder / "agent.log"}
        assert Path(f"/proc/{agent}/fd/0").readlink() == Path("/dev/null")
        ours: set[str] = set()
        for one in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                ours.add(str(one.readlink()))
        shared = {name for name in held & ours if name.startswith(("pipe:", "socket:")) or name.endswith((".seg", "lock"))}
        assert shared == set()
        run.finish(timeout=20)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_pipeline_ends_with_its_script(place: Place) -> None:
    """`python script | cat` ends as soon as the script has, though the agent lives on."""
    environ = place.environ | {"RUNSTREAM_AGENT_IDLE_TIMEOUT": "8"}
    script = "import runstream; run = runstream.init('tests'); run.log({'a': 1.0}); print(run.finish(20).shipped)"
    began = time.monotonic()
    with subprocess.Popen(["sh", "-c", f'{sys.executable} -c "{script}" | cat'], env=environ, stdout=subprocess.PIPE, text=True) as pipeline:
        out, _ = pipeline.communicate(timeout=20)
    assert out.strip() == "True"
    assert time.monotonic() - began < 7
    agent = place.wait_for_agent()
    os.kill(agent, signal.SIGTERM)
    wait_for(lambda: place.agent() == 0, 8, "the agent to end at SIGTERM")
