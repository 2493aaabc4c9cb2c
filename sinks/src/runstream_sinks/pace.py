"""How fast to read, where somebody set a bound. Pure: time is an argument."""

from __future__ import annotations

import sys

# Reading comes in pieces of about this long at the pace that is set, so that a slow one is smooth.
PIECE_S = 0.1
# A pause of the reader's own (ClickHouse away, a laptop asleep) is not made up for beyond this.
CATCH_UP_S = 2.0


class Pace:
    """At most so many rows a second; None sets no bound."""

    def __init__(self, rows_s: float | None) -> None:
        self._rows_s = rows_s
        self._since: float | None = None
        self._before = 0

    def wait_s(self, rows: int, now: float) -> float:
        """Seconds to wait before more is read, `rows` having been read so far; 0 or less when there is room."""
        if self._rows_s is None:
            return 0.0
        if self._since is None:
            self._since = now
        due_s = (rows - self._before) / self._rows_s - (now - self._since)
        if due_s < -CATCH_UP_S:
            self._before, self._since = rows, now - CATCH_UP_S
        return due_s

    def records_max(self, rows: int, records: int) -> int:
        """How many records to read at once, given what the records so far came to; at least one."""
        if self._rows_s is None:
            return sys.maxsize
        rows_a_record = rows / records if records else 1000.0
        return max(1, int(self._rows_s * PIECE_S / max(1.0, rows_a_record)))
