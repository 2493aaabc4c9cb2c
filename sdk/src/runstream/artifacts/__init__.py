"""Artifacts: files, folders, models and data sets that runs make and use, in a store by content."""

from runstream.artifacts._errors import ArtifactError, DamagedArtifact, FileChanged, StoreFailed
from runstream.artifacts._types import Artifact, Upload

__all__ = ["Artifact", "ArtifactError", "DamagedArtifact", "FileChanged", "StoreFailed", "Upload"]
