"""Artifacts, models, their versions and data sets as they are stored."""

# ruff: noqa: S608
# (Columns and conditions are ours; whatever people say goes through parameters.)

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from runstream.artifacts import Artifact
from runstream.read._ask import ReadError, Store, count_of, moment, one_of, text_of, told
from runstream.read._runs import AnyRun, id_of
from runstream_producers.journal.values import shown
from runstream_schemas.records import ArtifactKind, ArtifactRelation

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

_ARTIFACT = """
SELECT toString(artifact_id) AS id, toString(run_id) AS run, kind, relation, name, path, uri, mime_type, checksum, size, parent, rank, context, subject, step,
    toUnixTimestamp64Milli(time) AS ms, metadata
FROM artifacts
"""
_VERSION = """
SELECT project, name, number, version, toString(run_id) AS run, toString(artifact_id) AS artifact, uri, size, toString(context) AS context, step,
    toUnixTimestamp64Milli(time) AS ms, saves, metadata
FROM model_versions
"""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What is known of a model of a run; a count is None where nobody could tell. `layers()` reads the list of its layers."""

    run_id: str
    project: str
    name: str
    framework: str
    type: str
    parameters: int | None
    trainable: int | None
    bytes: int | None
    layers_uri: str
    layers_checksum: str
    time: dt.datetime
    metadata: Mapping[str, Any]

    def layers(self) -> list[dict[str, Any]]:
        """Its layers, each with `name`, `type`, `parameters`, `trainable`, `input`, `output` and `dtype`, as far as known; empty where they were not logged. Raises ArtifactError."""
        from runstream.artifacts._fetching import read_bytes

        if self.layers_uri:
            return json.loads(read_bytes(self.layers_uri, self.layers_checksum))
        return list(self.metadata.get("layers") or [])


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a model: `version` is the SHA-256 of what was saved, `number` counts the versions of its name in its project from 0, in the order in which they were first saved."""

    project: str
    name: str
    number: int
    version: str
    run_id: str
    artifact: Artifact
    context: str
    step: int | None
    time: dt.datetime
    saves: int


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """What is known of a data set that a run used; a figure is None where nobody could tell."""

    run_id: str
    project: str
    name: str
    framework: str
    type: str
    samples: int | None
    batches: int | None
    batch_size: int | None
    workers: int | None
    shuffled: bool | None
    columns: list[str]
    rank: int
    context: str
    time: dt.datetime
    metadata: Mapping[str, Any]


def artifacts(
    run: AnyRun | None = None,
    *,
    kind: str | None = None,
    relation: str | None = None,
    name: str | None = None,
    checksum: str | None = None,
    limit: int = 100_000,
    url: str | None = None,
    database: str | None = None,
) -> list[Artifact]:
    """Files, folders, models and data sets that runs made or used, the oldest first; each once, whichever ranks said so. Raises ReadError.

    Args:
        run: its id, `project/name`, or the run itself; all runs if None.
        kind: `file`, `folder`, `tracked`, `model`, `model_version` or `dataset`.
        relation: `output` or `input`.
        name: its name.
        checksum: SHA-256 of its content, by which the runs are found that made or used it.
        limit: how many at most.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Example:
        >>> weights = [one for one in read.artifacts(run, kind="file") if one.path.endswith(".pt")]
    """
    store = Store(url, database)
    conditions: dict[str, object] = {
        "kind": one_of("kind", kind, get_args(ArtifactKind)),
        "relation": one_of("relation", relation, get_args(ArtifactRelation)),
        "name": text_of("name", name),
        "checksum": text_of("checksum", checksum),
    }
    where, asked = _conditions(conditions)
    if run is not None:
        where += " AND run_id = {run:UUID}"
        asked["run"] = id_of(store, run)
    rows = store.rows(f"{_ARTIFACT} WHERE 1{where} ORDER BY time, artifacts.writer, artifacts.seq LIMIT {count_of('limit', limit) or 0}", **asked)
    return [_artifact(row) for row in rows]


def artifact(artifact_id: str, *, url: str | None = None, database: str | None = None) -> Artifact:
    """One artifact by its id, as the run that made it described it. Raises ReadError where there is none.

    Example:
        >>> path = read.artifact(artifact_id).download("inputs")
    """
    try:
        wanted = str(uuid.UUID(artifact_id))
    except (ValueError, AttributeError, TypeError):
        raise ReadError(f"artifact_id must be the id of an artifact (a UUID), got {shown(artifact_id)}") from None
    rows = Store(url, database).rows(f"{_ARTIFACT} WHERE artifact_id = {{wanted:UUID}} ORDER BY relation = 'input', time LIMIT 1", wanted=wanted)
    if not rows:
        raise ReadError(f"no artifact {wanted} is stored: what was logged just now may be on its way")
    return _artifact(rows[0])


