"""The example records: what was written once is read for ever, as the same values."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from runstream_schemas import wire
from runstream_schemas.catalogue import bundled
from runstream_schemas.topics import TOPICS
from tools.write_examples import EXAMPLES, files, plain

FOLDER = resources.files("runstream_schemas") / "examples"
FILES: dict[str, dict[str, Any]] = {
    file.name: json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.iterdir(), key=lambda one: one.name) if file.name.endswith(".json")
}


@pytest.mark.parametrize("name", FILES)
def test_examples_decode(name: str) -> None:
    """The bytes of every example, of old versions too, decode to its fields; a field that came later has its default."""
    example = FILES[name]
    assert name == f"{example['record']}.v{example['version']}.json"
    data = bytes.fromhex(example["bytes"])
    assert wire.schema_id_of(data) == example["schema_id"]
    record = wire.decode(data)
    assert type(record).__name__ == example["record"]
    assert plain(record) | example["fields"] == plain(record)


def test_examples_are_up_to_date() -> None:
    """The files of the newest versions are what the script writes: python tools/write_examples.py."""
    for name, text in files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, name


def test_every_schema_has_an_example() -> None:
    """No version of a record type is without example bytes, and no example is without its schema."""
    assert set(FILES) == {f"{one.name}.v{one.version}.json" for one in bundled().entries()}


@pytest.mark.parametrize("record", EXAMPLES, ids=lambda record: type(record).__name__)
def test_examples_say_something_in_every_field(record: Any) -> None:
    """An example leaves at most a few fields at nothing, or it would show little."""
    fields = plain(record)
    empty = [name for name, value in fields.items() if value in (None, "", [], {})]
    assert len(empty) <= 4, empty


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_every_topic_has_an_example(topic: Any) -> None:
    """What travels on a topic can be looked at."""
    assert any(example["record"] == topic.record for example in FILES.values())
