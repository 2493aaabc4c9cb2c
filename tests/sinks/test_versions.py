"""Workers of two versions beside each other, as in every rolling upgrade: records and tables of either, and every view shows each record once."""

from __future__ import annotations

import pytest

from runstream_schemas.records import Schema
from tests.sinks import examples
from tests.sinks.expected import expected
from tests.sinks.replays import shown, wait_until_stored
from tests.sinks.test_deaths import records_of
from tests.sinks.test_pipeline import NEXT, NEXT_TEXT, next_event
from tests.sinks.test_tables import new_run
from tests.sinks.workers import Pipe, Sent, wait_for


@pytest.mark.stack
def test_workers_of_two_versions_share_the_partitions(pipe: Pipe) -> None:
    """Old and new records go through old and new workers, before and after the tables were migrated for the new one; one of them leaves and the other goes on."""
    run_id = new_run()
    old = pipe.start()
    events = [examples.event(run_id, seq=number) for number in range(60)]
    sent = records_of(run_id, 0)
    pipe.send(*sent)
    # What the next version's migration would do: old workers do not name the column, and get its default.
    pipe.query("ALTER TABLE events_log ADD COLUMN extra Int32 DEFAULT 0")
    pipe.send(("schema", str(NEXT.schema_id).encode(), Schema(NEXT.schema_id, "Event", 99, NEXT_TEXT)))
    new = pipe.start(module="tests.sinks.next_version")
    wait_for(lambda: pipe.log().count("partitions assigned") >= 3, "the partitions to be shared")
    both: list[Sent] = [("event", b"%d" % number, next_event(event) if number % 2 else event) for number, event in enumerate(events[:30])]
    pipe.send(*both, *(more := records_of(run_id, 10)))
    wait_until_stored(pipe)
    assert pipe.end(old)[0] == 0
    later: list[Sent] = [("event", b"%d" % number, next_event(event)) for number, event in enumerate(events[30:])]
    pipe.send(*later)
    wait_until_stored(pipe)
    known: list[Sent] = [("event", b"", event) for event in events]
    assert shown(pipe) == expected(pipe, [*sent, *more, *known])
    assert pipe.count("dead_letters") == 0
    assert new.poll() is None, pipe.log()
