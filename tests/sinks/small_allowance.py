"""A worker that may set aside 50 records of a topic at once and then 20 a second, so that a test can see it wait."""

from __future__ import annotations

import sys

from runstream_sinks import malformed
from runstream_sinks.__main__ import main

if __name__ == "__main__":
    malformed.AT_ONCE = 50
    malformed.PER_S = 20.0
    sys.exit(main())
