"""Shows the account of a run: for every writer what it logged, dropped, shipped and had acknowledged, beside what ClickHouse stores.

runstream account 0193a1f0              a run's id, or enough of its beginning
runstream account digits/baseline       the newest run of that project and name

The exit code is 0 where everything balances: logged = shipped = stored (or retired, as `runstream migrate --retain` asked for), to the last point. It is 1 where it
does not, or not yet, and the command says where.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from runstream._words import state_of, who
from runstream_schemas.settings import Settings, SettingsError, load, origin_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from runstream._account import Store, WriterAccount

SUMMARY = "show what a run logged, shipped and has stored, and whether it balances"

_HEAD = ("kind", "rank", "state", "rows logged", "shipped", "stored", "points logged", "dropped", "shipped", "stored", "balance")
_PREFIX_MIN = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("run", metavar="RUN", help="a run's id, the beginning of one, or project/name")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE, else runstream)")


def run(args: argparse.Namespace) -> int:
    """Prints the account; 1 where it does not balance.

    Raises:
        SettingsError: no ClickHouse answers, or no run or several are meant.
    """
    from runstream._account import Store
    from runstream.sql import SqlError

    settings = load({"clickhouse_database": args.database})
    waiting = _waiting(settings)
    try:
        store = Store(settings.reading_url, settings.clickhouse_database)
        run_id, title = _find(store, args.run, {one["run_id"]: one["project"] for one in waiting})
        writers = store.read(run_id)
    except SqlError as error:
        if error.code == 0 and origin_of("clickhouse_url") == "default":
            raise SettingsError(f"RUNSTREAM_CLICKHOUSE_URL is unset and no stack runs here: set it, or start a stack with `runstream up` ({error})") from error
        raise SettingsError(str(error)) from error
    here = [one for one in waiting if one["run_id"] == run_id]
    balanced = bool(writers) and not here and not any(one.troubles for one in writers)
    if args.json:
        told = {"run_id": run_id, "balanced": balanced, "writers": [one.to_json() for one in writers], "waiting_here": here}
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        _print(title, writers, here, balanced=balanced)
    return 0 if balanced else 1


def _find(store: Store, named: str, projects_here: Mapping[str, str]) -> tuple[str, str]:
    """Id and title of the run that is meant, which may be known here alone, by the journals that wait; `projects_here` has their projects by run."""
    if "/" not in named and len(named) < _PREFIX_MIN:
        raise SettingsError(f"expected a run's id, at least its first {_PREFIX_MIN} characters, or project/name, got {named!r}")
    found = store.runs(named)
    by_name = [one for one in found if f"{one.project}/{one.name}" == named]
    if by_name:
        found = by_name[:1]
    here = sorted(one for one in projects_here.keys() - {one.run_id for one in found} if one.startswith(named.lower()))
    if len(found) + len(here) > 1:
        some = ", ".join([*(f"{one.run_id} ({one.project}/{one.name})" for one in found[:5]), *here[:5]])
        raise SettingsError(f"{named!r} is the beginning of several runs: {some}")
    if found:
        one = found[0]
        return one.run_id, f"run {one.run_id} ({one.project}/{one.name}), {one.state or 'no writer yet'}"
    if here:
        return here[0], f"run {here[0]}, of which nothing is stored yet"
    waiting = ", ".join(f"{run_id} ({project})" for run_id, project in sorted(projects_here.items())[:5])
    raise SettingsError(
        f"no run is {named!r}, by id or by project/name: `runstream runs` lists those that are stored"
        + (f"; journals on this machine that are not shipped belong to {waiting}" if waiting else "")
    )


def _waiting(settings: Settings) -> list[dict[str, Any]]:
    """Journals of this user on this machine with rows that are not shipped."""
    from runstream_producers.journal.survey import extent_of, journals_in, open_journal
    from runstream_producers.paths import agent_folder, offline_folder

    found: list[dict[str, Any]] = []
    for base in (agent_folder(settings), offline_folder(settings)):
        for folder in journals_in(base):
            try:
                journal = open_journal(folder)
            except (OSError, ValueError, TypeError):
                continue  # `runstream journal verify` tells of those.
            rows = extent_of(journal).rows_waiting
            if rows:
                one = journal.identity
                found.append(
                    {
                        "run_id": one.run_id,
                        "project": one.project,
                        "writer": one.writer,
                        "kind": one.kind,
                        "rank": one.rank,
                        "state": journal.state,
                        "rows": rows,
                        "folder": str(folder),
                    }
                )
    return found


def _print(title: str, writers: Sequence[WriterAccount], here: Sequence[dict[str, Any]], *, balanced: bool) -> None:
    lines: list[tuple[str, ...]] = [_HEAD]
    total = [0] * 7
    for one in writers:
        dropped = sum(one.points_dropped.values())
        numbers = (one.rows_logged, one.rows_shipped, one.rows_stored, one.points_logged, dropped, one.points_shipped, one.points_stored)
        total = [before + number for before, number in zip(total, numbers, strict=True)]
        lines.append((one.kind or "?", str(one.rank), state_of(one.kind, one.state), *(f"{number:,}" for number in numbers), "no" if one.troubles else "yes"))
    lines.append(("all", "", "", *(f"{number:,}" for number in total), "yes" if balanced else "no"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sys.stdout.write(f"{title}\n")
    for line in lines:
        cells = [cell.rjust(width) if 3 <= place <= 9 else cell.ljust(width) for place, (cell, width) in enumerate(zip(line, widths, strict=True))]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    for one in writers:
        whose = f"{who(one.kind, one.rank)} (writer {one.writer})"
        for reason, count in sorted(one.points_dropped.items()):
            sys.stdout.write(f"{whose} dropped {count:,} points: {reason}\n")
        if one.rows_dropped:
            sys.stdout.write(f"{whose} gave up {one.rows_dropped:,} rows whole, whose seqs are missing\n")
        if one.points_retired or one.rows_retired:
            sys.stdout.write(f"{whose} had {one.points_retired:,} points and {one.rows_retired:,} rows retired, since they were kept as long as asked for\n")
        for trouble in one.troubles:
            sys.stdout.write(f"{whose} does not balance: {trouble}\n")
    for one in here:
        how = "`runstream sync` ships them" if one["state"] != "running" else "its process is running"
        sys.stdout.write(f"{who(one['kind'], one['rank'])} has {one['rows']:,} rows on this machine that are not shipped ({how}): {one['folder']}\n")
    sys.stdout.write("the account balances\n" if balanced else "the account does not balance\n")