def models(run: AnyRun | None = None, *, name: str | None = None, url: str | None = None, database: str | None = None) -> list[StoredModel]:
    """What is known of models, the newest of each name and run. Raises ReadError.

    Example:
        >>> parameters = {model.name: model.parameters for model in read.models(run)}
    """
    store = Store(url, database)
    where, asked = _of_run(store, run, {"name": text_of("name", name)})
    sql = f"""
        SELECT toString(run_id) AS run, project, name, framework, class AS type, parameters, trainable, bytes, layers_uri, toUnixTimestamp64Milli(time) AS ms, metadata
        FROM models WHERE 1{where} ORDER BY time, name
    """
    found: list[StoredModel] = []
    for row in store.rows(sql, **asked):
        metadata = told(row.pop("metadata"))
        checksum = row["layers_uri"].rpartition("/")[2] if row["layers_uri"] else ""
        found.append(StoredModel(**_timed(row), metadata=metadata, layers_checksum=checksum))
    return found


def model_versions(
    name: str | None = None, *, project: str | None = None, run: AnyRun | None = None, url: str | None = None, database: str | None = None
) -> list[ModelVersion]:
    """Versions of models by project, name and number; those that a run saved first, if one is given. Raises ReadError.

    Example:
        >>> newest = read.model_versions("net", project="digits")[-1]
    """
    store = Store(url, database)
    where, asked = _of_run(store, run, {"name": text_of("name", name), "project": text_of("project", project)})
    return [_version(row) for row in store.rows(f"{_VERSION} WHERE 1{where} ORDER BY project, name, number", **asked)]


def model_version(name: str, number: int | None = None, *, project: str | None = None, url: str | None = None, database: str | None = None) -> ModelVersion:
    """A version of a model by its number, the newest if None. Raises ReadError where there is none.

    Example:
        >>> path = read.model_version("net", 3, project="digits").artifact.download("models")
    """
    wanted = count_of("number", number)
    found = [one for one in model_versions(name, project=project, url=url, database=database) if wanted is None or one.number == wanted]
    if not found:
        which = "version" if wanted is None else f"version {wanted}"
        where = "" if project is None else f" in project {shown(project)}"
        raise ReadError(f"no {which} of a model {shown(name)}{where} is stored: what was saved just now may be on its way")
    return found[-1]


def datasets(run: AnyRun | None = None, *, name: str | None = None, url: str | None = None, database: str | None = None) -> list[StoredDataset]:
    """What is known of data sets, the newest of each label, run, rank and phase. Raises ReadError.

    Example:
        >>> samples = sum(one.samples or 0 for one in read.datasets(run))
    """
    store = Store(url, database)
    where, asked = _of_run(store, run, {"name": text_of("name", name)})
    sql = f"""
        SELECT toString(run_id) AS run, project, name, framework, class AS type, samples, batches, batch_size, workers, shuffled, columns, rank,
            toString(context) AS context, toUnixTimestamp64Milli(time) AS ms, metadata
        FROM datasets WHERE 1{where} ORDER BY time, name, rank
    """
    return [StoredDataset(**_timed(row | {"metadata": told(row["metadata"])})) for row in store.rows(sql, **asked)]


def _conditions(given: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    asked = {column: value for column, value in given.items() if value is not None}
    return "".join(f" AND {column} = {{{column}:String}}" for column in asked), asked


def _of_run(store: Store, run: AnyRun | None, given: Mapping[str, object]) -> tuple[str, dict[str, object]]:
    where, asked = _conditions(given)
    return (where, asked) if run is None else (where + " AND run_id = {run:UUID}", asked | {"run": id_of(store, run)})


def _timed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its run's id, and its time as a datetime."""
    return {name: one for name, one in row.items() if name not in ("ms", "run")} | {"time": moment(row["ms"]), "run_id": row["run"]}


def _artifact(row: dict[str, Any]) -> Artifact:
    return Artifact(**_timed(row | {"metadata": told(row["metadata"])}))


def _version(row: dict[str, Any]) -> ModelVersion:
    time = moment(row["ms"])
    made = Artifact(
        id=row["artifact"],
        parent=row["run"],
        path=str(told(row["metadata"]).get("file", row["name"])),
        checksum=row["version"],
        size=row["size"],
        uri=row["uri"],
        kind="model_version",
        name=row["name"],
        run_id=row["run"],
        context=row["context"],
        step=row["step"],
        metadata=told(row["metadata"]),
        time=time,
    )
    fields = {name: row[name] for name in ("project", "name", "number", "version", "context", "step", "saves")}
    return ModelVersion(**fields, run_id=row["run"], artifact=made, time=time)
