"""A worker with room for a few hundred points, so that a test can fill it; it takes a few records at a time for the same reason."""

from __future__ import annotations

import sys

from runstream_sinks import worker
from runstream_sinks.__main__ import main

if __name__ == "__main__":
    worker.PENDING_BYTES_MAX = 40_000
    worker.POLL_RECORDS_MAX = 20
    sys.exit(main())
