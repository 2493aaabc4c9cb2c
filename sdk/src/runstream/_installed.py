"""What is installed beside a run, as its params: the Python version, every distribution with its version, where those come from that no index has, and conda's packages.

Found by the names of folders, as `_surroundings` does; the few `direct_url.json` (PEP 610) are read, which pip writes for what was installed from a repository, a URL or a folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any, cast

from runstream import _surroundings

PYTHON, PACKAGES, ORIGINS = "environment.python", "environment.packages", "environment.origins"
CONDA, CHANNELS = "environment.conda", "environment.conda_channels"
NAMES = (PYTHON, PACKAGES, ORIGINS, CONDA, CHANNELS)
_TEXT_MAX = 1 << 16
_HISTORY_MAX = 1 << 20  # A line is some 60 bytes: thousands of packages, of which the last ones are those that are there.
_HISTORY_LINE = re.compile(r"\+(\S+)/[a-z0-9-]+::(\S+)")


def params(*, anew: bool = False) -> dict[str, Any]:
    """The params by key; `anew` looks again at what this process has looked at before."""
    if anew:
        _surroundings.packages.cache_clear()
    out: dict[str, Any] = {PYTHON: platform.python_version(), PACKAGES: list(_surroundings.packages())}
    if found := origins(sys.path):
        out[ORIGINS] = found
    if found := conda_packages(Path(sys.prefix)):
        out[CONDA] = found
        if channels := conda_channels(Path(sys.prefix)):
            out[CHANNELS] = channels
    return out


def origins(places: list[str]) -> list[dict[str, Any]]:
    """Where distributions come from that were not installed by name from an index: name, URL without credentials, commit and whether it is editable."""
    found: dict[str, dict[str, Any]] = {}
    for place in places:
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(place or ".")):  # noqa: PTH208 - names are all that is wanted
                one = _surroundings.DISTRIBUTION.fullmatch(name) if name.endswith(".dist-info") else None
                if one is not None and one[1] not in found:
                    told = _origin(Path(place or ".") / name)
                    if told is not None:
                        found[one[1]] = {"name": one[1]} | told
    return [found[name] for name in sorted(found, key=str.lower)]


def _origin(info: Path) -> dict[str, Any] | None:
    """Where a distribution came from, by the folder of its metadata; None where nothing says so."""
    try:
        with (info / "direct_url.json").open("rb") as file:
            told: Any = json.loads(file.read(_TEXT_MAX))
        url = without_credentials(str(told["url"]))
        if _by_conda(info):
            return None  # The folder in which somebody made conda's package, which was never on this machine.
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not url:
        return None
    out: dict[str, Any] = {"url": url}
    told = cast("dict[str, Any]", told)
    vcs: Any = told.get("vcs_info")
    if isinstance(vcs, dict):
        known = cast("dict[str, Any]", vcs)
        out |= {"vcs": str(known.get("vcs", "git")), "commit": str(known.get("commit_id", ""))}
    folder: Any = told.get("dir_info")
    if isinstance(folder, dict):
        out["editable"] = cast("dict[str, Any]", folder).get("editable") is True
    if told.get("subdirectory"):
        out["subdirectory"] = str(told["subdirectory"])
    return out


def without_credentials(url: str) -> str:
    """The URL without user, password and query, of which any may be a token."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return ""
    netloc = parts.netloc.rpartition("@")[2]
    if parts.scheme.endswith("ssh") and parts.netloc.partition("@")[0] == "git":
        netloc = f"git@{netloc}"  # Everybody's user, without which nothing can be fetched.
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path, "", "")) if parts.scheme else ""


def conda_packages(prefix: Path) -> list[str]:
    """The packages that conda installed below a prefix, as `name=version=build`; none where it is no environment of conda's."""
    try:
        names = sorted(os.listdir(prefix / "conda-meta"))  # noqa: PTH208 - as above
    except OSError:
        return []
    found = [name.removesuffix(".json").rsplit("-", 2) for name in names if name.endswith(".json")]
    return ["=".join(one) for one in found if len(one) == 3]


def _by_conda(info: Path) -> bool:
    """Whether conda installed a distribution, by the note that PEP 376 wants of installers."""
    try:
        with (info / "INSTALLER").open("rb") as file:
            return file.read(16).strip() == b"conda"
    except OSError:
        return False


def conda_channels(prefix: Path) -> list[str]:
    """The channels from which conda's packages below a prefix came, those of most packages first, without credentials; none where its history does not say."""
    there = {one.replace("=", "-") for one in conda_packages(prefix)}
    try:
        with (prefix / "conda-meta" / "history").open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _HISTORY_MAX, 0))
            text = file.read(_HISTORY_MAX).decode("utf-8", "replace")
    except OSError:
        return []
    came = {name: channel for channel, name in _HISTORY_LINE.findall(text) if name in there}
    counted = Counter(map(_channel, came.values()))
    return [name for name, _ in sorted(counted.items(), key=lambda one: (-one[1], one[0])) if name]


def _channel(name: str) -> str:
    """A channel's name or URL, without user, password and token."""
    return re.sub(r"/t/[^/]+/", "/", without_credentials(name)) if "://" in name else name
