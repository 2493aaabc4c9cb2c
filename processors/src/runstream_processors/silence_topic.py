"""Silences and acknowledgements on their topic: told by `runstream alerts`, followed by the notifier. What they are for, the core says (`silences`)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from runstream_processors.compacted import Reader, read_whole, write
from runstream_rules.silences import Silences
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import Silence
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_feed.connection import Connection
    from runstream_processors.compacted import Found
    from runstream_schemas.records import Alert

logger = logging.getLogger(__name__)

_LOOK_S = 0.2  # How old what the notifier knows of silences may be.


class SilenceTopic:
    """The silence topic of one deployment; every call takes at most about `timeout_s` seconds, and raises NotReady where Kafka does not answer by then."""

    def __init__(self, connection: Connection, prefix: str, timeout_s: float) -> None:
        self._connection = connection
        self._topic = TOPICS["silence"].full_name(prefix)
        self._timeout_s = timeout_s

    def known(self) -> Silences:
        """All silences that hold, held or will hold, and were not ended."""
        book = Silences()
        for one in read_whole(self._connection, self._topic, self._timeout_s).values():
            _learn(book, one)
        return book

    def tell(self, silences: Iterable[Silence]) -> None:
        """Tells everybody; returns when Kafka has it. One that is ended goes off the topic after its last record, which the sinks store."""
        records: list[tuple[bytes, bytes | None]] = []
        for silence in silences:
            key = silence.silence_id.encode()
            records.append((key, wire.encode(silence)))
            if silence.deleted:
                records.append((key, None))
        write(self._connection, self._topic, records, self._timeout_s)


class SilenceWatch:
    """Which silence holds an alert back now, for the notifier: asked from one thread. It knows all that was told until a fifth of a second ago."""

    def __init__(self, connection: Connection, prefix: str, timeout_s: float) -> None:
        """Speaks with Kafka once it is asked for the first time, which then takes at most about `timeout_s` seconds."""
        self._book = Silences()
        self._connection = connection
        self._topic = TOPICS["silence"].full_name(prefix)
        self._timeout_s = timeout_s
        self._reader: Reader | None = None
        self._looked_s = 0.0

    def __call__(self, alert: Alert, now_ms: int) -> str:
        """The id of the silence or acknowledgement; empty if none. What the processors found already counts too.

        Raises:
            NotReady: it is asked for the first time, and Kafka does not answer.
        """
        if self._reader is None:
            self._reader = Reader(self._connection, self._topic, self._timeout_s)
            self._take(self._reader.rest())
        elif time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            self._take(self._reader.new())
        return alert.silence or self._book.of(alert, now_ms)

    def close(self) -> None:
        """Lets go of Kafka."""
        if self._reader is not None:
            self._reader.close()

    def _take(self, found: Iterable[Found]) -> None:
        for one in found:
            _learn(self._book, one)


def _learn(book: Silences, found: Found) -> None:
    if found.value is None:
        book.forget(found.key.decode(errors="replace"))
        return
    try:
        record = wire.decode(found.value)
    except SchemasError as error:
        logger.warning("record not understood", extra={"topic": found.topic, "offset": found.offset, "reason": str(error)})
        return
    if isinstance(record, Silence):
        book.learn(record)
