"""What can go wrong on the producing side.

ProducersError
├── JournalError     a journal folder or segment cannot be used
└── StrictError      bad input in strict mode, where nothing is forgiven
"""


class ProducersError(Exception):
    """Root of this package's errors."""


class JournalError(ProducersError):
    """A journal folder or segment cannot be used; `path` says which."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class StrictError(ProducersError):
    """Bad input in strict mode; outside of it the same words are one warning."""
