"""Experiment telemetry that training cannot feel and cannot lose.

import runstream

with runstream.init(project="digits", name="baseline") as run:
    run.log({"loss": 0.5}, step=1)
"""

from runstream._alerts import Condition
from runstream._emit import emit_event
from runstream._init import attach, init, register
from runstream._module import alert, alert_on, current, define_metric, finish, log, log_event, log_params, timed
from runstream._run import Run
from runstream._track import track
from runstream._types import Context, Event, EventSource, Finished
from runstream_producers.errors import StrictError
from runstream_schemas.settings import SettingsError

__all__ = [
    "Condition",
    "Context",
    "Event",
    "EventSource",
    "Finished",
    "Run",
    "SettingsError",
    "StrictError",
    "alert",
    "alert_on",
    "attach",
    "current",
    "define_metric",
    "emit_event",
    "finish",
    "init",
    "log",
    "log_event",
    "log_params",
    "register",
    "timed",
    "track",
]
