"""The `runstream` command. Its subcommands come from whatever folders are installed, through the entry-point group `runstream.commands`.

An entry point names a module with `SUMMARY` (one line), `configure(parser)` and `run(args) -> int`. It is imported only when its subcommand is called or help is asked for,
so such modules import nothing heavy at their top.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Protocol, cast

from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "runstream.commands"


class Command(Protocol):
    """What a subcommand's module offers."""

    SUMMARY: str

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Declares the arguments."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Does the work and returns the exit code."""
        ...


def commands() -> dict[str, EntryPoint]:
    """The subcommands that are installed, by name."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


def build(found: dict[str, EntryPoint], wanted: str | None) -> argparse.ArgumentParser:
    """The parser; only the wanted subcommand's module is loaded, all of them where none is."""
    parser = argparse.ArgumentParser(prog="runstream", description="Experiment telemetry that training cannot feel and cannot lose.")
    parser.add_argument("--version", action="version", version=f"runstream {version('runstream')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, point in found.items():
        if wanted in found and name != wanted:
            continue
        command = cast("Command", point.load())
        sub = subparsers.add_parser(
            name, help=command.SUMMARY, description=command.__doc__ or command.SUMMARY, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.configure(sub)
        sub.set_defaults(_run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; 0 for success, 2 for wrong settings or arguments, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    wanted = next((one for one in arguments if not one.startswith("-")), None)
    parser = build(commands(), wanted)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        return int(args._run(args))
    except SettingsError as error:
        sys.stderr.write(f"runstream {args.command}: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # The reader of a pipe has gone; there is nobody left to tell.
        return 0


if __name__ == "__main__":
    sys.exit(main())
