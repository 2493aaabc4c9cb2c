"""Bytes of a console become lines: what rewrites itself, what never ends, what is too much, and what is secret."""

from __future__ import annotations

import random

import pytest

from runstream._console.lines import BURST_S, KEY_LINES_MAX, LINE_BYTES_MAX, PARTIAL_S, QUIET_S, STATE_S, TOLD_S, Budget, Line, Lines, redacted


def texts(lines: Lines, data: bytes, now: float = 0.0) -> list[str]:
    """What is recorded of some bytes at once."""
    return [line.text for line in lines.feed(data, now)]


def lines(rate: float = 1e6) -> Lines:
    """One stream that may record so many lines a second."""
    return Lines(Budget(rate))


def test_lines_are_recorded_as_they_end() -> None:
    """A line comes with its end, from however many pieces; carriage returns before it and empty lines are no matter, and the rest comes at the end."""
    one = lines()
    assert texts(one, b"a\nb\r\n\n  \nhal") == ["a", "b"]
    assert texts(one, b"f") == []
    assert texts(one, b"\nrest") == ["half"]
    assert [line.text for line in one.end(1.0)] == ["rest"]
    assert list(one.end(2.0)) == []


def test_pieces_make_no_difference() -> None:
    """However the bytes are cut, the same lines come of them; letters of several bytes stay whole."""
    data = "grün\nfortschritt 10%\rfortschritt 99%\rfertig ✓\nzwei\r\nlast".encode()
    dice = random.Random(7)
    for _ in range(200):
        one, place = lines(), 0
        found: list[str] = []
        while place < len(data):
            size = dice.randint(1, 12)
            found += texts(one, data[place : place + size])
            place += size
        found += [line.text for line in one.end(0.0)]
        assert found == ["grün", "fertig ✓", "zwei", "last"]


def test_a_progress_bar_is_its_last_state() -> None:
    """Of a line that is begun anew again and again its last state is recorded, and one in between after a while; a state that stays is recorded once."""
    one = lines()
    for percent in range(50):
        assert texts(one, f"\r{percent}%|".encode(), percent / 10) == []
    assert [line.text for line in one.tick(STATE_S + 1)] == ["49%|"]
    assert list(one.tick(3 * STATE_S)) == []
    assert texts(one, b"\r100%|\n", 3 * STATE_S) == ["100%|"]
    assert texts(one, b"\rone\rtwo") == []
    assert [line.text for line in one.tick(9 * STATE_S)] == ["two"]
    assert texts(one, b"\n") == [], "it was recorded as it stands"


def test_text_without_an_end_is_recorded_after_a_while() -> None:
    """A prompt, or dots one by one, is a line of its own once nothing has come for long; half a letter waits for its other half."""
    one = lines()
    assert texts(one, b"name? \xc3", 1.0) == []
    assert list(one.tick(1.0 + PARTIAL_S / 2)) == []
    assert [line.text for line in one.tick(1.0 + PARTIAL_S)] == ["name? "]
    assert texts(one, b"\xbc\n", 9.0) == ["ü"]


def test_bytes_that_are_no_text_are_recorded_all_the_same() -> None:
    """What is no UTF-8 is marked; colours, titles and control letters are no part of the text, tabs are."""
    assert texts(lines(), b"\xff\xfe a\n") == ["�� a"]
    assert texts(lines(), b"\x1b[1;31mred\x1b[0m\t\x1b]0;title\x07x\x00\x08\n") == ["red\tx"]


def test_a_line_that_is_too_long_is_left_out_whole() -> None:
    """It is told with its size, in one piece or many, and the lines around it are kept."""
    whole, pieces = lines(), lines()
    long = b"x" * (LINE_BYTES_MAX + 1)
    wanted = [Line("a", 0, 0, ""), Line(f"a line of {len(long)} bytes was left out, more than {LINE_BYTES_MAX}", 1, len(long), "long"), Line("b", 0, 0, "")]
    assert list(whole.feed(b"a\n" + long + b"\nb\n", 0.0)) == wanted
    found = list(pieces.feed(b"a\n", 0.0))
    for place in range(0, len(long), 1000):
        found += pieces.feed(long[place : place + 1000], 0.0)
    assert found + list(pieces.feed(b"\nb\n", 0.0)) == wanted
    assert texts(lines(), b"\r".join([b"state"] * 10_000) + b"\nend\n") == ["state", "end"], "of one that is begun anew only the last state is long or short"


