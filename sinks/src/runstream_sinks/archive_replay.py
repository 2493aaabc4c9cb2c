"""Replays of an archive: history older than Kafka keeps, through the sinks' own pipeline, into the live tables or another database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.topics import TOPICS
from runstream_sinks.archive_reader import ArchiveReader, Progress, learn_schemas
from runstream_sinks.archive_store import Store
from runstream_sinks.fill import Fill, runs_filter
from runstream_sinks.replay import Result, full_names, prepare_tables
from runstream_sinks.replay_plan import digest_of

if TYPE_CHECKING:
    from runstream_schemas.settings import Settings
    from runstream_sinks.fill import Caller
    from runstream_sinks.replay_plan import Request


def replay_archive(settings: Settings, request: Request, url: str, caller: Caller) -> Result:
    """Replays what an archive has until everything is stored, or it is asked to stop. Kafka need not be there.

    Raises:
        SinksError: ClickHouse refused, or the archive cannot be read. What was stored by then is not read again by the next call.
    """
    store = Store(url)
    progress = Progress(settings.home_dir / "replay" / f"{settings.topic_prefix}-{digest_of(settings, request, url)}.json")
    source = ArchiveReader(store, full_names(request.topics, settings), request.since, request.until, progress)
    database = prepare_tables(settings, request.into)
    catalogue = Catalogue(bundled().entries())
    learn_schemas(store, TOPICS["schema"].full_name(settings.topic_prefix), catalogue)
    fill = Fill(settings, database=database, source=source, catalogue=catalogue, wanted=runs_filter(request.runs), rows_s=request.rows_s)
    complete = fill.run(caller)
    if complete:
        progress.forget()
    counts = fill.counts
    return Result(
        kept_in=str(progress.path),
        database=database,
        complete=complete,
        resumed=progress.resumed,
        records=counts.records,
        rows=counts.rows,
        malformed=counts.malformed,
        seconds=fill.progress.seconds,
        examples=counts.examples,
    )
