"""Nothing names a Kafka: the home folder's embedded stack is meant, whether it runs already, comes later, or comes back at another port."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

import runstream
from runstream_producers.topics import ensure_topics
from runstream_schemas.records import MetricFrame
from runstream_schemas.settings import environment_of, load
from tests.producers.cluster import Place, settle
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.forwarder import Forwarder
from tests.sdk.rank import expected, row
from tests.waiting import wait_for


@contextmanager
def running(home: Path, kafka: str) -> Generator[None]:
    """What a stack that runs on the home folder is known by."""
    with (home / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (home / "stack.json").write_text(json.dumps({"settings": {"kafka": kafka}}))
        yield
        (home / "stack.json").unlink()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Place]:
    """A home whose stack had a port that nobody answers at now, and no word of Kafka anywhere."""
    closed = Forwarder("127.0.0.1:9")
    made = settle("stack", tmp_path, monkeypatch, agent_idle_timeout="1")
    monkeypatch.delenv("RUNSTREAM_KAFKA")
    del made.environ["RUNSTREAM_KAFKA"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ports.json").write_text(json.dumps({"kafka": [int(closed.address.rpartition(":")[2])]}))
    try:
        yield made
    finally:
        made.kill_agents()
        closed.close()


@pytest.mark.stack
def test_rows_that_were_logged_before_the_stack_reach_it(place: Place, kafka: str) -> None:
    """A training that ends without any stack leaves its rows to its agent, which finds the stack once there is one, and again when it listens at another port."""
    home = place.settings.home
    ensure_topics(load({"kafka": kafka}))
    early = runstream.init("tests")
    for number in range(500):
        early.log(row(number), step=number)
    assert not early.finish(timeout=0.5).shipped
    agent = place.wait_for_agent()
    with running(home, kafka):
        wait_for(lambda: early.rows_shipped == 501, 20, place.log)
    late = runstream.init("tests")
    for number in range(100):
        late.log(row(number), step=number)
    elsewhere = Forwarder(kafka)
    elsewhere.open()
    try:
        with running(home, elsewhere.address):
            assert late.finish(timeout=30).shipped, place.log()
            assert place.agent() in (agent, 0), "it is the same agent all along"
            wait_for(lambda: place.agent() == 0, 15, "the agent to idle out")
    finally:
        elsewhere.close()
    place.kafka = kafka
    frames = place.read("metric", MetricFrame)
    for run, rows in ((early, 500), (late, 100)):
        mine = [frame for frame in frames if frame.run_id == run.id]
        assert ledger_of(mine) == expected(rows, first_seq=1)
        check_account(mine, until=rows + 1)


def test_where_the_stack_is(place: Place) -> None:
    """Its address is where it listens, else where it did; journals are bound to the home folder and not to that; children look for themselves; a named Kafka is none of it."""
    home = place.settings.home
    settings, folder = place.settings, place.folder
    assert settings.kafka_is_stack
    with running(home, "127.0.0.1:1"):
        assert place.settings.kafka == "127.0.0.1:1"
        child = environment_of(settings)
        assert load(environ=child).kafka == "127.0.0.1:1"
        assert load(environ=child).kafka_is_stack
        assert place.folder == folder
        named = load({"kafka": "127.0.0.1:1"})
        assert not named.kafka_is_stack
        assert Place("", "", Path(), environment_of(named)).folder != folder
    assert load(environ=child).kafka == settings.kafka != "127.0.0.1:9092"
    (home / "ports.json").write_text("{")
    assert place.settings.kafka == "127.0.0.1:9092"
