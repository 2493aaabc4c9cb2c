"""The payloads of artifact records, and artifacts as users hold them. Pure."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runstream.artifacts._types import Artifact
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_schemas.records import ArtifactKind, ArtifactRelation


def _no_text() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class About:
    """What a call says of all of its artifacts. `metadata` values are JSON text."""

    run_id: str
    rank: int
    time_ms: int
    context: str = ""
    subject: str = ""
    step: int | None = None
    relation: ArtifactRelation = "output"
    metadata: Mapping[str, str] = field(default_factory=_no_text)


def payload_of(
    about: About,
    kind: ArtifactKind,
    name: str,
    *,
    path: str = "",
    uri: str = "",
    mime_type: str = "",
    checksum: str = "",
    size: int = -1,
    parent: str = "",
    artifact_id: str = "",
) -> dict[str, Any]:
    """The fields of a record. Its id comes from the run and from what it is, so that every rank and every restart gives the same, unless it has one."""
    parent = parent or about.run_id
    what = checksum or uri or json.dumps(dict(about.metadata), sort_keys=True)
    return {
        "artifact_id": artifact_id or ids.named_uuid("artifact", about.run_id, kind, parent, name, path, what),
        "time_ms": about.time_ms,
        "kind": kind,
        "relation": about.relation,
        "name": name,
        "path": path,
        "uri": uri,
        "mime_type": mime_type,
        "checksum": checksum,
        "size": size,
        "parent": parent,
        "context": about.context,
        "subject": about.subject,
        "step": about.step,
        "metadata": dict(about.metadata),
    }


def artifact_of(payload: Mapping[str, Any], about: About) -> Artifact:
    """A record's fields as users hold them."""
    fields = {name: payload[name] for name in Artifact.__dataclass_fields__ if name in payload and name != "metadata"}
    return Artifact(
        **fields,
        id=payload["artifact_id"],
        run_id=about.run_id,
        rank=about.rank,
        metadata={key: json.loads(text) for key, text in payload["metadata"].items()},
        time=dt.datetime.fromtimestamp(payload["time_ms"] / 1000.0, dt.UTC),
    )
