"""Owns the choice of loopback ports: the usual one when it is free, otherwise a random free one."""

from __future__ import annotations

import random
import socket

__all__ = ["HOST", "choose_port", "is_free"]

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Says whether a server could bind `port` on loopback right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do it: a port whose last connections are still winding down counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


# Below where systems take the ports of outgoing connections from (32768 on Linux, 49152 elsewhere). A part keeps its port over restarts, and a
# client that knocks on a port of that range while its server is down can, on loopback, connect to itself and so keep the server from it.
_OWN_RANGE = range(20_000, 32_000)


def choose_port(usual: int = 0, *, avoid: frozenset[int] = frozenset()) -> int:
    """Returns `usual` when it is free and not in `avoid`, otherwise a free port at random.

    Somebody else may take the port before it is used; the part that then cannot bind says so.
    """
    if usual and usual not in avoid and is_free(usual):
        return usual
    while True:
        port = random.choice(_OWN_RANGE)
        if port not in avoid and is_free(port):
            return port
