"""What can go wrong on the producing side.

ProducersError
├── JournalError     a journal folder or segment cannot be used
├── SyncError        journals cannot be shipped now; what is left stays where it is
└── StrictError      bad input in strict mode, where nothing is forgiven
"""


class ProducersError(Exception):
    """Root of this package's errors."""


class JournalError(ProducersError):
    """A journal folder or segment cannot be used; `path` says which."""

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message)
        self.path = path


class SyncError(ProducersError):
    """Journals cannot be shipped now; one sentence says why. What is left stays where it is."""


class StrictError(ProducersError):
    """Bad input in strict mode; outside of it the same words are one warning."""
