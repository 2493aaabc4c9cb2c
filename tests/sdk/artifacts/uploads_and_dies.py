"""Uploads a file into a store and is killed (SIGKILL, by its own hand) as it is about to write the object whose number DIES_AT names; 0 is never."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from runstream.artifacts._objects import Objects
from runstream.artifacts._places import LocalPlace
from tests.sdk.artifacts.folders import PART_BYTES


class Dying(LocalPlace):
    """Dies in the middle."""

    writes = 0

    def put(self, key: str, data: bytes, *, durable: bool) -> None:
        self.writes += 1
        if self.writes == int(os.environ["DIES_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        super().put(key, data, durable=durable)


if __name__ == "__main__":
    store, file = map(Path, sys.argv[1:])
    Objects(Dying(store), part_bytes=PART_BYTES).add_file(file)
