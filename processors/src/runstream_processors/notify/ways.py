"""What sends for each channel: our own webhooks, and Apprise for everything else."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from runstream_processors.notify.channels_file import channels_of
from runstream_processors.notify.services import Service
from runstream_processors.notify.webhook import Webhook

if TYPE_CHECKING:
    from runstream_processors.notify.channels import Channel
    from runstream_processors.notify.sending import Way
    from runstream_schemas.settings import Settings


def way_of(channel: Channel) -> Way:
    """What sends for a channel; raises SettingsError for an address that Apprise does not take."""
    return Webhook(channel, time.time) if channel.kind == "webhook" else Service(channel)


def ways_of(settings: Settings) -> list[tuple[Channel, Way]]:
    """All channels of a deployment with what sends for them; raises SettingsError."""
    return [(channel, way_of(channel)) for channel in channels_of(settings, os.environ).values()]
