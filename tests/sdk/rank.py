"""A rank for tests: `python -m tests.sdk.rank COUNTS ROWS PAUSE_S`. It logs rows that the test knows, and after each call that returned says so in a mapped file."""

from __future__ import annotations

import struct
import sys
import time
from pathlib import Path

import runstream
from tests.producers.ledger import Ledger
from tests.told import teller


def row(number: int) -> dict[str, float]:
    """What call `number` logs."""
    return {"loss": number * 0.5, "lr": 1.0, f"layer-{number % 5}": float(number)}


def expected(rows: int, first_seq: int) -> Ledger:
    """The ledger of so many calls, the first of which has this seq."""
    return {first_seq + number: {("", "", name, number, struct.pack("<d", value)) for name, value in row(number).items()} for number in range(rows)}


def main() -> None:
    """Logs, then finishes."""
    counts, rows, pause_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    numbers = teller(counts)
    run = runstream.init("tests", "rank")
    for number in range(rows):
        run.log(row(number), step=number)
        numbers[0] = number + 1
        if pause_s:
            time.sleep(pause_s)
    print(run.finish(timeout=30))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    main()
