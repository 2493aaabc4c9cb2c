"""Shows, checks and exports journals, so that nobody needs us to read their data.

runstream journal ls [DIR...]                     every journal of this user, or those in some folders
runstream journal show JOURNAL [--tail 20]        rows of one
runstream journal verify [JOURNAL...]             reads every byte; exit code 1 where something is wrong
runstream journal export JOURNAL... --format avro --out DIR

JOURNAL is a folder (a writer's, or one of several), the writer's number as it stands in the folder's name, or the beginning of a run's id.
Avro comes as object container files of the records that are shipped, one file a topic; jsonl as one row a line; parquet needs pyarrow.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runstream._words import who
from runstream_schemas.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from runstream_producers.journal.export import Logged
    from runstream_producers.journal.survey import Journal

SUMMARY = "list, show, verify and export journals"

_KINDS = ("metrics", "run", "event", "param", "value", "rule", "alert", "media", "artifact")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="list journals: run, rank, rows, points, state, bytes, acknowledged")
    show = actions.add_parser("show", help="print rows of a journal")
    verify = actions.add_parser("verify", help="check every row; exit code 1 where something is wrong")
    export = actions.add_parser("export", help="write rows for other tools")
    for one in (ls, verify):
        one.add_argument("journals", nargs="*", metavar="JOURNAL", help="a folder, a writer or a run; all journals of this user unless given")
    export.add_argument("journals", nargs="+", metavar="JOURNAL", help="a folder, a writer or a run")
    show.add_argument("journals", nargs=1, metavar="JOURNAL", help="a writer's folder, a writer, or a run of one writer")
    which = show.add_mutually_exclusive_group()
    which.add_argument("--head", type=_count, metavar="N", help="the first N rows (10)")
    which.add_argument("--tail", type=_count, metavar="N", help="the last N rows")
    which.add_argument("--all", action="store_true", help="all rows")
    show.add_argument("--kind", action="append", choices=_KINDS, help="rows of this kind alone; may be given again")
    for one in (ls, show, verify):
        one.add_argument("--json", action="store_true", help="JSON, one object a line")
    export.add_argument("--format", choices=("avro", "jsonl", "parquet"), default="jsonl", help="jsonl unless given")
    export.add_argument("--out", type=Path, metavar="PATH", help="folder for avro and parquet; file for jsonl, standard output unless given")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def run(args: argparse.Namespace) -> int:
    """Runs the action.

    Raises:
        SettingsError: no such journal, or the output cannot be written.
    """
    found = _find(args.journals, load())
    if args.action == "ls":
        return _ls(found, as_json=args.json)
    if args.action == "verify":
        return _verify(found, as_json=args.json)
    if args.action == "show":
        return _show(found, args)
    return _export(found, args.format, args.out)


# ---- which journals --------------------------------------------------------------------------------------------------------------------


def _find(named: Sequence[str], settings: Settings) -> list[Path]:
    """Folders of the journals that are meant; all of this user where none is named."""
    from runstream_producers.journal.survey import is_journal, journals_in
    from runstream_producers.paths import journal_root

    root = journal_root(settings)

    def within(folder: Path) -> list[Path]:
        if is_journal(folder):
            return [folder]
        below = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        return [*journals_in(folder), *(one for base in below if not base.name.startswith("w-") for one in journals_in(base))]

    if not named:
        return within(root)
    found: list[Path] = []
    for name in named:
        path = Path(name).expanduser()
        some = within(path.absolute()) if path.is_dir() else [one for one in within(root) if _is_meant(one, name)]
        if not some:
            raise SettingsError(
                f"expected a journal's folder, its writer or the beginning of a run's id, got {name!r}: `runstream journal ls` lists those in {root}"
            )
        found += some
    return list(dict.fromkeys(found))


def _is_meant(folder: Path, name: str) -> bool:
    """Whether a name is this journal's writer, in the digits of the folder or as a number, or begins its run's id."""
    if folder.name in (name, f"w-{name}") or (name.isdecimal() and folder.name == f"w-{int(name):016x}"):
        return True
    journal, _ = _open(folder)
    return journal is not None and len(name) >= 4 and journal.identity.run_id.startswith(name.lower())


def _open(folder: Path) -> tuple[Journal | None, str]:
    """The journal, or why it cannot be read."""
    from runstream_producers.journal.survey import open_journal

    try:
        return open_journal(folder), ""
    except (OSError, ValueError, TypeError) as error:
        return None, str(error)


def _journals(folders: Iterable[Path]) -> Iterator[Journal]:
    for folder in folders:
        journal, why = _open(folder)
        if journal is None:
            sys.stderr.write(f"{folder} cannot be read: {why}\n")
        else:
            yield journal


def _who(journal: Journal) -> dict[str, Any]:
    one = journal.identity
    return {"folder": str(journal.folder), "writer": one.writer, "run_id": one.run_id, "project": one.project, "kind": one.kind, "rank": one.rank}


# ---- actions ---------------------------------------------------------------------------------------------------------------------------


def _ls(folders: Sequence[Path], *, as_json: bool) -> int:
    from runstream_producers.journal.survey import extent_of

    lines: list[tuple[str, ...]] = [("run", "kind", "rank", "state", "rows", "points", "acked", "bytes", "folder")]
    for journal in _journals(folders):
        extent, one = extent_of(journal), journal.identity
        acked = extent.rows - extent.rows_waiting
        if as_json:
            counts = {
                "rows": extent.rows,
                "points": extent.points,
                "rows_acknowledged": acked,
                "bytes": extent.bytes_held,
                "bytes_waiting": extent.bytes_waiting,
            }
            _print_json(_who(journal) | {"state": journal.state} | counts)
        else:
            numbers = (f"{number:,}" for number in (extent.rows, extent.points, acked, extent.bytes_held))
            lines.append((one.run_id, one.kind, str(one.rank), journal.state, *numbers, str(journal.folder)))
    if not as_json:
        _print_table(lines) if len(lines) > 1 else sys.stdout.write("no journals\n")
    return 0


def _print_table(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n")


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _verify(folders: Sequence[Path], *, as_json: bool) -> int:
    from runstream_producers.journal.verify import verify

    wrong = 0
    for folder in folders:
        journal, why = _open(folder)
        if journal is None:
            wrong += 1
            if as_json:
                _print_json({"folder": str(folder), "ok": False, "findings": [{"wrong": True, "text": f"it cannot be read: {why}"}]})
            else:
                sys.stdout.write(f"WRONG {folder}: it cannot be read: {why}\n")
            continue
        report = verify(journal)
        wrong += not report.ok
        if as_json:
            findings = [{"segment": one.segment, "offset": one.offset, "wrong": one.wrong, "text": one.text} for one in report.findings]
            counts = {"rows": report.rows, "records": report.records, "points": report.points, "first_seq": report.first_seq, "next_seq": report.next_seq}
            _print_json(_who(journal) | {"state": journal.state, "ok": report.ok} | counts | {"dropped": report.dropped, "findings": findings})
            continue
        verdict = "ok   " if report.ok else "WRONG"
        one = journal.identity
        sys.stdout.write(
            f"{verdict} run {one.run_id} {who(one.kind, one.rank)} ({journal.state}): {report.rows:,} rows, {report.records:,} other records, {report.points:,} points, "
            f"seqs {report.first_seq} to {report.next_seq}, {folder}\n"
        )
        for finding in report.findings:
            where = f"segment {finding.segment} byte {finding.offset}: " if finding.segment else ""
            sys.stdout.write(f"      {'wrong' if finding.wrong else 'note'}: {where}{finding.text}\n")
    if not as_json:
        sys.stdout.write(f"{len(folders)} journals, {wrong} with something wrong\n")
    return int(bool(wrong))


def _show(folders: Sequence[Path], args: argparse.Namespace) -> int:
    from runstream_producers.journal.export import rows_of

    if len(folders) > 1:
        raise SettingsError(
            f"show takes one journal, and {args.journals[0]!r} means {len(folders)}: name one of {', '.join(path.name for path in folders[:5])}"
        )
    kinds = set[str](args.kind or _KINDS)
    for journal in _journals(folders):
        rows: Iterable[Logged] = (row for row in rows_of(journal) if row.kind in kinds)
        if args.tail is not None:
            rows = deque(rows, maxlen=args.tail)
        elif not args.all:
            rows = islice(rows, args.head or 10)
        for row in rows:
            sys.stdout.write((row.to_json() if args.json else _shown(row)) + "\n")
    return 0


def _shown(row: Logged) -> str:
    import datetime as dt

    try:
        when = dt.datetime.fromtimestamp(row.time_s, tz=dt.UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):
        when = repr(row.time_s)
    if row.values is None:
        return f"{row.seq:>8}  {when}  {row.kind:8}  {json.dumps(row.record, ensure_ascii=False)}"
    place = "".join(f"{name}={text}  " for name, text in (("context", row.context), ("subject", row.subject)) if text)
    return f"{row.seq:>8}  {when}  step {row.step:<8}  {place}{'  '.join(f'{name}={value:g}' for name, value in row.values.items())}"


def _export(folders: Sequence[Path], form: str, out: Path | None) -> int:
    from runstream_producers.errors import ProducersError
    from runstream_producers.journal import export, parquet

    if out is None and form != "jsonl":
        raise SettingsError(f"--out must name a folder for {form} files, got nothing")
    try:
        if form == "jsonl":
            with contextlib.ExitStack() as stack:
                stream: TextIO = sys.stdout if out is None else stack.enter_context(out.open("x", encoding="utf-8"))
                for journal in _journals(folders):
                    who = json.dumps({"run_id": journal.identity.run_id, "writer": journal.identity.writer, "rank": journal.identity.rank})[:-1]
                    for row in export.rows_of(journal):
                        stream.write(f"{who}, {row.to_json()[1:]}\n")
            return 0
        assert out is not None
        write = export.to_avro if form == "avro" else parquet.to_parquet
        for name, count in write(_journals(folders), out).items():
            sys.stdout.write(f"{out / name}: {count:,} {'records' if form == 'avro' else 'rows'}\n")
    except FileExistsError as error:
        raise SettingsError(f"--out must name a place where nothing is yet, and {error.filename} is there already") from error
    except BrokenPipeError:
        raise  # The reader of our output has gone; that is its good right.
    except OSError as error:
        raise SettingsError(f"--out {out} cannot be written: {error}") from error
    except ProducersError as error:
        raise SettingsError(str(error)) from error
    return 0
