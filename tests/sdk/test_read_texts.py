"""What reading makes of the texts that stand in tables, whoever wrote them."""

from __future__ import annotations

import pytest

from runstream.read._ask import parsed, told


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "{", "", "9" * 10_000], ids=["lists", "mappings", "open", "empty", "digits"])
def test_a_text_that_is_no_value_is_given_as_it_is(text: str) -> None:
    """One that nests without end among them: an event with such metadata must not keep the others of a run from being read."""
    assert parsed(text) == text
    assert told({"one": "1", "other": text}) == {"one": 1, "other": text}
