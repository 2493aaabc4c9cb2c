"""Records to bytes and back: the Confluent prefix (`00`, 4-byte big-endian schema id), then the Avro body.

`MetricFrame` goes through the packed codec of `frame`, `SummaryFrame` through that of `summary_codec`, everything else through fastavro. A reader decodes with the writer's
schema and resolves to the newest; arrays come back as tuples, so that a record equals the one that was written.
"""

# fastavro's stubs leave its file argument's type open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import json
import struct
from dataclasses import fields
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import fastavro

from runstream_schemas import frame, frame_batch, records, summary_codec
from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.errors import MalformedRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_schemas.frame_batch import Batch

PREFIX_BYTES = 5
_PREFIX = struct.Struct(">bI")
_TYPES: dict[str, type[records.Record]] = {
    kind.__name__: kind
    for kind in (
        records.Run,
        records.Writer,
        records.MetricFrame,
        records.Event,
        records.Param,
        records.Value,
        records.Media,
        records.Artifact,
        records.Rule,
        records.Silence,
        records.Schema,
        records.Alert,
        records.Delivery,
        records.Digest,
        records.SummaryFrame,
        records.DeadLetter,
    )
}

_SUMMARY_COLUMNS = tuple(one.name for one in fields(records.SummaryFrame) if one.type.startswith("Sequence"))


@cache
def _prefix_of(name: str) -> bytes:
    return _PREFIX.pack(0, bundled().newest(name).schema_id)


@cache
def _fields_of(kind: type[records.Record]) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))  # pyright: ignore[reportArgumentType]  # frames go another way


@cache
def _ints_of(name: str) -> tuple[str, ...]:
    """The fields of 32 bits, which fastavro writes and reads without looking at their size."""
    declared = json.loads(bundled().newest(name).text)["fields"]
    return tuple(field["name"] for field in declared if "int" in (field["type"] if isinstance(field["type"], list) else [field["type"]]))


def _check_ints(name: str, datum: Mapping[str, Any]) -> None:
    for field in _ints_of(name):
        value = datum[field]
        if value is not None and not -(1 << 31) <= value < 1 << 31:
            raise MalformedRecord(f"{name}.{field} must fit 32 bits, got {value}")


def encode(record: records.Record) -> bytes:
    """The record as bytes for a topic; raises MalformedRecord when a field does not fit its schema."""
    kind = type(record)
    if isinstance(record, records.MetricFrame):
        return _prefix_of("MetricFrame") + frame.encode(record)
    if isinstance(record, records.SummaryFrame) and (packed := summary_codec.encode(record)) is not None:
        return _prefix_of("SummaryFrame") + packed
    out = BytesIO()
    out.write(_prefix_of(kind.__name__))
    datum = {name: getattr(record, name) for name in _fields_of(kind)}
    try:
        _check_ints(kind.__name__, datum)
        # A tuple is a sequence here, not fastavro's way of naming a branch of a union.
        fastavro.schemaless_writer(out, bundled().newest(kind.__name__).parsed, datum, disable_tuple_notation=True)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise MalformedRecord(f"a field of {kind.__name__} does not fit its Avro schema: {error}") from error
    return out.getvalue()


def decode_frames(values: Sequence[bytes]) -> tuple[list[Batch], list[int]]:
    """Metric frames of the newest schema that can be read together, and the places of all others, which `decode` is to read. Raises nothing."""
    prefix = _prefix_of("MetricFrame")
    return frame_batch.decode_many(values, PREFIX_BYTES, [data.startswith(prefix) for data in values])


def schema_id_of(data: bytes) -> int:
    """The schema id in a record's prefix; raises MalformedRecord when there is no such prefix."""
    if len(data) < PREFIX_BYTES or data[0] != 0:
        raise MalformedRecord(f"expected a record that begins with 00 and a 4-byte schema id, got {len(data)} bytes that do not")
    return cast("int", _PREFIX.unpack_from(data)[1])


def decode(data: bytes, catalogue: Catalogue | None = None) -> records.Record:
    """The record in `data`. Arrays of a frame are views of `data` where they can be.

    Raises:
        MalformedRecord: the bytes are no such record; nothing was read past their end.
        UnknownSchema: the prefix's id is not in `catalogue` (the bundled one if None).
    """
    wanted = schema_id_of(data)
    entry = (catalogue or bundled()).by_id(wanted)
    kind = _TYPES.get(entry.name)
    if kind is None:
        raise MalformedRecord(f"schema {entry.name} v{entry.version} is no record type that this reader knows", wanted)
    newest = bundled().newest(entry.name)
    try:
        if kind is records.MetricFrame and entry.schema_id == newest.schema_id:
            return frame.decode(data, PREFIX_BYTES)
        if kind is records.SummaryFrame and entry.schema_id == newest.schema_id and (summary := summary_codec.decode(data, PREFIX_BYTES)) is not None:
            return summary
        body = BytesIO(data)
        body.seek(PREFIX_BYTES)
        datum = cast("dict[str, Any]", fastavro.schemaless_reader(body, entry.parsed, newest.parsed))
        if body.tell() != len(data):
            raise MalformedRecord(f"{entry.name} ends after {body.tell()} bytes, but {len(data)} came")
        if kind is records.MetricFrame:
            return frame.from_datum(datum)
        _check_ints(entry.name, datum)
        for name, value in datum.items():
            if isinstance(value, list):
                datum[name] = tuple(cast("list[Any]", value))
        if kind is records.SummaryFrame and len({len(datum[name]) for name in _SUMMARY_COLUMNS}) > 1:
            raise MalformedRecord("the columns of a SummaryFrame must be of one length")
        return kind(**datum)
    except MalformedRecord as error:
        raise MalformedRecord(str(error), wanted) from error
    except Exception as error:
        raise MalformedRecord(f"{entry.name} does not decode: {type(error).__name__}", wanted) from error
