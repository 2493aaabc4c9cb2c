"""Real workers against floods of records that cannot be stored: what is set aside, what waits, and what goes on meanwhile."""

from __future__ import annotations

import os
import signal

import pytest

from runstream_schemas import topics
from runstream_sinks.tables import TABLE_OF
from tests.sinks import examples
from tests.sinks.test_tables import new_run
from tests.sinks.workers import Pipe, Sent, wait_for

pytestmark = pytest.mark.stack


def letters(pipe: Pipe) -> int:
    """Dead letters as they were stored, repeats included."""
    return pipe.query("SELECT count() FROM dead_letters_log")[0][0]


def junk() -> list[Sent]:
    """Thirty events in one partition, each of a schema that nobody knows."""
    return [("event", b"k", b"\x00" + os.urandom(4) + b"junk") for _ in range(30)]


def test_two_thousand_bad_records_on_a_quiet_stack_stop_nothing(pipe: Pipe) -> None:
    """All are set aside, once; what comes behind them and on other topics is stored; the offsets move past them, so that a restart begins behind them."""
    run_id = new_run()
    pipe.query("SYSTEM STOP MERGES dead_letters_log")  # A merge would hide a letter written twice.
    worker = pipe.start()
    flood: list[Sent] = [("event", b"%d" % number, b"not avro") for number in range(2000)]
    pipe.send(*flood)
    pipe.send(("event", b"k", examples.event(run_id)))
    pipe.send_writers(examples.writer(run_id))
    pipe.wait_for_rows("events", 1)
    pipe.wait_for_rows("writers", 1)
    pipe.wait_for_rows("dead_letters", 2000)
    wait_for(lambda: pipe.committed("event", 4) == 2001, "the offsets")
    assert worker.poll() is None
    assert pipe.end(worker)[0] == 0
    again = pipe.start()
    pipe.send(("event", b"k", examples.event(run_id, seq=9)))
    pipe.wait_for_rows("events", 2)
    assert letters(pipe) == 2000
    assert pipe.end(again)[0] == 0


def test_past_the_allowance_only_that_partition_waits_and_says_so(pipe: Pipe) -> None:
    """A systematic mistake is set aside at a bounded rate; its offsets move on with it, other partitions and topics are stored, and a kill repeats no letters."""
    run_id = new_run()
    pipe.query("SYSTEM STOP MERGES dead_letters_log")
    worker = pipe.start(module="tests.sinks.small_allowance")
    flood: list[Sent] = [("event", b"same", b"not avro") for _ in range(200)]
    pipe.send(*flood)
    others: list[Sent] = [("event", b"%d" % number, examples.event(run_id, seq=number)) for number in range(40)]
    pipe.send(*others)
    pipe.send_writers(examples.writer(run_id))
    pipe.wait_for_rows("writers", 1)
    wait_for(lambda: pipe.count("events") > 0, "events of other partitions")
    wait_for(lambda: "too many of a topic's records are malformed" in pipe.log(), "a word about it")
    assert f"topic={pipe.settings.topic_prefix}.event" in pipe.log()
    wait_for(lambda: letters(pipe) >= 60, "progress past the allowance")
    assert letters(pipe) < 200
    # What is set aside is committed soon after, so that whoever comes next begins behind it.
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=12) == 0
    set_aside = letters(pipe)
    assert pipe.committed("event", 4) >= set_aside
    pipe.start()
    pipe.wait_for_rows("events", 40)
    pipe.wait_for_rows("dead_letters", 200)
    assert letters(pipe) == 200


def test_where_an_operator_says_so_a_flood_stops_the_worker(pipe: Pipe) -> None:
    """It ends with 3 and says why; what was set aside is committed, so that the next one begins at the record that was one too many."""
    flood: list[Sent] = [("event", b"same", b"not avro") for _ in range(30)]
    pipe.send(*flood)
    stops = {"RUNSTREAM_DEAD_LETTER_ACTION": "stop", "RUNSTREAM_DEAD_LETTER_RUN_MAX": "20"}
    worker = pipe.start(ready=False, environ=stops)
    assert worker.wait(timeout=30) == 3, pipe.log()
    last = pipe.log().splitlines()[-1]
    assert "20 records in a row of partition" in last
    assert "runstream dlq ls" in last
    assert pipe.committed("event", 4) == 20
    pipe.start()
    pipe.wait_for_rows("dead_letters", 30)


def test_unknown_schemas_hold_a_partition_once_not_once_each(pipe: Pipe) -> None:
    """Thirty records, each of an id that nobody knows: one wait of 5 seconds for all, then they are set aside, and good records go on. A wait each would take longer than this waits."""
    run_id = new_run()
    pipe.start()
    pipe.send(*junk(), ("event", b"k", examples.event(run_id)))
    pipe.wait_for_rows("events", 1)
    pipe.wait_for_rows("dead_letters", 30)
    pipe.send(*junk(), ("event", b"k", examples.event(run_id, seq=9)))
    pipe.wait_for_rows("events", 2)
    pipe.wait_for_rows("dead_letters", 60)


def test_old_records_of_unknown_schemas_do_not_wait(pipe: Pipe) -> None:
    """What was written well before the schema topic was read to its end is malformed at once: a restart begins no waits again."""
    run_id = new_run()
    pipe.send(*junk(), ("event", b"k", examples.event(run_id)))
    pipe.start(module="tests.sinks.patient")
    pipe.wait_for_rows("events", 1)
    pipe.wait_for_rows("dead_letters", 30)


def test_poison_of_every_kind_on_every_topic_becomes_letters(pipe: Pipe) -> None:
    """Compacted topics, topics of one partition and the dead letters' own are no exceptions."""
    pipe.start()
    kinds = [b"\x00\x7f\x00\x00\x01junk", b"\x00\x7f\x00\x00\x02junk", b"\x00\x7f\x00\x00\x03junk", b"garbage", b""]
    poison: list[Sent] = [(name, b"x", value) for name in TABLE_OF for value in kinds]
    pipe.send(*poison)
    pipe.wait_for_rows("dead_letters", 5 * len(TABLE_OF))
    rows = pipe.query("SELECT topic, count(), countIf(key = 'x') FROM dead_letters GROUP BY topic")
    assert {row[0]: row[1:] for row in rows} == {topics.TOPICS[name].full_name(pipe.settings.topic_prefix): (5, 5) for name in TABLE_OF}
