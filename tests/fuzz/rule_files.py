"""The target `rules`: a text is rules, or FileRefused with a line for each mistake, and nothing else."""

from __future__ import annotations

from runstream_rules import FileRefused, check
from runstream_rules.files import read
from runstream_schemas import wire
from tests.fuzz.target import Target, hold
from tests.rules.test_files import WHOLE, blocks

_SOURCE = "rules.yaml"


def check_rules(data: bytes) -> None:
    """Rules that are read can be applied and stored; mistakes have a line of the text."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        entries = read([(_SOURCE, text)])
    except FileRefused as error:
        # YAML ends lines at more characters than a newline.
        lines = len(text.splitlines()) + 1
        for problem in error.problems:
            hold(problem.source == _SOURCE and 1 <= problem.line <= lines, "a mistake has a line of its file")
            hold("\n" not in str(problem), "a mistake is one line")
        hold(bool(error.problems), "a file is refused for a mistake")
        return
    for entry in entries:
        check(entry.rule)
        hold(wire.decode(wire.encode(entry.rule)) == entry.rule, "a rule that is read can be stored")


RULES = Target(
    "rules",
    "rule files are rules or mistakes with their lines",
    check_rules,
    lambda: [text.encode() for text in (WHOLE, *blocks())],
    8192,
)
