"""The calls of a run that store, track, use and list artifacts: what they are given is checked here; `artifacts` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runstream import _checks, _existed
from runstream._artifact_work import NO_UPLOAD, ArtifactWork
from runstream._params import json_values
from runstream.artifacts import Artifact, Upload
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    import enum
    import os
    from collections.abc import Mapping, Sequence

    from runstream_schemas.records import ArtifactKind

    AnyPath = str | os.PathLike[str]


def _no_artifacts() -> list[Artifact]:
    return []


class ArtifactCalls(ArtifactWork):
    """What a run says of artifacts."""

    # ---- in ----------------------------------------------------------------------------------------------------------------------------

    @untraced
    @_checks.guarded(NO_UPLOAD)
    def upload_artifact(
        self,
        files: AnyPath | Sequence[AnyPath],
        *,
        context: str | enum.Enum | None = None,
        step: int | None = None,
        subject: str = "",
        metadata: Mapping[str, Any] | None = None,
        wait: bool = True,
        progress: bool | None = None,
    ) -> Upload:
        """Stores files and folders in the artifact store (setting `artifact_url`), each content once, and records each file and folder once it is there.

        Blocks until everything is stored and checked, unless `wait` is off. An upload that was cut off, by whatever, goes on from what has arrived when the call is made again.

        Args:
            files: a path, or a list of them; folders are stored with all files below them. Links to files are stored as what they lead to, links to folders within folders are left out.
            context: a phase, such as `Context.VALIDATION`.
            step: the step they belong to, if any.
            subject: what they are about, such as `checkpoint/5`; the run itself if empty.
            metadata: what else is to be said of them, as JSON can hold it.
            wait: whether to return only when everything is stored; otherwise a thread of the run does it, and `finish` waits for that within its time.
            progress: whether to draw a bar on standard error; for 64 MiB and more on a terminal if None.

        Returns:
            The upload, whose `artifacts` are what was stored, and `error` why not all of it was.

        Example:
            >>> from pathlib import Path
            >>> _ = Path("notes.md").write_text("all is well")
            >>> upload = run.upload_artifact("notes.md", step=3)
            >>> [(one.path, one.mime_type, one.size) for one in upload.artifacts]
            [('notes.md', 'text/markdown', 11)]
        """
        about = self._about("upload_artifact", context, step, subject, metadata)
        return self._upload("upload_artifact", self._listed("upload_artifact", files), about, wait=wait, progress=progress)

    @untraced
    @_checks.guarded(NO_UPLOAD)
    def log_artifact(
        self,
        path: AnyPath,
        value: Any = None,
        context: str | enum.Enum | None = None,
        step: int | None = None,
        *,
        copy: bool = True,
        subject: str = "",
        metadata: Mapping[str, Any] | None = None,
        wait: bool = True,
    ) -> Upload:
        """Logs a file or folder at a path, or a value of this program under that name.

        Args:
            path: where the file or folder is; with a value, the name that it gets, which may have folders in it and whose ending says the format where there are several.
            value: bytes, a text, an open file, an array (as .npy), a PIL image, a pandas table (as .csv or .parquet), or what JSON can hold.
            context: a phase, such as `Context.VALIDATION`.
            step: the step it belongs to, if any.
            copy: whether the content goes into the artifact store; otherwise it stays where it is, and its address, size and SHA-256 are recorded.
            subject: what it is about, such as `checkpoint/5`; the run itself if empty.
            metadata: what else is to be said of it, as JSON can hold it.
            wait: whether to return only when it is stored; otherwise a thread of the run does it.

        Returns:
            The upload, as `upload_artifact` does.

        Example:
            >>> upload = run.log_artifact("eval/scores.json", {"accuracy": 0.9}, Context.TESTING, 3)
            >>> upload.artifacts[0].mime_type
            'application/json'
        """
        about = self._about("log_artifact", context, step, subject, metadata)
        if value is None:
            groups = self._listed("log_artifact", path)
            return self._upload("log_artifact", groups, about, wait=wait) if copy else self._track_files("log_artifact", groups, about)
        if not copy:
            self._refuse("log_artifact", "copy=False of log_artifact needs a file that stays where it is, got a value: nothing was recorded")
            return NO_UPLOAD
        return self._store_value("log_artifact", path, value, about, wait=wait)

    @untraced
    @_checks.guarded(_no_artifacts())
    def track_artifact(
        self,
        uris: AnyPath | Sequence[AnyPath],
        *,
        context: str | enum.Enum | None = None,
        step: int | None = None,
        subject: str = "",
        metadata: Mapping[str, Any] | None = None,
        checksum: str = "",
    ) -> list[Artifact]:
        """Records files that stay where they are, without reading them; user names, passwords and signatures in their addresses are left out. Returns at once.

        Args:
            uris: a path or an address such as `s3://bucket/data.parquet`, or a list of them. They need not be there yet.
            context: a phase.
            step: the step they belong to, if any.
            subject: what they are about; the run itself if empty.
            metadata: what else is to be said of them, as JSON can hold it.
            checksum: the SHA-256 of a single file in hexadecimal, where it is known: downloads are checked against it.

        Example:
            >>> [artifact] = run.track_artifact("s3://user:secret@bucket/train.parquet")
            >>> artifact.uri
            's3://bucket/train.parquet'
        """
        about = self._about("track_artifact", context, step, subject, metadata)
        return self._tracked("track_artifact", self._each("track_artifact", "uris", uris), about, checksum)

    @untraced
    @_checks.guarded(cast("Artifact | None", None))
    def use_artifact(
        self,
        artifact: Artifact | AnyPath,
        *,
        context: str | enum.Enum | None = None,
        step: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Artifact | None:
        """Records that the run uses an artifact, and returns it, to be downloaded; None where it could not be found, which is told.

        Args:
            artifact: an artifact; the id of one, or a version of a model as `NAME:NUMBER` or `NAME:latest`, for which ClickHouse is asked; or a path or address.
            context: a phase that it is used in.
            step: the step from which it is used, if any.
            metadata: what else is to be said of its use.

        Example:
            >>> [made] = run.log_artifact("vocab.txt", "a b c").artifacts
            >>> run.use_artifact(made).relation
            'input'
        """
        from runstream.artifacts._naming import is_named

        about = self._about("use_artifact", context, step, "", metadata, relation="input")
        if isinstance(artifact, Artifact):
            found = artifact
        elif isinstance(artifact, str) and is_named(artifact):
            found = self._looked_up(artifact)
        elif isinstance(artifact, Path) or (isinstance(artifact, str) and artifact):
            return next(iter(self._tracked("use_artifact", [artifact], about, "")), None)
        else:
            self._refuse(
                "use_artifact",
                "artifact of use_artifact must be an artifact, the id of one, or an address, "
                f"got {'an empty text' if isinstance(artifact, str) else val.told(artifact)}: nothing was recorded",
            )
            return None
        if found is None:
            return None
        from runstream.artifacts._payloads import artifact_of, payload_of

        said = {**json_values("use_artifact", found.metadata, self._report), **about.metadata}
        payload = payload_of(
            about,
            cast("ArtifactKind", found.kind),
            found.name,
            path=found.path,
            uri=found.uri,
            mime_type=found.mime_type,
            checksum=found.checksum,
            size=found.size,
            parent=found.parent,
            artifact_id=found.id,
        ) | {"metadata": said, "subject": found.subject}
        return artifact_of(payload, about) if self._rows.record(fmt.Kind.ARTIFACT, payload) else None

    # ---- out ---------------------------------------------------------------------------------------------------------------------------

    def artifacts(self, kind: str | None = None, *, relation: str | None = None) -> list[Artifact]:
        """What the run has made and used, of all its ranks, as ClickHouse has it by now. Blocks for a query.

        Args:
            kind: `file`, `folder`, `tracked`, `model`, `model_version` or `dataset`; all if None.
            relation: `output` or `input`; both if None.

        Raises:
            runstream.read.ReadError: no ClickHouse is named or answers.
        """
        from runstream import read

        return read.artifacts(self.id, kind=kind, relation=relation, url=_existed.address_of(self._settings), database=self._settings.clickhouse_database)
