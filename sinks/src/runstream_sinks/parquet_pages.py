"""What the pages of a Parquet column say of themselves, read without decompressing anything. Pure.

A footer may claim what it likes; a reader allocates what the pages claim. So before a file from outside is read, every page's header is: a few fields in Thrift's compact protocol, of which
only integers are kept. What pages hold is Arrow's business.
"""

from __future__ import annotations

from typing import NamedTuple

DATA_PAGE = 0
PLAIN, DELTA_BINARY_PACKED = 0, 5
# Ours have 20 to 40 bytes, and statistics of two numbers.
_HEADER_BYTES_MAX = 1024
_DEPTH_MAX = 4
_VARINT_BYTES_MAX = 10

# Thrift's types by their numbers in the protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

# The fields of a page's header, and of the part of it that is about a page of data.
_TYPE, _PLAIN_BYTES, _STORED_BYTES, _DATA = 1, 2, 3, 5
_VALUES, _ENCODING = 1, 2

Struct = dict[int, "int | Struct"]


class BadPage(Exception):
    """A page's header is none, or not one that an archive's worker writes."""


class Page(NamedTuple):
    """A page of data: how many values, in which encoding, and how large it is once decompressed."""

    values: int
    encoding: int
    nbytes: int


def pages_of(data: memoryview, *, pages_max: int) -> list[Page]:
    """The pages of a column chunk, which `data` is.

    Raises:
        BadPage: they do not fill it to the byte, there are more than `pages_max`, or one is no page of data of the first version.
    """
    out: list[Page] = []
    at = 0
    while at < len(data):
        if len(out) == pages_max:
            raise BadPage(f"expected at most {pages_max} pages, got more")
        cursor = _Cursor(data[at : at + _HEADER_BYTES_MAX])
        try:
            header = cursor.struct(_DEPTH_MAX)
        except (IndexError, ValueError) as error:
            raise BadPage(f"expected a page's header {at} bytes into its column, got something else ({error})") from None
        stored, part = header.get(_STORED_BYTES), header.get(_DATA)
        if header.get(_TYPE) != DATA_PAGE or not isinstance(part, dict):
            raise BadPage(f"expected pages of data of the first version alone, got page type {header.get(_TYPE)}")
        numbers = (part.get(_VALUES), part.get(_ENCODING), header.get(_PLAIN_BYTES), stored)
        values, encoding, nbytes, stored = (one if isinstance(one, int) else -1 for one in numbers)
        if min(values, encoding, nbytes, stored) < 0:
            raise BadPage("expected a page's counts to be 0 or more, got one that is less or missing")
        at += cursor.at + stored
        out.append(Page(values, encoding, nbytes))
    if at != len(data):
        raise BadPage("expected pages to end with their column, got one that is longer")
    return out


class _Cursor:
    """Reads values of the compact protocol; IndexError past the end, ValueError for what is not in it."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def _byte(self) -> int:
        found = self._data[self.at]
        self.at += 1
        return found

    def _varint(self) -> int:
        out = 0
        for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
            byte = self._byte()
            out |= (byte & 0x7F) << shift
            if byte < 0x80:
                return out
        raise ValueError("a number has no end")

    def _integer(self) -> int:
        coded = self._varint()
        return (coded >> 1) ^ -(coded & 1)

    def struct(self, depth: int) -> Struct:
        """A structure's fields by their numbers: integers and structures, without the others."""
        if depth == 0:
            raise ValueError("too deep")
        out: Struct = {}
        field = 0
        while (head := self._byte()) != 0:
            kind = head & 0x0F
            field = field + (head >> 4) if head >> 4 else self._integer()
            if kind in (_I16, _I32, _I64):
                out[field] = self._integer()
            elif kind == _STRUCT:
                out[field] = self.struct(depth - 1)
            else:
                self._skip(kind, depth)
        return out

    def _skip(self, kind: int, depth: int) -> None:
        if kind in (_TRUE, _FALSE):
            return
        if kind == _BYTE:
            self._byte()
        elif kind == _DOUBLE:
            self.at += 8
        elif kind == _BINARY:
            length = self._varint()
            self.at += length
        else:
            raise ValueError(f"type {kind}, {depth} deep")
