"""Ids that the client makes, so that nobody waits for a server to number things.

Random bits come from the system's generator, never from `random`, whose state forked processes share.
"""

from __future__ import annotations

import os
import time
import uuid

# The namespace of ids that are made from names: fixed for ever, since changing it would give every named run another id.
NAMESPACE = uuid.UUID("6f1c1f6e-8f0c-5d53-9a55-2f0a3c5be0d1")


def new_writer() -> int:
    """63 random bits naming one process start; never 0, which stands for no writer."""
    while True:
        bits = int.from_bytes(os.urandom(8), "big") >> 1
        if bits:
            return bits


def new_uuid() -> str:
    """A UUIDv7 (RFC 9562): sorts by the millisecond it was made in."""
    stamp_ms = time.time_ns() // 1_000_000
    tail = int.from_bytes(os.urandom(10), "big")
    value = (stamp_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (tail >> 68 & 0xFFF) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
    return str(uuid.UUID(int=value))


def named_uuid(*parts: str) -> str:
    """The UUIDv5 of some texts: the same wherever it is computed. The parts are joined so that no two lists meet."""
    return str(uuid.uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))


def run_id_of(project: str, external_id: str) -> str:
    """The id of the run that a project knows by `external_id`: every rank and every restart meets in it without asking anyone."""
    return named_uuid("run", project, external_id)
