"""Which Avro schema stands behind which id: the catalogue that comes with this package, so that no registry is needed.

An id is 31 bits of the schema's CRC-64-AVRO fingerprint over its parsing canonical form (Avro specification, "Schema Fingerprints"), so that everybody who has
the schema computes the same id. A test refuses collisions. Files are named `Record.vN.avsc`; the greatest N is what is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from runstream_schemas.errors import MalformedRecord, UnknownSchema

Parsed = Any  # fastavro's parsed schema: a dictionary of its own making


def schema_id(schema: Parsed) -> int:
    """The 31-bit id of a schema given as parsed JSON."""
    little_endian_hex = fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return int.from_bytes(bytes.fromhex(little_endian_hex), "little") & 0x7FFF_FFFF


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one record type: its id, JSON text and fastavro's parsed form."""

    schema_id: int
    name: str
    version: int
    text: str
    parsed: Parsed = field(repr=False, compare=False)


def entry(name: str, version: int, text: str) -> Entry:
    """Makes an entry from Avro schema text; raises MalformedRecord when the text is not the schema of a record of that name."""
    try:
        schema = json.loads(text)
        if schema["type"] != "record" or schema["name"].rpartition(".")[2] != name:
            raise MalformedRecord(f"the schema text of {name} v{version} is of another type or name")
        return Entry(schema_id(schema), name, version, text, fastavro.parse_schema(schema, named_schemas={}))
    except MalformedRecord:
        raise
    except Exception as error:  # fastavro raises whatever comes, KeyError and AttributeError included.
        raise MalformedRecord(f"the schema text of {name} v{version} is no Avro schema: {type(error).__name__}") from error


class Catalogue:
    """Entries by id and by record name; `add` takes what a reader learns from the schema topic."""

    def __init__(self, entries: list[Entry]) -> None:
        self._by_id: dict[int, Entry] = {}
        self._newest: dict[str, Entry] = {}
        for one in entries:
            self.add(one)

    def add(self, one: Entry) -> None:
        """Adds an entry; what is known stays when it comes again, and ValueError is raised when another schema has its id."""
        known = self._by_id.get(one.schema_id)
        if known is not None:
            if (known.name, known.version) == (one.name, one.version):
                return
            raise ValueError(
                f"schema id {one.schema_id} of {one.name} v{one.version} is taken by {known.name} v{known.version}: change a field's name to move it"
            )
        self._by_id[one.schema_id] = one
        newest = self._newest.get(one.name)
        if newest is None or newest.version <= one.version:
            self._newest[one.name] = one

    def by_id(self, wanted: int) -> Entry:
        """The entry with this id; raises UnknownSchema."""
        found = self._by_id.get(wanted)
        if found is None:
            raise UnknownSchema(wanted)
        return found

    def newest(self, name: str) -> Entry:
        """The version of a record type that is written; raises KeyError for a name that is no record type."""
        return self._newest[name]

    def entries(self) -> list[Entry]:
        """All entries, by name and version."""
        return sorted(self._by_id.values(), key=lambda one: (one.name, one.version))


@cache
def bundled() -> Catalogue:
    """The catalogue that comes with this package, read once."""
    folder = resources.files("runstream_schemas") / "avsc"
    entries: list[Entry] = []
    for file in folder.iterdir():
        if file.name.endswith(".avsc"):
            name, version, _ = file.name.split(".")
            entries.append(entry(name, int(version.removeprefix("v")), file.read_text(encoding="utf-8")))
    return Catalogue(entries)
