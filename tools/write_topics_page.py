"""Writes `docs/topics.md`: one description a topic, from `topics.py` and the Avro schemas. `--check` writes nothing and says whether the page is up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from runstream_schemas.catalogue import bundled
from runstream_schemas.topics import DAY_MS, FOREVER_MS, MESSAGE_BYTES_MAX, TOPICS, Topic

PAGE = Path(__file__).resolve().parent.parent / "docs" / "topics.md"

_HEAD = f"""# Topics

This page is made from `schemas/src/runstream_schemas/topics.py` and the Avro schemas beside it by `python tools/write_topics_page.py`; a test keeps it up to date.

- Names begin with the deployment's prefix (setting `topic_prefix`), here `runstream`.
- Every record is Avro behind the Confluent prefix: a zero byte, the schema id in 4 bytes (big-endian), the body. Ids are 31 bits of the schema's CRC-64-AVRO
  fingerprint and come with the package, so no registry is needed.
- The greatest record is {MESSAGE_BYTES_MAX // (1 << 20)} MiB; a dead letter may be 64 KiB greater, since it carries one whole.
- Partition counts are fixed when a topic is created (setting `partitions` changes those of `metric`, `hardware`, `writer`, `summary` and `digest`
  before that), since state is partitioned with them; `metric`, `hardware` and `writer` have as many as each other.
- The time of a Kafka record is the broker's (`message.timestamp.type=LogAppendTime`); topics that somebody else makes need that as well. Kafka refuses records of a node
  whose clock is more than an hour ahead, and would soon remove those of one whose clock is days behind. Rows carry the times of their own.
- Integers that name a writer are its 8 bytes, big-endian, where they are a key.
- An example of every record lies in `schemas/src/runstream_schemas/examples/`, as bytes and as JSON.
"""


def kept(topic: Topic) -> str:
    """How long records stay, in words."""
    if topic.compacted:
        return "the newest record of each key (compacted)"
    return "for ever" if topic.retention_ms == FOREVER_MS else f"{topic.retention_ms // DAY_MS} days"


def type_text(avro_type: Any) -> str:
    """An Avro type in one phrase."""
    if isinstance(avro_type, str):
        return avro_type
    if isinstance(avro_type, list):
        return " or ".join(type_text(one) for one in cast("list[Any]", avro_type))
    if avro_type["type"] == "record":
        return avro_type["name"]
    return f"{avro_type['type']} of {type_text(avro_type['values' if avro_type['type'] == 'map' else 'items'])}"


def fields_table(schema: dict[str, Any]) -> list[str]:
    """The fields of a record as a table, then those of the records inside it."""
    lines = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
    inner: list[dict[str, Any]] = []
    for field in schema["fields"]:
        avro_type: Any = field["type"]
        if isinstance(avro_type, dict) and isinstance(cast("dict[str, Any]", avro_type).get("items"), dict):
            inner.append(cast("dict[str, Any]", avro_type)["items"])
        default = f"`{json.dumps(field['default'])}`" if "default" in field else ""
        lines.append(f"| `{field['name']}` | {type_text(avro_type)} | {default} | {field['doc']} |")
    for one in inner:
        lines += ["", f"`{one['name']}`: {one['doc']}", "", *fields_table(one)]
    return lines


def page() -> str:
    """The whole page."""
    lines = [_HEAD, "| topic | record | key | partitions | kept | in short |", "| --- | --- | --- | --- | --- | --- |"]
    for topic in TOPICS.values():
        lines.append(
            f"| [`{topic.full_name('runstream')}`](#{topic.full_name('runstream').replace('.', '')}) | `{topic.record}` | {topic.key} | {topic.partitions} "
            f"| {kept(topic)} | {topic.about} |"
        )
    described: dict[str, str] = {}
    for topic in TOPICS.values():
        entry = bundled().newest(topic.record)
        schema = json.loads(entry.text)
        name = topic.full_name("runstream")
        lines += ["", f"## {name}", "", f"{topic.about[0].upper()}{topic.about[1:]}.", ""]
        lines += [
            f"- Written by: {', '.join(topic.writers)}",
            f"- Read by: {', '.join(topic.readers)}",
            f"- Key: {topic.key}",
            f"- Kept: {kept(topic)}",
            f"- Partitions: {topic.partitions}",
            f"- Record: `{entry.name}` v{entry.version}, schema id {entry.schema_id}. {schema['doc']}",
            "",
        ]
        if entry.name in described:
            lines.append(f"Its fields are those of [`{described[entry.name]}`](#{described[entry.name].replace('.', '')}).")
        else:
            described[entry.name] = name
            lines += fields_table(schema)
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the page, or checks it; 1 when the check finds it out of date."""
    stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page()
    if arguments == ["--check"]:
        print("out of date: run python tools/write_topics_page.py" if stale else "docs/topics.md is up to date")
        return 1 if stale else 0
    if stale:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
        print("wrote docs/topics.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
