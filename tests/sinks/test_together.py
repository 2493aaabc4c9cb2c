"""Messages taken together: what comes of them is what comes of them one by one."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_feed.records import Place
from runstream_schemas import wire
from runstream_sinks import arrow
from runstream_sinks.errors import TooManyMalformed
from runstream_sinks.ledger import Position
from runstream_sinks.malformed import Policy
from runstream_sinks.pipeline import SCHEMA_WAIT_S, Message, Pipeline
from tests.sinks import examples
from tests.sinks.test_pipeline import EVENTS, POISON, drained, made, unknown

RUN = "0e177292-7500-42b8-8f51-e962d246ef2b"
METRICS = [Place("t.metric", 0), Place("t.metric", 1), Place("t.hardware", 0)]


def metric_values() -> list[bytes]:
    """Frames of three writers, some with another set of names, some that are malformed in one way or another, and some of a schema that is not known yet."""
    out: list[bytes] = []
    for at in range(36):
        writer = at % 3
        keys = ["loss", "accuracy"] if at % 5 else ["lr"]
        one = examples.frame(
            examples.group(keys, at, 1 + at % 2, first_value=at),
            run_id=RUN if at % 12 != 7 else "no run",
            writer=writer + 1,
            rank=writer if at % 11 else -1,
            first_seq=at,
            next_seq=at + 2,
        )
        raw = wire.encode(one)
        out.append({3: raw[:-3], 16: unknown(1), 24: POISON}.get(at, raw))
    return out


def everything(pipeline: Pipeline) -> tuple[object, ...]:
    """What a pipeline holds: rows by table, what is safe, what waits, and the counts."""
    chunks = pipeline.batches.due(0.0, everything=True)
    safe = pipeline.batches.ledger.safe()
    tables = {chunk.name: sorted(map(repr, zip(*arrow.as_lists(chunk.rows.table()).values(), strict=True))) for chunk in chunks}
    for chunk in chunks:
        pipeline.batches.acknowledge(chunk)
    return tables, safe, pipeline.batches.ledger.safe(), pipeline.held, pipeline.records, pipeline.malformed, pipeline.newest_ms


@given(st.lists(st.tuples(st.sampled_from(range(36)), st.sampled_from([*METRICS, EVENTS])), max_size=60), st.integers(1, 40))
def test_messages_taken_together_come_to_the_same_as_one_by_one(drawn: list[tuple[int, Place]], at_once: int) -> None:
    """Rows, letters, claims and waits are the same, whatever comes in whatever order, malformed and unknown records among it."""
    values = metric_values()
    offsets_of: Counter[Place] = Counter()
    messages: list[Message] = []
    for at, place in drawn:
        value = wire.encode(examples.event("")) if place == EVENTS and at % 3 else values[at]
        messages.append(Message(Position(place, offsets_of[place]), at, b"key", value))
        offsets_of[place] += 1
    alone, together = made()[0], made()[0]
    single = [aside for message in messages if (aside := alone.take(message, 0.0, 1000)) is not None]
    many = [aside for begin in range(0, len(messages), at_once) for aside in together.take_all(messages[begin : begin + at_once], 0.0, 1000)]
    assert [one.letter for one in many] == [one.letter for one in single]
    assert everything(together) == everything(alone)
    later = 1 + SCHEMA_WAIT_S
    assert [one.letter for one in together.retry(later, 1000)] == [one.letter for one in alone.retry(later, 1000)]
    assert everything(together) == everything(alone)


def test_most_frames_are_read_together() -> None:
    """The test above has something to compare: frames of known writers do not go one by one."""
    pipeline, _ = made()
    messages = [Message(Position(METRICS[0], at), at, b"key", value) for at, value in enumerate(metric_values())]
    list(pipeline.take_all(messages, 0.0, 1000))
    batches, batch_of = pipeline._read_together(messages)
    assert len(batch_of) > 8
    assert {one.name for one in batches} == {"metric_points"}


def test_what_came_before_a_record_that_stops_the_worker_is_kept() -> None:
    """The chunk has the rows that the ledger says it has, and letters are out that were due before."""
    pipeline, _ = made(policy=Policy(ratio_max=0.5, run_max=1, stops=True))
    good = [wire.encode(examples.frame(examples.group(["loss"], at, 1), run_id=RUN, writer=1)) for at in range(8)]
    wire.decode(good[0])
    messages = [Message(Position(METRICS[0], at), at, b"key", value) for at, value in enumerate([*good, POISON, POISON, *good])]
    letters: list[int] = []
    with pytest.raises(TooManyMalformed):
        letters.extend(aside.letter.offset for aside in pipeline.take_all(messages, 0.0, 1000))
    assert letters == [8]
    assert drained(pipeline) == [("metric_points", 8)]
