"""Digests: what some writers of a run have to say to the second stage, packed into few records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_rules.series import name_bytes
from runstream_schemas.records import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runstream_rules.book import RuleKey
    from runstream_rules.judge import Item
    from runstream_rules.series import Series
    from runstream_rules.state import Head
    from runstream_schemas.records import Writer

_ITEMS_MAX = 50_000  # An item takes some 30 bytes; a message holds 8 MiB.
_NAMES_BYTES_MAX = 2 << 20  # Of the names of the series that the items of one message are about.


class Digester:
    """Collects what writers of one run say; `take` hands it out."""

    def __init__(self, run_id: str, project: str) -> None:
        self._run_id = run_id
        self._project = project
        self._writers: dict[int, tuple[int, int, str, str, int, int, int]] = {}
        self._tracks: dict[tuple[RuleKey, Series], int] = {}
        self._items: list[tuple[int, int, int, float, int]] = []

    def say(self, writer: int, head: Head, items: Iterable[Item]) -> None:
        """Figures of a writer's blocks of steps."""
        self._writers.setdefault(writer, (writer, head.rank, "", head.attempt, head.started, 0, 0))
        for key, series, block, figure, time_ms in items:
            track = self._tracks.setdefault((key, series), len(self._tracks))
            self._items.append((track, writer, block, figure, time_ms))

    def live(self, record: Writer) -> None:
        """State and sign of life of a writer, with its place among the ranks."""
        one = record
        self._writers[one.writer] = (one.writer, one.rank, one.state, one.attempt, one.started_ms, one.heartbeat_ms, one.world_size)

    def take(self) -> list[Digest]:
        """Everything as digests, none of which has more items than fit."""
        out: list[Digest] = []
        writers = list(self._writers.values())
        places = {one[0]: place for place, one in enumerate(writers)}
        for number, (items, tracks) in enumerate(self._parts()):
            # States are said once; later parts point at the same writers.
            said = writers if not number else [(writer, rank, "", attempt, started, 0, 0) for writer, rank, _, attempt, started, *_ in writers]
            out.append(
                Digest(
                    run_id=self._run_id,
                    project=self._project,
                    writers=[one[0] for one in said],
                    ranks=[one[1] for one in said],
                    states=[one[2] for one in said],
                    attempts=[one[3] for one in said],
                    starts=[one[4] for one in said],
                    heartbeats=[one[5] for one in said],
                    world_sizes=[one[6] for one in said],
                    rule_ids=[rule_id for (rule_id, _), _ in tracks],
                    rule_versions=[version for (_, version), _ in tracks],
                    metrics=[series.metric for _, series in tracks],
                    contexts=[series.context for _, series in tracks],
                    subjects=[series.subject for _, series in tracks],
                    tracks=[item[0] for item in items],
                    places=[places[item[1]] for item in items],
                    blocks=[item[2] for item in items],
                    figures=[item[3] for item in items],
                    times=[item[4] for item in items],
                )
            )
        self._writers, self._tracks, self._items = {}, {}, []
        return out

    def _parts(self) -> Iterator[tuple[list[tuple[int, int, int, float, int]], list[tuple[RuleKey, Series]]]]:
        """The items in parts that fit a message, each with the tracks that it is about and pointing at these."""
        known = list(self._tracks)
        items: list[tuple[int, int, int, float, int]] = []
        places: dict[int, int] = {}
        size = 0
        for track, place, block, figure, time_ms in self._items:
            if track not in places:
                (rule_id, _), series = known[track]
                size += len(rule_id.encode()) + name_bytes(series)
            if items and (len(items) >= _ITEMS_MAX or size > _NAMES_BYTES_MAX):
                yield items, [known[one] for one in places]
                (rule_id, _), series = known[track]
                items, places, size = [], {}, len(rule_id.encode()) + name_bytes(series)
            items.append((places.setdefault(track, len(places)), place, block, figure, time_ms))
        yield items, [known[one] for one in places]
