"""Batches of records as a hostile producer would make them: small on the wire, large once they are decompressed. They are made and sent without any client, since clients refuse to."""

# aiokafka and cramjam are typed in part.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import socket
import struct
import time
import zlib
from typing import Literal

import cramjam
from aiokafka.record.util import calc_crc32c, encode_varint

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
COMPRESSED: tuple[Codec, ...] = CODECS[1:]
_TIMEOUT_S = 30.0
_ALL_REPLICAS = -1
# Of a topic that has just been made: its partition is not known, or has no leader yet.
_NOT_YET = {3, 6}
_PRODUCE, _VERSION = 0, 7  # The first version that may carry zstd.


def _varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def records(values: list[bytes], key: bytes | None = None) -> bytes:
    """Records of one key as they stand in a batch, one after the other."""
    keyed = _varint(-1) if key is None else _varint(len(key)) + key
    out: list[bytes] = []
    for delta, value in enumerate(values):
        body = b"\0" + _varint(0) + _varint(delta) + keyed + _varint(len(value)) + value + _varint(0)
        out.append(_varint(len(body)) + body)
    return b"".join(out)


def compressed(codec: Codec, plain: bytes) -> bytes:
    """Bytes in the words of a codec of Kafka's."""
    match codec:
        case "none":
            return plain
        case "gzip":
            maker = zlib.compressobj(9, wbits=31)
            return maker.compress(plain) + maker.flush()
        case "snappy":
            return bytes(cramjam.snappy.compress_raw(plain))
        case "lz4":
            frame = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
            frame.compress(plain)
            return bytes(frame.finish())
        case "zstd":
            return bytes(cramjam.zstd.compress(plain))


def batch(codec: Codec, payload: bytes, count: int, first: int = 0) -> bytes:
    """A batch that says to hold `count` records in `payload`, which is compressed already; `first` is its offset, which a broker chooses anew."""
    now_ms = time.time_ns() // 1_000_000
    checked = struct.pack(">hiqqqhii", CODECS.index(codec), count - 1, now_ms, now_ms, -1, -1, -1, count) + payload
    rest = struct.pack(">ibI", -1, 2, calc_crc32c(checked)) + checked
    return struct.pack(">qi", first, len(rest)) + rest


def headed(codec: Codec, headers: list[tuple[str, bytes | None]], first: int = 0) -> bytes:
    """A batch of one record that has nothing but headers."""
    texts = [_varint(len(name)) + name.encode() + (_varint(-1) if text is None else _varint(len(text)) + text) for name, text in headers]
    body = b"\0" + _varint(0) + _varint(0) + _varint(-1) + _varint(-1) + _varint(len(headers)) + b"".join(texts)
    return batch(codec, compressed(codec, _varint(len(body)) + body), 1, first)


def mistitled(codec: Codec, before: list[bytes]) -> bytes:
    """A batch of values, and behind them a record whose header has a name that is no text: brokers do not look at it, and parsers stumble."""
    body = b"\0" + _varint(0) + _varint(len(before)) + _varint(-1) + _varint(-1) + _varint(1) + _varint(1) + b"\xff" + _varint(-1)
    return batch(codec, compressed(codec, records(before) + _varint(len(body)) + body), len(before) + 1)


def of(codec: Codec, values: list[bytes], key: bytes | None = None, first: int = 0) -> bytes:
    """A batch of values."""
    return batch(codec, compressed(codec, records(values, key)), len(values), first)


def send(kafka: str, topic: str, data: bytes, partition: int = 0) -> int:
    """Writes a batch to a partition, whose leader must be that broker; the offset of its first record. Fails where the broker refuses it."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        error, offset = _sent(kafka, topic, data, partition)
        if error not in _NOT_YET or time.monotonic() > deadline:
            assert error == 0, f"the broker refused the batch with error {error}"
            return offset
        time.sleep(0.05)


def _sent(kafka: str, topic: str, data: bytes, partition: int) -> tuple[int, int]:
    host, _, port = kafka.partition(":")
    name = struct.pack(">h", len(topic)) + topic.encode()
    body = struct.pack(">hhihhhi", _PRODUCE, _VERSION, 1, -1, -1, _ALL_REPLICAS, int(1000 * _TIMEOUT_S))
    body += struct.pack(">i", 1) + name + struct.pack(">iii", 1, partition, len(data)) + data
    with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection, connection.makefile("rb") as answers:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = answers.read(struct.unpack(">i", answers.read(4))[0])
    # The request's number, one topic with its name, one partition: its number, an error, the offset.
    _, error, offset = struct.unpack_from(">ihq", answer, 4 + 4 + len(name) + 4)
    return error, offset
