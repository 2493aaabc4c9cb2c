"""Which store a process uses, by its settings; and the stage: a local folder where contents wait that are not to be sent now.

What goes through the stage: large values of `log_media` where the store is another machine's, so that training does not wait for it, and everything of offline runs then. Their records
carry the address in the store, since a content's address follows from its checksum. `push` sends what is staged.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from runstream.artifacts import _uris
from runstream.artifacts._objects import TRIES_MAX, Objects
from runstream.artifacts._places import LocalPlace, local_path, place_at
from runstream_producers.paths import journal_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runstream.artifacts._objects import Content
    from runstream_schemas.settings import Settings

_STAGES = "staged"


class Stores:
    """The store of some settings."""

    def __init__(self, settings: Settings) -> None:
        url = settings.artifact_url or str(settings.home / "artifacts")
        self._offline = settings.mode == "offline"
        path = local_path(url)
        self._url = url if path is None else str(path)  # Whatever folder the process goes to later.
        self.local = path is not None
        self.uri = _uris.public(self._url.rstrip("/")) if path is None else path.as_uri()
        self._stage_folder: Path = journal_root(settings) / _STAGES / hashlib.sha256(self.uri.encode()).hexdigest()[:12]

    @cached_property
    def store(self) -> Objects:
        """The store itself. Raises ArtifactError where nothing that is installed reaches it."""
        return Objects(place_at(self._url))

    @property
    def stage(self) -> Objects:
        """The local folder of what waits to be sent; its contents are known by their addresses in the store."""
        return Objects(LocalPlace(self._stage_folder), uri=self.uri)

    @property
    def uploads_to(self) -> Objects:
        """Where uploads go: the store, or the stage where it is another machine's and nothing is to be sent now."""
        return self.stage if self._offline and not self.local else self.store

    def keep(self, data: bytes) -> Content:
        """Keeps a value of the training process at once, without network and without waiting for the disk; what is staged has to be pushed. Raises StoreFailed."""
        objects = Objects(self.store.place, tries=1) if self.local else self.stage
        return objects.add_bytes(data, durable=False)

    @property
    def owes(self) -> bool:
        """Whether something is staged that may be sent now."""
        return not (self.local or self._offline) and self._stage_folder.is_dir()

    def push(self, stopping: Callable[[], bool] = lambda: False) -> int:
        """Sends what is staged and returns how many objects that were; raises StoreFailed or ArtifactError, and leaves what was not sent.

        Lists of parts come last, so that a content is there only once all of its parts are.
        """
        if self.local or not self._stage_folder.is_dir():
            return 0
        stage, sent = LocalPlace(self._stage_folder), 0
        for key in sorted(stage.keys(), key=lambda one: (one.endswith(".parts"), one)):
            if stopping():
                break
            try:
                data = stage.get(key)
            except FileNotFoundError:  # Another rank has sent it.
                continue
            self.store.put(key, data)
            stage.remove(key)
            sent += 1
        return sent

    def at(self, uri: str) -> Objects:
        """The store that holds a content of this address: this one, what is staged for it here, or the one that the address names."""
        base, found, key = uri.rpartition("/objects/")
        checksum = key.rpartition("/")[2]
        if found and base == self.uri:
            if not self.local and self.stage.has(checksum):
                return self.stage
            return self.store
        return Objects(place_at(base), tries=TRIES_MAX)
