"""Where journals live: one folder a user, connection settings and journal version, so that a run with other settings never ships to the wrong cluster.

Where nothing names a Kafka, the connection is the embedded stack of the home folder, whatever port it has today.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_producers.journal import format as fmt
from runstream_schemas.settings import STACK

if TYPE_CHECKING:
    from runstream_schemas.settings import Settings


def journal_root(settings: Settings) -> Path:
    """The folder of all journals of this user. /var/tmp is on a local disk and, unlike /tmp, often neither in memory nor emptied at a restart."""
    if settings.journal_dir is not None:
        return settings.journal_dir.expanduser().absolute()
    return Path(f"/var/tmp/runstream-{os.getuid()}")  # noqa: S108 - the folder is made with mode 700 and checked to be ours


def agent_folder(settings: Settings) -> Path:
    """The folder of one agent: its lock, its log and the journals that it ships."""
    kafka = f"{STACK} {settings.home}" if settings.kafka_is_stack else settings.kafka
    connection = json.dumps([kafka, sorted(settings.kafka_options.items()), settings.topic_prefix, fmt.VERSION])
    return journal_root(settings) / f"v{fmt.VERSION}-{hashlib.sha256(connection.encode()).hexdigest()[:12]}"


def offline_folder(settings: Settings) -> Path:
    """The folder of journals that no agent ships: those of offline runs, whatever Kafka they will be synced to."""
    return journal_root(settings) / "offline"
