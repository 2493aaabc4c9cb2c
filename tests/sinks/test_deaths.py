"""Workers that die, freeze or lose their connection at the worst moments: every view shows what was sent, each record once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.sinks import examples
from tests.sinks.dies_at import POINT
from tests.sinks.expected import expected
from tests.sinks.replays import frames_of, shown, wait_until_stored
from tests.sinks.test_tables import new_run
from tests.sinks.workers import PARTITIONS, SHORT_SESSION, Pipe, Sent, wait_for

if TYPE_CHECKING:
    from tests.sinks.proxy import Proxy

pytestmark = pytest.mark.stack


def records_of(run_id: str, first: int) -> list[Sent]:
    """Records of some kinds: 120 points of three writers, and rows of other tables; each once."""
    run = run_id.encode()
    return [
        *(("metric", frame.writer.to_bytes(8, "big"), frame) for frame in frames_of(run_id, first=first)),
        ("event", run, examples.event(run_id, seq=first)),
        ("param", run, examples.param(run_id, f"lr-{first}", "float", "0.1")),
        ("summary", run, examples.summary(run_id)),
    ]


def through(proxy: Proxy) -> dict[str, str]:
    """The environment of a worker behind the proxy, which is missed soon."""
    return {"RUNSTREAM_CLICKHOUSE_URL": proxy.url, **SHORT_SESSION}


def repeats(pipe: Pipe) -> int:
    """Rows in the table of points beyond those that its view shows."""
    return pipe.count("metric_points") - pipe.count("metrics")


def test_a_worker_killed_at_each_point_loses_and_doubles_nothing(pipe: Pipe, proxy: Proxy) -> None:
    """SIGKILL after the poll, in the middle of an insert, after the insert and before the commit: whoever comes next stores the rest, and repeats collapse."""
    run_id = new_run()
    pipe.query("SYSTEM STOP MERGES metric_points")  # A merge would collapse the repeats before they can be counted.
    sent = records_of(run_id, 0)
    pipe.send(*sent)

    worker = pipe.start(ready=False, module="tests.sinks.dies_at", environ={POINT: "poll", **SHORT_SESSION})
    assert worker.wait(timeout=60) == -signal.SIGKILL, pipe.log()
    assert pipe.count("metric_points") == 0

    proxy.hold_next_insert(0.5)
    worker = pipe.start(ready=False, environ=through(proxy))
    assert proxy.holding.wait(30), pipe.log()
    worker.kill()
    worker.wait()
    proxy.let_go()

    sent += (more := records_of(run_id, 10))
    pipe.send(*more)
    proxy.hold_next_insert(1)
    worker = pipe.start(ready=False, environ=through(proxy))
    assert proxy.holding.wait(30), pipe.log()
    worker.kill()
    worker.wait()
    proxy.let_go()

    sent += (more := records_of(run_id, 20))
    pipe.send(*more)
    worker = pipe.start(ready=False, module="tests.sinks.dies_at", environ={POINT: "commit", **SHORT_SESSION})
    assert worker.wait(timeout=60) == -signal.SIGKILL, pipe.log()
    assert pipe.committed("metric", PARTITIONS) == 0

    pipe.start()
    wait_until_stored(pipe)
    assert shown(pipe) == expected(pipe, sent)
    assert repeats(pipe) > 0, "nothing was stored twice, so nothing was proved"


def test_a_worker_frozen_past_its_session_and_thawed_in_the_middle_of_an_insert_harms_nothing(pipe: Pipe, proxy: Proxy) -> None:
    """Another has taken its partitions and stored everything; what it goes on to insert collapses, its commit is refused, and it serves on as a member like any other."""
    run_id = new_run()
    pipe.query("SYSTEM STOP MERGES metric_points")
    sent = records_of(run_id, 0)
    pipe.send(*sent)
    proxy.hold_next_insert(0.5)
    frozen = pipe.start(environ=through(proxy))
    assert proxy.holding.wait(30), pipe.log()
    frozen.send_signal(signal.SIGSTOP)
    pipe.start(environ=SHORT_SESSION)
    wait_until_stored(pipe)
    stored = pipe.count("metric_points")
    assert shown(pipe) == expected(pipe, sent)
    frozen.send_signal(signal.SIGCONT)
    proxy.let_go()
    wait_for(lambda: pipe.count("metric_points") > stored, "the insert that was frozen")
    wait_for(lambda: "lost=True" in pipe.log(), "the thawed worker to learn that it was put out")
    sent += (more := records_of(run_id, 10))
    pipe.send(*more)
    wait_until_stored(pipe)
    assert shown(pipe) == expected(pipe, sent)
    assert frozen.poll() is None, pipe.log()


def test_a_connection_cut_after_the_request_was_sent_is_an_insert_repeated(pipe: Pipe, proxy: Proxy) -> None:
    """ClickHouse has stored the rows and the worker never learns it: it inserts them again, says so, and nothing reads twice."""
    run_id = new_run()
    pipe.query("SYSTEM STOP MERGES metric_points")
    proxy.cuts_left = 4
    pipe.start(environ=through(proxy))
    sent: list[Sent] = []
    for number in range(3):
        sent += (more := records_of(run_id, 10 * number))
        pipe.send(*more)
        wait_for(lambda wanted=number + 1: proxy.cuts > wanted, "a cut")
    wait_until_stored(pipe)
    assert proxy.cuts == 4
    assert shown(pipe) == expected(pipe, sent)
    assert "clickhouse is busy or away, trying again" in pipe.log()
    assert sum(pipe.count(table) for table in ("metric_points", "events_log", "params_log", "summary_series")) > sum(
        pipe.count(view) for view in ("metrics", "events", "params_history", "summaries")
    )
