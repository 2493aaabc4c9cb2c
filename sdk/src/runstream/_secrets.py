"""What counts as a secret in params, metadata, command lines and environment variables, and what is written in its place. Pure; the rule is told in docs/sdk.md.

A value is hidden where its name says that it is one, where it is a text of a shape that only credentials have, and where an address carries a password. Numbers, truth values and
None are never hidden, so that `max_tokens` and `use_auth` stay.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

HIDDEN = "[hidden]"

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Names that say by themselves what they hold, as whole words of a name in any writing: db_password, dbPassword, DB_PASSWORD.
_ALONE = frozenset({"password", "passwd", "passphrase", "pwd", "secret", "secrets", "credential", "credentials", "apikey", "authorization", "cookie"})
_PAIRS = frozenset(
    {
        ("api", "key"),
        ("access", "key"),
        ("private", "key"),
        ("secret", "key"),
        ("signing", "key"),
        ("encryption", "key"),
        ("account", "key"),
        ("connection", "string"),
    }
)
# `token` ends the name of a credential, unless a tokenizer is meant: pad_token, eos_token.
_TOKENS_OF_TEXT = frozenset(
    {
        "pad",
        "padding",
        "eos",
        "bos",
        "unk",
        "sep",
        "cls",
        "mask",
        "start",
        "end",
        "stop",
        "begin",
        "special",
        "image",
        "audio",
        "video",
        "next",
        "first",
        "last",
        "per",
        "added",
        "decoder",
        "fill",
        "vocab",
    }
)
_SHAPES = re.compile(
    r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|AIza[A-Za-z0-9_-]{30,}|glpat-[A-Za-z0-9_-]{15,}|eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*)"
)
_BEARER = re.compile(r"\b(Bearer)\s+[^\s'\",]+|\b(bearer)\s+[^\s'\",]{16,}")
_HEADER = re.compile(r"\b((?:proxy-)?authorization\s*[:=]\s*)\S.*", re.IGNORECASE | re.DOTALL)
# `auth` ends the name of a credential, unless it says whether there is one: use_auth.
_WHETHER_AUTH = frozenset({"use", "no", "with", "without", "need", "needs", "require", "requires", "skip", "enable", "disable", "allow"})
_SCHEMES = frozenset({"bearer", "basic", "digest", "token"})
_USERINFO = re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@")
_OPTION = re.compile(r"(-{1,2}[A-Za-z][\w.-]*|[A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_DEPTH_MAX = 32


def is_secret(name: str) -> bool:
    """Whether a name, such as a param's key or a variable's, says that its value is a secret."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if any(word in _ALONE for word in words) or any(pair in _PAIRS for pair in itertools.pairwise(words)):
        return True
    if words and words[-1] == "auth":
        return not (len(words) > 1 and words[-2] in _WHETHER_AUTH)
    return bool(words) and words[-1] == "token" and not (len(words) > 1 and words[-2] in _TOKENS_OF_TEXT)


def hidden(name: str, value: Any, depth: int = 0) -> Any:
    """The value as it may be written down under a name: the same object where nothing of it is a secret."""
    if isinstance(value, str):
        return HIDDEN if value and is_secret(name) else in_text(value)
    if depth > _DEPTH_MAX:
        return value
    if isinstance(value, Mapping):
        return {key: hidden(f"{name}.{key}" if is_secret(name) else str(key), one, depth + 1) for key, one in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [hidden(name, one, depth + 1) for one in cast("Sequence[Any]", value)]
    return value


def in_text(text: str) -> str:
    """The text without what has the shape of a credential, and without passwords in addresses."""
    if len(text) < 8:
        return text
    text = _HEADER.sub(rf"\1{HIDDEN}", _USERINFO.sub(rf"\1:{HIDDEN}@", _SHAPES.sub(HIDDEN, text)))
    return _BEARER.sub(lambda found: f"{found[1] or found[2]} {HIDDEN}", text)


def in_command(words: Sequence[str]) -> str:
    """A command line as one text, without the values of options that name a secret: `--api-key=X`, `--api-key X` and `TOKEN=X`."""
    out: list[str] = []
    hide_next = False
    for word in words:
        option = _OPTION.fullmatch(word)
        if hide_next and not word.startswith("-"):
            hide_next = word.lower() in _SCHEMES  # The word behind it is the secret.
            out.append(word if hide_next else HIDDEN)
            continue
        hide_next = False
        if option is not None and is_secret(option[1]):
            out.append(f"{option[1]}={HIDDEN}")
        else:
            out.append(in_text(word))
            hide_next = (word.startswith("-") and is_secret(word)) or word == "Bearer" or word.lower().rstrip().endswith("authorization:")
    return shlex.join(out).replace(f"'{HIDDEN}'", HIDDEN)
