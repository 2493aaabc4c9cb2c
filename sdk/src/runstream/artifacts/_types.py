"""What users hold in their hands: an artifact, and an upload that may still be going on."""

from __future__ import annotations

import threading
import time as clock
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from pathlib import Path

_POLL_S = 0.01


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, folder, model or data set that a run made or used.

    Attributes:
        id: UUID made from what it is: the same from every rank and every restart of the run.
        parent: id of the artifact that it is a part of, else of the run.
        path: path within its folder, with `/`; the name of a single file.
        mime_type: type of its content; empty if unknown.
        checksum: SHA-256 of its content in hexadecimal; of a folder, that of its list of files; empty if unknown.
        size: bytes of its content; of a folder, of all of its files; -1 if unknown.
        uri: where it lies, without credentials; empty where nothing is stored.
        kind: `file`, `folder`, `tracked`, `model`, `model_version` or `dataset`.
        relation: `output` if the run made it, `input` if the run used it.
        metadata: what else is known of it.
    """

    id: str
    parent: str
    path: str
    mime_type: str = ""
    checksum: str = ""
    size: int = -1
    uri: str = ""
    kind: str = "file"
    name: str = ""
    relation: str = "output"
    run_id: str = ""
    rank: int = 0
    context: str = ""
    subject: str = ""
    step: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=_nothing)
    time: dt.datetime | None = None

    def download(self, target: str | Path = ".", *, progress: bool | None = None) -> Path:
        """Fetches it into a folder and returns where it is: the file, or the folder of its name with all files. Blocks until everything is there and its checksums hold.

        A download that was cut off goes on behind what is there; files that are there already, with the right content, are not fetched again. Nothing is written outside of the target.

        Args:
            target: the folder, which is made if it is not there.
            progress: whether to draw a bar on standard error; for large ones on a terminal if None.

        Raises:
            ArtifactError: it was never stored, the store fails, or a path leads out of the folder.
            DamagedArtifact: what the store has is not what was logged; nothing is left in its place.
            OSError: it cannot be written.

        Example:
            >>> path = run.log_artifact("weights.bin", b"abc").wait()[0].download("fetched")
            >>> path.read_bytes()
            b'abc'
        """
        from runstream.artifacts._fetching import download

        return download(self, target, progress)


class Upload:
    """An upload: done when the call returned, or going on in a thread where it was asked not to wait.

    Attributes:
        artifacts: what has been stored and recorded so far.
        error: why the store does not have all that could be read; None if it has, or while it is going on. A path that could not be read is told, and the rest is stored.
    """

    def __init__(self) -> None:
        self.artifacts: list[Artifact] = []
        self.error: Exception | None = None
        self._ended = threading.Event()

    def __repr__(self) -> str:
        state = "going on" if not self.done else "failed" if self.error is not None else "done"
        return f"<Upload: {state}, {len(self.artifacts)} artifacts>"

    @property
    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> list[Artifact]:
        """Waits until it has ended, at most so many seconds, and returns what has been stored. Never raises for reasons of the store; see `error`.

        Example:
            >>> [artifact] = run.log_artifact("notes.txt", "all is well", wait=False).wait(timeout=30)
            >>> artifact.size
            11
        """
        # Not by the event's own lock: a signal handler that ends the process may have interrupted somebody who holds it.
        deadline = None if timeout is None else clock.monotonic() + timeout
        while not self.done and (deadline is None or clock.monotonic() < deadline):
            clock.sleep(_POLL_S)
        return list(self.artifacts)

    def end(self, error: Exception | None = None) -> None:
        """Marks it as ended; called by whoever does the work."""
        self.error = error
        self._ended.set()
