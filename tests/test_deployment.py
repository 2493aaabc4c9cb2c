"""The deployment files say the same settings and commands as the code."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from runstream_local.kafka_jars import KAFKA_VERSION
from runstream_schemas.settings import load

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("topics", "migrate", "processors", "notifier", "sinks", "rollup")


def compose() -> dict[str, Any]:
    """docker-compose.yml as plain values."""
    return cast("dict[str, Any]", yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


def has_docker_compose() -> bool:
    """Whether this machine has Docker's client with its compose plug-in; users' machines need not."""
    return shutil.which("docker") is not None and subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30, check=False).returncode == 0


def test_one_version_of_kafka_is_used_everywhere() -> None:
    """The deployment runs the version of Kafka that the embedded stack and so the tests run."""
    assert compose()["services"]["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("service", SERVICES)
def test_services_take_settings_that_exist(service: str) -> None:
    """Every RUNSTREAM_ variable of a service is a setting, and its value fits."""
    environment: dict[str, str] = compose()["services"][service]["environment"]
    given = {name: value for name, value in environment.items() if not value.startswith("${")}
    settings = load({}, given | {"RUNSTREAM_HOME": "/nonexistent", "RUNSTREAM_CLICKHOUSE_URL": "http://user:password@clickhouse:8123"})
    assert settings.kafka == "kafka:19092"
    assert all(name.startswith("RUNSTREAM_") for name in environment)
    load({}, dict.fromkeys(environment, "") | {"RUNSTREAM_HOME": "/nonexistent"})


@pytest.mark.parametrize("service", SERVICES)
def test_services_run_commands_that_exist(service: str) -> None:
    """A service's command is a module of ours, or a subcommand of `runstream`."""
    command: list[str] = compose()["services"][service]["command"]
    if command[0] == "runstream":
        assert command[1] in {point.name for point in entry_points(group="runstream.commands")}
    else:
        assert command[:2] == ["python", "-m"]
        assert importlib.util.find_spec(command[2]) is not None


def test_workers_are_checked_by_the_file_that_they_write() -> None:
    """A worker's health check reads the file that its settings name."""
    for service in ("processors", "notifier", "sinks"):
        described = compose()["services"][service]
        assert described["environment"]["RUNSTREAM_READY_FILE"] == described["healthcheck"]["test"][-1]


def test_the_image_holds_every_folder_that_the_services_need() -> None:
    """The Dockerfile copies and installs each folder below the embedded stack."""
    text = (ROOT / "Dockerfile").read_text()
    for folder in ("schemas", "feed", "rules", "producers", "sdk", "processors", "sinks"):
        assert f"COPY {folder} {folder}" in text
        assert f"./{folder}" in text


@pytest.mark.skipif(not has_docker_compose(), reason="Docker's client with its compose plug-in is not on this machine")
def test_docker_compose_accepts_the_file() -> None:
    """`docker compose config` finds nothing wrong."""
    done = subprocess.run(["docker", "compose", "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
