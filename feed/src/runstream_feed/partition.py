"""Where the reading of one partition stands: what was fetched ahead and not looked into, and the records of it. Pure: no Kafka, no clock; one thread at a time, as its caller sees to.

What was fetched ahead stays as it came, and one batch at a time is opened, so that memory depends on what Kafka stores and not on what it expands to.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from runstream_feed.batches import Batch, BatchRefused, aborts, batches_of, records_of
from runstream_feed.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runstream_feed.batches import RawRecord
    from runstream_feed.records import Place, Start


_HEADER_BYTES = 150  # What a header takes in memory beside its texts, however empty.


class Aborted(NamedTuple):
    """A transaction that was aborted: who wrote it, and its first offset."""

    producer: int
    first: int


class _Answer:
    """What a broker gave at once: batches that wait, and the transactions among them that do not count."""

    def __init__(self, batches: list[Batch], aborted: Iterable[Aborted]) -> None:
        self.batches = deque(batches)
        self._aborted = deque(sorted(aborted, key=lambda one: one.first))
        self._aborting: set[int] = set()

    def counts(self, batch: Batch) -> bool:
        """Whether the records of a batch, which is the next one, are anybody's: not those of control batches, nor of transactions that were aborted."""
        while self._aborted and self._aborted[0].first <= batch.first:
            self._aborting.add(self._aborted.popleft().producer)
        if not batch.is_control:
            return batch.producer not in self._aborting
        if batch.producer in self._aborting and aborts(batch):
            self._aborting.discard(batch.producer)
        return False


class Partition:
    """One partition. Offsets only grow, except where the log was cut and `at` is told."""

    def __init__(self, place: Place, start: Start | None) -> None:
        """Begins at `start`, or, without one, where Kafka says that the partition begins (or ends)."""
        self.place = place
        self.paused = False
        self.asked = False
        """Whether a broker was asked something about it, and has not answered."""
        self.rests_until = 0.0
        """When it may be asked about again, after trouble."""
        self.position: int | None = None
        """The next offset to hand out; None until it is known."""
        self.epoch: int | None = None
        """That of the leader that the last record was read from; None where unknown."""
        self.doubt: int | None = None
        """A newer leader's epoch, whose records wait until that leader has said where its log and ours part."""
        self.nbytes = 0
        """Of what waits."""
        self._answers: deque[_Answer] = deque()
        self._open: Iterator[RawRecord] | None = None
        self._behind: int | None = None
        if start is not None:
            self.at(start)

    def at(self, start: Start) -> None:
        """Goes on from elsewhere; what was fetched is forgotten."""
        self.position, self.epoch, self.doubt = start.offset, start.epoch, None
        self.forget()

    def lost(self) -> None:
        """Kafka does not know the offset any more: where to go on is to be asked."""
        self.position, self.epoch, self.doubt = None, None, None
        self.forget()

    def confirmed(self) -> None:
        """The newer leader has everything that was read."""
        self.epoch, self.doubt = self.doubt, None

    @property
    def fetch_from(self) -> int | None:
        """The first offset that was not fetched."""
        return self._behind if self._answers else self.position

    @property
    def is_ready(self) -> bool:
        """Whether `take` may have something."""
        return bool(self._answers) and not self.paused and self.doubt is None

    def fetched(self, offset: int, answer: bytes, aborted: Iterable[Aborted]) -> bool:
        """Keeps what a broker gave for an offset, and says whether that was anything; an answer to what is not wanted any more is dropped."""
        if self.paused or offset != self.fetch_from:
            return False
        batches = [one for one in batches_of(answer) if one.end > offset]
        if not batches:
            return False
        self._answers.append(_Answer(batches, aborted))
        self._behind = batches[-1].end
        self.nbytes += sum(one.nbytes for one in batches)
        return True

    @property
    def is_open(self) -> bool:
        """Whether a batch is opened, and takes memory for what it expanded to."""
        return self._open is not None

    def pause(self) -> None:
        """Hands out nothing until it is resumed; what was fetched stays as it came, for now."""
        self.paused, self._open = True, None

    def forget(self) -> None:
        """Lets go of what was fetched, which is fetched again when it is wanted."""
        self._answers.clear()
        self._open, self._behind, self.nbytes, self.doubt = None, None, 0, None

    def take(self, out: list[Record], records_max: int, bytes_max: int) -> int:
        """Adds the next records to `out`, which grows to `records_max` at most and by those of one batch; gives their bytes, which pass `bytes_max` by one record at most."""
        if not self.is_ready:
            return 0
        answer = self._answers[0]
        batch = answer.batches[0]
        if self._open is None:
            if self.epoch is not None and batch.epoch > self.epoch:
                self.doubt = batch.epoch
                return 0
            if not answer.counts(batch):
                self._done(batch)
                return 0
            self._open = records_of(batch)
        return self._read(batch, self._open, out, records_max, bytes_max)

    def _read(self, batch: Batch, records: Iterator[RawRecord], out: list[Record], records_max: int, bytes_max: int) -> int:
        position = self.position
        assert position is not None, "what waits was fetched from somewhere"
        place, epoch, taken = self.place, None if batch.epoch < 0 else batch.epoch, 0
        try:
            for one in records:
                offset = one.offset
                if not position <= offset < batch.end:  # Fetching begins with a batch, reading in the middle of one.
                    continue
                key, value, headers = one.key, one.value, one.headers
                out.append(Record(place, offset, epoch, one.timestamp, key, value, headers))
                position = offset + 1
                taken += (0 if value is None else len(value)) + (0 if key is None else len(key))
                if headers:
                    taken += sum(_HEADER_BYTES + len(name) + len(text or b"") for name, text in headers)
                if len(out) >= records_max or taken >= bytes_max:
                    self.position = position
                    self._knows(batch)
                    return taken
        except BatchRefused as refused:
            self.position = position
            if position < batch.end:  # Else all of its offsets were read, and it only says to hold more.
                reason = f"a batch of records, offsets {position} to {batch.end - 1}, was not read: {refused}"
                out.append(Record(place, batch.end - 1, epoch, 0, None, None, [], reason))
        self._done(batch)
        return taken

    def _done(self, batch: Batch) -> None:
        """A batch was read to its end, or holds nothing for anybody."""
        self.position = max(self.position or 0, batch.end)
        self._open = None
        self.nbytes -= batch.nbytes
        self._knows(batch)
        answer = self._answers[0]
        answer.batches.popleft()
        if not answer.batches:
            self._answers.popleft()

    def _knows(self, batch: Batch) -> None:
        if batch.epoch >= 0:
            self.epoch = batch.epoch
