"""A state as bytes: it comes back the same, and other bytes are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_rules import StateUnreadable, dump, load
from tests.rules.histories import WRITER, Row, cut, histories
from tests.rules.test_core import entries, feed


@settings(max_examples=60, deadline=None)
@given(histories(rows_max=12), st.lists(st.integers(0, 12)))
def test_a_state_comes_back_the_same(rows: list[Row], places: list[int]) -> None:
    """What is loaded dumps to the same bytes, holds the same episodes, and goes on the same way."""
    frames = cut(rows, places)
    state, _ = feed(frames[:1])
    loaded = load(WRITER, dict(entries(state)).get)
    assert loaded is not None
    assert entries(loaded) == entries(state)
    assert (loaded.head, [block.episodes for block in loaded.blocks]) == (state.head, [block.episodes for block in state.blocks])
    if frames[1:]:
        assert entries(feed(frames[1:], state=loaded)[0]) == entries(feed(frames[1:], state=state)[0])


def test_nothing_stored_is_no_state() -> None:
    """A writer without an entry 0 has no state, even where blocks of a crashed first take lie about."""
    nothing: dict[int, bytes] = {}
    assert load(WRITER, nothing.get) is None
    assert load(WRITER, {1: b"left over"}.get) is None


def test_other_bytes_are_refused() -> None:
    """Bytes cut short, bytes with a tail and other versions are said, not read as something else."""
    ((_, data),) = dump(feed(cut([Row(0, 0, 0, "", "", ("a",), (1.0,))], []))[0], [0])
    for wrong, reason in ((data[:-1], "ends before"), (data + b"\0", "ends after"), (b"\x09" + data[1:], "version 9")):
        with pytest.raises(StateUnreadable, match=reason):
            load(WRITER, {0: wrong}.get)
