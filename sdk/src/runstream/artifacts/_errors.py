"""What goes wrong with artifacts.

ArtifactError
├── StoreFailed      the store did not do what it was asked, however often
├── FileChanged      a file changed while it was read
└── DamagedArtifact  what came back is not what went in
"""

from __future__ import annotations


class ArtifactError(Exception):
    """Root of this package's errors: an artifact could not be stored, found or fetched; the message says what was expected, what came and what to do."""


class StoreFailed(ArtifactError):
    """The artifact store did not do what it was asked within its tries."""


class FileChanged(ArtifactError):
    """A file changed while it was read, so that nothing whole could be stored."""


class DamagedArtifact(ArtifactError):
    """What the store holds is not what was logged: its checksum is another. Nothing of it is left in place."""
