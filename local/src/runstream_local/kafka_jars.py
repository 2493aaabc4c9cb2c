"""Owns the jars Apache Kafka runs from: which they are (pinned, with hashes) and how they get here.

The pinned list `kafka.lock` was made by resolving `KAFKA` with jgo's Python resolver (`python -m runstream_local.kafka_jars` prints it anew); a
user's machine only downloads the files on the list, also with jgo, and checks each against its hash. The jars lie in one folder of the user's
cache, so the second start needs no network. jgo is touched here only.
"""

# jgo's annotations leave out many parameters; strict mode would refuse every call on it.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from runstream_local.errors import FetchError, NoNetworkError

__all__ = ["KAFKA_VERSION", "Jar", "cache_folder", "ensure_jars", "missing_jars", "pinned_jars"]

KAFKA_VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Carries Kafka's log lines to log4j, which Kafka itself brings; without it Kafka is silent. It is added on its own after the resolution: as
# a second root its managed versions would count too, and they pull kafka-clients down to 3.9 (tried: NoSuchMethodError).
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

_ADVICE = "or point --kafka (RUNSTREAM_KAFKA) at a broker that is already there"
_DOWNLOADS_AT_ONCE = 4

Progress = Callable[[int, int], None]
"""Called with bytes that are here, and bytes in all."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One pinned file: Maven coordinate `group:artifact:version`, its size and its SHA-256."""

    coordinate: str
    size_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The name Maven gives the file."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def pinned_jars() -> tuple[Jar, ...]:
    """Returns the pinned list, in the order of the class path."""
    lines = files("runstream_local").joinpath("kafka.lock").read_text(encoding="utf-8").splitlines()
    return tuple(_parse_line(line) for line in lines if line and not line.startswith("#"))


def _parse_line(line: str) -> Jar:
    coordinate, size, sha256 = line.split()
    return Jar(coordinate=coordinate, size_bytes=int(size), sha256=sha256)


def cache_folder() -> Path:
    """Returns the folder of the user's cache where the jars of this version lie; it need not exist."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "runstream" / f"kafka-{KAFKA_VERSION}"


def missing_jars(folder: Path) -> tuple[Jar, ...]:
    """Returns the pinned jars that are not in `folder` at their full size."""
    return tuple(jar for jar in pinned_jars() if not _is_there(folder / jar.file_name, jar))


def _is_there(path: Path, jar: Jar) -> bool:
    # The hash was checked before the file got its name; the size is enough to see a file that was cut since.
    return path.is_file() and path.stat().st_size == jar.size_bytes


def ensure_jars(folder: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Makes sure that every pinned jar lies in `folder`, and returns that folder.

    Blocks while downloading (45 MB the first time); returns at once and touches no network when all are there. Several processes may call it
    at the same time: one downloads, the others wait. What was fetched before a failure is kept.

    Args:
        folder: where the jars go; the user's cache when left out.
        progress: called after each file with the bytes that are here and the bytes in all.

    Raises:
        NoNetworkError: nothing answered.
        FetchError: the repository lacks a file, or a file is not the pinned one.
    """
    folder = folder or cache_folder()
    if not missing_jars(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / ".lock"):
        missing = missing_jars(folder)
        total = sum(jar.size_bytes for jar in pinned_jars())
        here = total - sum(jar.size_bytes for jar in missing)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as staging, ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
            fetches = {pool.submit(_fetch, jar, Path(staging), folder): jar for jar in missing}
            try:
                for fetch in as_completed(fetches):
                    fetch.result()
                    here += fetches[fetch].size_bytes
                    if progress is not None:
                        progress(here, total)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return folder


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(jar: Jar, staging: Path, folder: Path) -> None:
    """Downloads one jar, checks it, and gives it its name in one step, so that a name always means a whole file."""
    # Imported late: with requests behind it, jgo costs 0.2 s that a start from the cache need not pay.
    import requests
    from jgo.maven import MavenContext

    group, artifact, version = jar.coordinate.split(":")
    try:
        path = MavenContext(repo_cache=staging, timeout=30).project(group, artifact).at_version(version).artifact().resolve()
    except requests.RequestException as error:
        raise NoNetworkError(
            f"Apache Kafka {KAFKA_VERSION} is not on this machine yet and its Maven repository does not answer ({type(error).__name__} at "
            f"{jar.file_name}): connect to the network once, {_ADVICE}."
        ) from error
    except RuntimeError as error:
        raise FetchError(f"The Maven repository answers but has no {jar.coordinate}: look at proxy settings, {_ADVICE}.") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != jar.sha256:
        raise FetchError(f"{jar.file_name} is not the pinned file: expected SHA-256 {jar.sha256}, got {digest}; try again, {_ADVICE}.")
    path.replace(folder / jar.file_name)


def _print_lock() -> None:
    """Resolves `KAFKA` with everything it needs and prints the lines of `kafka.lock`."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache), timeout=30)
        inputs, needed = context.resolver.resolve([context.create_dependency(KAFKA)])
        for dependency in [*inputs, *needed, context.create_dependency(LOG_BINDING)]:
            artifact = dependency.artifact
            content = artifact.resolve().read_bytes()
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            sys.stdout.write(f"{coordinate} {len(content)} {hashlib.sha256(content).hexdigest()}\n")


if __name__ == "__main__":
    _print_lock()
