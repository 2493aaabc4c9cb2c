"""Rule files: YAML as docs/rules.md writes it, to rules. Every mistake of every file is told at once, with its line. Reading files is the caller's work."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from runstream_rules.errors import FileRefused, Problem
from runstream_rules.fields import FIELDS, WORDS, Unfit, shown
from runstream_rules.text import unknown_names
from runstream_rules.yaml_nodes import Items, Pairs, parsed
from runstream_schemas.records import Rule
from runstream_schemas.rule_fields import refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_rules.yaml_nodes import Node

_NEEDED = ("name", "kind")
_NAME_SHOWN_CHARACTERS = 100


class Entry(NamedTuple):
    """A rule of a file: without a version, and without a time, which it gets when it is applied."""

    rule: Rule
    source: str
    line: int


def read(files: Sequence[tuple[str, str]]) -> list[Entry]:
    """The rules of some files, each given by its name, for messages, and its text; in the order in which they stand.

    Raises:
        FileRefused: anything in any of them is wrong; it tells of all of it.
    """
    problems: list[Problem] = []
    entries: list[Entry] = []
    for source, text in files:
        entries += _file(source, text, problems)
    _refuse_doubles(entries, problems)
    if problems:
        order = {source: place for place, (source, _) in enumerate(files)}
        raise FileRefused(sorted(problems, key=lambda one: (order[one.source], one.line)))
    return entries


def rule_id_of(name: str, project: str, run_id: str) -> str:
    """The id of a rule that gives none: its name in small letters, with whatever is neither letter nor digit as a hyphen; project and run, where it selects them, stand before it, so
    that rules of two projects may have one name. Empty where the name has no letter."""
    name_part = _slug(name)
    return ".".join([part for part in (_slug(project), _slug(run_id)) if part] + [name_part]) if name_part else ""


def _slug(text: str) -> str:
    return "-".join("".join(one if one.isalnum() else " " for one in text.lower()).split())


def _file(source: str, text: str, problems: list[Problem]) -> list[Entry]:
    root, mistakes = parsed(text)
    problems += [Problem(source, line, "", "", what) for line, what in mistakes]
    if root is None:
        if not mistakes:
            problems.append(Problem(source, 1, "", "", "holds nothing, expected `rules:` and a list of rules"))
        return []
    if not isinstance(root, Pairs):
        problems.append(Problem(source, root.line, "", "", f"must be `rules:` and a list of rules, got {shown(root)}"))
        return []
    found: Node | None = None
    for key, line, value in root.pairs:
        if key == "rules":
            found = value
        else:
            problems.append(Problem(source, line, "", key, "is no field of a rule file: expected `rules:` and nothing else"))
    if not isinstance(found, Items):
        got = "nothing" if found is None else shown(found)
        problems.append(Problem(source, root.line if found is None else found.line, "", "rules", f"must be a list of rules, got {got}"))
        return []
    return [entry for number, node in enumerate(found.items, start=1) if (entry := _entry(source, number, node, problems)) is not None]


def _entry(source: str, number: int, node: Node, problems: list[Problem]) -> Entry | None:
    if not isinstance(node, Pairs):
        problems.append(Problem(source, node.line, f"rule {number}", "", f"must be a mapping of fields, got {shown(node)}"))
        return None
    lines = {pair.key: pair.line for pair in node.pairs}
    values: dict[str, Any] = {}
    own: list[Problem] = []
    for key, line, value in node.pairs:
        field = FIELDS.get(key)
        if field is None:
            close = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(FIELDS)}"
            own.append(Problem(source, line, "", key, f"is no field of a rule: {hint}"))
            continue
        try:
            values[field.name] = field.read(value)
        except Unfit as error:
            own.append(Problem(source, error.line, "", key, f"must be {error.expected}, got {error.got}"))
    told = {problem.field for problem in own}
    own += [Problem(source, node.line, "", key, "is needed, and left out") for key in _NEEDED if key not in lines]
    rule = None
    if "kind" in values and "name" in values:
        rule = _rule(values)
        for name, expected, got in refusals(rule):
            word = WORDS.get(name, name)
            if word in told:
                continue
            said = f"must be {expected}, got {_as_written(got)}" if word in lines else f"is left out, and must be {expected}"
            if word == "id" and word not in lines:
                said = "is needed where the name has neither letter nor digit to make one of"
            own.append(Problem(source, lines.get(word, node.line), "", word, said))
        own += [
            Problem(source, lines["text"], "", "text", f"has {{{one}}}, and nothing stands for that: docs/rules.md lists the names")
            for one in unknown_names(rule.text, rule.labels)
        ]
    name = str(values.get("name") or f"rule {number}")
    called = "".join(one if one.isprintable() else repr(one)[1:-1] for one in name[:_NAME_SHOWN_CHARACTERS])
    problems += [problem._replace(rule=called) for problem in own]
    return Entry(rule, source, node.line) if rule is not None and not own else None


def _rule(values: dict[str, Any]) -> Rule:
    given: dict[str, Any] = {"metric": "*" if values["kind"] == "run_state" else ""} | values
    if not given.get("rule_id"):
        given["rule_id"] = rule_id_of(given["name"], given.get("project", ""), given.get("run_id", ""))
    return Rule(version=0, time_ms=0, **given)


def _as_written(got: object) -> str:
    if isinstance(got, float):
        return f"{got:g}"
    if isinstance(got, list | tuple):
        return ", ".join(_as_written(one) for one in cast("list[object]", got)) or "nothing"
    return repr(got) if isinstance(got, str) else str(got)


def _refuse_doubles(entries: Sequence[Entry], problems: list[Problem]) -> None:
    ids: dict[str, Entry] = {}
    names: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        rule = entry.rule
        other = names.setdefault((rule.name, rule.project, rule.run_id), entry)
        same = "name"
        if other is entry:
            other, same = ids.setdefault(rule.rule_id, entry), "id"
        if other is not entry:
            got = rule.name if same == "name" else rule.rule_id
            problems.append(
                Problem(
                    entry.source,
                    entry.line,
                    rule.name,
                    same,
                    f"must be one that no other rule has, got {got!r}, which stands at {other.source}:{other.line} too",
                )
            )
