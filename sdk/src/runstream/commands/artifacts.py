"""Lists, fetches and sends artifacts.

runstream artifacts ls digits/baseline        what a run made and used
runstream artifacts get ID --to DIR           fetches one, by its id; or a version of a model, as digits/net:3 or digits/net:latest
runstream artifacts push                      sends what offline runs, and runs that were cut off, have left for the store (setting artifact_url)

Lists ask ClickHouse at RUNSTREAM_CLICKHOUSE_URL. Whatever is fetched is checked against its SHA-256; a fetch that was cut off goes on where it was.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from runstream_schemas.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    import argparse

    from runstream.artifacts import Artifact

SUMMARY = "list what runs made and used, fetch it, and send what is staged"

_COLUMNS = ("id", "kind", "relation", "path", "size", "mime_type", "checksum", "parent")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="list the artifacts of a run")
    ls.add_argument("run", metavar="RUN", help="a run's id, or project/name")
    ls.add_argument("--kind", help="file, folder, tracked, model, model_version or dataset")
    get = actions.add_parser("get", help="fetch an artifact and check it")
    get.add_argument("which", metavar="ID", help="an artifact's id, or PROJECT/NAME:NUMBER or PROJECT/NAME:latest for a version of a model")
    get.add_argument("--to", default=".", metavar="DIR", help="folder to put it into (here, unless given)")
    push = actions.add_parser("push", help="send what is staged to the artifact store")
    for one in (ls, get, push):
        one.add_argument("--json", action="store_true", help="JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the action.

    Raises:
        SettingsError: what was asked for cannot be found, fetched or sent; the message says why.
    """
    from runstream.artifacts import ArtifactError
    from runstream.read import ReadError

    try:
        return {"ls": _ls, "get": _get, "push": _push}[args.action](args, load())
    except (ArtifactError, ReadError, OSError) as error:
        raise SettingsError(str(error)) from error


def _ls(args: argparse.Namespace, _: Settings) -> int:
    from runstream import read

    found = read.artifacts(args.run, kind=args.kind)
    for one in found:
        told = {name: getattr(one, name) for name in _COLUMNS}
        sys.stdout.write((json.dumps(told | {"uri": one.uri}) if args.json else _line(told)) + "\n")
    if not found and not args.json:
        sys.stdout.write("no artifacts\n")
    return 0


def _line(told: dict[str, Any]) -> str:
    from runstream.artifacts._progress import shown_bytes

    size = shown_bytes(told["size"]) if told["size"] >= 0 else "?"
    return f"{told['id']}  {told['kind']:<13}  {told['relation']:<6}  {size:>10}  {told['checksum'][:12] or '-':<12}  {told['path'] or '-'}"


def _get(args: argparse.Namespace, _: Settings) -> int:
    path = _named(args.which).download(args.to)
    sys.stdout.write((json.dumps({"path": str(path)}) if args.json else str(path)) + "\n")
    return 0


def _named(which: str) -> Artifact:
    from runstream import read
    from runstream.artifacts._naming import version_of

    version = version_of(which)
    if version is None:
        return read.artifact(which)
    project, slash, name = version[0].partition("/")
    if not slash:
        raise SettingsError(f"a version of a model is named PROJECT/NAME:NUMBER, got {which!r}: its project is missing")
    return read.model_version(name, version[1], project=project).artifact


def _push(args: argparse.Namespace, settings: Settings) -> int:
    from runstream.artifacts._stores import Stores

    stores = Stores(settings)
    sent = stores.push()
    sys.stdout.write((json.dumps({"sent": sent, "to": stores.uri}) if args.json else f"{sent} objects sent to {stores.uri}") + "\n")
    return 0