def test_a_flood_is_one_event() -> None:
    """Past the rate lines are left out and counted, to the last one, and told once when it is over, with how many they were; then lines are recorded again."""
    one = lines(10)
    data = b"".join(b"line %d\n" % number for number in range(1000))
    found = [line for now in range(4) for line in one.feed(data, now / 10)]
    recorded = [line for line in found if not line.left_out]
    assert 10 * BURST_S <= len(recorded) <= 10 * BURST_S + 3
    assert len(found) == len(recorded), "while it goes on nothing is told"
    [told] = one.tick(0.3 + QUIET_S)
    assert (told.text, told.left_out, told.reason) == (f"{4000 - len(recorded)} lines left out", 4000 - len(recorded), "rate")
    assert told.bytes_left_out + sum(len(line.text) + 1 for line in recorded) == 4 * len(data)
    assert texts(one, b"again\n", 2.0) == ["again"]


def test_a_flood_without_end_is_told_now_and_then() -> None:
    """While it goes on it is told every ten seconds, and what is left at the end of the stream; nothing is counted twice."""
    one = lines(1)
    counted = recorded = 0
    for second in range(31):
        for line in one.feed(b"x\n" * 100, float(second)):
            counted += line.left_out
            recorded += not line.left_out
    for line in one.end(31.0):
        counted += line.left_out
    assert counted + recorded == 3100
    assert 35 <= recorded <= 42
    assert TOLD_S == 10.0


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("password=hunter2 user=me", "password=[hidden] user=me"),
        ('{"api_key": "abc def", "size": 3}', '{"api_key": [hidden], "size": 3}'),
        ("DB_PASSWORD: geheim", "DB_PASSWORD: [hidden]"),
        ("max_tokens=5 token=7 use_auth=true", "max_tokens=5 token=7 use_auth=true"),
        ("Authorization: Bearer abcdefgh", "Authorization: [hidden]"),
        ("from https://me:secret@host/x", "from https://me:[hidden]@host/x"),
        ("key ghp_abcdefghijklmnopqrstuvwxyz012345", "key [hidden]"),
        ("loss=0.5 lr=1e-3", "loss=0.5 lr=1e-3"),
        ("+ train --api-key abc --lr 0.1 --password 'a b'", "+ train --api-key [hidden] --lr 0.1 --password [hidden]"),
        ("usage: x [--token TOKEN] [--password] [--pad-token X] --max-tokens 5", "usage: x [--token [hidden]] [--password] [--pad-token X] --max-tokens 5"),
        ("+ train --auth-token=a,b --api-key c;d&e --lr 0.1", "+ train --auth-token=[hidden] --api-key [hidden] --lr 0.1"),
        ("--hf-token=hf_abcdefghijklmnopqrstuvwxyz012345,x --tags=a,b", "--hf-token=[hidden] --tags=a,b"),
        ("--secret --lr 0.1 --hf-token=abc --token: ghi", "--secret --lr 0.1 --hf-token=[hidden] --token: [hidden]"),
    ],
    ids=["assigned", "json", "colon", "numbers", "header", "address", "shape", "metrics", "options", "usage", "commas", "shape_and_comma", "options_with_none"],
)
def test_secrets_are_hidden(line: str, wanted: str) -> None:
    """What params hide is hidden in lines, too: behind names that say it, in addresses, and by its shape."""
    assert redacted(line) == wanted


def test_a_private_key_is_hidden_over_its_lines() -> None:
    """Of a key that stands on several lines nothing is recorded but that there was one, also in a flood; one that never ends hides no more than so many lines."""
    key = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nMIIEdef\n-----END RSA PRIVATE KEY-----\n"
    assert texts(lines(), b"before\n" + key + b"after\n") == ["before", "[hidden]", "after"]
    flooded = lines(1)
    assert not [text for text in texts(flooded, b"x\n" * 100 + key[:45], 0.0) if "MII" in text]
    assert "after" in texts(flooded, key[45:] + b"after\n", 60.0)
    assert not [text for text in texts(flooded, b"", 61.0) if "MII" in text]
    endless = lines()
    found = texts(endless, b"-----BEGIN PRIVATE KEY-----\n" + b"MII\n" * (KEY_LINES_MAX + 5))
    assert found == ["[hidden]", *["MII"] * 5]


def test_no_line_takes_long() -> None:
    """Lines that were made to keep expressions busy are as quick as others: what is recorded is bounded, and no search goes back over it again and again."""
    for part in ("x", "a ", "a=1 ", "'", "a:", "a='", "-", "://a:", "\x1b[", "\x1b]", "a.", 'token:"', "authorization "):
        one = lines()
        assert len(texts(one, (part * LINE_BYTES_MAX)[: LINE_BYTES_MAX - 1].encode() + b"\n")) <= 1
