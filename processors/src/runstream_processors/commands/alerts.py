"""Lists alerts, acknowledges them, and silences what nobody wants to hear of for a while.

runstream alerts ls                                 the alerts that fire now
runstream alerts ls --all --run RUN                 ... and those that are over or whose rule was removed, of one run
runstream alerts ack 4f1c --comment "on it"         nobody is told of this alert any more: an alert's id, or enough of its beginning
runstream alerts silence --rule loss-explodes --for 2h --comment "new data"
runstream alerts silence --project digits --metric "gpu.*" --label team=vision --from 2026-11-05T20:00 --until 2026-11-06T08:00
runstream alerts silences                           the silences and acknowledgements there are
runstream alerts unsilence 0193a1f0                 end one, by its id or that of the alert

Alerts that a silence matches are recorded as ever and notify nobody, their end included. The notifier knows of a silence within a second.
`ls`, and `ack` with the beginning of an id, read ClickHouse; the rest speaks with Kafka alone.

Exit codes: 0; 1 when an alert or silence named is not there; 2 for wrong arguments, or when Kafka or ClickHouse does not answer.
"""

from __future__ import annotations

import datetime as dt
import getpass
import json
import sys
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from runstream_schemas.durations import seconds_of
from runstream_schemas.ids import named_uuid, new_uuid
from runstream_schemas.settings import Settings, SettingsError, load, origin_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from runstream_processors.alert_store import AlertStore
    from runstream_processors.silence_topic import SilenceTopic
    from runstream_schemas.records import Silence

SUMMARY = "list, acknowledge and silence alerts"
TIMEOUT_S = 20.0
_ID_CHARACTERS = 36


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|ack|silence|silences|unsilence")
    ls = actions.add_parser("ls", help="list alerts, newest first")
    ls.add_argument("--all", action="store_true", help="also those that are resolved, and those whose rule was removed while they fired")
    ls.add_argument("--run", default="", metavar="ID", help="of this run")
    ls.add_argument("--rule", default="", metavar="ID", help="of this rule")
    ls.add_argument("--project", default="", metavar="NAME", help="of this project")
    ls.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)")
    ack = actions.add_parser("ack", help="acknowledge alerts: nobody is told of them any more")
    ack.add_argument("alerts", nargs="+", metavar="ALERT", help="an alert's id, or enough of its beginning")
    silence = actions.add_parser("silence", help="tell nobody of some alerts for a while")
    for option, what in (
        ("--rule", "rule, by its id"),
        ("--run", "run, by its whole id"),
        ("--project", "project"),
        ("--metric", "metrics: a name, or a pattern with * and ?"),
    ):
        silence.add_argument(option, default="", metavar=option[2:].upper(), help=f"only alerts of this {what}")
    silence.add_argument("--label", action="append", default=[], metavar="NAME=TEXT", help="only alerts with this label; more than once for several")
    silence.add_argument("--everything", action="store_true", help="all alerts, where nothing selects some")
    silence.add_argument("--from", dest="since", metavar="TIME", help="from then on: 2026-11-05T20:00 (UTC unless it says), or 2h from now; now unless given")
    end = silence.add_mutually_exclusive_group(required=True)
    end.add_argument("--for", dest="lasts", metavar="DURATION", help="so long: 30m, 2h, 1d")
    end.add_argument("--until", metavar="TIME", help="until then")
    end.add_argument("--forever", action="store_true", help="until it is ended")
    unsilence = actions.add_parser("unsilence", help="end silences and acknowledgements")
    unsilence.add_argument("silences", nargs="+", metavar="ID", help="its id, or that of the alert that was acknowledged, or enough of its beginning")
    silences = actions.add_parser("silences", help="list silences and acknowledgements")
    for one in (ack, silence):
        one.add_argument("--comment", default="", metavar="TEXT", help="why")
        one.add_argument("--author", metavar="NAME", help="who asks; the user of this machine unless given")
    for one in (ls, ack, silence, silences, unsilence):
        one.add_argument("--json", action="store_true", help="one JSON object")
        one.add_argument("--database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE, else runstream)")


def run(args: argparse.Namespace) -> int:
    """Runs the action; see the module's words for the exit code."""
    from runstream_processors.errors import ProcessorsError
    from runstream_schemas.clickhouse import SqlError

    settings = load({"clickhouse_database": args.database})
    actions = {"ls": _ls, "ack": _ack, "silence": _silence, "silences": _silences, "unsilence": _unsilence}
    try:
        return actions[args.action](args, settings)
    except ProcessorsError as error:
        raise SettingsError(str(error)) from error
    except SqlError as error:
        if error.code == 0 and origin_of("clickhouse_url") == "default":
            raise SettingsError(f"RUNSTREAM_CLICKHOUSE_URL is unset and no stack runs here: set it, or start a stack with `runstream up` ({error})") from error
        raise SettingsError(str(error)) from error


def _topic(settings: Settings) -> SilenceTopic:
    from runstream_feed.connection import connection_of
    from runstream_processors.silence_topic import SilenceTopic

    return SilenceTopic(connection_of(settings), settings.topic_prefix, TIMEOUT_S)


def _store(settings: Settings) -> AlertStore:
    from runstream_processors.alert_store import AlertStore

    return AlertStore(settings.clickhouse_url, settings.clickhouse_database)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _author(args: argparse.Namespace) -> str:
    if args.author is not None:
        return args.author
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""  # A container's user may have no name.


# ---- ls --------------------------------------------------------------------------------------------------------------------------------


