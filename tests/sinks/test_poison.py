"""Poison in each field of each record: what the columns cannot hold is set aside, what they can is stored, and neither harms a neighbour."""

# fastavro's stubs leave its file argument's type open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import copy
import json
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import fastavro
import pytest

from runstream_feed.records import Place
from runstream_schemas import wire
from runstream_schemas.catalogue import Entry, bundled
from runstream_schemas.topics import TOPICS
from runstream_sinks.ledger import Position
from runstream_sinks.malformed import NO_BOUNDS
from runstream_sinks.pipeline import Message
from runstream_sinks.tables import TABLE_OF
from tests.schemas.test_examples import FILES
from tests.sinks.test_pipeline import made

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runstream_schemas import topics
    from runstream_sinks.clickhouse import Server

MARK = "secret-of-somebody"
LONGS = (-1, 0, 1, (1 << 63) - 1, -(1 << 63))
INTS = (-1, 0, (1 << 31) - 1, -(1 << 31))
DOUBLES = (float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, 0.5, -1.0, float(1 << 53), 1e30)
TEXTS = ("", MARK, "\x00", "'; DROP TABLE runs; --", "é\u202e\U0001f4a5", "9" * 5000, "NaN", "{" * 500)


def hostile(schema: Any) -> Iterator[Any]:
    """Values of a field's type that nobody would send on purpose."""
    if isinstance(schema, list):
        for one in cast("list[Any]", schema):
            yield from hostile(one)
        return
    kind = str(cast("dict[str, Any]", schema)["type"] if isinstance(schema, dict) else schema)
    match kind:
        case "long":
            yield from LONGS
        case "int":
            yield from INTS
        case "double":
            yield from DOUBLES
        case "string":
            yield from TEXTS
        case "bytes":
            yield from (b"", b"\x00\xff" * 20)
        case "boolean":
            yield from (True, False)
        case "null":
            yield None
        case "array":
            yield []
            for one in hostile(cast("dict[str, Any]", schema)["items"]):
                yield [one]
                yield [one, one, one]
        case "map":
            for one in hostile(cast("dict[str, Any]", schema)["values"]):
                yield {"": one, "\x00": one, MARK: one}
        case "record":
            return  # Their fields are changed one by one.
        case _:
            raise AssertionError(kind)


def changed(datum: dict[str, Any], fields: list[Any]) -> Iterator[dict[str, Any]]:
    """The record with one field after the other replaced, fields of records within it too."""
    for field in fields:
        name, schema = field["name"], field["type"]
        for value in hostile(schema):
            yield datum | {name: value}
        items: Any = cast("dict[str, Any]", schema).get("items") if isinstance(schema, dict) else None
        if isinstance(items, dict) and "fields" in items:
            for at, inner in enumerate(cast("list[dict[str, Any]]", datum[name])):
                for one in changed(inner, cast("list[Any]", items["fields"])):
                    again = copy.copy(cast("list[Any]", datum[name]))
                    again[at] = one
                    yield datum | {name: again}


def poisoned(entry: Entry) -> list[bytes]:
    """Records of a type with poison in each field; first comes the good one they are made of."""
    good = bytes.fromhex(FILES[f"{entry.name}.v{entry.version}.json"]["bytes"])
    datum = cast("dict[str, Any]", fastavro.schemaless_reader(BytesIO(good[wire.PREFIX_BYTES :]), entry.parsed, None))
    out = [good]
    for one in changed(datum, json.loads(entry.text)["fields"]):
        body = BytesIO()
        try:
            fastavro.schemaless_writer(body, entry.parsed, one, disable_tuple_notation=True)
        except (TypeError, ValueError, OverflowError):
            continue  # Of a union it takes what fits one of its types.
        out.append(good[: wire.PREFIX_BYTES] + body.getvalue())
        if MARK in str(one):
            out.append(out[-1].replace(MARK.encode(), b"\xff\xfe" + MARK[2:].encode()))
    # Bytes that are cut, changed or added anywhere.
    out += [good[:length] for length in range(0, len(good), 7)]
    out += [good[:at] + b"\xff" + good[at + 1 :] for at in range(0, len(good), 5)]
    return [*out, good + b"\x00"]


@pytest.mark.stack
@pytest.mark.parametrize("name", TABLE_OF)
def test_poison_in_each_field_harms_nobody(server: Server, name: topics.Name) -> None:
    """Each record is stored or set aside, the reasons quote nothing, ClickHouse takes all that was stored in one insert, and the good neighbours are in it."""
    entry = bundled().newest(TOPICS[name].record)
    values = poisoned(entry)
    assert len(values) > 60
    pipeline, _ = made(policy=NO_BOUNDS)
    place = Place(TOPICS[name].full_name("t"), 0)
    messages = [Message(Position(place, at), 1, b"key", value) for at, value in enumerate(values)]
    letters = [aside.letter for begin in range(0, len(messages), 100) for aside in pipeline.take_all(messages[begin : begin + 100], 0.0, 1000)]
    letters += [aside.letter for aside in pipeline.retry(60.0, 1000)]
    assert pipeline.held == set()
    assert pipeline.records + len(letters) == len(values)
    assert 20 < len(letters) < len(values)
    assert 0 not in {one.offset for one in letters}
    assert not [one.reason for one in letters if MARK in one.reason or MARK[2:] in one.reason]
    chunks = pipeline.batches.due(0.0, everything=True)
    for chunk in chunks:
        server.insert(chunk.name, chunk.rows.table())
        [(stored,)] = server.query(f"SELECT count() FROM `{chunk.name}`")  # a name of ours
        assert stored == chunk.rows.rows
    assert [chunk.name for chunk in chunks] == [TABLE_OF[name]]
    assert server.query("SELECT sum(cityHash64(tuple(*))) > 0 FROM {table:Identifier} FINAL", {"table": TABLE_OF[name]}) == [(1,)]
