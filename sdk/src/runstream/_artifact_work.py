"""What the calls on artifacts share: arguments checked, files listed, stored and recorded, in the caller's thread or beside it. The calls themselves are `_artifact_calls`'."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from runstream import _checks, _clock, _existed
from runstream._params import json_values
from runstream._said import Said
from runstream._told import in_signal
from runstream.artifacts import Artifact, ArtifactError, Upload
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from runstream._rows import Reporter, Rows
    from runstream.artifacts._listing import Group
    from runstream.artifacts._payloads import About
    from runstream.artifacts._stores import Stores
    from runstream.artifacts._uploading import Uploads
    from runstream_producers.journal.writer import JournalWriter
    from runstream_schemas.records import ArtifactKind, ArtifactRelation
    from runstream_schemas.settings import Settings

NO_UPLOAD = Upload()
NO_UPLOAD.end(ArtifactError("nothing was stored, as was told"))


class ArtifactWork(Said):
    """Where a run's artifacts go. `_settings` say which store that is; a run that records nothing stores nothing."""

    id: str
    project: str
    rank: int
    _settings: Settings
    _rows: Rows
    _journal: JournalWriter | None
    _stores_made: Stores | None = None
    _stores_pid = 0
    _uploads_made: Uploads | None = None

    @property
    def _stores(self) -> Stores:
        # A forked child opens a store of its own: what libraries of storages run in threads is its parent's.
        if self._stores_made is None or self._stores_pid != os.getpid():
            from runstream.artifacts._stores import Stores

            self._stores_made, self._stores_pid = Stores(self._settings), os.getpid()
        return self._stores_made

    @property
    def _uploads(self) -> Uploads:
        if self._uploads_made is None:
            from runstream.artifacts._uploading import Uploads

            self._uploads_made = Uploads(lambda: self._stores, self.tell)
        return self._uploads_made

    def end_uploads(self, deadline: float) -> None:
        """Waits for what is still being uploaded, at most until `deadline` of the monotonic clock, and tells what is left."""
        if self._uploads_made is not None and not in_signal() and (left := self._uploads_made.wait(deadline)):
            self._report(
                "uploads_left",
                f"{left} uploads were not finished in time: call wait() on what upload_artifact and log_artifact return, "
                "or make the calls again, which go on from what has arrived; large values wait for `runstream artifacts push`",
                always=True,
            )

    def _refuse(self, call: str, sentence: str) -> None:
        self._report(f"{call}:{sentence[:200]}", sentence)

    def _about(self, call: str, context: Any, step: Any, subject: Any, metadata: Any, *, relation: ArtifactRelation = "output") -> About:
        from runstream.artifacts._payloads import About

        if metadata is not None and not isinstance(metadata, Mapping):
            self._refuse(call, f"metadata of {call} must be a mapping, got {val.told(metadata)}: it was kept under the name metadata")
            metadata = {"metadata": metadata}
        return About(
            run_id=self.id,
            rank=self.rank,
            time_ms=_clock.now_ms(),
            context=_fitting(call, "context", _checks.context_of(call, context, self._report), self._report),
            subject=_fitting(call, "subject", _checks.text_of(call, "subject", subject, self._report), self._report),
            step=_checks.step_of(call, step, self._report),
            relation=relation,
            metadata={} if metadata is None else json_values(call, cast("Mapping[Any, Any]", metadata), self._report),
        )

    def _each(self, call: str, argument: str, given: Any) -> list[Any]:
        """One path or several; what is none is told."""
        several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping)) and not hasattr(cast("Any", given), "__fspath__")
        found: list[Any] = []
        many: list[Any] = list(cast("Iterable[Any]", given)) if several else [given]
        for one in many:
            if (isinstance(one, str) and one) or hasattr(one, "__fspath__"):
                found.append(one)
            else:
                self._refuse(
                    call,
                    f"{argument} of {call} must be a path, or a list of paths, got {'an empty text' if isinstance(one, str) else val.told(one)}: it was left out",
                )
        return found

    def _listed(self, call: str, files: Any) -> list[Group]:
        from runstream.artifacts._listing import group_at

        def refuse(sentence: str) -> None:
            self._refuse(call, f"{call} {sentence}")

        found = (group_at(one, refuse) for one in self._each(call, "files" if call == "upload_artifact" else "path", files))
        return [one for one in found if one is not None]

    def _upload(self, call: str, groups: list[Group], about: About, *, kind: ArtifactKind = "file", wait: bool, progress: bool | None = None) -> Upload:
        if not groups:
            return NO_UPLOAD
        from runstream.artifacts._uploading import Refused, bar_of, store_group

        upload, failures = Upload(), list[Exception]()

        def refuse(error: Exception) -> None:
            failures.append(error)
            self._refuse(call, f"{call} left something out: {error}")

        def work() -> None:
            bar = bar_of(groups, progress)
            objects = self._stores.uploads_to
            for one in groups:
                store_group(one, objects, about, kind=kind, record=self._record_artifact, refuse=refuse, told=bar, upload=upload)
            bar.end()
            if failures:
                raise Refused(str(failures[0]))

        return self._work(call, upload, work, wait=wait)

    def _work(self, call: str, upload: Upload, work: Any, *, wait: bool) -> Upload:
        from runstream.artifacts._uploading import Refused

        if self._journal is None:
            upload.end()
            return upload
        if not wait:
            return self._uploads.later(upload, work)
        try:
            work()
        except Refused as error:
            upload.end(error)
        except (ArtifactError, OSError) as error:
            upload.end(error)
            self._refuse(call, f"{call} stored nothing more: {error}")
        else:
            upload.end()
        return upload

    def _record_artifact(self, payload: Mapping[str, Any]) -> bool:
        return self._rows.record(fmt.Kind.ARTIFACT, payload)

    def _store_value(self, call: str, path: Any, value: Any, about: About, *, kind: ArtifactKind = "file", wait: bool) -> Upload:
        from runstream.artifacts._contents import TAKEN, bytes_of
        from runstream.artifacts._listing import mime_type_of
        from runstream.artifacts._payloads import artifact_of, payload_of

        name = _checks.name_of(call, "path", path if isinstance(path, str) else val.text_of(path), self._report)
        if not name or name.startswith("/") or any(one in ("", ".", "..") for one in name.split("/")) or "\0" in name:
            if name:
                self._refuse(
                    call, f"path of {call} must be a name such as eval/scores.json where a value is given, got {val.shown(name)}: nothing was recorded"
                )
            return NO_UPLOAD
        try:
            data = bytes_of(name, value)
        except Exception as error:
            if val.from_signal(error):
                raise
            self._refuse(call, f"value of {call} must be {TAKEN}, got {val.told(value)}, of which {name} cannot be made: {val.said(error)}")
            return NO_UPLOAD
        upload = Upload()

        def work() -> None:
            stored = self._stores.uploads_to.add_bytes(data)
            payload = payload_of(
                about, kind, name.rpartition("/")[2], path=name, uri=stored.uri, mime_type=mime_type_of(name), checksum=stored.checksum, size=stored.size
            )
            if self._record_artifact(payload):
                upload.artifacts.append(artifact_of(payload, about))

        return self._work(call, upload, work, wait=wait)

    def _tracked(self, call: str, uris: list[Any], about: About, checksum: str) -> list[Artifact]:
        from runstream.artifacts._objects import is_checksum
        from runstream.artifacts._tracking import tracked

        if checksum and (not is_checksum(checksum) or len(uris) != 1):
            self._refuse(
                call,
                f"checksum of {call} must be the SHA-256 of a single file, 64 hexadecimal digits, got {val.shown(checksum)} for {len(uris)}: it was left out",
            )
            checksum = ""
        made = [tracked(about, val.text_of(one.__fspath__() if hasattr(one, "__fspath__") else one), checksum) for one in uris]
        return [artifact for payload, artifact in made if self._record_artifact(payload)]

    def _track_files(self, call: str, groups: list[Group], about: About) -> Upload:
        from runstream.artifacts._tracking import tracked_file

        upload = Upload()
        for group in groups:
            for one in group.files:
                try:
                    payload, artifact = tracked_file(about, group, one)
                except OSError as error:
                    self._refuse(call, f"{call} left something out: expected a file that can be read, got {one.source} ({error.strerror})")
                    continue
                if self._record_artifact(payload):
                    upload.artifacts.append(artifact)
        upload.end()
        return upload

    def _looked_up(self, text: str) -> Artifact | None:
        """The artifact of an id, or of a version of a model; None, which is told, where ClickHouse has none or cannot be asked."""
        from runstream import read
        from runstream.artifacts._naming import version_of

        version = version_of(text)
        place: dict[str, Any] = {"url": _existed.address_of(self._settings), "database": self._settings.clickhouse_database}
        try:
            return read.artifact(text, **place) if version is None else read.model_version(*version, project=self.project, **place).artifact
        except read.ReadError as error:
            self._refuse("use_artifact", f"artifact {val.shown(text)} of use_artifact was not found, and its use is not recorded: {error}")
            return None


def _fitting(call: str, argument: str, text: str, report: Reporter) -> str:
    return text if _checks.fits(call, argument, text, report) else ""
