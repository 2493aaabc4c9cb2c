"""A whole stack, started once for the tests of this folder; each test has runs of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runstream_local.stack import Stack
from tests.answers import Answers


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, ClickHouse, processors and sinks on free ports."""
    with Stack(data=tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture
def answers(stack: Stack) -> Answers:
    """Asks the stack's ClickHouse."""
    return Answers(stack.clickhouse_url)


@pytest.fixture
def environment(stack: Stack, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The variables that make a process, and this one, log to the stack; its agent ends soon after its last writer."""
    variables = {
        "RUNSTREAM_HOME": str(stack.data),
        "RUNSTREAM_KAFKA": stack.kafka,
        "RUNSTREAM_CLICKHOUSE_URL": stack.clickhouse_url,
        "RUNSTREAM_READ_URL": stack.settings["read_url"],
        "RUNSTREAM_JOURNAL_DIR": str(tmp_path_factory.mktemp("journals")),
        "RUNSTREAM_AGENT_IDLE_TIMEOUT": "2",
        "RUNSTREAM_HARDWARE_INTERVAL": "1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables
