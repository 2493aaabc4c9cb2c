"""Reads partitions of Kafka for a thread that is not asynchronous: fetches ahead as Kafka stores it, within a bound, and opens one batch at a time when its records are asked for.

Neither librdkafka nor aiokafka's consumer bounds what a batch may expand to (docs/hostile-input.md), which is why there is a reader of our own. The fetching is `fetching`'s.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from runstream_feed.fetching import Fetching
from runstream_feed.options import FeedRefused, Trouble
from runstream_feed.partition import Partition
from runstream_feed.shelf import Shelf
from runstream_schemas.topics import BATCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runstream_feed.connection import Connection
    from runstream_feed.options import Options
    from runstream_feed.records import Place, Record, Start

# Of records, as they are handed out: a poll ends there, and one record more may be on top.
POLL_BYTES_MAX = BATCH_BYTES_MAX
_CLOSE_S = 5.0


class Feed:
    """Records of the partitions that were added, those of each in their order. All calls come from one thread; a thread of its own fetches."""

    def __init__(self, connection: Connection, options: Options, on_trouble: Callable[[Trouble], None]) -> None:
        """Connects when there is something to read; `on_trouble` is called inside `poll`, and must not raise."""
        self._on_trouble = on_trouble
        self._shelf = Shelf()
        self._fetching = Fetching(self._shelf, connection, options)
        self._thread: threading.Thread | None = None

    def add(self, starts: Mapping[Place, Start | None]) -> None:
        """Reads these partitions, too: from where is said, or else as the options say. Those that are read already begin anew."""
        with self._shelf.changed:
            for place, start in starts.items():
                self._shelf.put(Partition(place, start))
        if self._thread is None and starts:
            self._thread = threading.Thread(target=self._run, name="runstream-feed", daemon=True)
            self._thread.start()
        self._fetching.look()

    def drop(self, places: Iterable[Place]) -> None:
        """Reads these partitions no more; what was fetched of them is forgotten."""
        with self._shelf.changed:
            for place in places:
                self._shelf.drop(place)
        self._fetching.look()

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Hands out records of partitions that are wanted, and of no other, until it is told otherwise; fetches from no other, either.

        While some are wanted the others hold nothing that was fetched, so that they take no room from those.
        """
        with self._shelf.changed:
            partitions = self._shelf.partitions
            turned = [one for place, one in partitions.items() if one.paused == wanted(place)]
            for one in turned:
                self._shelf.pause(one, paused=not one.paused)
            waiting = [one for one in partitions.values() if one.paused]
            if len(waiting) < len(partitions):
                for one in waiting:
                    one.forget()
        if turned:
            self._fetching.look()

    def position(self, place: Place) -> int | None:
        """The next offset to be handed out; None while it is not known. It passes what is for no reader, such as marks of transactions."""
        with self._shelf.changed:
            one = self._shelf.partitions.get(place)
            return None if one is None else one.position

    def poll(self, *, records_max: int, timeout_s: float) -> list[Record]:
        """The next records: waits up to `timeout_s` for as many as are asked for, or `POLL_BYTES_MAX` of them.

        Raises:
            FeedRefused: Kafka does not let this user read.
        """
        deadline = time.monotonic() + timeout_s
        out: list[Record] = []
        nbytes = 0
        shelf = self._shelf
        with shelf.changed:
            while True:
                if taken := shelf.take(out, records_max, POLL_BYTES_MAX - nbytes):
                    nbytes += taken
                    self._fetching.look()  # Room was made.
                left_s = deadline - time.monotonic()
                if len(out) >= records_max or nbytes >= POLL_BYTES_MAX or left_s <= 0:
                    break
                if shelf.refused is not None and not out:
                    raise FeedRefused(shelf.refused)
                shelf.changed.wait(left_s)
            troubles = list(shelf.troubles)
            shelf.troubles.clear()
        for trouble in troubles:
            self._on_trouble(trouble)
        return out

    def close(self) -> None:
        """Lets the connections go."""
        with self._shelf.changed:
            self._shelf.closing = True
        if self._thread is not None:
            self._fetching.stop()
            self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        try:
            self._fetching.run()
        except Exception as error:  # noqa: BLE001 - whatever it dies of, who polls must hear of it
            with self._shelf.changed:
                self._shelf.refused = f"reading Kafka ended: {type(error).__name__}: {error}"
                self._shelf.changed.notify()
