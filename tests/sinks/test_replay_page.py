"""What docs/replay.md says of commands, columns and tests is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from runstream.cli import build, commands
from runstream_sinks import parquet
from runstream_sinks.resend import Outcome

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")
LINES = [line.strip().split("  ")[0].split("   ")[0] for line in PAGE.splitlines() if line.startswith("    runstream ")]


@pytest.mark.parametrize("line", LINES)
def test_every_command_is_one(line: str) -> None:
    """It has the subcommands and options that are shown."""
    argv = shlex.split(line)[1:]
    args = build(commands(), argv[0]).parse_args(argv)
    assert args.command == argv[0]


def test_the_page_shows_every_command_of_its_subject() -> None:
    """None is left out."""
    assert {shlex.split(line)[1] for line in LINES} == {"dlq", "replay", "verify", "swap", "archive"}


def cells(first: str) -> list[str]:
    """The first cells of the table whose head begins with a word."""
    _, _, rest = PAGE.partition(f"| {first} |")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [row.split("|")[1].strip().strip("`") for row in rows]


def test_the_columns_of_the_archive_are_those_of_its_files() -> None:
    """In their order."""
    assert cells("column") == parquet.SCHEMA.names


def test_every_outcome_of_a_retry_is_explained() -> None:
    """But the one of a dry run, which explains itself."""
    assert sorted(cells("outcome")) == sorted(set(Outcome.__args__) - {"would send"})


def test_the_tests_that_are_named_are_there() -> None:
    """Each in its file."""
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) >= 8
    for file, name in named:
        assert f"def {name}(" in (ROOT / "tests" / "sinks" / file).read_text(encoding="utf-8"), name
