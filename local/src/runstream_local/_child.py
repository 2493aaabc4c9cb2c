"""Becomes a given command that dies with its parent: run as a script, with the parent's pid and the command as arguments.

On Linux the kernel is asked to kill the process when the thread that started it ends, so a supervisor killed hard leaves nobody behind; elsewhere
the command runs without that. This is a script of its own, on the standard library alone, because setting it between fork and exec in the
parent is not safe where the parent has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent and becomes the command; a command that cannot be started is exit code 127."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the line above; then nobody would tell.
        if os.getppid() != parent:
            sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606  # becoming the command is the point
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error}\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
