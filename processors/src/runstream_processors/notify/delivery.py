"""What a notification says, and the ways it goes: a line on stdout always, JSON to a webhook, Apprise's services.

Shaping comes first and is plain values; sending is one small function a channel. An address may hold a secret, so messages name a channel by its host or scheme alone.
"""

from __future__ import annotations

import json
import math
import sys
import urllib.error
import urllib.request
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from runstream_processors.errors import DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_schemas.records import Alert, Severity

TIMEOUT_S = 5.0
_APPRISE_TYPES: dict[str, str] = {"info": "info", "warning": "warning", "critical": "failure"}


class Channel(Protocol):
    """One way to people. Channels named in an alert are kinds: `webhook`, `notify`; an alert that names none goes to all."""

    kind: str

    def deliver(self, alert: Alert) -> None:
        """Sends the alert; raises DeliveryFailed."""
        ...


def line(alert: Alert) -> str:
    """The alert as one line for a terminal or a log."""
    when = datetime.fromtimestamp(alert.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    late = " (late, nobody was notified)" if alert.late else ""
    return " ".join(f"{when} {alert.severity.upper()} {alert.state}: {alert.text} [run {alert.run_id}]{late}".split())


def payload(alert: Alert) -> dict[str, Any]:
    """The alert as JSON: its fields under their names, numbers that JSON has no word for as text."""
    fields = asdict(alert)
    fields["channels"] = list(alert.channels)
    fields["writer"] = str(alert.writer)  # 63 bits: more than a JSON reader that works with doubles can hold.
    for name in ("value", "threshold"):
        number = fields[name]
        if isinstance(number, float) and not math.isfinite(number):
            fields[name] = str(number)
    return fields


class Webhook:
    """Posts JSON to a URL; any answer of 200 to 299 is an acceptance."""

    kind = "webhook"

    def __init__(self, url: str) -> None:
        self._url = url
        self._shown = f"webhook {urlsplit(url).hostname}"

    def deliver(self, alert: Alert) -> None:
        """Posts once, within `TIMEOUT_S`."""
        body = json.dumps(payload(alert), allow_nan=False).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"}, method="POST")  # settings allow http and https only
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise DeliveryFailed(self._shown, f"it answered {error.code}") from error
        except OSError as error:
            raise DeliveryFailed(self._shown, type(error).__name__) from error


def say(alert: Alert) -> None:
    """Writes the alert's line to stdout."""
    sys.stdout.write(line(alert) + "\n")
    sys.stdout.flush()


class Services:
    """Services that Apprise knows, by their URLs."""

    kind = "notify"

    def __init__(self, urls: Sequence[str]) -> None:
        import apprise

        self._shown = "notification services"
        self._apprise: Any = apprise.Apprise()
        self.refused = [url.split(":", 1)[0] for url in urls if not self._apprise.add(url)]

    def deliver(self, alert: Alert) -> None:
        """Notifies every service once."""
        title = f"{alert.severity} {alert.state}: {alert.rule_name}"
        if not self._apprise.notify(body=line(alert), title=title, notify_type=_type_of(alert.severity, alert.state)):
            raise DeliveryFailed(self._shown, "at least one of them refused")


def _type_of(severity: Severity, state: str) -> str:
    return "success" if state == "resolved" else _APPRISE_TYPES[severity]
