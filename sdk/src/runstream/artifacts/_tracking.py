"""Artifacts that stay where they are: their addresses, and what is known without copying them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from runstream.artifacts import _uris
from runstream.artifacts._download import checksum_of
from runstream.artifacts._listing import mime_type_of
from runstream.artifacts._payloads import artifact_of, payload_of
from runstream.artifacts._places import local_path

if TYPE_CHECKING:
    from runstream.artifacts._listing import Group, Listed
    from runstream.artifacts._payloads import About
    from runstream.artifacts._types import Artifact


def tracked(about: About, uri: str, checksum: str) -> tuple[dict[str, Any], Artifact]:
    """What is recorded of an address; of a file on this machine that is there, its size as well."""
    path = local_path(uri)
    size = -1
    if path is None:
        shown = _uris.public(uri)
        name = shown.partition("?")[0].rstrip("/").rpartition("/")[2] or shown
    else:
        shown, name = path.as_uri(), path.name or "/"
        with contextlib.suppress(OSError):
            size = path.stat().st_size if path.is_file() else -1
    payload = payload_of(about, "tracked", name, path=name, uri=shown, mime_type=mime_type_of(name), checksum=checksum, size=size)
    return payload, artifact_of(payload, about)


def tracked_file(about: About, group: Group, one: Listed) -> tuple[dict[str, Any], Artifact]:
    """What is recorded of a file that is read for its checksum and stays where it is; raises OSError."""
    path = f"{group.name}/{one.path}" if group.folder else one.path
    name = path.rpartition("/")[2]
    uri = one.source.absolute().as_uri()
    payload = payload_of(about, "tracked", name, path=path, uri=uri, mime_type=mime_type_of(name), checksum=checksum_of(one.source), size=one.size)
    return payload, artifact_of(payload, about)
