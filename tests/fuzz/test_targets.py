"""The targets of fuzzing, without a search: valid inputs and a few hundred mutations of them, the same each time, hold every promise; and the search itself starts."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import journals
from tests.fuzz.target import BrokenPromise, hold
from tests.fuzz.targets import TARGETS

MUTATIONS = 150
ODD = (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xed\xa0\x80", b"[[[[", b"\\ud800", b"-1", b"1e999", b"null")


@pytest.fixture(autouse=True)
def folder() -> Iterator[None]:
    """Removes what the journal targets made."""
    yield
    journals.remove()


def mutated(draw: random.Random, data: bytes) -> bytes:
    """An input with a few bytes changed, taken out, repeated or put in."""
    out = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(out) + 1)
        size = draw.randrange(9)
        out[at : at + size] = draw.choice((b"", draw.choice(ODD), draw.randbytes(size), out[at : at + size] * 2, bytes(size)))
    return bytes(out)


@pytest.mark.parametrize("name", TARGETS)
def test_promises_hold_for_valid_and_mutated_inputs(name: str) -> None:
    """Every seed, nothing at all, and mutations of seeds."""
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    draw = random.Random(name)
    for data in (b"", b"\0", *seeds, *(mutated(draw, draw.choice(seeds)) for _ in range(MUTATIONS))):
        target.check(data)


def test_a_broken_promise_is_told() -> None:
    """What does not hold is raised, also where Python leaves out asserts."""
    with pytest.raises(BrokenPromise, match="rows come back"):
        hold(False, "rows come back")


def test_an_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence names the targets that there are."""
    with pytest.raises(SystemExit) as ended:
        fuzz.main(["nothing"])
    assert ended.value.code == 2
    assert "frame, wire, journal, seals, rules, batches" in capsys.readouterr().err
