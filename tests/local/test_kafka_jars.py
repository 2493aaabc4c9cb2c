"""The pinned jars: the list is whole, the cache is enough without a network, and each way of failing says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runstream_local.kafka_jars import KAFKA_VERSION, cache_folder, ensure_jars, missing_jars, pinned_jars

BROKEN_PROXY = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}


def test_the_list_holds_one_version_of_each_artifact() -> None:
    """Two versions of one artifact on a class path would shadow each other."""
    names = [jar.coordinate.rsplit(":", 1)[0] for jar in pinned_jars()]
    assert len(names) == len(set(names))
    versions = {jar.coordinate.rsplit(":", 1)[1] for jar in pinned_jars() if jar.coordinate.startswith("org.apache.kafka:")}
    assert versions == {KAFKA_VERSION}
    assert all(len(jar.sha256) == 64 for jar in pinned_jars())


def test_a_cut_file_counts_as_missing(tmp_path: Path) -> None:
    """A file that lost its end, as a full disk leaves it, is fetched again."""
    jar = pinned_jars()[0]
    (tmp_path / jar.file_name).write_bytes(b"x")
    assert jar in missing_jars(tmp_path)


def run_ensure(folder: Path) -> subprocess.CompletedProcess[str]:
    """Ensures the jars in a process of its own whose every way out is blocked."""
    code = f"from pathlib import Path; from runstream_local.kafka_jars import ensure_jars; ensure_jars(Path({str(folder)!r}))"
    return subprocess.run([sys.executable, "-c", code], env=BROKEN_PROXY, capture_output=True, text=True, timeout=60, check=False)


def test_no_network_is_said_in_one_sentence_that_names_the_way_round(tmp_path: Path) -> None:
    """Without a network and without a cache, the error is its own class and names --kafka."""
    done = run_ensure(tmp_path)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("runstream_local.errors.NoNetworkError: ")
    assert "--kafka" in last


@pytest.mark.stack
def test_a_full_cache_needs_no_network() -> None:
    """Once the jars are there, a start touches no network."""
    ensure_jars()
    assert run_ensure(cache_folder()).returncode == 0
