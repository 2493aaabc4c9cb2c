"""Lists, shows and sends again the records that the sinks set aside because they could not be decoded or do not fit their table.

runstream dlq ls                                       the newest ones: place, size and reason, never a value
runstream dlq ls --topic event --since 2h --reason UUID
runstream dlq ls --by-reason                           how many there are, by topic and reason
runstream dlq show runstream.event/3/1207              all that is known of one
runstream dlq show runstream.event/3/1207 --hex        ... and its raw bytes
runstream dlq retry --topic event --since 1d           send again what is mended by now, and see what becomes of it
runstream dlq retry runstream.event/3/1207

A record that is sent again has the same rows, so that sending it twice does no harm. Not sent are records that this version still cannot store (--force sends them all the same), those
whose bytes were cut, and those of compacted topics that a newer record has replaced. --source topic reads the topic of letters itself, for when the sinks or ClickHouse do not run.

Exit codes: 0; 1 when a letter named is not there, or not all that were sent again are stored; 2 for wrong arguments.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Sequence

    from runstream_schemas.records import DeadLetter
    from runstream_schemas.settings import Settings
    from runstream_sinks.letters import InTable, Letter, OnTopic, Wanted
    from runstream_sinks.resend import Fate

SUMMARY = "list, show and retry records that were set aside"
HEX_BYTES = 4096


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|show|retry")
    ls = actions.add_parser("ls", help="list them, newest first")
    _filters(ls)
    ls.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)")
    ls.add_argument("--by-reason", action="store_true", help="count them by topic and reason instead")
    show = actions.add_parser("show", help="all that is known of some")
    show.add_argument("ids", nargs="+", metavar="TOPIC/PARTITION/OFFSET", help="where the record lay")
    show.add_argument("--hex", action="store_true", help="show key and value as well: whatever users logged, as hexadecimal digits")
    show.add_argument("--bytes", type=int, default=HEX_BYTES, metavar="N", help=f"with --hex: at most so many bytes of the value ({HEX_BYTES})")
    retry = actions.add_parser("retry", help="send them again")
    retry.add_argument("ids", nargs="*", metavar="TOPIC/PARTITION/OFFSET", help="where the record lay")
    _filters(retry)
    retry.add_argument("--all", action="store_true", help="all there are")
    retry.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    retry.add_argument("--force", action="store_true", help="also what this version cannot store: the sinks may be of another")
    retry.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="how long to look for what the sinks make of it (30)")
    for one in (ls, show, retry):
        one.add_argument("--source", choices=("table", "topic"), default="table", help="where to look for letters: the view dead_letters, or the topic")
        one.add_argument("--json", action="store_true", help="one JSON object")


def _filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", action="append", default=[], dest="topics", metavar="TOPIC", help="of this topic; more than once for several")
    parser.add_argument("--since", metavar="TIME", help="set aside at or after a time (2026-11-05T14:30, 2h)")
    parser.add_argument("--until", metavar="TIME", help="set aside before a time")
    parser.add_argument("--reason", default="", metavar="TEXT", help="with this in the reason")


def run(args: argparse.Namespace) -> int:
    """Runs the action; see the module's words for the exit code."""
    from runstream_sinks.errors import SinksError

    settings = load()
    try:
        return {"ls": _ls, "show": _show, "retry": _retry}[args.action](args, settings)
    except SinksError as error:
        elsewhere = "; --source topic reads Kafka instead" if args.source == "table" else ""
        sys.stderr.write(f"runstream dlq: {error}{elsewhere}\n")
        return 1


