"""The catalogue: ids that never move, versions that read each other, classes that say what the schemas say."""

# fastavro's stubs leave its file argument's type open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
import itertools
import json
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import fastavro
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form

from runstream_schemas import records, topics
from runstream_schemas.catalogue import Catalogue, Entry, bundled, entry, schema_id
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from tests.schemas.records import KINDS, values_of

IDS = Path(__file__).with_name("schema_ids.json")
ENTRIES = bundled().entries()
NEWEST = {name: json.loads(bundled().newest(name).text) for name in KINDS}


def crc_64_avro(data: bytes) -> int:
    """CRC-64-AVRO as the Avro specification's Java code has it, bit by bit."""
    empty = 0xC15D213AA4D7A795
    out = empty
    for byte in data:
        out ^= byte
        for _ in range(8):
            out = (out >> 1) ^ (empty if out & 1 else 0)
    return out


def test_ids_do_not_move() -> None:
    """Every schema that was ever released keeps its id. A new version adds a line here; an existing line never changes once records with it may exist."""
    pinned = json.loads(IDS.read_text())
    assert {f"{one.name}.v{one.version}": one.schema_id for one in ENTRIES} == pinned


def test_ids_do_not_collide() -> None:
    """No two schemas share an id."""
    ids = [one.schema_id for one in ENTRIES]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("one", ENTRIES, ids=lambda one: f"{one.name}.v{one.version}")
def test_ids_are_what_the_specification_says(one: Entry) -> None:
    """An id is the low 31 bits of CRC-64-AVRO over the canonical form, computed here without fastavro's fingerprint."""
    assert one.schema_id == crc_64_avro(to_parsing_canonical_form(json.loads(one.text)).encode()) & 0x7FFF_FFFF
    assert 0 < one.schema_id < 1 << 31


def test_words_do_not_move_ids() -> None:
    """Docs and defaults may be mended without a new id."""
    event = json.loads(bundled().newest("Event").text)
    event["doc"] = "other words"
    event["fields"][0]["doc"] = "other words"
    assert schema_id(event) == bundled().newest("Event").schema_id
    assert len(fingerprint(to_parsing_canonical_form(event), "CRC-64-AVRO")) == 16


def test_a_collision_is_refused() -> None:
    """A second schema under a taken id is refused, whichever it is; the same one may come again and changes nothing."""
    known = Catalogue([entry("A", 1, '{"type": "record", "name": "A", "fields": []}')])
    first = known.entries()[0]
    with pytest.raises(ValueError, match="taken by A v1"):
        known.add(dataclasses.replace(first, name="B"))
    known.add(dataclasses.replace(first, text="other words"))
    assert known.by_id(first.schema_id) is first


def test_the_greatest_version_is_the_newest_in_any_order() -> None:
    """Which version is written does not hang on the order of adding."""
    versions = [entry("A", number, f'{{"type": "record", "name": "A", "fields": [{{"name": "f{number}", "type": "long"}}]}}') for number in (1, 2, 3)]
    for order in itertools.permutations(versions):
        assert Catalogue(list(order)).newest("A").version == 3


def test_unknown_ids_and_broken_texts() -> None:
    """An unknown id says so, and a text that is no schema is malformed."""
    with pytest.raises(UnknownSchema):
        bundled().by_id(1)
    record = '{"type": "record", "name": '
    for text in (
        "",
        "{}",
        "[]",
        '"long"',
        record + '"B", "fields": []}',
        '{"type": "record"}',
        '{"type": "wish", "name": "A"}',
        record + '"A", "fields": 3}',
    ):
        with pytest.raises(MalformedRecord, match="A v1"):
            entry("A", 1, text)


def reads(writer: Entry, reader: Entry) -> bool:
    """Whether values of every branch written with one schema can be read with the other."""
    try:
        for value in values_of(json.loads(writer.text)):
            body = BytesIO()
            fastavro.schemaless_writer(body, writer.parsed, value)
            body.seek(0)
            fastavro.schemaless_reader(body, writer.parsed, reader.parsed)
    except Exception:  # noqa: BLE001  # fastavro has several errors for schemas that do not resolve.
        return False
    return True


@pytest.mark.parametrize("name", KINDS)
def test_every_version_reads_every_other(name: str) -> None:
    """All versions of a record type are FULL_TRANSITIVE compatible: each reads what each other wrote."""
    versions = [one for one in ENTRIES if one.name == name]
    assert [one.version for one in versions] == list(range(1, len(versions) + 1))
    for writer, reader in itertools.product(versions, versions):
        assert reads(writer, reader), f"{name} v{reader.version} cannot read v{writer.version}"


@pytest.mark.parametrize(
    ("change", "back", "forth"),
    [
        ({"name": "extra", "type": "long", "default": 0}, True, True),
        ({"name": "extra", "type": "long"}, True, False),
    ],
)
def test_the_check_of_versions_can_fail(change: dict[str, Any], back: bool, forth: bool) -> None:
    """A field without default is seen to break old records for new readers; one with default is not."""
    old = bundled().newest("Event")
    declared = json.loads(old.text)
    declared["fields"].append(change)
    new = entry("Event", old.version + 1, json.dumps(declared))
    assert reads(new, old) is back
    assert reads(old, new) is forth


@pytest.mark.parametrize("avro_type", ["string", "int"])
def test_a_changed_type_is_seen(avro_type: str) -> None:
    """A field whose type changes is seen, also where only one way still reads."""
    old = bundled().newest("Event")
    declared = json.loads(old.text)
    declared["fields"][2]["type"] = avro_type
    new = entry("Event", old.version + 1, json.dumps(declared))
    assert not reads(old, new)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "MetricFrame"])
def test_classes_say_what_schemas_say(name: str) -> None:
    """A record class has its schema's fields in the same order with the same defaults."""
    kind: Any = KINDS[name]
    ours: list[tuple[str, object]] = []
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        ours.append((field.name, "none" if default is dataclasses.MISSING else list(default) if default == () else default))
    assert ours == [(field["name"], field.get("default", "none")) for field in NEWEST[name]["fields"]]


def test_frames_say_what_their_schema_says() -> None:
    """The two types of a frame have the schema's fields in order; `steps_exact` is the codec's own."""
    declared = NEWEST["MetricFrame"]["fields"]
    assert [field["name"] for field in declared] == list(records.MetricFrame._fields)
    inner = [field["name"] for field in declared[-1]["type"]["items"]["fields"]]
    assert inner == [*records.MetricGroup._fields, "steps_exact"]


def test_every_schema_has_a_class_and_a_topic() -> None:
    """No schema is without a record class, and none without a topic that carries it."""
    assert {one.name for one in ENTRIES} == set(KINDS) == {topic.record for topic in topics.TOPICS.values()}


@pytest.mark.parametrize("name", KINDS)
def test_every_field_is_described(name: str) -> None:
    """Every record and every field has a line that says what it is, and lies in the namespace of version 1."""
    assert NEWEST[name]["namespace"] == "runstream.v1"
    pending: list[dict[str, Any]] = [NEWEST[name]]
    while pending:
        one = pending.pop()
        assert one["doc"].strip()
        for field in one["fields"]:
            assert field["doc"].strip(), f"{name}.{field['name']} has no doc"
            items: Any = cast("dict[str, Any]", field["type"]).get("items") if isinstance(field["type"], dict) else None
            if isinstance(items, dict):
                pending.append(cast("dict[str, Any]", items))
