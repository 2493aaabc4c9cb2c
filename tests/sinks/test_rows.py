"""Other records to rows."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import records as rec
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.topics import TOPICS
from runstream_sinks import arrow
from runstream_sinks.pipeline import rows_of
from runstream_sinks.tables import TABLE_OF, TABLES, Name
from tests.schemas.records import records_of
from tests.sinks import examples

RUN = str(uuid.UUID(int=5))

ONE_OF_EACH: list[tuple[Name, rec.Record]] = [
    ("run_changes", examples.run(RUN, name="first", tags=("a", "b"), metadata={"lr": "0.1"})),
    ("writer_states", examples.writer(RUN, points_dropped={"journal_full": 3})),
    ("events_log", examples.event(RUN)),
    ("params_log", examples.param(RUN, "lr", "float", "0.1")),
    ("values_log", examples.value(RUN)),
    ("media_log", examples.media(RUN)),
    ("artifacts_log", examples.artifact(RUN)),
    ("rules_log", examples.rule("rule-1")),
    ("alerts_log", examples.alert(RUN)),
    ("deliveries_log", examples.delivery(RUN)),
    ("summary_series", examples.summary(RUN)),
    ("dead_letters_log", examples.dead_letter()),
]


def mapped(name: Name, *records: rec.Record) -> dict[str, list[Any]]:
    """The columns of records."""
    rows = rows_of(name)
    for one in records:
        rows.add(one)
    return arrow.as_lists(rows.table())


@pytest.mark.parametrize(("name", "record"), ONE_OF_EACH)
def test_columns_are_those_of_the_table_in_order(name: Name, record: rec.Record) -> None:
    """Each record fills every column of its table, and a chunk without rows still has them."""
    assert list(mapped(name, record)) == list(TABLES[name].columns)
    assert list(mapped(name)) == list(TABLES[name].columns)


@pytest.mark.parametrize(("name", "record"), ONE_OF_EACH)
def test_fields_keep_their_values(name: Name, record: rec.Record) -> None:
    """A column that bears the name of a field holds the field's value."""
    columns = mapped(name, record)
    if isinstance(record, (rec.SummaryFrame, rec.MetricFrame)):
        assert columns["name"] == ["loss", "accuracy"]
        assert columns["count"] == [5, 1]
        assert columns["last_step"] == [4, 3]
        return
    shared = {field: getattr(record, field) for field in columns if hasattr(record, field)}
    assert len(shared) > 5
    for field, value in shared.items():
        stored = columns[field][0]
        if field in ("run_id", "event_id", "artifact_id") and isinstance(stored, bytes):
            stored = str(uuid.UUID(bytes=stored))
        elif isinstance(value, dict):
            stored = dict(stored)
        elif isinstance(value, tuple):
            stored = tuple(stored)
        assert stored == value, field


@pytest.mark.parametrize(
    ("kind", "value", "columns"),
    [
        ("null", "null", (None, None, None, None)),
        ("bool", "true", (None, None, None, True)),
        ("int", "12", (None, 12, 12.0, None)),
        ("int", str(1 << 70), (None, None, float(1 << 70), None)),
        ("int", "1" + "0" * 400, (None, None, float("inf"), None)),
        ("float", "0.5", (None, None, 0.5, None)),
        ("float", "3", (None, None, 3.0, None)),
        ("float", "-Infinity", (None, None, float("-inf"), None)),
        ("string", '"adam"', ("adam", None, None, None)),
        ("string", r'"\ud800"', ("?", None, None, None)),
        ("list", "[1, [2]]", (None, None, None, None)),
        ("dict", "{}", (None, None, None, None)),
    ],
)
def test_params_fill_the_column_of_their_kind(kind: rec.ParamKind, value: str, columns: tuple[object, ...]) -> None:
    """A param is stored as JSON text and, where its kind has one, in a typed column."""
    made = mapped("params_log", examples.param(RUN, "p", kind, value))
    assert tuple(made[name][0] for name in ("str", "i64", "f64", "bool")) == columns
    assert made["value"] == [value]


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("params_log", examples.param(RUN, "p", "int", "true")),
        ("params_log", examples.param(RUN, "p", "string", "{")),
        ("params_log", examples.param(RUN, "p", "list", "[" * 100_000)),
        ("params_log", examples.param("", "p", "int", "1")),
        ("events_log", examples.event(RUN, event_id="secret-text")),
        ("events_log", examples.event("secret-text")),
        ("events_log", examples.event(RUN, seq=-1)),
        ("events_log", examples.event(RUN, rank=-1)),
        ("events_log", examples.run(RUN)),
        ("run_changes", examples.run("")),
        ("writer_states", examples.writer(RUN, points_dropped={"x": -1})),
        ("summary_series", examples.summary(RUN, counts=(1,))),
        ("summary_series", examples.summary(RUN, counts=(1, -1))),
        ("dead_letters_log", examples.dead_letter(partition=-1)),
    ],
)
def test_what_does_not_fit_is_malformed_and_leaves_nothing(name: Name, record: rec.Record) -> None:
    """A record that no column can hold is refused before it joins a chunk, and the reason does not carry its values."""
    rows = rows_of(name)
    with pytest.raises(MalformedRecord) as refused:
        rows.add(record)
    assert rows.rows == 0
    assert "secret" not in str(refused.value)


def test_an_event_without_a_run_has_the_zero_run() -> None:
    """Events need no run."""
    assert mapped("events_log", examples.event(""))["run_id"] == [bytes(16)]


@pytest.mark.parametrize("name", [name for name in TABLES if name not in ("metric_points", "hardware_points")])
@given(data=st.data())
def test_any_record_either_fits_its_columns_or_is_malformed(name: Name, data: st.DataObject) -> None:
    """Whatever the wire can carry, a chunk that took it turns into Arrow: nothing is found out only at the insert, where it would stop everything."""
    [kind] = [topic.record for topic in TOPICS.values() if TABLE_OF.get(topic.name) == name]
    rows = rows_of(name)
    for drawn in data.draw(st.lists(records_of(kind), min_size=1, max_size=4)):
        # Drawn ids are hardly ever UUIDs; with them in place the other fields are what is tried.
        assert not isinstance(drawn, rec.MetricFrame)
        ids: dict[str, Any] = {field: RUN for field in ("run_id", "event_id") if hasattr(drawn, field)}
        record = replace(drawn, **ids)
        before = rows.rows
        try:
            rows.add(record)
        except MalformedRecord:
            assert rows.rows == before
    assert arrow.rows_of(rows.table()) == rows.rows


def test_every_topic_of_records_has_a_table() -> None:
    """Nothing that travels is left out but the schemas, which are the readers' own business, and the digests, which are the processors'."""
    assert set(TOPICS) - set(TABLE_OF) == {"schema", "digest"}
    for topic, table in TABLE_OF.items():
        assert table in TABLES
        assert "sinks" in TOPICS[topic].readers


def test_metadata_is_json_text_and_stays_so() -> None:
    """Values of metadata are stored as they came."""
    made = mapped("events_log", examples.event(RUN, metadata={"a": json.dumps({"b": [1]})}))
    assert made["metadata"] == [[("a", '{"b": [1]}')]]
