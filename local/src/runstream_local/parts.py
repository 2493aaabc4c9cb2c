"""Owns the description of the stack's parts as data: what each runs, when it counts as healthy, in which order, how long it may take to stop.

Nothing here starts anything: `supervision` decides over these, `supervisor` acts. `standard_parts` is the stack of `runstream up`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

__all__ = ["ALL_PARTS", "Health", "Part", "dump_parts", "load_parts", "standard_parts"]

ALL_PARTS = ("kafka", "clickhouse", "topics", "migrate", "processors", "sinks", "notifier")


@dataclass(frozen=True, slots=True)
class Health:
    """When a part counts as healthy.

    `kafka`: a broker at `target` answers, and it is the one whose data is in `data`. `http`: ClickHouse at `target` answers. `file`: the file `target` holds the word `ready`.
    `exit`: the part is a task and has ended with 0. `alive`: the process runs.
    """

    kind: Literal["kafka", "http", "file", "exit", "alive"]
    target: str = ""
    data: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack.

    Attributes:
        name: what people call it; its output goes to `logs/NAME.log`.
        argv: its command line.
        health: when it counts as healthy.
        tier: parts of a tier start together once all lower tiers are healthy, and stop together once all higher ones have.
        env: added to the supervisor's environment.
        address: where others reach it, for people.
        start_timeout_s: it is killed and started again when it is not healthy by then.
        stop_timeout_s: it is killed when it still runs this long after SIGTERM.
    """

    name: str
    argv: tuple[str, ...]
    health: Health
    tier: int = 0
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    address: str = ""
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0

    @property
    def is_task(self) -> bool:
        """Whether the part ends by itself when its work is done."""
        return self.health.kind == "exit"


def dump_parts(parts: Sequence[Part]) -> str:
    """Returns the parts as JSON."""
    return json.dumps([asdict(part) for part in parts], indent=1)


def load_parts(text: str) -> tuple[Part, ...]:
    """Returns the parts that `dump_parts` wrote."""
    return tuple(_load_part(one) for one in cast("list[dict[str, Any]]", json.loads(text)))


def _load_part(values: dict[str, Any]) -> Part:
    argv, health = tuple(values.pop("argv")), Health(**values.pop("health"))
    return Part(argv=argv, health=health, **values)


def standard_parts(
    names: Sequence[str],
    *,
    data: Path,
    kafka_port: int,
    controller_port: int,
    clickhouse_port: int,
    host: str,
    env: Mapping[str, str],
    analyst: str = "analyst",
    analyst_password: str = "",
) -> tuple[Part, ...]:
    """Returns the named parts of the stack, with `env` as the settings of the workers and tasks, and the user who may only read ClickHouse.

    A worker writes `ready` into the file that RUNSTREAM_READY_FILE names once it consumes.
    """
    url = f"http://{host}:{clickhouse_port}"
    python = (sys.executable, "-u", "-m")

    def worker(name: str, module: str, command: str = "worker") -> Part:
        ready = data / "run" / f"{name}.ready"
        own = {**env, "RUNSTREAM_READY_FILE": str(ready), **_metrics_port(name, env)}
        # A worker drains within 10 s; the rest is for leaving its consumer group.
        return Part(name, (*python, module, command), Health("file", str(ready)), tier=2, env=own, stop_timeout_s=15.0)

    kafka = ("--data", str(data / "kafka"), "--port", str(kafka_port), "--controller-port", str(controller_port))
    clickhouse = ("--data", str(data / "clickhouse"), "--port", str(clickhouse_port), "--analyst", analyst)
    every = (
        Part("kafka", (*python, "runstream_local.kafka", *kafka), Health("kafka", f"{host}:{kafka_port}", str(data / "kafka")), address=f"{host}:{kafka_port}"),
        Part(
            "clickhouse",
            (*python, "runstream_local.clickhouse", *clickhouse),
            Health("http", url),
            env={"RUNSTREAM_ANALYST_PASSWORD": analyst_password},
            address=url,
        ),
        Part("topics", (*python, "runstream_producers.topics", "apply"), Health("exit"), tier=1, env=env),
        Part("migrate", (*python, "runstream_sinks", "migrate"), Health("exit"), tier=1, env=env),
        worker("processors", "runstream_processors"),
        worker("sinks", "runstream_sinks"),
        worker("notifier", "runstream_processors", "notify"),
    )
    return tuple(part for part in every if part.name in names)


def _metrics_port(name: str, env: Mapping[str, str]) -> dict[str, str]:
    """Figures of each worker at a port of its own: that of the setting for the sinks, the next two for processors and notifier."""
    port = env.get("RUNSTREAM_METRICS_PORT", "")
    return {"RUNSTREAM_METRICS_PORT": str(int(port) + ("sinks", "processors", "notifier").index(name))} if port else {}
