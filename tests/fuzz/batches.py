"""The target `batches`: what a broker gives is read within its bounds, in order, or stands refused; and nothing else happens."""

from __future__ import annotations

from runstream_feed.batches import BatchRefused, batches_of, records_of
from runstream_feed.partition import Partition
from runstream_feed.records import Place, Record, Start
from tests import bombs
from tests.fuzz.target import Target, hold

LIMIT = 1 << 16


def check_batches(data: bytes) -> None:
    """Batches lie within what came; their records are no larger than the bound; and a partition that reads them goes forward, and ends behind the last."""
    batches = batches_of(data)
    hold(sum(one.nbytes for one in batches) <= len(data), "batches lie within what came")
    for batch in batches:
        hold(batch.end > batch.first, "a batch ends behind its beginning")
        nbytes = 0
        try:
            for one in records_of(batch, LIMIT):
                nbytes += len(one.value or b"")
        except BatchRefused:
            pass
        hold(nbytes <= max(LIMIT, batch.nbytes), "what is made of a batch is bounded")
    one = Partition(Place("t", 0), Start(0))
    one.fetched(0, data, [])
    end, seen = one.fetch_from, 0
    for _ in range(100_000):
        if not one.is_ready:
            break
        out: list[Record] = []
        one.take(out, 7, 1000)
        if one.doubt is not None:
            one.confirmed()
        hold(len(out) <= 7, "no more is handed out than was asked for")
        for record in out:
            hold(record.offset >= seen, "offsets grow")
            seen = record.offset + 1
    hold(not one.is_ready and one.nbytes == 0, "everything is read")
    hold(one.position is not None and end is not None and one.position >= end, "reading ends behind what came")


def _seeds() -> list[bytes]:
    values = [b"", b"value", bytes(40)]
    return [
        *(bombs.of(codec, values, b"key", first=3) + bombs.of(codec, [b"next"], first=6) for codec in bombs.CODECS),
        bombs.mistitled("none", [b"before"]),
        bombs.of("gzip", [bytes(2 * LIMIT)]),
    ]


BATCHES = Target("batches", "what Kafka stores is read in order and within bounds, or refused", check_batches, _seeds, 4096)
