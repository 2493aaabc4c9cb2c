"""Reading back what is stored, over ClickHouse's HTTP interface: runs, metrics as arrays, params, events, alerts, summaries. It needs no client of ClickHouse.

from runstream import read

run = read.run("digits/baseline")
for series in read.metrics(run, "loss"):
    print(series.context, series.rank, series.steps, series.values)

Every call blocks for its queries and takes `url` and `database`, else what `RUNSTREAM_CLICKHOUSE_URL` and `RUNSTREAM_CLICKHOUSE_DATABASE` say; a user who may only read is enough.
A run is given by its id, as `project/name` (the newest one of it), or as what `runs` or `init` returned.
"""

from runstream.read._artifacts import (
    ModelVersion,
    StoredDataset,
    StoredModel,
    artifact,
    artifacts,
    datasets,
    model_version,
    model_versions,
    models,
)
from runstream.read._ask import ReadError
from runstream.read._hardware import HardwareSeries, hardware
from runstream.read._media import StoredLine, StoredMedia, lines, media
from runstream.read._metrics import Series, metrics, metrics_table
from runstream.read._records import (
    Definition,
    ParamVersion,
    SeriesSummary,
    StoredAlert,
    StoredEvent,
    StoredValue,
    alerts,
    definitions,
    events,
    param_conflicts,
    param_history,
    params,
    summaries,
    summary,
    values,
)
from runstream.read._runs import StoredRun, run, runs

__all__ = [
    "Definition",
    "HardwareSeries",
    "ModelVersion",
    "ParamVersion",
    "ReadError",
    "Series",
    "SeriesSummary",
    "StoredAlert",
    "StoredDataset",
    "StoredEvent",
    "StoredLine",
    "StoredMedia",
    "StoredModel",
    "StoredRun",
    "StoredValue",
    "alerts",
    "artifact",
    "artifacts",
    "datasets",
    "definitions",
    "events",
    "hardware",
    "lines",
    "media",
    "metrics",
    "metrics_table",
    "model_version",
    "model_versions",
    "models",
    "param_conflicts",
    "param_history",
    "params",
    "run",
    "runs",
    "summaries",
    "summary",
    "values",
]
