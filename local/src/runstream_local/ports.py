"""Owns the choice of loopback ports: those that a data folder had before, then the usual one when it is free, otherwise a random free one.

A folder keeps its ports (`ports.json`) because addresses are kept elsewhere: rows that were logged for a broker wait in a journal under its
address, and reach it only if it comes back to that address.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

__all__ = ["HOST", "choose_known_port", "choose_port", "is_free", "recall", "remember"]

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


_MEMORY = "ports.json"
# For a name. The first one is where the folder began and stays; the others are where it went while somebody else had that.
_REMEMBERED_MAX = 8
# How long a remembered port is waited for: what was killed hard lets go of its port a moment later.
_RELEASE_WAIT_S = 2.0


def recall(data: Path) -> dict[str, list[int]]:
    """Returns the ports that the folder has had, by part, the preferred one first; nothing where there are none, or the file is not ours."""
    try:
        found: object = json.loads((data / _MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    known = cast("dict[str, object]", found)
    return {name: _ports(cast("list[object]", ports)) for name, ports in known.items() if isinstance(ports, list)}


def _ports(found: list[object]) -> list[int]:
    return [port for port in found if isinstance(port, int) and 0 < port < 1 << 16]


def remember(data: Path, ports: Mapping[str, int]) -> None:
    """Adds ports by part to those that the folder has had; in one step, so that a reader sees the old ones or the new ones."""
    known = recall(data)
    new = {name: port for name, port in ports.items() if port not in known.get(name, [])}
    if not new:
        return
    for name, port in new.items():
        had = known.get(name, [])
        known[name] = [*had[:1], *[*had[1:], port][-(_REMEMBERED_MAX - 1) :]]
    fresh = data / f"{_MEMORY}.new"
    fresh.write_text(json.dumps(known) + "\n", encoding="utf-8")
    fresh.replace(data / _MEMORY)


def choose_known_port(known: Sequence[int], usual: int = 0, *, avoid: frozenset[int] = frozenset()) -> int:
    """Returns the first port of `known` that is free; where there are none, `usual` or any, as `choose_port` does. Blocks up to 2 s for the first of them."""
    wanted = [port for port in known if port not in avoid]
    deadline = time.monotonic() + _RELEASE_WAIT_S
    while wanted and not is_free(wanted[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return next((port for port in wanted if is_free(port)), None) or choose_port(0 if known else usual, avoid=avoid)
