"""`python -m runstream_processors worker` and `... notify`; settings come from the environment."""

from __future__ import annotations

import argparse
import sys

from runstream_processors import log
from runstream_processors.errors import NotReady
from runstream_schemas.clocks import end_where_set_back
from runstream_schemas.settings import SettingsError, load


def main(arguments: list[str] | None = None) -> int:
    """Runs one part; wrong settings give one sentence and 2."""
    parser = argparse.ArgumentParser(prog="python -m runstream_processors", description=__doc__)
    parser.add_argument("part", choices=("worker", "notify"), help="worker decides alerts and summaries, notify sends alerts on")
    part = parser.parse_args(arguments).part
    log.set_up()
    try:
        settings = load()
        end_where_set_back(log.clock_was_set_back)
        if part == "worker":
            from runstream_processors import worker

            return worker.run(settings)
        from runstream_processors.notify import service

        return service.run(settings)
    except (SettingsError, NotReady) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
