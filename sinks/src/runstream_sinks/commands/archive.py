"""Writes topics to Parquet files, each record exactly once, until it is asked to end: history for longer than Kafka keeps it, and for whoever reads Parquet.

runstream archive /data/runstream             the worker; SIGTERM writes what it has and ends
runstream archive s3://bucket/runstream       anywhere that fsspec reaches, with the package for it installed
runstream archive --ls                        what the archive holds, by topic and partition
runstream replay --from-archive URL           stores it again

Without a URL it takes RUNSTREAM_ARCHIVE_URL. Several workers share the partitions. Files are cut after RUNSTREAM_ARCHIVE_INTERVAL seconds (300), RUNSTREAM_ARCHIVE_BYTES bytes of
records (64 MiB), and at the end of each day (UTC); `docs/replay.md` describes them. The exit code is 0 when it drained, 1 when it stopped for a reason, 2 for wrong settings.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from runstream_sinks.archive_store import Store

SUMMARY = "write topics to Parquet files, for longer than Kafka keeps them"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("archive_url", nargs="?", metavar="URL", help="folder or fsspec URL of the archive (RUNSTREAM_ARCHIVE_URL)")
    parser.add_argument("--topic", action="append", default=[], dest="topics", metavar="TOPIC", help="only this topic; all and the schemas unless given")
    parser.add_argument("--ls", action="store_true", help="list what the archive holds, and end")
    parser.add_argument("--json", action="store_true", help="with --ls: one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the worker, or lists; see the module's words for the exit code."""
    from runstream_schemas.topics import TOPICS
    from runstream_sinks import archive
    from runstream_sinks.archive_store import Store
    from runstream_sinks.log import to_stderr
    from runstream_sinks.replay import full_names
    from runstream_sinks.spans import parse_topics

    settings = load({"archive_url": args.archive_url})
    if settings.archive_url is None:
        raise SettingsError("RUNSTREAM_ARCHIVE_URL (folder or fsspec URL of the archive) must be set, or a URL given")
    names = full_names(parse_topics("--topic", args.topics, settings.topic_prefix), settings)
    schema = TOPICS["schema"].full_name(settings.topic_prefix)
    store = Store(settings.archive_url)
    if args.ls:
        return _ls(store, [*names, schema], as_json=args.json)
    to_stderr(settings.log_format)
    # Without the schemas nobody could read the rest in some years.
    return archive.main(settings, [*names, schema], store)


def _ls(store: Store, names: Sequence[str], *, as_json: bool) -> int:
    from runstream_sinks.archive_files import holes, in_order
    from runstream_sinks.archive_store import ArchiveError

    try:
        store.check()
        sizes = dict(store.sizes(names))
    except ArchiveError as error:
        sys.stderr.write(f"runstream archive: {error}\n")
        return 1
    found: list[dict[str, object]] = []
    for place, some in in_order(sizes).items():
        days = [dt.date(1970, 1, 1) + dt.timedelta(days=one.day) for one in some]
        found.append(
            {
                "topic": place.topic,
                "partition": place.partition,
                "files": len(some),
                "bytes": sum(sizes[one] for one in some),
                "first": some[0].first,
                "last": some[-1].last,
                "days": [min(days).isoformat(), max(days).isoformat()],
                "holes": holes(some),
            }
        )
    if as_json:
        sys.stdout.write(json.dumps({"partitions": found}) + "\n")
        return 0
    for one in found:
        gaps = f", offsets that no file holds: {one['holes']}" if one["holes"] else ""
        place = f"{one['topic']}/{one['partition']}"
        sys.stdout.write(f"{place}: offsets {one['first']:,} to {one['last']:,} in {one['files']:,} files of {one['bytes']:,} bytes{gaps}\n")
    total = sum(sizes.values())
    sys.stdout.write(f"{len(sizes):,} files, {total:,} bytes\n")
    return 0
