"""Rebuilds what a run had installed, from what its first rank recorded at its start.

runstream env show digits/baseline                 what it had
runstream env requirements digits/baseline         as a requirements file, on the standard output
runstream env requirements job-7 lib/needed.txt    into a file, whose folders are made as needed
runstream env venv 0193a1f0 rebuilt                a virtual environment with the same versions, by pip
runstream env conda digits/baseline rebuilt        an environment.yml, and rebuilt/env where conda, mamba or micromamba is here

RUN is a run's id or at least 8 characters of its beginning, its external id, or project/name. What cannot be installed is named and the rest is kept.
The exit code is 0 where everything is as the run had it, 1 where something is missing or Python's minor version is another, 2 for wrong arguments.
pip's own variables (PIP_INDEX_URL, PIP_FIND_LINKS ...) hold, too.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    import argparse

    from runstream.environments import Built

SUMMARY = "rebuild what a run had installed: requirements, venv, conda"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    told = {
        "show": "print what a run had",
        "requirements": "write a requirements file",
        "venv": "make a virtual environment",
        "conda": "write an environment.yml, and make the environment beside it, at env, where conda, mamba or micromamba is here",
    }
    for name, what in told.items():
        one = actions.add_parser(name, help=what, description=what)
        one.add_argument("run", metavar="RUN", help="a run's id or its beginning, its external id, or project/name")
        if name != "show":
            one.add_argument("path", metavar="PATH", nargs="?", help="file of the requirements, or folder of the environment; made as needed")
        if name in ("show", "venv", "conda"):
            one.add_argument("--json", action="store_true", help="one JSON object")
        if name == "venv":
            one.add_argument("--python", metavar="EXE", help="interpreter to make it of; else one of the run's minor version, if there is one")
        if name in ("venv", "conda"):
            one.add_argument("--find-links", metavar="DIR", action="append", default=[], help="folder or page of wheels, for pip")
            one.add_argument("--no-index", action="store_true", help="ask no index, for pip")
            one.add_argument("--pip-option", metavar="OPTION", action="append", default=[], help="any option of pip install, as --pip-option=--pre")
        one.add_argument("--database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE, else runstream)")


def run(args: argparse.Namespace) -> int:
    """Rebuilds; 1 where not everything is as the run had it.

    Raises:
        SettingsError: no ClickHouse answers, no such run is there, or the path cannot be used.
    """
    from runstream import environments
    from runstream.read import ReadError

    def tell(sentence: str) -> None:
        sys.stderr.write(f"{sentence}\n")

    try:
        if args.action == "show":
            return _show(environments.recorded(args.run, database=args.database), as_json=args.json)
        if args.action == "requirements":
            text = environments.requirements(args.run, args.path, database=args.database)
            if args.path is None:
                sys.stdout.write(text)
            return 0
        options = [*(part for folder in args.find_links for part in ("--find-links", folder)), *(["--no-index"] if args.no_index else []), *args.pip_option]
        if args.action == "conda":
            return _tell(environments.conda(args.run, args.path, pip_options=options, tell=tell, database=args.database), "conda", as_json=args.json)
        built = environments.venv(args.run, args.path, python=args.python, pip_options=options, tell=tell, database=args.database)
        return _tell(built, "venv", as_json=args.json)
    except ReadError as error:
        raise SettingsError(str(error)) from error


def _show(found: object, *, as_json: bool) -> int:
    from runstream.environments import Recorded

    if not isinstance(found, Recorded):
        raise TypeError(f"expected what a run recorded, got {found!r}")
    if as_json:
        told = [{"name": one.name, "version": one.version, "origin": one.origin and one.origin.url} for one in found.packages]
        sys.stdout.write(
            json.dumps(
                {
                    "run_id": found.run_id,
                    "python": found.python,
                    "packages": told,
                    "conda": list(found.conda),
                    "channels": list(found.channels) if found.conda else [],
                }
            )
            + "\n"
        )
        return 0
    sys.stdout.write(f"run {found.run_id}, Python {found.python}\n")
    for one in found.packages:
        sys.stdout.write(f"{one.name}=={one.version}{f'  from {one.origin.url}' if one.origin else ''}\n")
    for text in found.conda:
        sys.stdout.write(f"{text}  by conda\n")
    if found.conda:
        sys.stdout.write(f"channels: {', '.join(found.channels)}\n")
    return 0


def _tell(built: Built, kind: str, *, as_json: bool) -> int:
    if as_json:
        missing = [{"name": one.name, "version": one.version, "reason": one.reason} for one in built.missing]
        told = {
            "run_id": built.run_id,
            "path": str(built.path),
            "file": str(built.requirements),
            "created": built.created,
            "wanted_python": built.wanted_python,
            "python": built.python,
            "missing": missing,
            "complete": built.complete,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        return 0 if built.complete else 1
    sys.stdout.write(f"{built.requirements} says what run {built.run_id} had\n")
    if kind == "conda" and not built.created and not any(one.name == "environment" for one in built.missing):
        sys.stdout.write("no environment was made, since no conda, mamba or micromamba is on the path: `conda env create --file` makes it where one is\n")
    if not built.same_python:
        advice = "give --python an interpreter of that version" if kind == "venv" else "no channel has that version"
        sys.stdout.write(f"the run had Python {built.wanted_python}, the environment has {built.python}: {advice}\n")
    elif built.python and built.python != built.wanted_python:
        sys.stdout.write(f"the run had Python {built.wanted_python}, the environment has {built.python}, which differs in the last number only\n")
    for one in built.missing:
        sys.stdout.write(f"missing: {one.name} {one.version}: {one.reason}\n")
    if built.created:
        sys.stdout.write(f"{built.path} has {'all of it' if not built.missing else 'the rest'}\n")
    return 0 if built.complete else 1
