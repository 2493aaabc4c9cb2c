"""Rules and what they did as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runstream_rules.words import condition, selectors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_processors.rule_topic import Known

STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
_WIDTH_PIPED = 160


def console(*, stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, and wide enough for one where it is none."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = _WIDTH_PIPED
    return made


def table(*columns: str) -> Table:
    """An empty table in the style of all."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def severity(word: str) -> Text:
    """A severity in its colour."""
    return Text(word, STYLES.get(word, ""))


def listing(rows: Iterable[tuple[Known, str]], now_ms: int) -> None:
    """The rules, each with why it is broken, if it is."""
    made = table("id", "kind", "metric", "fires when", "watches", "severity", "from", "state")
    every = list(rows)
    for one, broken in every:
        rule = one.rule
        source = "a file" if not one.writers else f"{one.writers} {'process' if one.writers == 1 else 'processes'}"
        state = Text("broken", "bold red") if broken else Text("soon", "cyan") if rule.active_ms > now_ms and not one.writers else Text("holds", "green")
        watches = selectors(rule) or "everything"
        made.add_row(Text(rule.rule_id), rule.kind, Text(rule.metric), Text(condition(rule)), Text(watches), severity(rule.severity), source, state)
    out = console()
    if every:
        out.print(made)
    broken_ones = [(one.rule, why) for one, why in every if why]
    for rule, why in broken_ones:
        out.print(Text(f"{rule.rule_id} is switched off: {why}", "red"))
    out.print(f"{len(every)} {'rule' if len(every) == 1 else 'rules'}" + (f", {len(broken_ones)} broken" if broken_ones else ""))
