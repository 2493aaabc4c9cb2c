"""One line a log event on stderr: time, level, message, then what was given as key=value."""

from __future__ import annotations

import logging

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_QUIET = ("faust", "mode", "aiokafka", "runstream_processors.faust_transport")  # The last is a service of Faust's, which says when it starts.


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        given = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _USUAL and not key.startswith("_"))
        return f"{line} {given}" if given else line


def set_up() -> None:
    """Logs our own events from INFO on and those of the libraries from WARNING on."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def clock_was_set_back(by_s: float) -> None:
    """The last line of a process that ends for it, see `runstream_schemas.clocks`."""
    logging.getLogger("runstream_processors").error("the clock was set back, so that this process ends and another goes on", extra={"set_back_s": round(by_s)})
