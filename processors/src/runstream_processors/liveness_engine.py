"""Writers' states: who runs, who has ended, who fell silent.

What is heard of a writer goes to those who keep its rows, which are in this process too, since the topics of writers, metrics and hardware are keyed and split alike; and to
the second stage, where a rule watches the run. A writer that is silent for too long gets a record that says so. One that ended so long ago that its rows have left their
topics takes the rules along that it registered.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

from runstream_processors.engine import Checkpoint, Entry, Output, Received, decoded, short, unknown_schemas
from runstream_rules.digests import Digester
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import Record, Writer
from runstream_schemas.topics import TOPICS, writer_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runstream_processors.engine import Read
    from runstream_processors.knowledge import Knowledge
    from runstream_rules.lives import Lives

logger = logging.getLogger(__name__)

_FORGET_EVERY_MS = 60_000
_RECORD_BYTES_MAX = 1 << 20


class Keeper(Protocol):
    """Who keeps the rows of writers, and wants to know how they are."""

    def beat(self, writer: int, partition: int, heartbeat_ms: int, next_seq: int) -> None:
        """A writer gave a sign of life, and had given out all seqs below `next_seq` by then."""
        ...

    def over(self, writer: int, partition: int, next_seq: int) -> None:
        """A writer has ended with this many seqs."""
        ...

    def drop(self, writer: int, partition: int) -> None:
        """None of a writer's rows can come again."""
        ...


class Heard(NamedTuple):
    """A writer's record, its bytes, and the partition that it came from."""

    partition: int
    record: Writer
    raw: bytes


class LivenessEngine:
    """Decisions for the topic of writers."""

    def __init__(self, knowledge: Knowledge, lives: Lives, prefix: str, ranks: Keeper, hardware: Keeper) -> None:
        """Takes what everybody knows, the lives, the prefix of topics, and who keeps the rows of ranks and of hardware."""
        self._knowledge = knowledge
        self._lives = lives
        self._writers = TOPICS["writer"].full_name(prefix)
        self._rules = TOPICS["rule"].full_name(prefix)
        self._digests = TOPICS["digest"].full_name(prefix)
        self._keepers = {False: ranks, True: hardware}
        self._digesters: dict[str, Digester] = {}
        self._forgot_ms = 0
        self._tombstones: list[Output] = []
        self.counts: Counter[str] = Counter()

    def unknown_schemas(self, records: Iterable[Received]) -> set[int]:
        """Ids of schemas that the records name and the catalogue lacks."""
        return unknown_schemas(records, self._knowledge.catalogue)

    def sort(self, records: Iterable[Received]) -> list[Heard]:
        """The records, in their order."""
        return list(decoded(records, self._knowledge.catalogue, _heard))

    def held(self, work: Heard, read: Read, waited_ms: int) -> bool:  # noqa: ARG002  # the protocol's signature
        """Nothing is held."""
        return False

    def decide(self, work: Heard, read: Read, now_ms: int) -> list[Output]:  # noqa: ARG002  # the protocol's signature
        """Takes note of a record, and tells those whom it concerns."""
        record = work.record
        if not self._lives.take(record, work.raw, work.partition, now_ms):
            return []
        keeper = self._keepers[record.kind == "hardware"]
        ended = self._lives.ended.get(record.writer)
        if ended is not None:
            keeper.over(record.writer, ended.partition, ended.next_seq)
        elif record.state == "running":
            keeper.beat(record.writer, work.partition, record.heartbeat_ms, record.next_seq)
        self._tell_run(record)
        return []

    def concluded(self) -> list[Output]:
        """States for the second stage."""
        out: list[Output] = []
        for run_id, digester in self._digesters.items():
            out += [Output(self._digests, run_id.encode(), wire.encode(digest)) for digest in digester.take()]
        self._digesters.clear()
        return out

    def tick(self, read: Read, now_ms: int, *, hears: bool) -> list[Output]:  # noqa: ARG002  # the protocol's signature
        """Guesses who has crashed, and forgets who ended long ago."""
        out: list[Output] = []
        for guess in self._lives.tick(now_ms, hears=hears):
            logger.warning("writer silent", extra={"writer": guess.writer, "run_id": guess.run_id, "rank": guess.rank, "reason": guess.exit_reason})
            self.counts["writers_crashed"] += 1
            out.append(Output(self._writers, writer_key(guess.writer), wire.encode(guess)))
            self._tell_run(guess)
        if now_ms - self._forgot_ms >= _FORGET_EVERY_MS:
            self._forgot_ms = now_ms
            for writer, one in self._lives.forgotten(now_ms).items():
                self._keepers[one.hardware].drop(writer, one.partition)
                self._tombstones += [Output(self._rules, f"{rule_id}/{writer}".encode(), None) for rule_id in self._knowledge.book.registered_by(writer)]
        return [*out, *self.concluded()]

    def checkpoints(self, now_ms: int) -> Iterator[Checkpoint]:
        """What is to be known of writers after a restart."""
        outputs, self._tombstones = self._tombstones, []
        entries = [Entry(partition, writer_key(writer), self._lives.entry(writer, now_ms)) for writer, partition in self._lives.changed.items()]
        if outputs or entries:
            yield Checkpoint(outputs, entries)

    def settled(self, checkpoint: Checkpoint) -> None:
        """The entries are in the table."""
        for entry in checkpoint.entries:
            self._lives.changed.pop(int.from_bytes(entry.key, "big"), None)

    def forget(self) -> None:
        """Forgets everybody."""
        self._lives.restore(())
        self._digesters.clear()

    def recovered(self, entries: Iterable[Entry]) -> None:
        """Knows writers from the table, and tells again who has ended."""
        self._lives.restore((int.from_bytes(entry.key, "big"), entry.value or b"") for entry in entries)
        for writer, one in self._lives.ended.items():
            self._keepers[one.hardware].over(writer, one.partition, one.next_seq)

    def _tell_run(self, record: Writer) -> None:
        """Tells the second stage of a rank, where a rule wants to know."""
        if record.kind != "rank" or not self._knowledge.book.watches_run(record.run_id, record.project):
            return
        digester = self._digesters.get(record.run_id)
        if digester is None:
            digester = self._digesters[record.run_id] = Digester(record.run_id, record.project)
        digester.live(record)


def _heard(received: Received, record: Record) -> Heard:
    if not isinstance(record, Writer):
        raise MalformedRecord(f"expected a Writer, got {type(record).__name__}")
    if received.key != writer_key(record.writer):
        raise MalformedRecord("a writer's key must be its 8 bytes, got another")
    short(record.run_id, record.project, record.attempt)
    if received.value is not None and len(received.value) > _RECORD_BYTES_MAX:
        # It is kept as it came, in one message with what else is to be known of the writer.
        raise MalformedRecord(f"expected a writer's record of at most {_RECORD_BYTES_MAX} bytes, got {len(received.value)}")
    return Heard(received.partition, record, received.value or b"")
