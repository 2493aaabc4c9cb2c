"""Published figures: one JSON file a benchmark, with the machine, the versions and the commit that they were measured with."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.registry import BENCHMARKS
from runstream_local.kafka_jars import KAFKA_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# What benchmarks write: that it differs from the commit says nothing of what was measured.
WRITTEN = ("benchmarks/results", "benchmarks/peers/results.json", "docs/benchmarks.md", "docs/capacity.md", "docs/peers.md", "docs/plots")
_PACKAGES = ("chdb-core", "confluent-kafka", "fastavro", "faust-streaming", "clickhouse-connect", "pyarrow", "numpy")


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark said, and what it ran on; `figures` are as `Figure.as_json` has them."""

    benchmark: str
    measured: str
    commit: str
    machine: dict[str, Any]
    versions: dict[str, str]
    figures: list[dict[str, Any]]


def measured_here(benchmark: str, figures: Sequence[dict[str, Any]]) -> Result:
    """A result of this machine, now."""
    return Result(benchmark, dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"), _commit(), _machine(), _versions(), list(figures))


def write(result: Result, folder: Path = RESULTS) -> None:
    """Stores a result in place of the one before."""
    folder.mkdir(exist_ok=True)
    (folder / f"{result.benchmark}.json").write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_all(folder: Path = RESULTS) -> list[Result]:
    """All results, in the order of the registry."""
    return [Result(**json.loads(path.read_text(encoding="utf-8"))) for name in BENCHMARKS if (path := folder / f"{name}.json").exists()]


def _commit() -> str:
    """The commit that is checked out, and whether anything but what benchmarks write themselves differs from it."""

    def said(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False).stdout.strip()

    changed = said("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":(exclude){one}" for one in WRITTEN))
    return (said("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def _machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    return {"Apache Kafka": KAFKA_VERSION} | {name: metadata.version(name) for name in _PACKAGES}
