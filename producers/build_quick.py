"""Compiles the usual log call when this folder is built, if there is a C compiler and Python's headers; without them the package is the same in Python alone.

A wheel with it is one for its platform and for every CPython from 3.11 on; one without it is for all.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACE = Path("src", "runstream_producers", "journal")
_COMPILE_S = 120


class QuickHook(BuildHookInterface[Any]):
    """The build hook; see above."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, and says what became of it."""
        folder = Path(self.root) / _PLACE
        built = folder / "_quick.abi3.so"
        why = compile_into(folder / "_quick.c", built)
        if why:
            built.unlink(missing_ok=True)
            self.app.display_warning(f"the usual log call was not compiled and stays in Python, which is right and slower: {why}")
            return
        if version == "standard":
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{platform}"
            build_data["artifacts"].append(str(_PLACE / built.name))


def compile_into(source: Path, built: Path) -> str:
    """Compiles it in one step, so that a process that has the one before loaded keeps it; why not, if it can't."""
    if sys.implementation.name != "cpython" or os.name != "posix":
        return f"it is for CPython on Linux and macOS, this is {sys.implementation.name} on {sys.platform}"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    fresh = built.with_name(f"{built.name}.{os.getpid()}")
    undefined = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
    include = f"-I{sysconfig.get_paths()['include']}"
    try:
        subprocess.run(
            [*compiler, "-O2", "-fPIC", "-shared", *undefined, include, str(source), "-o", str(fresh)],
            check=True,
            capture_output=True,
            text=True,
            timeout=_COMPILE_S,
        )
        fresh.replace(built)
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if "error" in line]
        return (said or [f"{compiler[0]} ended with {error.returncode}"])[0]
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        fresh.unlink(missing_ok=True)
    return ""
