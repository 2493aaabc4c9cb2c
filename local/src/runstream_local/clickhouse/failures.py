"""Owns how the engine's failures look over HTTP: the code in its message, the status that ClickHouse gives it, the body."""

from __future__ import annotations

import re
from http import HTTPStatus

__all__ = ["QueryError"]

_CODE = re.compile(r"Code: (\d+)\. ")

_BAD_REQUEST = frozenset({6, 25, 26, 27, 33, 34, 38, 41, 42, 43, 44, 53, 62, 72, 117, 167, 168, 190, 321, 441, 456, 457})
_NOT_FOUND = frozenset({46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336})
_OTHERS = {
    48: HTTPStatus.NOT_IMPLEMENTED,
    164: HTTPStatus.FORBIDDEN,
    202: HTTPStatus.SERVICE_UNAVAILABLE,
    229: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    497: HTTPStatus.FORBIDDEN,
    516: HTTPStatus.FORBIDDEN,
}


class QueryError(Exception):
    """A statement failed, in the engine or before it.

    Attributes:
        code: ClickHouse's error code.
        message: text in ClickHouse's form: `Code: 60. DB::Exception: ... (UNKNOWN_TABLE)`.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def from_engine(cls, text: str) -> QueryError:
        """Builds it from the engine's own message; one without a code is 1002, ClickHouse's own "unknown exception"."""
        match = _CODE.search(text)
        if match is None:
            return cls(1002, f"Code: 1002. DB::Exception: {text}")
        return cls(int(match.group(1)), text[match.start() :])

    @classmethod
    def of(cls, code: int, reason: str) -> QueryError:
        """Builds one of our own in the engine's form."""
        return cls(code, f"Code: {code}. DB::Exception: {reason}.")

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status that ClickHouse answers with for this code."""
        if self.code in _BAD_REQUEST:
            return HTTPStatus.BAD_REQUEST
        if self.code in _NOT_FOUND:
            return HTTPStatus.NOT_FOUND
        return _OTHERS.get(self.code, HTTPStatus.INTERNAL_SERVER_ERROR)
