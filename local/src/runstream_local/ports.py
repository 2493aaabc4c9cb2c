"""Owns the choice of loopback ports: the usual one when it is free, otherwise one the system gives."""

from __future__ import annotations

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


def choose_port(usual: int = 0, *, avoid: frozenset[int] = frozenset()) -> int:
    """Returns `usual` when it is free and not in `avoid`, otherwise a free port of the system's choice.

    Somebody else may take the port before it is used; the part that then cannot bind says so.
    """
    if usual and usual not in avoid and is_free(usual):
        return usual
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in avoid:
            return port
