"""Runs a subcommand in this process, as `runstream` would: arguments in, exit code and what was written out."""

from __future__ import annotations

import contextlib
import io
import json
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, NamedTuple

from runstream.cli import GROUP, build
from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> Any:
        """What it wrote with --json."""
        return json.loads(self.out)


def command(name: str, *arguments: str) -> Done:
    """Runs `runstream NAME ARGUMENTS` of this folder; settings come from the environment."""
    parser = build({name: EntryPoint(name, f"runstream_processors.commands.{name}", GROUP)}, name)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        args = parser.parse_args([name, *arguments])
        try:
            code = int(args._run(args))
        except SettingsError as error:
            err.write(f"{error}\n")
            code = 2
    return Done(code, out.getvalue(), err.getvalue())


def fine(name: str, *arguments: Sequence[str] | str) -> Any:
    """What a command that must succeed writes with --json."""
    done = command(name, *map(str, arguments), "--json")
    assert done.code == 0, (done.err, done.out)
    return done.object
