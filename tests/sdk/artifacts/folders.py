"""Folders of objects for tests: every kind that the store runs on here, one that fails when told to, and what a store holds."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

from runstream.artifacts._objects import Objects
from runstream.artifacts._places import Place, place_at

PART_BYTES = 1 << 16
KINDS = ("local", "file", "memory")


def objects_at(kind: str, folder: Path) -> Objects:
    """A store of small parts in a local folder, or through fsspec in one, or in memory."""
    url = {"local": str(folder / "store"), "file": f"local://{folder}/store", "memory": f"memory://{secrets.token_hex(8)}"}[kind]
    return Objects(place_at(url), part_bytes=PART_BYTES, pause=lambda _: None)


class Failing:
    """A place whose writes fail, from a given one on, so many times; reads give other bytes once `spoiled` names their key."""

    def __init__(self, place: Place, *, good: int = 0, failures: int = 1 << 30) -> None:
        self.place = place
        self.good = good
        self.failures = failures
        self.writes = 0
        self.spoiled: set[str] = set()
        self.uri = place.uri

    def size(self, key: str) -> int | None:
        return self.place.size(key)

    def put(self, key: str, data: bytes, *, durable: bool) -> None:
        self.writes += 1
        if self.writes > self.good and self.failures > 0:
            self.failures -= 1
            raise ConnectionError("s3://key:secret@bucket went away")
        self.place.put(key, data, durable=durable)

    def get(self, key: str) -> bytes:
        data = self.place.get(key)
        return data[:-1] + bytes([data[-1] ^ 1]) if key in self.spoiled else data

    def keys(self) -> Iterator[str]:
        return self.place.keys()

    def remove(self, key: str) -> None:
        self.place.remove(key)
