"""Applies rule files, lists the rules that hold, tries rules on stored runs, and removes them. docs/rules.md says what a rule may be.

runstream rules apply rules.yaml                  make the file's rules hold; rules that have not changed are left alone
runstream rules apply rules.yaml --prune          ... and remove rules from files that none of these files has
runstream rules apply --ready-made                NaN losses, idle and hot GPUs, crashed runs: what everybody wants to know
runstream rules apply rules.yaml --dry-run        say what would change
runstream rules ls                                all rules, and which of them are broken
runstream rules test rules.yaml                   check the file
runstream rules test rules.yaml --run RUN         ... and show when its rules would have fired on a stored run
runstream rules rm rules.yaml                     remove the rules of a file, or rules by their ids
runstream rules ready > rules.yaml                the ready-made rules as a file, to change as you like

A mistake in a file is told with its line, all of them at once, and nothing is applied. Applied rules count for rows from 5 seconds later on.

Exit codes: 0; 1 when a rule named is not there, or a rule listed is broken; 2 when a file has mistakes, an argument is wrong, or Kafka or ClickHouse does not answer.
"""

from __future__ import annotations

import difflib
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from runstream_processors.rule_topic import Known, RuleTopic
    from runstream_rules.applying import Plan
    from runstream_schemas.records import Rule

SUMMARY = "apply, list, try and remove alert rules"
TIMEOUT_S = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="apply|ls|test|rm|ready")
    apply = actions.add_parser("apply", help="make the rules of files hold")
    _files(apply)
    apply.add_argument("--prune", action="store_true", help="remove rules that come from files and that none of these files has")
    apply.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    ls = actions.add_parser("ls", help="list the rules that hold")
    ls.add_argument("--project", metavar="NAME", help="only rules that apply to this project")
    ls.add_argument("--run", metavar="ID", help="only rules that apply to this run")
    test = actions.add_parser("test", help="check files, and try them on a stored run")
    _files(test)
    test.add_argument("--run", metavar="RUN", help="a run's id, the beginning of one, or project/name")
    test.add_argument("--database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE, else runstream)")
    test.add_argument("--limit", type=int, default=20, metavar="N", help="show at most so many firings a rule (20); --json has all")
    rm = actions.add_parser("rm", help="remove rules")
    rm.add_argument("targets", nargs="+", metavar="FILE|ID", help="a file, for all of its rules, or a rule's id")
    rm.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    actions.add_parser("ready", help="print the ready-made rules as a file")
    for one in (apply, ls, test, rm):
        one.add_argument("--json", action="store_true", help="one JSON object")
    for one in (apply, ls, rm):
        one.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS", help=f"how long Kafka may take ({TIMEOUT_S:g})")


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", metavar="FILE", help="rule files; - is standard input")
    parser.add_argument("--ready-made", action="store_true", help="the ready-made rules too")


def run(args: argparse.Namespace) -> int:
    """Runs the action; see the module's words for the exit code."""
    from runstream_processors.errors import ProcessorsError
    from runstream_rules import FileRefused

    try:
        return {"apply": _apply, "ls": _ls, "test": _test, "rm": _rm, "ready": _ready}[args.action](args)
    except FileRefused as error:
        return _refused(error, as_json=getattr(args, "json", False))
    except ProcessorsError as error:
        raise SettingsError(str(error)) from error


def _refused(error: Any, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"problems": [one._asdict() for one in error.problems]}) + "\n")
    else:
        count = len(error.problems)
        sys.stderr.write(f"{error}\n{count} {'mistake' if count == 1 else 'mistakes'}: nothing was done\n")
    return 2


def _topic(args: argparse.Namespace) -> RuleTopic:
    from runstream_feed.connection import connection_of
    from runstream_processors.rule_topic import RuleTopic

    if not 0 < args.timeout < float("inf"):
        raise SettingsError(f"--timeout must be a number of seconds above 0, got {args.timeout}")
    settings = load()
    return RuleTopic(connection_of(settings), settings.topic_prefix, args.timeout)


def _read(args: argparse.Namespace) -> list[Rule]:
    from runstream_processors.rule_files import ready_made, texts_of
    from runstream_rules.files import read

    if not args.files and not args.ready_made:
        raise SettingsError("name a rule file, or say --ready-made")
    return [entry.rule for entry in read([*texts_of(args.files), *([ready_made()] if args.ready_made else [])])]


# ---- apply and rm ----------------------------------------------------------------------------------------------------------------------


