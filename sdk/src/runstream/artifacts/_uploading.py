"""Uploads: a listed file or folder becomes contents in a store and records in the journal; done in the caller's thread, or one after another in a thread of the run."""

from __future__ import annotations

import json
import os
import queue
import threading
import time as clock
from typing import TYPE_CHECKING, Any

from runstream.artifacts._errors import ArtifactError
from runstream.artifacts._listing import mime_type_of
from runstream.artifacts._payloads import artifact_of, payload_of
from runstream.artifacts._progress import Bar
from runstream.artifacts._types import Upload
from runstream_producers.errors import StrictError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream.artifacts._listing import Group
    from runstream.artifacts._objects import Objects
    from runstream.artifacts._payloads import About
    from runstream.artifacts._stores import Stores
    from runstream_schemas.records import ArtifactKind

_WAITING_MAX = 256  # Uploads that wait for the thread; past it a call waits.
_POLL_S = 0.01

FOLDER_TYPE = "application/vnd.runstream.folder+json"


class Refused(ArtifactError):
    """Something of an upload was not stored, which has been told."""


def store_group(
    group: Group,
    objects: Objects,
    about: About,
    *,
    kind: ArtifactKind = "file",
    record: Callable[[dict[str, Any]], bool],
    refuse: Callable[[Exception], None],
    told: Callable[[int], None],
    upload: Upload,
) -> None:
    """Stores a file, or a folder's files and then the list of them; each is recorded once it is there. What cannot be stored is refused and the rest goes on; a folder is recorded whole
    or not at all."""

    def keep(payload: dict[str, Any]) -> None:
        if record(payload):
            upload.artifacts.append(artifact_of(payload, about))

    contents: list[dict[str, Any]] = []
    for one in group.files:
        try:
            stored = objects.add_file(one.source, told)
        except (OSError, ArtifactError) as error:
            refuse(error)
            continue
        found = {"path": one.path, "size": stored.size, "sha256": stored.checksum}
        if not group.folder:
            keep(
                payload_of(
                    about,
                    kind,
                    group.name,
                    path=one.path,
                    uri=stored.uri,
                    mime_type=mime_type_of(one.path),
                    checksum=stored.checksum,
                    size=stored.size,
                )
            )
        contents.append(found | {"uri": stored.uri})
    if not group.folder or len(contents) < len(group.files):
        return
    listed = {"files": [{name: one[name] for name in ("path", "size", "sha256")} for one in contents]}
    stored = objects.add_bytes(json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode())
    total = sum(one["size"] for one in contents)
    whole = payload_of(about, "folder", group.name, path=group.name, uri=stored.uri, mime_type=FOLDER_TYPE, checksum=stored.checksum, size=total)
    keep(whole)
    for one in contents:
        name = one["path"].rpartition("/")[2]
        keep(
            payload_of(
                about,
                "file",
                name,
                path=one["path"],
                uri=one["uri"],
                mime_type=mime_type_of(name),
                checksum=one["sha256"],
                size=one["size"],
                parent=whole["artifact_id"],
            )
        )


def bar_of(groups: Sequence[Group], wanted: bool | None) -> Bar:
    """The bar for some groups."""
    count = sum(len(one.files) for one in groups)
    what = groups[0].name if len(groups) == 1 else f"{count} files"
    return Bar(what, sum(file.size for one in groups for file in one.files), wanted)


class Uploads:
    """What a run uploads beside training: one thread, begun when first needed, which also sends what is staged. A forked child begins its own."""

    def __init__(self, stores: Callable[[], Stores], tell: Callable[[str, str], None]) -> None:
        self._stores = stores
        self._tell = tell
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting: queue.Queue[tuple[Upload | None, Callable[[], None]]] = queue.Queue(_WAITING_MAX)
        self._begun = self._ended = 0
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stop = False
        self._pushing = False

    def later(self, upload: Upload, work: Callable[[], None]) -> Upload:
        """Has the thread do some work, whose end is that of the upload."""
        self._add(upload, work)
        return upload

    def push_soon(self) -> None:
        """Has the thread send what is staged, unless it is about to."""
        if self._pid != os.getpid() or not self._pushing:
            self._add(None, self._push)
            self._pushing = True

    def _add(self, upload: Upload | None, work: Callable[[], None]) -> None:
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._begun += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="runstream-uploads", daemon=True)
                self._thread.start()
        self._waiting.put((upload, work))

    def _push(self) -> None:
        self._pushing = False
        self._stores().push(lambda: self._stop)

    def _work(self) -> None:
        while True:
            upload, work = self._waiting.get()
            error: Exception | None = None
            try:
                work()
            except Exception as raised:  # noqa: BLE001 - whatever it is, it is told and the next upload goes on
                error = raised
                if not isinstance(raised, (Refused, StrictError)):
                    self._say(raised)
            if upload is not None:
                upload.end(error)
            self._ended += 1

    def _say(self, error: Exception) -> None:
        try:
            self._tell(f"upload:{type(error).__name__}", f"an upload was not finished: {error}")
        except StrictError:
            return  # There is nobody here to raise it to; the upload carries the error.

    def wait(self, deadline: float) -> int:
        """Waits until all of it is done, at most until `deadline` of the monotonic clock; returns how many uploads are not."""
        if self._pid != os.getpid():
            return 0
        while self._begun > self._ended and clock.monotonic() < deadline:
            clock.sleep(_POLL_S)
        self._stop = True
        return self._begun - self._ended
