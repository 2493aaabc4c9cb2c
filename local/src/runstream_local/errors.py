"""What can go wrong with the embedded stack, as one short tree.

LocalError              root of the package
├── FetchError          Kafka's jars could not be had; `--kafka` is the way round
│   └── NoNetworkError  ... because nothing answered at all
├── FormatError         Kafka's storage could not be prepared
├── PartError           a part of the stack did not become healthy, or is unknown
├── StackError          the stack's folder is busy, or holds no running stack
└── SqlError            ClickHouse refused a statement, or did not answer
"""

from __future__ import annotations

__all__ = ["FetchError", "FormatError", "LocalError", "NoNetworkError", "PartError", "SqlError", "StackError"]


class LocalError(Exception):
    """Any failure of the embedded stack."""


class FetchError(LocalError):
    """A jar of Apache Kafka could not be fetched, or is not the one that was pinned."""


class NoNetworkError(FetchError):
    """No repository answered."""


class FormatError(LocalError):
    """Kafka's storage tool failed."""


class PartError(LocalError):
    """A part is unknown, or did not become healthy in time.

    Attributes:
        part: name of the part.
        wrong_settings: whether it ended for its settings, so that trying again changes nothing.
    """

    def __init__(self, message: str, *, part: str, wrong_settings: bool = False) -> None:
        super().__init__(message)
        self.part = part
        self.wrong_settings = wrong_settings


class StackError(LocalError):
    """The data folder is in use by another supervisor, or no stack runs on it."""


class SqlError(LocalError):
    """A statement failed.

    Attributes:
        code: ClickHouse's error code, 0 where no answer came.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
