"""Run state rules make nothing of rows: `fleet` watches the states. Here is when a rank counts as silent, unless its rule says."""

from __future__ import annotations

SILENT_S = 60.0
