"""Owns what must be known of a SQL text before the engine sees it: what kind it is, where inline data begins, where its FORMAT clause is.

It knows words, strings, comments and brackets, not SQL: everything else, wrong syntax above all, is left for the engine to judge.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Insert", "Other", "Read", "Refused", "Statement", "only_reads", "parse"]

_TOKEN = re.compile(
    rb"""
      (?P<comment>--[^\n]*|\#[!\ ][^\n]*|/\*.*?\*/)
    | (?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)
    | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<word>[A-Za-z_]\w*)
    | (?P<number>\d\w*)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<semicolon>;)
    | (?P<other>\S)
    """,
    re.VERBOSE | re.DOTALL,
)

# Statements whose answer is a table, and that accept INTO OUTFILE.
_READ_WORDS = frozenset({b"SELECT", b"WITH", b"SHOW", b"DESCRIBE", b"DESC", b"EXISTS", b"EXPLAIN", b"CHECK"})
# Statements that leave something behind on the connection that ran them.
_SESSION_WORDS = frozenset({b"SET", b"USE"})


@dataclass(frozen=True, slots=True)
class Read:
    """A statement whose answer is a table: `head` and `tail` are the text before and from its FORMAT clause; `format` is None without one."""

    head: bytes
    tail: bytes
    format: str | None


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT whose rows follow it: `head INTO`, an optional SETTINGS clause, the format's name, and where in the text the data begins."""

    head: bytes
    settings: bytes
    format: str
    data_at: int


@dataclass(frozen=True, slots=True)
class Other:
    """Anything else; `marks_session` when it changes the connection it runs on (SET, USE, temporary tables)."""

    text: bytes
    marks_session: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A statement that is not run, with ClickHouse's code and a sentence."""

    code: int
    reason: str


Statement = Read | Insert | Other | Refused


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["word", "open", "semicolon", "else"]
    upper: bytes
    start: int
    end: int


def parse(text: bytes) -> Statement:
    """Returns what kind of statement `text` is; for an INSERT with data, `text` need only reach as far as the data's beginning.

    Inline data is never looked at, so any bytes may follow an INSERT's format.
    """
    first = _first_word(text)
    if first == b"INSERT":
        return _parse_insert(text)
    tokens = _top_level(text)
    words = [token.upper for token in tokens if token.kind == "word"]
    end = next((token.start for token in tokens if token.kind == "semicolon"), len(text))
    if any(token.start > end and token.kind != "semicolon" for token in tokens):
        return Refused(62, "Multi-statements are not allowed: send one statement a request")
    if _follows(words, b"INTO", b"OUTFILE"):
        return Refused(48, "INTO OUTFILE is not supported over HTTP: the answer is the response's body")
    tokens = [token for token in tokens if token.start < end]
    if first in _READ_WORDS:
        return _parse_read(text[:end], tokens)
    return Other(text[:end], marks_session=first in _SESSION_WORDS or b"TEMPORARY" in words[:4])


def only_reads(statement: Statement) -> bool:
    """Whether a statement is one that a user who may only read can send: a table, or settings of the connection. What its parts do is the engine's to judge."""
    match statement:
        case Read():
            return True
        case Other(text, _):
            return _first_word(text) in _SESSION_WORDS
        case _:
            return False


def _first_word(text: bytes) -> bytes:
    """Returns the first word in capitals, past comments and opening brackets; empty where there is none."""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "word":
            return match.group().upper()
        if kind not in ("comment", "open"):
            return b""
    return b""


def _top_level(text: bytes) -> list[_Token]:
    """Returns the tokens outside all brackets, comments left out."""
    depth = 0
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(text):
        # lastgroup is the last group that took part, so a heredoc reads as its closing, outer group.
        kind = match.lastgroup
        if kind == "close":
            depth = max(0, depth - 1)
        if depth == 0 and kind not in ("comment", "close"):
            name: Literal["word", "open", "semicolon", "else"] = kind if kind in ("word", "open", "semicolon") else "else"
            tokens.append(_Token(name, match.group().upper() if name == "word" else b"", match.start(), match.end()))
        if kind == "open":
            depth += 1
    return tokens


def _follows(words: list[bytes], first: bytes, second: bytes) -> bool:
    return any(pair == (first, second) for pair in itertools.pairwise(words))


def _parse_read(text: bytes, tokens: list[_Token]) -> Read:
    """Splits at the FORMAT clause: the word FORMAT, a name, and then nothing or a SETTINGS clause."""
    for index in range(len(tokens) - 2, -1, -1):
        word, name = tokens[index], tokens[index + 1]
        if word.upper != b"FORMAT" or name.kind != "word":
            continue
        if index + 2 == len(tokens) or tokens[index + 2].upper == b"SETTINGS":
            return Read(text[: word.start], text[word.start :], text[name.start : name.end].decode())
        break
    return Read(text, b"", None)


def _parse_insert(text: bytes) -> Statement:
    """Finds where the rows begin: after FORMAT and a name. With VALUES or a SELECT the text is the whole statement."""
    settings_at: int | None = None
    previous = b""
    depth = 0
    awaiting_name_from: int | None = None
    for match in _TOKEN.finditer(text):
        kind, start = match.lastgroup, match.start()
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        if awaiting_name_from is not None and kind == "word":
            head_end = awaiting_name_from if settings_at is None else settings_at
            settings = b"" if settings_at is None else text[settings_at:awaiting_name_from]
            return Insert(text[:head_end], settings, match.group().decode(), _data_start(text, match.end()))
        awaiting_name_from = None
        if kind != "word" or depth:
            previous = previous if kind == "comment" else b""
            continue
        word = match.group().upper()
        if word in (b"VALUES", b"SELECT", b"WITH") and previous not in (b"INTO", b"TABLE"):
            break
        if word == b"INFILE" and previous == b"FROM":
            return Refused(48, "INSERT FROM INFILE is not supported over HTTP: send the rows as the request's body")
        if word == b"FORMAT" and previous not in (b"INTO", b"TABLE"):
            awaiting_name_from = start
        elif word == b"SETTINGS" and settings_at is None and previous not in (b"INTO", b"TABLE"):
            settings_at = start
        previous = word
    return Other(text, marks_session=False)


def _data_start(text: bytes, position: int) -> int:
    """Returns where data begins after a format's name: past blanks, at most one semicolon, and at most one end of line."""
    rest = re.compile(rb"[ \t]*;?[ \t]*(?:\r?\n)?").match(text, position)
    return rest.end() if rest is not None else position
