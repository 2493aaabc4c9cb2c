"""Reads an archive as if it were topics: a source for `fill`, each partition's records in order and each once, whatever the files overlap.

How far everything is stored is kept in a file beside the other things of this user, since the cluster that the records came from may be gone.
"""

from __future__ import annotations

import json
import os
import time
from itertools import dropwhile
from typing import TYPE_CHECKING

from runstream_feed.records import Place
from runstream_schemas import catalogue as cat
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import Schema
from runstream_sinks.archive_files import DAY_MS, in_order
from runstream_sinks.ledger import Position
from runstream_sinks.log import log
from runstream_sinks.pipeline import Message
from runstream_sinks.spans import BEGINNING, At, Edge, Offset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from runstream_schemas.catalogue import Catalogue
    from runstream_sinks.archive_files import Name, Raw
    from runstream_sinks.archive_store import Store
    from runstream_sinks.ledger import Mark
    from runstream_sinks.spans import Bound


class Progress:
    """The next offset to read of each partition, in a file that is whole whenever a process is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next: dict[Place, int] = {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            self.next = {Place(topic, partition): offset for topic, partition, offset in found["next"]}
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError):
            log.warning("a file of progress cannot be read, so the replay begins anew", path=str(path))
        self.resumed = bool(self.next)

    def keep(self, offsets: Mapping[Place, int]) -> None:
        """Notes offsets."""
        self.next |= offsets
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        fresh.write_text(json.dumps({"next": [[*place, offset] for place, offset in self.next.items()]}), encoding="utf-8")
        fresh.replace(self.path)

    def forget(self) -> None:
        """All is done: the same replay begins anew."""
        self.path.unlink(missing_ok=True)


def wanted_files(names: Iterable[Name], since: Bound, until: Bound | None, next_offsets: Mapping[Place, int]) -> dict[Place, list[Name]]:
    """The files that may hold what lies between two bounds and was not read yet, in order. Pure."""
    out: dict[Place, list[Name]] = {}
    for place, some in in_order(names).items():
        left = [one for one in some if one.last >= next_offsets.get(place, 0)]
        if place not in next_offsets:
            left = list(dropwhile(lambda one: _ends_before(one, since), left))
        chosen = [one for one in left if not (isinstance(until, Offset) and one.first >= until.offset)]
        if chosen:
            out[place] = chosen
    return out


def _ends_before(name: Name, since: Bound) -> bool:
    # A file's records are of its day, or late ones.
    return (isinstance(since, At) and (name.day + 1) * DAY_MS <= since.time_ms) or (isinstance(since, Offset) and name.last < since.offset)


def within(records: Iterable[Raw], since: Bound, until: Bound | None) -> Iterator[Raw]:
    """A partition's records from the first that `since` means up to the first that `until` means, as Kafka counts them. Pure."""
    begun = isinstance(since, Edge) and not since.at_end
    for one in records:
        begun = begun or (isinstance(since, At) and one.time_ms >= since.time_ms) or (isinstance(since, Offset) and one.offset >= since.offset)
        if (isinstance(until, At) and one.time_ms >= until.time_ms) or (isinstance(until, Offset) and one.offset >= until.offset):
            return
        if begun:
            yield one


class ArchiveReader:
    """The records of an archive, one partition after the other."""

    def __init__(self, store: Store, topics: Iterable[str], since: Bound, until: Bound | None, progress: Progress) -> None:
        """Raises ArchiveError where there is no archive."""
        store.check()
        self._store = store
        self._since = since
        self._until = until
        self._progress = progress
        self._files = wanted_files(store.names(topics), since, until, progress.next)
        self._passed, self._all = 0, sum(name.last - name.first + 1 for some in self._files.values() for name in some)
        self._messages = self._read()
        self._wanted: Callable[[Place], bool] = lambda _: True
        self._waiting: Message | None = None
        self.done = not self._files

    @property
    def records(self) -> tuple[int, int]:
        """About how many offsets were passed, and how many there are in all files."""
        return min(self._passed, self._all), self._all

    def poll(self, *, records_max: int, timeout_s: float) -> list[Message]:
        """The next records. Raises ArchiveError where a file cannot be read."""
        out: list[Message] = []
        while len(out) < records_max and not self.done:
            message = self._waiting or next(self._messages, None)
            self._waiting = None
            if message is None:
                self.done = True
            elif self._wanted(message.position.place):
                out.append(message)
            else:
                self._waiting = message
                break
        if not out and not self.done:
            time.sleep(timeout_s)
        return out

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Gives records of wanted places only; others wait behind the first that is not."""
        self._wanted = wanted

    def keep(self, marks: Mapping[Place, Mark], *, wait: bool) -> None:
        """Keeps how far everything is stored."""
        del wait
        self._progress.keep({place: mark.offset for place, mark in marks.items()})

    def _read(self) -> Iterator[Message]:
        for place, names in self._files.items():
            done = self._progress.next.get(place, 0)
            # Where some of it is stored already, the first record that was meant lies behind us.
            for one in within(self._records(names), BEGINNING if done else self._since, self._until):
                if one.offset >= done:
                    yield Message(Position(place, one.offset), one.time_ms, one.key, one.value)

    def _records(self, names: list[Name]) -> Iterator[Raw]:
        reached = -1
        for name in names:
            for one in self._store.read(name):
                if one.offset > reached:
                    reached = one.offset
                    yield one
            self._passed += name.last - name.first + 1


def learn_schemas(store: Store, topic: str, catalogue: Catalogue) -> None:
    """Adds the schemas of an archive's schema topic to a catalogue; what does not fit is left out."""
    for names in in_order(store.names([topic])).values():
        for name in names:
            for one in store.read(name):
                try:
                    record = wire.decode(one.value or b"")
                    if isinstance(record, Schema):
                        catalogue.add(cat.entry(record.name, record.version, record.schema))
                except (SchemasError, ValueError) as error:
                    log.warning("a schema of the archive was left out", offset=one.offset, error=f"{type(error).__name__}: {error}")
