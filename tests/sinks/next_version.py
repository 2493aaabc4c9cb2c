"""A worker of the version after this one: it knows a schema of events from its start that this version has to learn from the schema topic."""

from __future__ import annotations

import sys

from runstream_schemas import catalogue as cat
from runstream_sinks import worker
from runstream_sinks.__main__ import main
from tests.sinks.test_pipeline import NEXT


def catalogue(entries: list[cat.Entry]) -> cat.Catalogue:
    """Takes the place of the worker's own catalogue."""
    return cat.Catalogue([*entries, NEXT])


if __name__ == "__main__":
    worker.Catalogue = catalogue  # pyright: ignore[reportPrivateImportUsage]  # it is what the worker makes its catalogue with
    sys.exit(main())