def _wanted(args: argparse.Namespace, settings: Settings, now: float) -> Wanted:
    from runstream_schemas.topics import TOPICS
    from runstream_sinks.letters import Wanted, parse_place
    from runstream_sinks.spans import At, parse_bound, parse_topics

    def time_ms(option: str, text: str | None) -> int | None:
        bound = None if text is None else parse_bound(option, text, now)
        if bound is None or isinstance(bound, At):
            return None if bound is None else bound.time_ms
        raise SettingsError(f"{option} must be a time, got {text!r}")

    names = parse_topics("--topic", args.topics, settings.topic_prefix) if args.topics else ()
    return Wanted(
        places=frozenset(parse_place(one) for one in getattr(args, "ids", ())),
        topics=frozenset(TOPICS[name].full_name(settings.topic_prefix) for name in names),
        since_ms=time_ms("--since", args.since),
        until_ms=time_ms("--until", args.until),
        reason=args.reason,
    )


@contextmanager
def _source(args: argparse.Namespace, settings: Settings) -> Generator[InTable | OnTopic]:
    from runstream_sinks.letters import InTable, OnTopic

    made = InTable(settings) if args.source == "table" else OnTopic(settings)
    try:
        yield made
    finally:
        made.close()


# ---- ls --------------------------------------------------------------------------------------------------------------------------------


def _ls(args: argparse.Namespace, settings: Settings) -> int:
    if args.limit < 1:
        raise SettingsError(f"--limit must be at least 1, got {args.limit}")
    wanted = _wanted(args, settings, time.time())
    with _source(args, settings) as source:
        counts = source.count(wanted)
        some = [] if args.by_reason else source.find(wanted, args.limit)
    if args.by_reason:
        return _by_reason(counts, as_json=args.json)
    if args.json:
        sys.stdout.write(json.dumps({"count": counts.total(), "letters": [_object(one) for one in some]}) + "\n")
        return 0
    for one in some:
        sys.stdout.write(f"{_time(one.set_aside_ms)}  {one.id}  {one.value_bytes:,} bytes  {one.reason}\n")
    more = f", --limit {counts.total()} shows all" if counts.total() > len(some) else ""
    sys.stdout.write(f"{len(some):,} of {counts.total():,} letters{more}\n")
    return 0


def _by_reason(counts: Counter[tuple[str, str]], *, as_json: bool) -> int:
    if as_json:
        reasons = [{"topic": topic, "reason": reason, "count": count} for (topic, reason), count in counts.most_common()]
        sys.stdout.write(json.dumps({"count": counts.total(), "reasons": reasons}) + "\n")
        return 0
    for (topic, reason), count in counts.most_common():
        sys.stdout.write(f"{count:>8,}  {topic}  {reason}\n")
    sys.stdout.write(f"{counts.total():,} letters\n")
    return 0


