"""A worker that is killed (SIGKILL, by its own hand) when it is about to commit for the first time: the rows are in ClickHouse, the offsets are not in Kafka."""

from __future__ import annotations

import os
import signal
import sys

from runstream_sinks import kafka
from runstream_sinks.__main__ import main


def die(*_: object, **__: object) -> None:
    """Takes the place of the commit."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    kafka.Source.commit = die
    sys.exit(main())
