"""Ranks of one run that all begin at the same moment: `python -m tests.sdk.crowd FOLDER RANKS ROWS` forks them from a process that has everything loaded.

Each waits for all to be there, calls `init`, logs rows that the test knows, and finishes. Rank 0 stops itself, as a hung one does, once it has called `init`; it goes on
when the others have finished. What a rank tells stands in FOLDER/RANK: how many agents it started, and whether everything was shipped.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import runstream
from runstream import _agent
from runstream_producers.journal import writer
from tests.sdk.rank import row
from tests.told import make, teller

LOADED = (writer,)  # Before the fork, in whose children it would be loaded otherwise.


def main() -> int:
    """Forks, starts all at once, lets the first go on when the others are done; how many went wrong."""
    folder = Path(sys.argv[1])
    ranks, rows = map(int, sys.argv[2:4])
    read_end, write_end = os.pipe()
    children: list[int] = []
    for rank in range(ranks):
        make(folder / str(rank), 2)
        pid = os.fork()
        if pid == 0:
            os.close(write_end)
            _rank(rank, rows, folder / str(rank), read_end)
        children.append(pid)
    os.close(read_end)
    os.close(write_end)  # The end of the file is what all of them wait for.
    first, *others = children
    wrong = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in others)
    os.kill(first, signal.SIGCONT)
    return wrong + (os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) != 0)


def _rank(rank: int, rows: int, told: Path, start: int) -> None:
    """What a rank does; never returns."""
    try:
        os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
        numbers = teller(told)
        _count_starts(numbers)
        os.read(start, 1)
        run = runstream.init("tests", "crowd")
        if rank == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        for number in range(rows):
            run.log(row(number), step=number)
        numbers[1] = int(run.finish(60).shipped)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(3)


def _count_starts(numbers: memoryview[int]) -> None:
    start = _agent.Watch._spawn

    def counted(self: _agent.Watch, descriptors: tuple[int, ...]) -> int:
        numbers[0] += 1
        return start(self, descriptors)

    _agent.Watch._spawn = counted


if __name__ == "__main__":
    sys.exit(main())
