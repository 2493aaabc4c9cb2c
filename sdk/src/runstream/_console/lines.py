"""What becomes of the bytes of a console: lines, as a reader would see them in the end, without secrets and at no more than a rate. Pure: time is an argument.

A carriage return begins its line anew, as progress bars do; of such a line its last state counts, and at most one state in `STATE_S` while it is not over. Text without a line break
is a line of its own after `PARTIAL_S`. A line longer than `LINE_BYTES_MAX` is left out whole.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream import _secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_BYTES_MAX = 16 << 10
PARTIAL_S = 5.0
STATE_S = 5.0
TOLD_S = 10.0  # So often it is told how much was left out, while that goes on;
QUIET_S = 1.0  # and so long after it was over.
KEY_LINES_MAX = 200  # Of a private key, whose end may never come.
BURST_S = 10.0  # So many seconds' worth of lines may come at once.
LINE_BYTES = 1024  # So long a line may be on the whole: the rate of bytes is that of lines, times this.

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ASSIGNED = re.compile(r"""(?<![\w.-])(?P<name>-*+[A-Za-z_][\w.-]*+)(?P<between>["']?\s*+[:=]\s*+)(?P<value>\[hidden\]|"[^"]*+"|'[^']*+'|[^\s,;&'"})\]]++)""")
# The same for an option, whose value ends where the word does: --auth-token=a,b.
_OPTION_ASSIGNED = re.compile(r"""(?<![\w.-])(?P<name>-++[A-Za-z][\w.-]*+)(?P<between>=)(?P<value>(?:\[hidden\]|"[^"]*+"|'[^']*+'|[^\s'"})\]]++)++)""")
# An option as commands are echoed with it, its value behind it: --api-key X.
_OPTION = re.compile(
    r"""(?<![\w.-])(?P<name>-++[A-Za-z][\w.-]*+)(?P<between>\s++)(?P<value>(?!-|\[hidden\])(?:\[hidden\]|"[^"]*+"|'[^']*+'|[^\s'"})\]]++)++)"""
)
_NO_SECRET = re.compile(r"""["']?(?:[+-]?[0-9][0-9_.,eE+-]*|true|false|none|null|nan|inf|\[hidden\])["']?""", re.IGNORECASE)
_KEY_BEGINS, _KEY_ENDS, _KEY_MARK = "-----BEGIN ", "-----END ", b"-----"


@dataclass(frozen=True, slots=True)
class Line:
    """A line, or that some were left out: how many, their bytes, and why."""

    text: str
    left_out: int = 0
    bytes_left_out: int = 0
    reason: str = ""


class Budget:
    """How many lines and bytes may be recorded: `rate` lines a second in the long run, for all streams of a process together."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self.lines = rate * BURST_S
        self._bytes = rate * BURST_S * LINE_BYTES
        self._at: float | None = None

    def refill(self, now: float) -> None:
        """Adds what has become free by `now` in seconds."""
        seconds = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self.lines = min(self._rate * BURST_S, self.lines + self._rate * seconds)
        self._bytes = min(self._rate * BURST_S * LINE_BYTES, self._bytes + self._rate * LINE_BYTES * seconds)

    def take(self, size: int) -> bool:
        """Whether a line of so many bytes may be recorded."""
        if self.lines < 1 or self._bytes < size:
            return False
        self.lines -= 1
        self._bytes -= size
        return True


class Lines:
    """One stream's bytes into lines. `feed` and `tick` give what is to be recorded by then, `end` the rest."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._tail = b""
        self._since = 0.0  # When the tail was begun, or a state of it was recorded last.
        self._rewritten = False  # Whether the line that is not over has been begun anew.
        self._state = b""
        self._skipped = 0  # Bytes of a line that is too long, up to now.
        self._out = 0
        self._bytes_out = 0
        self._out_since = self._out_last = 0.0
        self._now = 0.0
        self._key_lines = 0  # Lines of a private key that are still hidden.

    def feed(self, data: bytes, now: float) -> Iterator[Line]:
        """Takes bytes in, at `now` in seconds."""
        self._now = now
        self._budget.refill(now)
        ended, found, tail = data.rpartition(b"\n")
        if not found:
            self._grow(data, now)
            return
        if self._budget.lines < 1 and not self._key_lines and _KEY_MARK not in data:
            # A flood: lines that are left out anyway need not be looked at one by one.
            self._left_out(ended.count(b"\n") + 1, len(self._tail) + self._skipped + len(ended) + 1)
            self._begin_line()
        else:
            first, *others = ended.split(b"\n")
            self._grow(first, now)
            yield from self._over()
            for number, line in enumerate(others):
                if self._budget.lines < 1 and not self._key_lines and _KEY_MARK not in data:
                    self._left_out(len(others) - number, sum(map(len, others[number:])) + len(others) - number)
                    break
                self._tail = line if len(line) <= LINE_BYTES_MAX else _last_state(line)
                if len(self._tail) > LINE_BYTES_MAX:
                    self._skipped = len(line)
                yield from self._over()
        self._grow(tail, now)
        yield from self._told(now)

    def tick(self, now: float) -> Iterator[Line]:
        """What is to be recorded since nothing more has come for a while."""
        self._now = now
        self._budget.refill(now)
        if self._tail and not self._skipped:
            if self._rewritten and now - self._since >= STATE_S:
                state = _last_state(self._tail)
                if state != self._state:
                    yield from self._counted(state)
                    self._state = state
                self._since = now
            elif not self._rewritten and now - self._since >= PARTIAL_S:
                whole, rest = _whole_characters(self._tail)
                if whole:
                    yield from self._counted(whole)
                    self._begin_line()
                    self._tail, self._since = rest, now
        yield from self._told(now)

    def end(self, now: float) -> Iterator[Line]:
        """What is left at the end of the stream, at `now` in seconds."""
        self._now = now
        if self._tail or self._skipped:
            yield from self._over()
        yield from self._told(float("inf"))

    def _grow(self, data: bytes, now: float) -> None:
        """Adds to the line that is not over, of which only the last state is kept."""
        if not data:
            return
        if not self._tail:
            self._since = now
        if self._skipped:
            self._skipped += len(data)
            return
        tail = self._tail + data
        if b"\r" in tail:
            self._rewritten = self._rewritten or b"\r" in tail[:-1]
            before, _, last = tail.rpartition(b"\r")
            tail = last or before.rpartition(b"\r")[2] + b"\r"
        if len(tail) > LINE_BYTES_MAX:
            self._skipped, tail = len(tail), b""
        self._tail = tail

    def _over(self) -> Iterator[Line]:
        """The line that is over now."""
        if self._skipped:
            size, self._skipped = self._skipped, 0
            self._begin_line()
            yield Line(f"a line of {size} bytes was left out, more than {LINE_BYTES_MAX}", 1, size, "long")
            return
        raw, state = _last_state(self._tail), self._state
        self._begin_line()
        if not state or raw != state:  # A progress bar that was recorded in its last state just now.
            yield from self._counted(raw)

    def _counted(self, raw: bytes) -> Iterator[Line]:
        if not raw.strip():
            return  # Empty lines say nothing, and everybody writes them.
        allowed = self._budget.take(len(raw))
        # What may begin or end a private key is looked at in any case, or the rest of the key would not be known for one.
        text = self._text(raw) if allowed or self._key_lines or _KEY_MARK in raw else ""
        if not allowed:
            self._left_out(1, len(raw) + 1)
        elif text.strip():
            yield Line(text)

    def _left_out(self, lines: int, size: int) -> None:
        if not self._out:
            self._out_since = self._now
        self._out_last = self._now
        self._out += lines
        self._bytes_out += size

    def _told(self, now: float) -> Iterator[Line]:
        """How much was left out: once it is over, and now and then while it goes on."""
        if self._out and (now - self._out_since >= TOLD_S or now - self._out_last >= QUIET_S):
            yield Line(f"{self._out} lines left out", self._out, self._bytes_out, "rate")
            self._out = self._bytes_out = 0

    def _begin_line(self) -> None:
        self._tail, self._state, self._rewritten, self._skipped = b"", b"", False, 0

    def _text(self, raw: bytes) -> str:
        """The line as people read it, without secrets: of a private key there is its first line, hidden, and nothing of the others."""
        text = _CONTROLS.sub("", _ESCAPES.sub("", raw.decode("utf-8", "replace")))
        if self._key_lines:
            self._key_lines = 0 if _KEY_ENDS in text else self._key_lines - 1
            return ""
        if _KEY_BEGINS in text and "PRIVATE KEY" in text and _KEY_ENDS not in text:
            self._key_lines = KEY_LINES_MAX
        return redacted(text)


def redacted(text: str) -> str:
    """The line without what params would hide: the shapes of credentials, and what a name says to be one, as in `api_key=...`, `"password": "..."` or `--api-key ...`."""
    return _OPTION.sub(_assigned, _ASSIGNED.sub(_assigned, _OPTION_ASSIGNED.sub(_assigned, _secrets.in_text(text))))


def _assigned(found: re.Match[str]) -> str:
    if not _secrets.is_secret(found["name"]) or _NO_SECRET.fullmatch(found["value"]) or found["between"].startswith(("://",)):
        return found[0]
    return f"{found['name']}{found['between']}{_secrets.HIDDEN}"


def _last_state(tail: bytes) -> bytes:
    """What a line shows once it has been begun anew some times."""
    return tail.rstrip(b"\r").rpartition(b"\r")[2]


def _whole_characters(raw: bytes) -> tuple[bytes, bytes]:
    """The bytes up to the last whole character, and those of one that is not whole yet."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(raw)
    rest = decoder.getstate()[0]
    return raw[: len(raw) - len(rest)], rest