def _time(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _object(one: Letter) -> dict[str, object]:
    return {
        "id": one.id,
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "sha256": one.sha256,
        "schema_id": one.schema_id,
        "reason": one.reason,
        "key_bytes": one.key_bytes,
        "value_bytes": one.value_bytes,
        "time_ms": one.time_ms,
        "set_aside_ms": one.set_aside_ms,
        "worker": one.worker,
    }


# ---- show ------------------------------------------------------------------------------------------------------------------------------


def _show(args: argparse.Namespace, settings: Settings) -> int:
    from runstream_sinks.letters import Wanted, parse_place

    asked = frozenset(parse_place(one) for one in args.ids)
    with _source(args, settings) as source:
        found = source.find(Wanted(places=asked))
        raw = dict(source.fetch(found)) if args.hex else {}
    missing = asked - {(one.topic, one.partition, one.offset) for one in found}
    if args.json:
        sys.stdout.write(json.dumps({"letters": [_object(one) | _raw(raw.get(one), args.bytes) for one in found]}) + "\n")
    else:
        sys.stdout.write("\n".join(_lines(one, raw.get(one), args.bytes) for one in found))
    for topic, partition, offset in sorted(missing):
        sys.stderr.write(f"runstream dlq: no letter is known of {topic}/{partition}/{offset}\n")
    return int(bool(missing))


def _raw(whole: DeadLetter | None, most: int) -> dict[str, object]:
    if whole is None:
        return {}
    return {"key_hex": None if whole.key is None else whole.key.hex(), "value_hex": whole.value[:most].hex()}


def _lines(one: Letter, whole: DeadLetter | None, most: int) -> str:
    facts = {
        "record": one.id,
        "reason": one.reason,
        "schema id": "none" if one.schema_id is None else f"{one.schema_id} ({_schema_name(one.schema_id)})",
        "sha256": one.sha256,
        "key": "none" if one.key_bytes is None else f"{one.key_bytes:,} bytes",
        "value": f"{one.value_bytes:,} bytes",
        "appended": _time(one.time_ms),
        "set aside": f"{_time(one.set_aside_ms)} by {one.worker or 'nobody'}",
    }
    lines = [f"{name:<10} {value}" for name, value in facts.items()]
    if whole is not None:
        lines.append(f"{'key hex':<10} {'none' if whole.key is None else whole.key.hex()}")
        lines += [f"{start:08x}   {_row(whole.value[start : min(start + 16, most)])}" for start in range(0, min(len(whole.value), most), 16)]
        if len(whole.value) > most:
            lines.append(f"... {len(whole.value) - most:,} more bytes: --bytes {len(whole.value)} shows them")
    return "".join(f"{line}\n" for line in lines)


def _row(data: bytes) -> str:
    return f"{data.hex(' '):<47}  {''.join(chr(one) if 32 <= one < 127 else '.' for one in data)}"


def _schema_name(schema_id: int) -> str:
    from runstream_schemas.catalogue import bundled
    from runstream_schemas.errors import UnknownSchema

    try:
        entry = bundled().by_id(schema_id)
    except UnknownSchema:
        return "none of this version's"
    return f"{entry.name} v{entry.version}"


# ---- retry -----------------------------------------------------------------------------------------------------------------------------


def _retry(args: argparse.Namespace, settings: Settings) -> int:
    from runstream_sinks.letters import OnTopic
    from runstream_sinks.log import to_stderr
    from runstream_sinks.progress import until_asked
    from runstream_sinks.resend import DONE, send_again

    if not (args.ids or args.topics or args.since or args.until or args.reason or args.all):
        raise SettingsError("say which letters to send again: TOPIC/PARTITION/OFFSET, filters such as --topic and --since, or --all")
    if not 0 <= args.wait < float("inf"):
        raise SettingsError(f"--wait must be a number of seconds, got {args.wait}")
    wanted = _wanted(args, settings, time.time())
    topic = OnTopic(settings)
    with until_asked() as asked, _source(args, settings) as source:
        to_stderr(settings.log_format)
        try:
            letters = source.find(wanted)
            fates = send_again(settings, source, letters, topic, force=args.force, dry_run=args.dry_run, wait_s=args.wait, asked=asked)
        finally:
            topic.close()
    missing = wanted.places - {(one.topic, one.partition, one.offset) for one in letters}
    _tell(fates, as_json=args.json)
    for name, partition, offset in sorted(missing):
        sys.stderr.write(f"runstream dlq: no letter is known of {name}/{partition}/{offset}\n")
    return int(bool(missing) or any(one.outcome not in DONE for one in fates))


def _tell(fates: Sequence[Fate], *, as_json: bool) -> None:
    counts = Counter(one.outcome for one in fates)
    if as_json:
        letters = [{"id": one.letter.id, "outcome": one.outcome, "why": one.why, "offset": one.offset} for one in fates]
        sys.stdout.write(json.dumps({"counts": dict(counts), "letters": letters}) + "\n")
        return
    for one in fates:
        place = "" if one.offset is None else f" (now at offset {one.offset})"
        sys.stdout.write(f"{one.outcome:<15}  {one.letter.id}{place}{': ' if one.why else ''}{one.why}\n")
    sys.stdout.write(", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common()) + "\n" if fates else "no letters\n")
