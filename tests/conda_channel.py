"""A channel of conda's in a folder, for tests: packages of a few files, and a `python` that is the running one, by a link, as in a virtual environment."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path

_SUBDIR = "noarch"


def make_channel(folder: Path, packages: dict[str, dict[str, bytes]]) -> str:
    """Makes a channel of packages, by `name=version=build`, with their files by path, beside `python` and an empty `pip`; gives its URL."""
    minor = "python{}.{}".format(*sys.version_info)
    base = Path(sys.base_prefix) / "bin" / minor
    python = {
        "pyvenv.cfg": f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {platform.python_version()}\n".encode(),
        f"lib/{minor}/site-packages/README.txt": b"Packages go here.\n",
    }
    found = {
        f"python={platform.python_version()}=linked_0": _packed(f"python={platform.python_version()}=linked_0", python, {"bin/python": str(base)}),
        "pip=1.0=empty_0": _packed("pip=1.0=empty_0", {"share/pip.txt": b"No pip: the one that runs Runstream is used.\n"}, {}),
    } | {text: _packed(text, files, {}) for text, files in packages.items()}
    (folder / _SUBDIR).mkdir(parents=True)
    listed: dict[str, object] = {}
    for text, data in found.items():
        file = f"{text.replace('=', '-')}.tar.bz2"
        (folder / _SUBDIR / file).write_bytes(data)
        sums = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(), "size": len(data)}
        listed[file] = _index(text) | sums
    for subdir in (_SUBDIR, "linux-64", "linux-aarch64", "osx-arm64", "osx-64"):
        (folder / subdir).mkdir(exist_ok=True)
        told: dict[str, object] = {"info": {"subdir": subdir}, "packages": listed if subdir == _SUBDIR else {}, "packages.conda": {}, "repodata_version": 1}
        (folder / subdir / "repodata.json").write_text(json.dumps(told))
    return folder.as_uri()


def conda_settings(folder: Path, channel: str) -> dict[str, str]:
    """The variables that make conda, mamba and micromamba know this channel alone, by the name conda-forge too, and keep what they make below a folder."""
    folder.mkdir()
    text = {"custom_channels": {"conda-forge": channel.rpartition("/")[0]}, "default_channels": [channel], "pkgs_dirs": [str(folder / "pkgs")]}
    (folder / "condarc").write_text(json.dumps(text | {"envs_dirs": [str(folder / "envs")], "notify_outdated_conda": False}))  # JSON is YAML.
    home = {name: str(folder) for name in ("HOME", "XDG_CACHE_HOME", "MAMBA_ROOT_PREFIX")}
    return home | {"CONDARC": str(folder / "condarc"), "CONDA_PKGS_DIRS": str(folder / "pkgs")}


def _index(text: str) -> dict[str, object]:
    name, version, build = text.split("=")
    return {"name": name, "version": version, "build": build, "build_number": 0, "depends": [], "subdir": _SUBDIR, "noarch": "generic"}


def _packed(text: str, files: dict[str, bytes], links: dict[str, str]) -> bytes:
    """The archive of a package."""
    paths: list[dict[str, object]] = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)} for path, data in files.items()
    ]
    nothing = hashlib.sha256(b"").hexdigest()
    paths.extend({"_path": path, "path_type": "softlink", "sha256": nothing, "size_in_bytes": 0} for path in links)
    info = {
        "info/index.json": json.dumps(_index(text)),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in (*files, *links)),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:bz2", compresslevel=1) as tar:
        for path, data in (files | {path: one.encode() for path, one in info.items()}).items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()
