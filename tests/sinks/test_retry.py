"""Which errors pass, and how long to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_sinks.retry import DELAY_S_MAX, DELAY_S_MIN, RETRYABLE_CODES, delay_s, is_retryable

if TYPE_CHECKING:
    from runstream_sinks.clickhouse import Server


def test_a_broken_connection_is_worth_another_try_and_a_missing_table_is_not() -> None:
    """No code means that nobody answered; 252 is too many parts; 60 is an unknown table."""
    assert is_retryable(None)
    assert is_retryable(252)
    assert not is_retryable(60)


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_delays_are_bounded_and_never_nothing(failures: int, jitter: float) -> None:
    """However long ClickHouse is away, the next try is at most seconds ahead and never at once."""
    assert DELAY_S_MIN / 2 <= delay_s(failures, jitter) <= DELAY_S_MAX


@pytest.mark.stack
def test_codes_are_what_clickhouse_calls_them(server: Server) -> None:
    """Each code that is tried again has the name in the engine that it has here."""
    found = server.query("SELECT code, errorCodeToName(code) FROM (SELECT arrayJoin({codes:Array(Int32)}) AS code)", {"codes": list(RETRYABLE_CODES)})
    assert dict(found) == RETRYABLE_CODES
