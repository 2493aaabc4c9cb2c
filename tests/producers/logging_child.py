"""Logs as fast as it can until it is killed: `python -m tests.producers.logging_child FOLDER COUNTS SEED`.

After each call that returned it stores how many have, in a mapped file that outlives it.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from tests.producers.journals import make_writer
from tests.told import teller

KEYS = 40


def row(number: int) -> dict[str, float]:
    """What call `number` logs: its number under a few of many names, so that key sets come and go."""
    return {f"name-{one}": float(number) for one in range(number % KEYS + 1)}


def main() -> None:
    """Logs until the end of the process."""
    base, counts, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    writer = make_writer(base, segment_bytes=random.Random(seed).choice((1 << 16, 1 << 17, 1 << 20)))
    numbers = teller(counts)
    numbers[1] = writer.identity.writer
    number = 0
    while True:
        writer.log(row(number), step=number)
        number += 1
        numbers[0] = number


if __name__ == "__main__":
    main()
