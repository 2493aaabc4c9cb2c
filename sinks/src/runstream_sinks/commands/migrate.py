"""Makes the database, its tables and views, or brings them up to this version; and sets what holds for them as a whole: how long rows are kept, and who may read them.

runstream migrate                                  what is missing is applied, once
runstream migrate --plan                           prints the SQL that would be sent, and sends nothing
runstream migrate --cluster main                   replicated, distributed tables on that cluster of ClickHouse's remote_servers (setting clickhouse_cluster)
runstream migrate --cluster main --again           everything once more, for nodes that joined later; what is there stays
runstream migrate --retain metrics=90d --retain hardware=off
runstream migrate --analyst ada --password-file F  a user who may read, within limits, and change nothing

Rows are kept for ever unless told otherwise. Points and summaries are retired by the start of the process that logged them, so choose longer than your longest
process runs; events, params, alerts, deliveries and dead letters by the time at which they were stored. The account knows what was retired.
The password comes from the first line of a file (- is standard input) or from RUNSTREAM_ANALYST_PASSWORD, and is never printed.

The exit code is 0 when the database is as it was asked to be, 1 when it could not be, 2 for wrong arguments.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from runstream_schemas.settings import Settings
    from runstream_sinks.layout import Cluster
    from runstream_sinks.migrations import Change
    from runstream_sinks.upkeep import Wishes

SUMMARY = "make or upgrade the tables and views in ClickHouse"

_RETRY_S = 0.2
_ACCESS_DENIED = 497


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--clickhouse", dest="clickhouse_url", metavar="URL", help="ClickHouse's HTTP address (RUNSTREAM_CLICKHOUSE_URL)")
    parser.add_argument("--database", dest="clickhouse_database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE)")
    parser.add_argument("--cluster", dest="clickhouse_cluster", metavar="NAME", help="cluster to make it for (RUNSTREAM_CLICKHOUSE_CLUSTER); one node without")
    parser.add_argument("--again", action="store_true", help="apply everything once more, such as for nodes that joined the cluster later")
    parser.add_argument("--retain", action="append", default=[], metavar="VIEW=TIME", help="keep rows so long: 90d, 12w, 2y, or off for ever; may be repeated")
    parser.add_argument("--analyst", metavar="USER", help="make a user who may read the database within limits, or give it another password")
    parser.add_argument("--password-file", metavar="FILE", help="file whose first line is the user's password; - is standard input")
    parser.add_argument("--plan", action="store_true", help="print the SQL and send nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for a server that does not answer yet")


def run(args: argparse.Namespace) -> int:
    """Does what is left to do; see the module's words for the exit code.

    Raises:
        SettingsError: an argument or setting does not fit.
    """
    from runstream_sinks import upkeep
    from runstream_sinks.errors import ServerBusy, SinksError

    settings = load(
        {"clickhouse_url": args.clickhouse_url, "clickhouse_database": args.clickhouse_database, "clickhouse_cluster": args.clickhouse_cluster},
    )
    wishes = _wishes(args, settings)
    url, database = settings.clickhouse_url, settings.clickhouse_database
    deadline = time.monotonic() + args.wait
    while True:
        try:
            changes = upkeep.todo(url, database, wishes)
            if not args.plan:
                upkeep.apply(url, database, changes)
        except ServerBusy as error:
            if time.monotonic() < deadline:
                time.sleep(_RETRY_S)
                continue
            sys.stderr.write(f"runstream migrate: ClickHouse at clickhouse_url cannot be reached now: {error}\n")
            return 1
        except SinksError as error:
            denied = args.analyst and getattr(error, "code", None) == _ACCESS_DENIED
            hint = (
                " (making users takes the right to: access_management on a server; the embedded engine has a user of its own who may only read, which setting analyst names)"
                if denied
                else ""
            )
            sys.stderr.write(f"runstream migrate: {error}{hint}\n")
            return 1
        break
    sys.stdout.write(_json(settings, changes, planned=args.plan) if args.json else _text(settings, changes, planned=args.plan))
    return 0


def _wishes(args: argparse.Namespace, settings: Settings) -> Wishes:
    from runstream_sinks import retention, upkeep
    from runstream_sinks.layout import Cluster

    cluster = Cluster(settings.clickhouse_cluster, settings.clickhouse_database) if settings.clickhouse_cluster else None
    try:
        keeps = [retention.parse(one) for one in args.retain]
    except ValueError as error:
        raise SettingsError(f"--retain: {error}") from None
    twice = {one.name for one in keeps if [other.name for other in keeps].count(one.name) > 1}
    if twice:
        raise SettingsError(f"--retain: expected each view once, got {' and '.join(sorted(twice))} more than once")
    return upkeep.Wishes(cluster, keeps, _analyst(args, settings, cluster), args.again)


def _analyst(args: argparse.Namespace, settings: Settings, cluster: Cluster | None) -> Change | None:
    from runstream_sinks import analysts

    if args.analyst is None:
        if args.password_file is not None:
            raise SettingsError("--password-file goes with --analyst USER")
        return None
    password = settings.analyst_password or ""
    file: str | None = args.password_file
    if file is not None:
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--password-file cannot be read: {error}") from None
        password = text.partition("\n")[0].rstrip("\r")
    if not password:
        raise SettingsError("--analyst needs a password: set RUNSTREAM_ANALYST_PASSWORD or give --password-file FILE")
    try:
        return analysts.change(analysts.checked_name(args.analyst), password, secrets.token_hex(16), settings.clickhouse_database, cluster)
    except ValueError as error:
        raise SettingsError(f"--analyst: {error}") from None


def _text(settings: Settings, changes: Sequence[Change], *, planned: bool) -> str:
    if planned:
        parts = [(f"-- {change.title}", change.shown()) for change in changes]
        place = next((number for number, change in enumerate(changes) if not change.statements[0].startswith("CREATE DATABASE")), len(changes))
        parts.insert(place, ("-- what follows is for this database", [f"USE `{settings.clickhouse_database}`"]))
        return "\n".join(f"{title}\n" + "".join(f"{one};\n" for one in statements) for title, statements in parts)
    return "".join(f"applied {one.title}\n" for one in changes) + f"database {settings.clickhouse_database} is up to date\n"


def _json(settings: Settings, changes: Sequence[Change], *, planned: bool) -> str:
    told = [{"title": one.title, "statements": one.shown()} for one in changes]
    place = {"database": settings.clickhouse_database, "cluster": settings.clickhouse_cluster}
    return json.dumps(place | {"planned" if planned else "applied": told}) + "\n"
