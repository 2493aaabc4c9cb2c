"""What the parameters and headers of a request mean."""

from __future__ import annotations

import io
import zlib

import cramjam
import pytest

from runstream_local.clickhouse.body import open_body
from runstream_local.clickhouse.failures import QueryError
from runstream_local.clickhouse.request import is_own_page, read_parameters


def test_parameters_are_sorted_into_query_settings_and_transport() -> None:
    """Query parameters lose their prefix, settings are kept, what concerns only the transport is dropped."""
    request = read_parameters("query=SELECT+1&database=d&param_x=1&max_threads=2&session_id=s&user=u&password=p&wait_end_of_query=1", {})
    assert (request.query, request.database) == ("SELECT 1", "d")
    assert request.parameters == (("x", "1"),)
    assert request.settings == (("max_threads", "2"),)
    assert request.default_format == "TabSeparated"


def test_headers_are_defaults_for_parameters() -> None:
    """A parameter in the URL wins over the header."""
    headers = {"X-ClickHouse-Database": "h", "X-ClickHouse-Format": "JSON"}
    assert read_parameters("", headers).database == "h"
    assert read_parameters("", headers).default_format == "JSON"
    assert read_parameters("database=u&default_format=CSV", headers).database == "u"


@pytest.mark.parametrize(("query", "code"), [("a%3D1%3Bdrop=1", 115), ("compress=1", 48)])
def test_what_cannot_be_done_is_refused(query: str, code: int) -> None:
    """A setting's name is never pasted into SQL unless it is a name; compress=1 would need ClickHouse's own framing."""
    with pytest.raises(QueryError) as caught:
        read_parameters(query, {})
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"Host": "127.0.0.1:8123"}, True),
        ({"Host": "localhost"}, True),
        ({"Host": "[::1]:8123"}, True),
        ({}, True),
        ({"Host": "rebound.example:8123"}, False),
        ({"Host": "127.0.0.1:8123", "Origin": "http://evil.example"}, False),
        ({"Host": "127.0.0.1:8123", "Origin": "null"}, False),
        ({"Host": "127.0.0.1:8123", "Origin": "http://127.0.0.1:8123"}, True),
        ({"Host": "127.0.0.1:8123", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "127.0.0.1:8123", "Sec-Fetch-Site": "none"}, True),
    ],
)
def test_other_sites_pages_are_kept_out(headers: dict[str, str], own: bool) -> None:
    """Neither a form on another site nor a name that was pointed at loopback reaches the engine."""
    assert is_own_page(headers) is own


def read_body(raw: bytes, headers: dict[str, str]) -> bytes:
    """Reads a whole body as a request would carry it."""
    return b"".join(open_body(io.BytesIO(raw), headers).chunks())


def test_a_body_ends_where_its_length_says() -> None:
    """The bytes of the next request are not touched."""
    source = io.BytesIO(b"abcNEXT")
    assert b"".join(open_body(source, {"Content-Length": "3"}).chunks()) == b"abc"
    assert source.read() == b"NEXT"


def test_a_chunked_body_is_put_together() -> None:
    """Chunks, their extensions and trailers are HTTP's, not the body's."""
    source = io.BytesIO(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\nNEXT")
    assert b"".join(open_body(source, {"Transfer-Encoding": "chunked"}).chunks()) == b"abcde"
    assert source.read() == b"NEXT"


@pytest.mark.parametrize(
    ("raw", "headers", "code"),
    [
        (b"ab", {"Content-Length": "3"}, 33),
        (b"5\r\nab", {"Transfer-Encoding": "chunked"}, 33),
        (b"zz\r\n", {"Transfer-Encoding": "chunked"}, 33),
        (b"", {"Content-Length": "-1"}, 381),
        (b"abc", {"Content-Length": "3", "Content-Encoding": "gzip"}, 271),
        (b"abc", {"Content-Length": "3", "Content-Encoding": "lz4"}, 271),
        (b"abc", {"Content-Length": "3", "Content-Encoding": "zstd"}, 271),
        (b"abc", {"Content-Length": "3", "Content-Encoding": "br"}, 89),
    ],
)
def test_a_broken_body_is_an_error_with_a_code(raw: bytes, headers: dict[str, str], code: int) -> None:
    """A body that ends early or is not what it says never counts as whole."""
    with pytest.raises(QueryError) as caught:
        read_body(raw, headers)
    assert caught.value.code == code


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_is_decompressed(encoding: str) -> None:
    """Both of zlib's framings are understood; lz4 and zstd are shown against the running server."""
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    raw = packer.compress(b"rows") + packer.flush()
    assert read_body(raw, {"Content-Length": str(len(raw)), "Content-Encoding": encoding}) == b"rows"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd"])
def test_a_body_that_expands_comes_a_megabyte_at_a_time(encoding: str) -> None:
    """Whatever it becomes, it is never in memory at once; nothing of it is lost, and the frame behind it is read."""
    zeros = bytes(20 << 20)
    raw = _packed(encoding, zeros) + _packed(encoding, b"rows")
    assert len(raw) < 1 << 20
    reader = open_body(io.BytesIO(raw), {"Content-Length": str(len(raw)), "Content-Encoding": encoding})
    pieces = list(reader.chunks())
    assert max(map(len, pieces)) <= 1 << 20
    assert b"".join(pieces) == zeros + b"rows"


def _packed(encoding: str, plain: bytes) -> bytes:
    if encoding == "lz4":
        return bytes(cramjam.lz4.compress(plain))
    if encoding == "zstd":
        return bytes(cramjam.zstd.compress(plain))
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    return packer.compress(plain) + packer.flush()
