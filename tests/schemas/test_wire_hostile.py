"""Records of every type whose counts lie, or that ask for the most a byte: refused before anything is made for them, and never more than some memory for each byte that came.

What a frame may cost is in `test_frame_hostile`; the others are read by fastavro.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from runstream_schemas import wire
from runstream_schemas.catalogue import bundled
from runstream_schemas.errors import MalformedRecord
from tests.schemas.frames import avro_long, avro_text
from tests.schemas.records import KINDS, fields_of, values_of

# Declared and not there: items of an array or a map, bytes of a text; as a plain count, and as a block that tells its size.
LIES = (
    avro_long(1 << 40),
    avro_long(100 << 20),
    avro_long((1 << 63) - 1),
    avro_long(-(1 << 40)) + avro_long(100),
    avro_long(-(1 << 62)) + avro_long(1 << 61),
    avro_long(-1) + avro_long(-5),
)
# What Python makes of one byte at worst: of an entry of a map, with two short texts, a few hundred bytes.
BYTES_A_BYTE_MAX = 100


@contextmanager
def peak_bytes() -> Generator[Callable[[], int]]:
    """Tells the most memory that was in use since the last question."""
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]

    def peak() -> int:
        nonlocal base
        used = tracemalloc.get_traced_memory()[1] - base
        tracemalloc.reset_peak()
        base = tracemalloc.get_traced_memory()[0]
        return used

    try:
        yield peak
    finally:
        tracemalloc.stop()


def encoded(name: str) -> bytes:
    """A record with something in each field; the columns of a summary, which must be of one length, are empty."""
    some: list[Any]
    fields = {field: some[0] if name == "SummaryFrame" else some[-1] for field, avro_type in fields_of(name).items() if (some := values_of(avro_type))}
    kind: Any = KINDS[name]
    return wire.encode(kind(**{field: tuple(cast("list[Any]", value)) if isinstance(value, list) else value for field, value in fields.items()}))


GENERAL = sorted(KINDS.keys() - {"MetricFrame"})


@pytest.mark.parametrize("name", GENERAL)
def test_a_count_that_lies_costs_nothing_wherever_it_stands(name: str) -> None:
    """A record with a lie at any of its bytes is read or refused, with less memory than a page of text takes."""
    data = encoded(name)
    wire.decode(data)
    with peak_bytes() as peak:
        for at in range(wire.PREFIX_BYTES, len(data) + 1):
            for lie in LIES:
                for rest in (data[at:], bytes(100)):
                    with_lie = data[:at] + lie + rest
                    try:
                        wire.decode(with_lie)
                    except MalformedRecord:
                        pass
                    assert peak() < 200_000, (at, lie)


def heaviest(name: str, size: int) -> Iterator[bytes]:
    """Records of about `size` bytes with as many items as fit in one collection, one a block and all in one."""
    prefix = b"\0" + bundled().newest(name).schema_id.to_bytes(4, "big")
    empty = {"string": b"\0", "bytes": b"\0", "boolean": b"\0", "int": b"\0", "long": b"\0", "double": bytes(8), "float": bytes(4), "null": b""}
    large = empty | {"string": avro_text("ab"), "long": avro_long(1 << 40), "int": avro_long(1 << 20)}
    before = b""
    avro_type: Any
    for avro_type in fields_of(name).values():
        kind = cast("dict[str, Any]", avro_type)["type"] if isinstance(avro_type, dict) else avro_type
        if kind in ("array", "map"):
            inner: Any = cast("dict[str, Any]", avro_type)["items" if kind == "array" else "values"]
            for number in (empty, large):
                if isinstance(inner, str):
                    for one in (number[inner], avro_text("k") + number[inner]) if kind == "array" else (avro_text("k") + number[inner],):
                        yield prefix + before + avro_long(size // len(one)) + one * (size // len(one)) + b"\0"
                        yield prefix + before + (avro_long(1) + one) * (size // (len(one) + 1)) + b"\0"
            if kind == "map" and inner == "string":
                entries = b"".join(avro_text(f"{key:x}") + b"\0" for key in range(size // 6))
                yield prefix + before + avro_long(size // 6) + entries + b"\0"
        before += b"\0" if isinstance(kind, list) or kind in ("array", "map") else empty[kind]


@pytest.mark.parametrize("name", [name for name in GENERAL if any(True for _ in heaviest(name, 10))])
def test_memory_grows_with_the_bytes_alone(name: str) -> None:
    """However a record's bytes are divided into items, they take a bounded amount of memory each."""
    size = 20_000
    with peak_bytes() as peak:
        for data in heaviest(name, size):
            peak()
            try:
                wire.decode(data)
            except MalformedRecord:
                pass
            assert peak() < BYTES_A_BYTE_MAX * size
