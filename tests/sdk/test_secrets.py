"""Which names, texts and command lines are hidden, and which are not."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from runstream._secrets import HIDDEN, hidden, in_command, in_text, is_secret

SECRET = (
    "password",
    "db_password",
    "dbPassword",
    "DB_PASSWD",
    "apiKey",
    "api-key",
    "OPENAI_API_KEY",
    "aws.secret_access_key",
    "client_secret",
    "hf_token",
    "token",
    "access_token",
    "WANDB_API_KEY",
    "signing.key",
    "auth",
    "http_auth",
    "proxyAuth",
)
PLAIN = ("pad_token", "eos_token", "max_tokens", "tokenizer", "key", "num_keys", "secretary", "passwords_checked", "author", "lr", "use_auth", "", "next_token")


@pytest.mark.parametrize("name", SECRET)
def test_names_of_secrets(name: str) -> None:
    """A text under such a name is hidden, whatever it is; a number and a truth value are not."""
    assert is_secret(name)
    assert hidden(name, "x") == HIDDEN
    assert hidden(name, 5) == 5
    assert hidden(name, True) is True
    assert hidden(name, None) is None


@pytest.mark.parametrize("name", PLAIN)
def test_other_names(name: str) -> None:
    """What only looks like one stays."""
    assert not is_secret(name)
    assert hidden(name, "<pad>") == "<pad>"


def test_nested_values_are_searched() -> None:
    """Dictionaries and lists are gone through, also those that a secret's name holds whole."""
    given: dict[str, Any] = {"user": "ada", "auth": {"password": "x"}, "credentials": {"id": "y", "deep": ["z"]}, "urls": ["https://ada:pw@host/x"]}
    assert hidden("config", given) == {
        "user": "ada",
        "auth": {"password": HIDDEN},
        "credentials": {"id": HIDDEN, "deep": [HIDDEN]},
        "urls": [f"https://ada:{HIDDEN}@host/x"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "ghp_" + "a1" * 15,
        "hf_" + "Ab" * 15,
        "sk-" + "x" * 30,
        "AKIA" + "A1" * 8,
        "xoxb-1234567890-abc",
        "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
    ],
    ids=["github", "huggingface", "openai", "aws", "slack", "pem"],
)
def test_shapes_of_credentials(text: str) -> None:
    """They are hidden wherever they stand, and the words around them are kept."""
    assert in_text(f"before {text}") == f"before {HIDDEN}"


def test_command_lines() -> None:
    """Values of options and assignments that name a secret are hidden, in each of the usual forms."""
    words = ["python", "train.py", "--api-key", "X1", "--token=Y2", "HF_TOKEN=Z3", "--lr", "0.1", "--password", "--verbose", "http://u:W4@h"]
    told = in_command(words)
    assert told == f"python train.py --api-key {HIDDEN} '--token={HIDDEN}' 'HF_TOKEN={HIDDEN}' --lr 0.1 --password --verbose 'http://u:{HIDDEN}@h'"
    assert not any(secret in told for secret in ("X1", "Y2", "Z3", "W4"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["curl", "-H", "Authorization: Basic YWRh"], ["curl", "-H", f"Authorization: {HIDDEN}"]),
        (["x", "--header", "Bearer abc"], ["x", "--header", f"Bearer {HIDDEN}"]),
        (["x", "Bearer", "abc", "y"], ["x", "Bearer", HIDDEN, "y"]),
        (["x", "--auth", "Bearer", "abc", "y"], ["x", "--auth", "Bearer", HIDDEN, "y"]),
        (["x", "--auth=abc"], ["x", f"--auth={HIDDEN}"]),
        (["x", "Authorization:", "Bearer", "abc"], ["x", "Authorization:", "Bearer", HIDDEN]),
        (["x", "-p", "3", "--use-auth", "on", "--author", "ada"], ["x", "-p", "3", "--use-auth", "on", "--author", "ada"]),
    ],
    ids=lambda one: " ".join(one),
)
def test_headers_and_bearers(words: list[str], told: list[str]) -> None:
    """What stands behind `Bearer` or `Authorization:` is hidden, as one word or as several; an option of one letter says nothing."""
    assert in_command(words) == shlex.join(told).replace(f"'{HIDDEN}'", HIDDEN)
