"""Structured lines on stderr: a constant message, then key=value."""

from __future__ import annotations

import json
import logging
import sys
import time

logger = logging.getLogger("runstream.sinks")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = f"{stamp} {record.levelname.lower()} {record.name} {record.getMessage()}"
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' ="') else json.dumps(text)


class _Log:
    """Levels as methods; facts as keywords."""

    def info(self, message: str, **facts: object) -> None:
        """What happens when all is well."""
        self._say(logging.INFO, message, facts)

    def warning(self, message: str, **facts: object) -> None:
        """What passes by itself, or is counted."""
        self._say(logging.WARNING, message, facts)

    def error(self, message: str, **facts: object) -> None:
        """What stops the worker."""
        self._say(logging.ERROR, message, facts)

    def _say(self, level: int, message: str, facts: dict[str, object]) -> None:
        logger.log(level, "%s", " ".join((message, *(f"{key}={_word(value)}" for key, value in facts.items()))))


log = _Log()


def to_stderr() -> None:
    """Sends the lines to stderr; called once by a process's main."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # It logs a line without words for each failed connection; ours say what failed and how often.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
