"""Runs as they are stored, and which one a caller means."""

# (Columns and conditions are ours; whatever people say goes through parameters.)

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from runstream.read._ask import ReadError, Store, count_of, moment, one_of, text_of, told
from runstream_producers.journal.values import shown

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

_COLUMNS = """
SELECT toString(run_id) AS id, project, name, owner, namespace, external_id, framework, task, notes, tags, metadata, toString(parent_run_id) AS parent, run_group AS grouped, state,
    toUnixTimestamp64Milli(started) AS started_ms, toUnixTimestamp64Milli(ended) AS ended_ms, toUnixTimestamp64Milli(updated) AS updated_ms, writers, points
FROM runs
"""


STATES = ("running", "finished", "failed", "killed", "preempted", "crashed")


class HasId(Protocol):
    """A run as `init` returns it, or as it is stored."""

    @property
    def id(self) -> str:
        """Its UUID."""
        ...


AnyRun = str | HasId


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run: what people say of it, its state, when it began and ended (UTC), and how many processes logged how many points."""

    id: str
    project: str
    name: str
    owner: str
    namespace: str
    external_id: str
    framework: str
    task: str
    notes: str
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    parent: str | None
    group: str
    state: str
    started: dt.datetime | None
    ended: dt.datetime | None
    updated: dt.datetime | None
    writers: int
    points: int


def runs(
    project: str | None = None,
    *,
    name: str | None = None,
    state: str | None = None,
    group: str | None = None,
    parent: AnyRun | None = None,
    limit: int = 1000,
    url: str | None = None,
    database: str | None = None,
) -> list[StoredRun]:
    """Runs, the newest first; of a project, a name, a state, a group or a parent, where one is given.

    Raises:
        ReadError: no ClickHouse is named or answers.

    Example:
        >>> newest = read.runs("digits", state="finished", limit=10)
    """
    given: dict[str, object] = {
        "project": text_of("project", project),
        "name": text_of("name", name),
        "state": one_of("state", state, STATES),
        "run_group": text_of("group", group),
    }
    most = count_of("limit", limit) or 0
    asked = {column: value for column, value in given.items() if value is not None}
    conditions = [f"{column} = {{{column}:String}}" for column in asked]
    if parent is not None:
        asked["parent"] = named("parent", parent)
        conditions.append("toString(parent_run_id) = {parent:String}")
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = Store(url, database).rows(f"{_COLUMNS} {where} ORDER BY started DESC LIMIT {most}", **asked)
    return [_stored(row) for row in rows]


def run(which: AnyRun, *, url: str | None = None, database: str | None = None) -> StoredRun:
    """One run: by its id, or as `project/name`, of which the newest is meant.

    Raises:
        ReadError: there is no such run, or no ClickHouse is named or answers.

    Example:
        >>> state = read.run("digits/baseline").state
    """
    store = Store(url, database)
    run_id = id_of(store, which)
    rows = store.rows(f"{_COLUMNS} WHERE run_id = {{run:UUID}}", run=run_id)
    if not rows:
        raise ReadError(f"no run {run_id} is stored: what was logged just now may be on its way, and `runstream account {run_id[:8]}` says where it is")
    return _stored(rows[0])


def named(argument: str, which: Any) -> str:
    """What a run is named by; raises ReadError where that is no text."""
    text = which if isinstance(which, str) else getattr(which, "id", None)
    if not isinstance(text, str):
        raise ReadError(f"{argument} must be a run, its id (a UUID) or project/name, got {shown(which)}")
    return text


def id_of(store: Store, which: AnyRun) -> str:
    """The id of the run that is meant; raises ReadError where none is."""
    text = named("run", which)
    try:
        return str(uuid.UUID(text))
    except ValueError:
        pass
    project, slash, name = text.rpartition("/")
    if not slash:
        raise ReadError(f"a run is given by its id (a UUID) or as project/name, got {shown(text)}")
    sql = "SELECT toString(run_id) AS id FROM runs WHERE project = {project:String} AND name = {name:String} ORDER BY started DESC LIMIT 1"
    rows = store.rows(sql, project=project, name=name)
    if not rows:
        raise ReadError(f"no run {shown(text)} is stored: `runstream runs` lists those that are")
    return str(rows[0]["id"])


def _stored(row: dict[str, Any]) -> StoredRun:
    times: dict[str, Any] = {name: None if (ms := row.pop(f"{name}_ms")) is None else moment(ms) for name in ("started", "ended", "updated")}
    return StoredRun(group=row.pop("grouped"), metadata=told(row.pop("metadata")), **row, **times)
