"""A real broker for benchmarks that ship: Kafka with our topics, alone or with more of the stack, in a temporary folder, and the environment that makes this process log to it."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_local.demo.agents import end_agents
from runstream_local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def logging_to_a_broker(*parts: str) -> Generator[Path]:
    """Starts the broker and further parts of the stack. Gives the folder of this benchmark's journals; nothing is left of broker, agents or settings at the end."""
    before = dict(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="runstream-benchmark-", ignore_cleanup_errors=True) as name,
        Stack(data=Path(name) / "stack", parts=("kafka", "topics", *parts)) as stack,
    ):
        journals = Path(name) / "journals"
        own = {"RUNSTREAM_JOURNAL_DIR": str(journals), "RUNSTREAM_AGENT_IDLE_TIMEOUT": "2", "RUNSTREAM_HARDWARE_INTERVAL": "0"}
        for key in [key for key in os.environ if key.startswith("RUNSTREAM_")]:
            del os.environ[key]
        os.environ.update(stack.environment | own)
        try:
            yield journals
        finally:
            end_agents(journals, timeout_s=5.0)
            os.environ.clear()
            os.environ.update(before)
