"""A journal's way to Kafka as the process that writes it sees it: somebody who ships is kept alive beside it, and what is acknowledged is read from the journal's header.

Nothing here writes to the journal or speaks to Kafka. A forked child starts with nothing to follow, until it begins a journal of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runstream._agent import InlineWatch, Watch
from runstream_producers.journal import format as fmt
from runstream_producers.journal.segments import map_file
from runstream_producers.states import trouble_of

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

    from runstream_producers.journal.writer import JournalWriter
    from runstream_schemas.settings import Settings

_POLL_S = 0.01


class Delivery:
    """Follows one journal at a time. `folder` is that journal's, None where there is none to follow."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._watch: Watch | None = None
        self._slots: mmap.mmap | None = None
        self._forked = False
        self.folder: Path | None = None

    def follow(self, journal: JournalWriter) -> None:
        """Looks at a journal's acknowledgements from now on, and keeps an agent alive that makes them."""
        self.folder = journal.folder.path
        self._slots = map_file(self.folder / "ack", write=False)
        base = self.folder.parent
        if self._settings.mode == "online":
            self._watch = Watch(base, self._settings, journal.flush_drops)
        elif self._settings.mode == "inline" and not self._forked:
            self._watch = InlineWatch(base, self._settings, journal.flush_drops, journal.identity.writer)
        if self._watch is not None:
            self._watch.start()

    def forget(self) -> None:
        """In a forked child: acknowledgements and agent are the parent's."""
        self._watch = self._slots = self.folder = None
        self._forked = True

    @property
    def ships(self) -> bool:
        """Whether somebody is meant to ship this journal meanwhile."""
        return self._watch is not None

    @property
    def trouble(self) -> str:
        """Why nothing arrives at Kafka at present, as whoever ships last said; empty where nothing is known, or nobody ships."""
        return trouble_of(self.folder.parent) if self.folder is not None and self._watch is not None else ""

    def ack(self) -> fmt.Ack:
        """How far Kafka has acknowledged."""
        return fmt.Ack() if self._slots is None else fmt.read_ack(self._slots[: 2 * fmt.ACK_SLOT_BYTES])

    def wait(self, deadline: float) -> None:
        """Waits until all of an ended journal is acknowledged, at most until `deadline` of the monotonic clock; not where nobody ships."""
        while self._watch is not None and not self.ack().done and time.monotonic() < deadline:
            self._watch.ensure(time.monotonic())
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))

    def stop(self, deadline: float, *, join: bool) -> None:
        """Looks after the agent no longer; one that is a thread of this process ends with its last run, by `deadline`. Signal handlers do not `join` threads."""
        if self._watch is not None:
            self._watch.stop(deadline, join=join)
