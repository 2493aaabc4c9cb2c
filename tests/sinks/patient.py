"""A worker that would wait for an unknown schema for longer than any test does, so that a test which ends has seen no wait; to it a record is old as soon as it is written."""

from __future__ import annotations

import sys

from runstream_sinks import pipeline
from runstream_sinks.__main__ import main

if __name__ == "__main__":
    pipeline.SCHEMA_WAIT_S = 1200.0
    pipeline.SCHEMA_DUE_S = 0.0
    sys.exit(main())