def _ls(args: argparse.Namespace, settings: Settings) -> int:
    if args.limit < 1:
        raise SettingsError(f"--limit must be at least 1, got {args.limit}")
    store = _store(settings)
    found = store.alerts(firing=not args.all, run_id=args.run, rule_id=args.rule, project=args.project, limit=args.limit)
    silences = store.silences()
    now_ms = _now_ms()
    rows = [(one, silences.of(one.alert, now_ms)) for one in found]
    if args.json:
        told = [{**one.to_json(), "silenced_now_by": silence} for one, silence in rows]
        sys.stdout.write(json.dumps({"alerts": told}) + "\n")
    else:
        from runstream_processors.alert_tables import alerts

        alerts(rows, {one.silence_id: one for one in silences.all()}, limit=args.limit)
    return 0


# ---- ack, silence, unsilence -----------------------------------------------------------------------------------------------------------


def _ack(args: argparse.Namespace, settings: Settings) -> int:
    asked: list[str] = []
    missing: list[str] = []
    for named in args.alerts:
        if len(named) == _ID_CHARACTERS:
            asked.append(named.lower())
            continue
        found = _store(settings).ids(named.lower())
        if len(found) > 1:
            raise SettingsError(f"{named!r} is the beginning of several alerts: {', '.join(found[:5])}")
        (asked if found else missing).append(found[0] if found else named)
    now_ms = _now_ms()
    made = [_made(args, now_ms, named_uuid("acknowledgement", alert_id), starts_ms=now_ms, ends_ms=0, alert_id=alert_id) for alert_id in dict.fromkeys(asked)]
    if made:
        _topic(settings).tell(made)
    _tell(made, "acknowledged", as_json=args.json)
    for named in missing:
        sys.stderr.write(f"runstream alerts: no alert's id begins with {named!r}: `runstream alerts ls` lists those that fire\n")
    return int(bool(missing))


def _silence(args: argparse.Namespace, settings: Settings) -> int:
    labels = dict(_label(one) for one in args.label)
    selectors = {"rule_id": args.rule, "run_id": args.run, "project": args.project, "metric": args.metric}
    if not any(selectors.values()) and not labels and not args.everything:
        raise SettingsError("say which alerts: --rule, --run, --project, --metric or --label; or --everything")
    now_ms = _now_ms()
    starts_ms = now_ms if args.since is None else _moment("--from", args.since, now_ms)
    ends_ms = 0
    if args.lasts is not None:
        lasts_s = seconds_of(args.lasts)
        if not lasts_s:
            raise SettingsError(f"--for must be a duration such as 30m or 2h, got {args.lasts!r}")
        ends_ms = starts_ms + int(1000 * lasts_s)
    elif args.until is not None:
        ends_ms = _moment("--until", args.until, now_ms)
    if ends_ms and ends_ms <= max(starts_ms, now_ms):
        raise SettingsError("the end of a silence must be after its beginning, and after now")
    made = [_made(args, now_ms, new_uuid(), starts_ms=starts_ms, ends_ms=ends_ms, labels=labels, **selectors)]
    _topic(settings).tell(made)
    _tell(made, "silenced", as_json=args.json)
    return 0


def _made(args: argparse.Namespace, now_ms: int, silence_id: str, **fields: object) -> Silence:
    from runstream_schemas.records import Silence

    given = {"silence_id": silence_id, "version": now_ms, "time_ms": now_ms, "author": _author(args), "comment": args.comment}
    return Silence(**given, **fields)  # pyright: ignore[reportArgumentType]  # the fields are given by name


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise SettingsError(f"--label must be NAME=TEXT, got {text!r}")
    return name, value


def _moment(option: str, text: str, now_ms: int) -> int:
    seconds = seconds_of(text)
    if seconds is not None:
        return now_ms + int(1000 * seconds)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{option} must be a time such as 2026-11-05T20:00 (UTC unless it says) or 2h from now, got {text!r}") from None
    return int(1000 * (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())


def _unsilence(args: argparse.Namespace, settings: Settings) -> int:
    topic = _topic(settings)
    known = topic.known().all()
    now_ms = _now_ms()
    gone: dict[str, Silence] = {}
    missing: list[str] = []
    for named in args.silences:
        found = [one for one in known if one.silence_id.startswith(named.lower()) or (one.alert_id and one.alert_id.startswith(named.lower()))]
        if len(found) > 1:
            raise SettingsError(f"{named!r} is the beginning of several: {', '.join(one.silence_id for one in found[:5])}")
        if found:
            gone[found[0].silence_id] = replace(found[0], version=max(now_ms, found[0].version + 1), time_ms=now_ms, deleted=True)
        else:
            missing.append(named)
    if gone:
        topic.tell(gone.values())
    _tell(list(gone.values()), "ended", as_json=args.json)
    for named in missing:
        sys.stderr.write(f"runstream alerts: no silence's id begins with {named!r}: `runstream alerts silences` lists them\n")
    return int(bool(missing))


def _tell(silences: Sequence[Silence], word: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"silences": [asdict(one) for one in silences]}) + "\n")
        return
    from runstream_processors.alert_tables import meant, until

    for one in silences:
        end = f", {until(one)}" if word == "silenced" else ""
        sys.stdout.write(f"{word}  {one.silence_id}  {meant(one)}{end}\n")


def _silences(args: argparse.Namespace, settings: Settings) -> int:
    every = _topic(settings).known().all()
    if args.json:
        sys.stdout.write(json.dumps({"silences": [asdict(one) for one in every]}) + "\n")
        return 0
    from runstream_processors.alert_tables import silences

    silences(every, _now_ms())
    return 0
