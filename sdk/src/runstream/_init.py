"""`init`: from the user's words, the launcher's variables and the settings to a `Run`."""

from __future__ import annotations

import json
import os
import socket
import sys
import uuid
from typing import TYPE_CHECKING, Any, Literal

from runstream import _checks, _existed, _hooks, _installed
from runstream._begin import begin, identity_of, launched, parts_of
from runstream._live import live_runs, whole_beginning
from runstream._module import current, hold
from runstream._rows import Reporter
from runstream_producers.journal import values as val
from runstream_schemas import ids
from runstream_schemas.settings import Settings, SettingsError, load

_ARGUMENTS = {"hardware_interval": "hardware_interval_s"}  # Arguments of `init` that bear another name than their setting, by setting.

# What children find of their parent's run; no setting, so that a program started by a script with a run does not join it unasked.
PARENT = "_RUNSTREAM_PARENT"

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream._launch import Launch
    from runstream._run import Run


def init(
    project: str,
    name: str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the field's word for it
    external_id: str | None = None,
    owner: str | None = None,
    namespace: str | None = None,
    framework: str | None = None,
    task: str | None = None,
    notes: str | None = None,
    tags: Sequence[str] | None = None,
    group: str | None = None,
    parent: Run | str | None = None,
    config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    resume: Literal["allow", "must", "never"] = "allow",
    mode: Literal["online", "inline", "offline", "disabled"] | None = None,
    strict: bool | None = None,
    capture: str | None = None,
    console: bool | None = None,
    hardware_interval_s: float | None = None,
    kafka: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Begins this process's part in a run; every rank calls it, and nobody waits for anybody, nor for Kafka.

    Args:
        project: the project the run belongs to.
        name: a name for people.
        id: with the project it names the run: the same id is the same run, from every rank and at every restart.
        external_id: the id by which another system knows the run; it names the run as `id` does, of which one is given.
        owner: who answers for the run.
        namespace: team or tenant.
        framework: training framework.
        task: what is trained.
        notes: free text.
        tags: labels for people.
        group: name of a group of runs that belong together, such as a sweep.
        parent: the run that this one is a part of, or its id; see also `Run.child`.
        config: logged as params.
        metadata: whatever else is to be said of the run, as JSON can hold it.
        resume: `allow` joins a run of this id, whether it is there or not. `must` expects it to be there, and tells where it is not. `never` makes this start a run of its own
            where it is, and tells. The last two ask ClickHouse and wait 2 s at most; where nobody can be asked they are as `allow`.
        mode: `online` ships by an agent beside the ranks, `inline` by a thread of this process, `offline` keeps the journal on disk, `disabled` records nothing.
        strict: raise on bad input instead of warning once; for tests.
        capture: what is captured of the process at its start: `all`, `none`, or parts of it such as `git,packages` or `all,-variables` (docs/sdk.md lists them).
        console: record what the process and its children write to stdout and stderr as events; off unless set (docs/console.md).
        hardware_interval_s: seconds between hardware readings of this run's nodes, 1 to 60, 0 for none; 5 unless set (docs/hardware.md).
        kafka: Kafka bootstrap servers; else `RUNSTREAM_KAFKA`, the settings file, or the embedded stack of the home folder, which may be started later.
        settings: any other setting by its name, such as `{"batch_size": 65536}`; `runstream settings` lists them. What concerns shipping holds for the agent that this run starts;
            one that serves the node already keeps its own.

    Returns:
        The run, whose `id` is: the UUIDv5 of project and `id` or `external_id`; else `RUNSTREAM_RUN_ID`; else what the launcher (torchrun, Slurm, mpirun, Ray) makes unique; else new.

    Raises:
        SettingsError: a setting is wrong. Nothing else, unless strict: where no journal can be written there is one warning, and the run records nothing.

    Example:
        >>> with runstream.init(project="digits", name="baseline") as run:
        ...     run.log({"loss": 0.5}, step=1)
    """
    options = (("mode", mode), ("strict", strict), ("capture", capture), ("console", console), ("hardware_interval", hardware_interval_s), ("kafka", kafka))
    named = {key: value for key, value in options if value is not None}
    given = {**(settings or {}), **named}
    chosen = load(given, called={key: _ARGUMENTS.get(key, key) for key in named})
    report = Reporter(strict=chosen.strict)
    project = _checked_project(project, report)
    launch = launched()
    if strict is not None and not isinstance(strict, bool):  # pyright: ignore[reportUnnecessaryIsInstance]  # what callers do
        report("strict", f"strict of init must be True or False, got {val.shown(strict)}: it was taken as {chosen.strict}")
    run_id = _run_id(project, _named(id, external_id, report), chosen, launch, report)
    said = {"owner": owner, "namespace": namespace, "external_id": external_id, "framework": framework, "task": task, "notes": notes, "tags": tags}
    _hooks.install(chosen.preemption_signals)  # First, so that no signal finds a journal and nobody to end it.
    if not isinstance(resume, str) or resume != "allow":  # pyright: ignore[reportUnnecessaryIsInstance]  # what callers do
        run_id = _resumed(run_id, project, resume, chosen, launch, report)
    with whole_beginning():
        run = begin(run_id, project, chosen, launch, report)
        run.change(name=name, metadata=metadata, group=group, parent=parent, **said)
    if config is not None:
        run.take_params("config of init", config)
    if chosen.mode != "disabled" and launch.local_rank == 0 and "packages" in parts_of(chosen.capture):
        run.take_params("packages", _installed.params(), own=True)
    if chosen.console:
        run.capture_console()
    os.environ[PARENT] = json.dumps({"run_id": run.id, "project": project, "given": given}, default=_checks.safe_text)
    previous = current()
    if previous is not None and previous.alive and _interactive():
        report("again", f"run {previous.id} was still open in this session and has been finished, since another one begins")
        previous.finish_within(0.0, quiet=True)
    hold(run)
    return run


def register(project: str, name: str | None = None, **options: Any) -> Run:
    """Makes a run known before it starts: as `init`, whose arguments it takes, for programs that want each step of its life in a call of its own.

    `run.start()` then says that work begins, and `run.stop()` ends it.

    Example:
        >>> run = runstream.register(project="digits", external_id="job-7")
        >>> finished = run.start().stop()
    """
    return init(project, name, **options)


def begin_child(parent: Run, settings: Settings, report: Reporter, name: str, config: Mapping[str, Any] | None, said: Mapping[str, Any]) -> Run:
    """A run that is a part of another; see `Run.child`."""
    launch = launched()
    name = _checks.name_of("child", "name", name, report)
    if not (parent.alive and name):
        settings = load({"mode": "disabled"})
    if not parent.alive:
        report("child", f"run {parent.id} has ended, and its child {val.shown(name)} records nothing")
    with whole_beginning():
        run = begin(ids.named_uuid("child", parent.id, name), parent.project, settings, launch, report)
        run.change(**{"name": name, "parent": parent.id, **said})
    if config is not None:
        run.take_params("config of child", config)
    return run


def begin_client() -> Run:
    """A writer that belongs to no run, for events of other systems."""
    settings = load()
    launch = launched()
    _hooks.install(settings.preemption_signals)
    with whole_beginning():
        return begin("", "", settings, launch, Reporter(strict=settings.strict), kind="client")


def _named(id_given: Any, external: Any, report: Reporter) -> str | None:
    """What names the run within its project, None if nothing does."""
    if "" in [one for one in (id_given, external) if isinstance(one, str)]:
        report("id", "id and external_id of init must be texts that are not empty, or left out, got '': it was left out")
    # What else is wrong with the external id, `change` tells.
    others = _naming("external_id", external, report)
    named = _naming("id", id_given, report) and _checks.text_of("init", "id", id_given, report)
    if named and others and named != others:
        report("id:both", f"of id and external_id of init one names the run, got {val.shown(id_given)} and {val.shown(external)}: it is known by id")
    return named or others or None


def _naming(argument: str, value: Any, report: Reporter) -> str:
    """The text of what names the run. What has none is left out, or all runs that are given such a thing would be one."""
    text = "" if value is None else _checks.readable(value)
    if text is None:
        report(argument, f"{argument} of init must be a text, got {val.told(value)}, which cannot be read: it was left out")
    return text or ""


def _checked_project(project: Any, report: Reporter) -> str:
    if not isinstance(project, str) or not project:
        report(
            "project",
            f"project of init must be a text that is not empty, got {val.shown(project)}: the run is recorded under {val.shown(_checks.safe_text(project))}",
        )
    return _checks.safe_text(project)


def _resumed(run_id: str, project: str, resume: Any, settings: Settings, launch: Launch, report: Reporter) -> str:
    """The id to begin under, once it is known whether the run is there."""
    if not isinstance(resume, str) or resume not in ("must", "never"):
        report("resume", f"resume of init must be allow, must or never, got {val.shown(resume)}: it was taken as allow")
        return run_id
    identity = identity_of(run_id, project, socket.gethostname(), launch, {}, "rank")
    existed = _existed.ask(settings, identity)
    if existed is None:
        report("resume", f"resume={resume!r} was taken as allow: no ClickHouse could be asked whether run {run_id} is there (RUNSTREAM_CLICKHOUSE_URL)")
    elif resume == "must" and not existed:
        report("resume", f"resume='must' expected run {run_id} to be there, and nothing of it is stored: it begins now")
    elif resume == "never" and existed:
        fresh = ids.named_uuid("again", run_id, identity.attempt)
        report("resume", f"resume='never' expected no run {run_id}, and there is one: this start is run {fresh}")
        return fresh
    return run_id


def attach() -> Run:
    """Joins the run of the process that started this one: in children that multiprocessing spawns, and in programs that a script with a run starts.

    A forked child needs no call: the run that it inherits is its own writer from its first row on, and is what `attach` returns there.

    Returns:
        The same run as another writer of it. Where no process above this one has a run there is one warning, and what is returned records nothing.
    """
    inherited = current()
    if inherited is not None and inherited.alive:
        return inherited
    try:
        told: dict[str, Any] = json.loads(os.environ.get(PARENT, ""))
        run_id, project, given = str(uuid.UUID(told["run_id"])), str(told["project"]), dict(told["given"])
        load(given)
    except (ValueError, KeyError, TypeError, AttributeError, SettingsError):
        report = Reporter(strict=load().strict)
        report("attach", "attach found no run to join, and nothing is recorded: the process that starts this one must call runstream.init before it does")
        run_id, project, given = ids.new_uuid(), "", {"mode": "disabled"}
    return _join(run_id, project, given)


def rejoin(run_id: str, project: str, given: dict[str, Any]) -> Run:
    """What a run becomes where it is unpickled: what this process has of that run already, or else another writer of it."""
    for run in live_runs():
        if run.id == run_id:
            return run
    before = current()
    run = _join(run_id, project, given)
    if before is not None and before.alive:
        hold(before)  # Nobody asked for another one to be the process's own.
    return run


def _join(run_id: str, project: str, given: dict[str, Any]) -> Run:
    """Another writer of a run, which module-level calls go to from now on."""
    settings = load(given)
    report = Reporter(strict=settings.strict)
    launch = launched()
    _hooks.install(settings.preemption_signals)
    with whole_beginning():
        run = begin(run_id, project, settings, launch, report)
    hold(run)
    return run


def _interactive() -> bool:
    """Whether a person runs this cell by cell or line by line, where beginning anew means the same run again; scripts may hold several runs side by side."""
    return hasattr(sys, "ps1") or "get_ipython" in vars(sys.modules.get("builtins", sys))


def _run_id(project: str, named: str | None, settings: Settings, launch: Launch, report: Reporter) -> str:
    if named:
        return ids.run_id_of(project, str(named))
    if settings.run_id:
        return settings.run_id if _is_uuid(settings.run_id) else ids.run_id_of(project, settings.run_id)
    if launch.needs_run_id:
        report(
            "run_id",
            f"this job has {launch.world_size} processes and no id that they share: set RUNSTREAM_RUN_ID to the same text in all of them, or each is a run of its own",
        )
    return launch.run_id or ids.new_uuid()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