def _apply(args: argparse.Namespace) -> int:
    from runstream_rules.applying import plan

    wanted = _read(args)
    topic = _topic(args)
    known = topic.known()
    _refuse_runs_own(wanted, known)
    made = plan(wanted, {rule_id: one.rule for rule_id, one in known.items()}, time.time_ns() // 1_000_000, prune=args.prune)
    if made.records and not args.dry_run:
        topic.tell(made.records)
    _tell(made, args)
    return 0


def _refuse_runs_own(wanted: list[Rule], known: Mapping[str, Known]) -> None:
    for rule in wanted:
        if rule.rule_id in known and known[rule.rule_id].writers:
            raise SettingsError(f"rule {rule.name!r} has the id {rule.rule_id!r}, which a run registered: give it another id")


def _rm(args: argparse.Namespace) -> int:
    from runstream_processors.rule_files import looks_like_file, texts_of
    from runstream_rules.applying import Plan, withdrawn
    from runstream_rules.files import read

    named = [one for one in args.targets if looks_like_file(one)]
    wanted = {entry.rule.rule_id for entry in read(texts_of(named))} if named else set[str]()
    wanted |= {one for one in args.targets if one not in named}
    topic = _topic(args)
    known = {rule_id: one.rule for rule_id, one in topic.known().items() if not one.rule.deleted}
    now_ms = time.time_ns() // 1_000_000
    gone = tuple(withdrawn(known[rule_id], now_ms) for rule_id in sorted(wanted & known.keys()))
    if gone and not args.dry_run:
        topic.tell(gone)
    _tell(Plan((), (), (), gone), args)
    missing = sorted(wanted - known.keys())
    for rule_id in missing:
        close = difflib.get_close_matches(rule_id, known, n=1)
        sys.stderr.write(
            f"runstream rules: no rule has the id {rule_id!r}" + (f": did you mean {close[0]!r}?\n" if close else ": `runstream rules ls` lists them\n")
        )
    return int(bool(missing))


def _tell(made: Plan, args: argparse.Namespace) -> None:
    if args.json:
        ids = {name: [rule.rule_id for rule in rules] for name, rules in (("added", made.added), ("unchanged", made.unchanged), ("removed", made.removed))}
        changed = [{"id": one.rule.rule_id, "changes": [change._asdict() for change in one.changes]} for one in made.changed]
        sys.stdout.write(json.dumps({"dry_run": args.dry_run, **ids, "changed": changed}) + "\n")
        return
    for rule in made.added:
        sys.stdout.write(f"added      {rule.rule_id}\n")
    for one in made.changed:
        sys.stdout.write(f"changed    {one.rule.rule_id}: " + ", ".join(f"{field} {_shown(old)} → {_shown(new)}" for field, old, new in one.changes) + "\n")
    for rule in made.removed:
        sys.stdout.write(f"removed    {rule.rule_id}\n")
    counts = ((len(made.added), "added"), (len(made.changed), "changed"), (len(made.unchanged), "unchanged"), (len(made.removed), "removed"))
    said = ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing to do"
    sys.stdout.write(f"{said}{' (dry run: nothing was told)' if args.dry_run else ''}\n")


def _shown(value: Any) -> str:
    if value in ("", None, [], {}, 0):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---- ls and ready ----------------------------------------------------------------------------------------------------------------------


def _ls(args: argparse.Namespace) -> int:
    topic = _topic(args)
    known = topic.known()
    reasons = _reasons(topic)
    rows = [
        (one, one.broken or next((reasons[place] for place in one.places if place in reasons), ""))
        for one in known.values()
        if not one.rule.deleted and _applies(one.rule, args)
    ]
    if args.json:
        told = [{**asdict(one.rule), "writer": str(one.rule.writer), "registered_by": one.writers, "broken": broken} for one, broken in rows]
        sys.stdout.write(json.dumps({"rules": told}) + "\n")
    else:
        from runstream_processors.rule_tables import listing

        listing(rows, int(time.time() * 1000))
    return int(any(broken for _, broken in rows))


def _reasons(topic: RuleTopic) -> dict[str, str]:
    """Why rules broke at work, as far as dead letters say; a flood of other letters must not keep rules from being listed."""
    from runstream_processors.errors import NotReady

    try:
        return topic.reasons()
    except NotReady as error:
        sys.stderr.write(f"runstream rules: which rules broke at work is not known: {error}\n")
        return {}


def _applies(rule: Rule, args: argparse.Namespace) -> bool:
    return (args.project is None or rule.project in ("", args.project)) and (args.run is None or rule.run_id in ("", args.run))


def _ready(_args: argparse.Namespace) -> int:
    from runstream_processors.rule_files import ready_made

    sys.stdout.write(ready_made()[1])
    return 0


# ---- test ------------------------------------------------------------------------------------------------------------------------------


def _test(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise SettingsError(f"--limit must be at least 1, got {args.limit}")
    rules = _read(args)
    if args.run is None:
        if args.json:
            sys.stdout.write(json.dumps({"rules": [rule.rule_id for rule in rules], "run": None}) + "\n")
        else:
            count = len(rules)
            sys.stdout.write(f"{count} {'rule is' if count == 1 else 'rules are'} fine; --run RUN shows when they would have fired\n")
        return 0
    from runstream_processors.rule_trial import try_on_run

    settings = load({"clickhouse_database": args.database})
    return try_on_run(rules, args.run, settings, limit=args.limit, as_json=args.json)
