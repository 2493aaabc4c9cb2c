"""The second stage: digests of a run's ranks, keyed by run, against the rules across ranks and those on the run's state.

A run's state is one entry for its ranks and one for each track. It goes once all of its ranks have ended and nothing was heard of it for a day, which is for how long digests stay.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from runstream_processors.engine import Checkpoint, Entry, Output, Received, decoded, short, unknown_schemas
from runstream_rules import DigestRefused, Policy
from runstream_rules.fleet import RunWatch, pack_head, pack_track, unpack
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import Digest, Record
from runstream_schemas.topics import DAY_MS, TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runstream_processors.engine import Read
    from runstream_processors.knowledge import Knowledge
    from runstream_rules.fleet import TrackKey
    from runstream_schemas.records import Alert

logger = logging.getLogger(__name__)

_SEPARATOR = b"/"


class Told(NamedTuple):
    """A digest, and the partition that it came from."""

    partition: int
    digest: Digest


class FleetEngine:
    """Decisions for the topic of digests."""

    def __init__(self, knowledge: Knowledge, policy: Policy, prefix: str) -> None:
        """Takes what everybody knows, the core's bounds, and the prefix of topics."""
        self._knowledge = knowledge
        self._policy = policy
        self._alerts = TOPICS["alert"].full_name(prefix)
        self._runs: dict[str, RunWatch] = {}
        self._partitions: dict[str, int] = {}
        self._dirty: set[str] = set()
        self._gone: dict[str, list[bytes]] = {}
        self.counts: Counter[str] = Counter()

    def unknown_schemas(self, records: Iterable[Received]) -> set[int]:
        """Ids of schemas that the records name and the catalogue lacks."""
        return unknown_schemas(records, self._knowledge.catalogue)

    def sort(self, records: Iterable[Received]) -> list[Told]:
        """The digests, in their order."""
        return list(decoded(records, self._knowledge.catalogue, _told))

    def held(self, work: Told, read: Read, waited_ms: int) -> bool:  # noqa: ARG002  # the protocol's signature
        """Nothing is held: figures for a rule that is on its way are kept."""
        return False

    def decide(self, work: Told, read: Read, now_ms: int) -> list[Output]:
        """Takes a digest into its run's state; gives the alerts."""
        run_id = work.digest.run_id
        run = self._runs.get(run_id)
        if run is None:
            run = self._runs[run_id] = self._unpacked(run_id, read) or RunWatch(run_id, work.digest.project, now_ms)
        self._partitions[run_id] = work.partition
        self._gone.pop(run_id, None)
        untracked = run.untracked
        try:
            alerts = run.take(work.digest, self._knowledge.book, now_ms, self._policy)
        except DigestRefused as error:
            logger.warning("digest refused", extra={"run_id": run_id, "reason": str(error)})
            return []
        self._dirty.add(run_id)
        self.counts["digests"] += 1
        if run.untracked > untracked:
            self.counts["figures_refused"] += run.untracked - untracked
            logger.warning("figures of series past a run's room refused", extra={"run_id": run_id, "figures": run.untracked - untracked})
        self.counts["items"] += len(work.digest.tracks)
        return self._concluded(run, alerts, now_ms)

    def concluded(self) -> list[Output]:
        """Letters of rules that broke."""
        return self._knowledge.letters()

    def tick(self, read: Read, now_ms: int, *, hears: bool) -> list[Output]:  # noqa: ARG002  # the protocol's signature
        """Closes blocks that waited too long, notices silence, and lets runs go that are over."""
        out: list[Output] = []
        for run_id, run in list(self._runs.items()):
            out += self._concluded(run, run.tick(self._knowledge.book, now_ms, self._policy, hears=hears), now_ms)
            if run.head_changed or run.changed:
                self._dirty.add(run_id)
            if now_ms - run.heard_ms > DAY_MS and not run.ranks.any_running():
                self._gone[run_id] = [run_id.encode(), *(track_key(run_id, key) for key in run.tracks)]
                self._dirty.discard(run_id)
                del self._runs[run_id]
        return [*out, *self._knowledge.letters()]

    def checkpoints(self, now_ms: int) -> Iterator[Checkpoint]:  # noqa: ARG002  # the protocol's signature
        """Runs that changed: their tracks first, since a run's own entry names them."""
        entries: list[Entry] = []
        for run_id in self._dirty:
            run, partition = self._runs[run_id], self._partitions[run_id]
            for key in run.changed:
                track = run.tracks.get(key)
                entries.append(Entry(partition, track_key(run_id, key), None if track is None else pack_track(track)))
            entries.append(Entry(partition, run_id.encode(), pack_head(run)))
        for run_id, keys in self._gone.items():
            entries += [Entry(self._partitions[run_id], key, None) for key in keys]
        if entries:
            yield Checkpoint([], entries)

    def settled(self, checkpoint: Checkpoint) -> None:  # noqa: ARG002  # the protocol's signature
        """The entries are in the table."""
        for run_id in self._dirty:
            self._runs[run_id].changed.clear()
            self._runs[run_id].head_changed = False
        for run_id in self._gone:
            del self._partitions[run_id]
        self._dirty.clear()
        self._gone.clear()

    def forget(self) -> None:
        """Forgets every run."""
        self._runs.clear()
        self._partitions.clear()
        self._dirty.clear()
        self._gone.clear()

    def recovered(self, entries: Iterable[Entry]) -> None:
        """Knows the runs in the table, so that time passes for them too."""
        every = list(entries)
        table = {entry.key: entry.value for entry in every}
        for entry in every:
            if _SEPARATOR not in entry.key:
                run_id = entry.key.decode()
                found = self._unpacked(run_id, table.get)
                if found is not None:
                    self._runs[run_id], self._partitions[run_id] = found, entry.partition

    def _unpacked(self, run_id: str, read: Read) -> RunWatch | None:
        head = read(run_id.encode())
        return None if head is None else unpack(head, lambda key: read(track_key(run_id, key)))

    def _concluded(self, run: RunWatch, alerts: Iterable[Alert], now_ms: int) -> list[Output]:
        if run.failed:
            self._knowledge.switch_off(run.failed, now_ms)
            run.failed.clear()
        every = list(alerts)
        self.counts["alerts"] += len(every)
        self.counts["alerts_late"] += sum(alert.late for alert in every)
        return [Output(self._alerts, alert.alert_id.encode(), wire.encode(alert)) for alert in self._knowledge.marked(every)]


def track_key(run_id: str, key: TrackKey) -> bytes:
    """The table's key of one track of a run."""
    return run_id.encode() + _SEPARATOR + hashlib.sha256(repr(key).encode()).digest()[:16]


def _told(received: Received, record: Record) -> Told:
    if not isinstance(record, Digest):
        raise MalformedRecord(f"expected a Digest, got {type(record).__name__}")
    key = record.run_id.encode()
    if received.key != key or _SEPARATOR in key:
        raise MalformedRecord("a digest's key must be its run's id, got another")
    short(record.run_id, record.project, *record.attempts)
    return Told(received.partition, record)
