"""A large artifact up and back: how much memory that takes, whether an upload that was killed in the middle goes on from what had arrived, whether logging it twice stores it once, and
whether it comes back as it was.

`python -m benchmarks artifact` takes 5 GB, and twice that on the disk; `python -m benchmarks.artifact --bytes N` another size. The store is a local folder, so that the figures are those
of the way and not of a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import runstream
from benchmarks.figures import Bar, Figure
from benchmarks.process_memory import peak_rss_mb

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE_BYTES = 5_000_000_000
_BLOCK_BYTES = 8 << 20
_LIMIT_S = 900.0
_POLL_S = 0.005  # Between looks at the store, for the moment to kill in: a folder tells nobody.
_KILLS_MAX = 10


def _make(path: Path, size: int) -> str:
    """A file of so many bytes that no two parts of which are alike; its SHA-256."""
    random, whole = np.random.default_rng(0), hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, _BLOCK_BYTES):
            block = random.bytes(min(_BLOCK_BYTES, size - start))
            whole.update(block)
            file.write(block)
    return whole.hexdigest()


def _stored(store: Path) -> int:
    """Bytes of all whole objects."""
    return sum(path.stat().st_size for path in store.rglob("*") if path.is_file() and path.suffix != ".tmp")


def _child(folder: Path, what: str) -> subprocess.Popen[str]:
    environ = os.environ | {
        "RUNSTREAM_HOME": str(folder),
        "RUNSTREAM_JOURNAL_DIR": str(folder / "journals"),
        "RUNSTREAM_ARTIFACT_URL": str(folder / "store"),
        "RUNSTREAM_MODE": "offline",
        "RUNSTREAM_CAPTURE": "none",
    }
    return subprocess.Popen([sys.executable, "-m", "benchmarks.artifact", "--do", what, str(folder)], env=environ, stdout=subprocess.PIPE, text=True)


def _said(child: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = child.communicate(timeout=_LIMIT_S)
    if child.returncode:
        raise RuntimeError(f"a child ended with {child.returncode}")
    return json.loads(out)


def _killed_in_the_middle(folder: Path, size: int) -> int:
    """Begins an upload and kills it once more than a third has arrived; how much had. One that was done before the kill came is begun anew."""
    for _ in range(_KILLS_MAX):
        shutil.rmtree(folder / "store", ignore_errors=True)
        child = _child(folder, "upload")
        try:
            deadline = time.monotonic() + _LIMIT_S
            while child.poll() is None and _stored(folder / "store") < size // 3 and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate()
        if child.returncode == -signal.SIGKILL:
            break
    return _stored(folder / "store")


def measure(size: int) -> Iterator[Figure]:
    """The figures of one artifact of so many bytes."""
    with tempfile.TemporaryDirectory(prefix=f"runstream-benchmark-{os.getpid()}-", dir="/var/tmp") as name:
        folder = Path(name)
        source, store = folder / "artifact.bin", folder / "store"
        checksum = _make(source, size)
        arrived = _killed_in_the_middle(folder, size)
        first = _said(_child(folder, "upload"))
        once = _stored(store)
        second = _said(_child(folder, "upload"))
        twice = _stored(store)
        source.unlink()  # Room for what comes back.
        back = _said(_child(folder, "download"))
        survived = 0 < arrived < size and first["checksum"] == checksum and first["fresh"] <= size - arrived + (16 << 20)
        yield Figure("peak_rss_mb", max(first["rss_mb"], second["rss_mb"], back["rss_mb"]), "MB", 3, Bar("<=", 200.0))
        yield Figure("stored_once", float(once == twice and size <= once < size * 1.001 + 4096 and second["fresh"] == 0), "1 if so", 1, Bar("==", 1.0))
        yield Figure("survived_kill", float(survived), "1 if so", 1, Bar("==", 1.0))
        yield Figure("equal", float(back["checksum"] == checksum), "1 if so", 1, Bar("==", 1.0))
        yield Figure("upload_mb_s", size / 1e6 / first["seconds"], "MB/s", 1)
        yield Figure("again_mb_s", size / 1e6 / second["seconds"], "MB/s", 1)
        yield Figure("download_mb_s", size / 1e6 / back["seconds"], "MB/s", 1)


def run(seconds: float) -> Iterator[Figure]:
    """The figures of 5 GB, however long that takes."""
    del seconds
    return measure(SIZE_BYTES)


def _upload(folder: Path) -> dict[str, Any]:
    before, begun = _stored(folder / "store") if (folder / "store").exists() else 0, time.perf_counter()
    with runstream.init("benchmarks", id="artifact", strict=True) as started:
        [artifact] = started.upload_artifact(folder / "artifact.bin").artifacts
    (folder / "artifact.json").write_text(json.dumps([artifact.id, artifact.path, artifact.checksum, artifact.uri, artifact.size]))
    return {"checksum": artifact.checksum, "fresh": _stored(folder / "store") - before, "seconds": time.perf_counter() - begun}


def _download(folder: Path) -> dict[str, Any]:
    one, path, checksum, uri, size = json.loads((folder / "artifact.json").read_text())
    artifact = runstream.Artifact(id=one, parent="", path=path, checksum=checksum, uri=uri, size=size)
    begun = time.perf_counter()
    fetched = artifact.download(folder / "back")
    took = time.perf_counter() - begun
    whole = hashlib.sha256()
    with fetched.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            whole.update(block)
    return {"checksum": whole.hexdigest(), "seconds": took}


def main() -> None:
    """A size of its own; or, for a child, its part of the work."""
    parser = argparse.ArgumentParser(description="One large artifact up and back.")
    parser.add_argument("--bytes", type=int, default=SIZE_BYTES, help="its size (5 GB)")
    parser.add_argument("--do", choices=("upload", "download"), help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.do:
        said = (_upload if arguments.do == "upload" else _download)(arguments.folder)
        print(json.dumps(said | {"rss_mb": peak_rss_mb(os.getpid())}))
        return
    for figure in measure(arguments.bytes):
        print(json.dumps(figure.as_json("artifact")))


if __name__ == "__main__":
    main()
