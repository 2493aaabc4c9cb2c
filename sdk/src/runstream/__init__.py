"""Experiment telemetry that training cannot feel and cannot lose.

import runstream

with runstream.init(project="digits", name="baseline") as run:
    run.log({"loss": 0.5}, step=1)
"""

from runstream._alerts import Condition
from runstream._emit import emit_event
from runstream._init import attach, init, register
from runstream._module import alert, alert_on, current, define_metric, finish, log, log_event, log_params, timed
from runstream._module_rich import log_artifact, log_dataset, log_media, log_model, save_model_version, track_artifact, upload_artifact, use_artifact
from runstream._run import Run
from runstream._track import track
from runstream._types import Context, Event, EventSource, Finished
from runstream.artifacts import Artifact, ArtifactError, Upload
from runstream.media import MediaType
from runstream_producers.errors import StrictError
from runstream_schemas.settings import SettingsError

__all__ = [
    "Artifact",
    "ArtifactError",
    "Condition",
    "Context",
    "Event",
    "EventSource",
    "Finished",
    "MediaType",
    "Run",
    "SettingsError",
    "StrictError",
    "Upload",
    "alert",
    "alert_on",
    "attach",
    "current",
    "define_metric",
    "emit_event",
    "finish",
    "init",
    "log",
    "log_artifact",
    "log_dataset",
    "log_event",
    "log_media",
    "log_model",
    "log_params",
    "register",
    "save_model_version",
    "timed",
    "track",
    "track_artifact",
    "upload_artifact",
    "use_artifact",
]
