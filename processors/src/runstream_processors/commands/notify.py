"""Lists the notifier's channels, and tries one.

runstream notify ls                 the channels, how each sends, and how much it may be told; never an address
runstream notify test ops           send a message that says it is a test to the channel ops, once
runstream notify test ops --json

A channel is a table in channels.toml in the home folder (or the file that RUNSTREAM_CHANNELS names):

[ops]
url = "slack://TOKEN_A/TOKEN_B/TOKEN_C"        # any address of Apprise: mail, Slack, Teams, Discord, PagerDuty ...
severity = "warning"                           # leaves out what is less

[hook]
webhook = "https://example.com/alerts"         # JSON, signed with the secret
secret_env = "HOOK_SECRET"                     # from a variable; secret_file reads a file, as with url and webhook

RUNSTREAM_NOTIFY="ops=slack://... mail=mailto://..." and RUNSTREAM_WEBHOOK, RUNSTREAM_WEBHOOK_SECRET do without a file. A rule goes to the channels that it names
(channels: [ops]), or to all. docs/notify.md tells the rest.

A test makes one try within the channel's time-out, and neither waits in line nor is recorded: it is no alert. The reason of a failure is one of the notifier's own sentences.

Exit codes: 0; 1 when the channel did not take the test; 2 for a channel that is not there or not what it should be.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse

    from runstream_processors.notify.channels import Channel
    from runstream_processors.notify.sending import Way
    from runstream_schemas.settings import Settings

SUMMARY = "list the notifier's channels and try one"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|test")
    ls = actions.add_parser(
        "ls", help="list the channels", description="Lists the channels that the notifier has with the settings of now, and says what is wrong with them."
    )
    test = actions.add_parser(
        "test", help="try a channel", description="Sends one message that says it is a test, and tells whether the channel took it and how long that took."
    )
    test.add_argument("channel", metavar="CHANNEL", help="its name, as `runstream notify ls` shows it")
    for one in (ls, test):
        one.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Runs the action; see the module's words for the exit code."""
    settings = load()
    return _ls(settings, as_json=args.json) if args.action == "ls" else _test(settings, args.channel, as_json=args.json)


def _ways(settings: Settings) -> dict[str, tuple[Channel, Way]]:
    from runstream_processors.notify.ways import ways_of

    return {channel.name: (channel, way) for channel, way in ways_of(settings)}


def _ls(settings: Settings, *, as_json: bool) -> int:
    channels = [channel for channel, _ in _ways(settings).values()]
    if as_json:
        sys.stdout.write(json.dumps({"channels": [_object(channel) for channel in channels]}) + "\n")
        return 0
    if not channels:
        sys.stdout.write("no channels: alerts are recorded and nobody is told; `runstream notify --help` shows how to set one up\n")
    for channel in channels:
        policy, signed = channel.policy, ", signed" if channel.secret is not None else ""
        rate = f"{policy.per_minute:g} messages a minute, {policy.burst} at once"
        sys.stdout.write(f"{channel.name:20} {channel.way}{signed}: {channel.severity} and above, {rate}\n")
    return 0


def _object(channel: Channel) -> dict[str, object]:
    policy = channel.policy
    figures = {name: getattr(policy, name) for name in type(policy).__dataclass_fields__}
    return {"name": channel.name, "way": channel.way, "severity": channel.severity, "signed": channel.secret is not None, **figures}


def _test(settings: Settings, name: str, *, as_json: bool) -> int:
    from runstream_processors.notify.message import trial_message
    from runstream_processors.notify.outcome import Accepted
    from runstream_processors.notify.sending import Bounded

    ways = _ways(settings)
    if name not in ways:
        raise SettingsError(_missing(name, list(ways)))
    channel, way = ways[name]
    began = time.monotonic()
    outcome = Bounded(way, name, channel.policy.timeout_s).send(trial_message(name, uuid.uuid4().hex))
    seconds = round(time.monotonic() - began, 3)
    taken = isinstance(outcome, Accepted)
    reason = "" if isinstance(outcome, Accepted) else outcome.reason
    if as_json:
        sys.stdout.write(json.dumps({"channel": name, "way": channel.way, "delivered": taken, "reason": reason, "seconds": seconds}) + "\n")
    elif taken:
        sys.stdout.write(f"{name} ({channel.way}) took it in {seconds:g} s\n")
    else:
        sys.stderr.write(f"runstream notify: {name} ({channel.way}) did not take it: {reason}\n")
    return 0 if taken else 1


def _missing(name: str, names: list[str]) -> str:
    return f"there is no channel {name!r}: there are {', '.join(names)}" if names else f"there is no channel {name!r}, since none is set up"
