"""Records of every type to test with, drawn from the Avro schemas themselves, and small Avro values made from a schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from hypothesis import strategies as st

from runstream_schemas import records
from runstream_schemas.catalogue import bundled
from tests.schemas.frames import LONG_MAX, LONG_MIN, frames, ints

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: dict[str, type[records.Record]] = {
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

_PLAIN: Mapping[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "string": st.text(max_size=10),
    "bytes": st.binary(max_size=10),
    "boolean": st.booleans(),
    "int": ints,
    "long": st.integers(LONG_MIN, LONG_MAX),
    "double": st.floats(allow_nan=False),
}


def fields_of(name: str) -> dict[str, Any]:
    """The Avro type of each field of the newest version of a record."""
    return {field["name"]: field["type"] for field in json.loads(bundled().newest(name).text)["fields"]}


def _values(avro_type: Any, length: int | None) -> st.SearchStrategy[Any]:
    if isinstance(avro_type, str):
        return _PLAIN[avro_type]
    if isinstance(avro_type, list):
        return st.one_of([_values(one, length) for one in cast("list[Any]", avro_type)])
    if avro_type["type"] == "map":
        return st.dictionaries(st.text(max_size=5), _values(avro_type["values"], length), max_size=3)
    return st.lists(_values(avro_type["items"], length), min_size=length or 0, max_size=3 if length is None else length).map(tuple)


@st.composite
def records_of(draw: st.DrawFn, name: str) -> records.Record:
    """Any record of the type that may be written."""
    if name == "MetricFrame":
        return draw(frames())
    length = draw(st.integers(0, 3)) if name == "SummaryFrame" else None
    kind: Any = KINDS[name]
    return kind(**{field: draw(_values(avro_type, length)) for field, avro_type in fields_of(name).items()})


def values_of(avro_type: Any) -> list[Any]:
    """A few values of an Avro type that between them use every branch and have items in every collection."""
    plain: dict[str, list[Any]] = {
        "null": [None],
        "string": ["é"],
        "bytes": [b"\x00\xff"],
        "boolean": [True, False],
        "int": [-1, (1 << 31) - 1],
        "long": [-1, (1 << 63) - 1],
        "double": [0.5],
        "float": [0.5],
    }
    if isinstance(avro_type, str):
        return plain[avro_type]
    if isinstance(avro_type, list):
        return [value for one in cast("list[Any]", avro_type) for value in values_of(one)]
    if avro_type["type"] == "array":
        return [[], values_of(avro_type["items"])]
    if avro_type["type"] == "map":
        return [{}, {str(number): value for number, value in enumerate(values_of(avro_type["values"]))}]
    if avro_type["type"] == "record":
        choices = {field["name"]: values_of(field["type"]) for field in avro_type["fields"]}
        count = max(map(len, choices.values()), default=1)
        return [{name: some[number % len(some)] for name, some in choices.items()} for number in range(count)]
    return values_of(avro_type["type"])
