"""What workers say, structured: constant messages with key-value facts, on stderr, as text for people or JSON for collectors. The one module that touches structlog."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

Form = Literal["text", "json"]

logger = logging.getLogger("runstream.sinks")
"""For libraries that take a logger of the standard library; `log` goes the same way."""
logger.addHandler(logging.NullHandler())

# What every line has, ours and those of libraries alike.
_COMMON: list[Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]

log: BoundLogger = structlog.wrap_logger(
    logger,
    wrapper_class=BoundLogger,
    processors=[structlog.stdlib.filter_by_level, *_COMMON, structlog.stdlib.PositionalArgumentsFormatter(), ProcessorFormatter.wrap_for_formatter],
)
"""`log.info("constant message", key=value)`, and so for warning, error and exception."""


def _word(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' ="') else json.dumps(text)


def _as_text(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Time, level and logger, the message, then key=value."""
    exception = event.pop("exception", None)
    stamp = f"{event.pop('time')[:23]}Z"
    parts = [stamp, event.pop("level"), event.pop("logger"), str(event.pop("event")), *(f"{key}={_word(value)}" for key, value in event.items())]
    line = " ".join(parts)
    return line if exception is None else f"{line}\n{exception}"


def _ordered(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What people look for first stands first."""
    first = {key: event.pop(key) for key in ("time", "level", "logger", "event")}
    return {**first, **event}


def to_stderr(form: Form = "text") -> None:
    """Sends the lines to stderr in one of the two forms; called once by a process's main."""
    render: Processor = structlog.processors.JSONRenderer(ensure_ascii=False, default=str) if form == "json" else _as_text
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=_COMMON,
            processors=[ProcessorFormatter.remove_processors_meta, structlog.processors.format_exc_info, _ordered, render],
        )
    )
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # It logs a line without words for each failed connection; ours say what failed and how often.
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)


def clock_was_set_back(by_s: float) -> None:
    """The last line of a process that ends for it, see `runstream_schemas.clocks`."""
    log.error("the clock was set back, so that this process ends and another goes on", set_back_s=by_s)
