"""Sends messages to the services that Apprise knows, one address a channel; the only module that touches Apprise.

Apprise blocks, answers with a result instead of raising, says why in log lines, and would run calls with deadlines in one small pool of threads, where a dead service holds
up all others. So it is called without deadlines in the channel's own thread, its log lines are kept from our log (they quote addresses), and the reason is read from them: a
code or one of our own words, never a quotation. It says nothing of Retry-After.
"""

# Apprise is typed in part.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import hashlib
import logging
import re
from typing import TYPE_CHECKING, Any

from runstream_processors.notify.outcome import Accepted, Again, Outcome, Refused, of_status
from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_processors.notify.channels import Channel
    from runstream_processors.notify.message import Message
    from runstream_schemas.records import Severity

_TYPES: dict[Severity, str] = {"info": "info", "warning": "warning", "critical": "failure"}
_STATUS = re.compile(r"\berror=(\d{3})\b")
_SMTP = re.compile(r"\((\d{3}), b?['\"]")
# What libraries say when they cannot reach somebody, and what we call it.
_WORDS: tuple[tuple[str, Outcome], ...] = (
    ("certificate verify failed", Refused("its certificate is not trusted")),
    ("connection refused", Again("nobody listens at its address")),
    ("name or service not known", Again("the name of its host is not known")),
    ("failed to resolve", Again("the name of its host is not known")),
    ("timed out", Again("it did not answer in time")),
    ("connection error", Again("the connection failed")),
    ("socket exception", Again("the connection failed")),
)
_LIBRARIES = ("apprise", "urllib3", "requests")


class Service:
    """One address of Apprise."""

    def __init__(self, channel: Channel) -> None:
        """Takes a channel of kind `apprise`; raises SettingsError for an address that Apprise does not take."""
        import apprise

        for name in _LIBRARIES:
            library = logging.getLogger(name)
            library.setLevel(logging.DEBUG)  # The reasons stand in lines of this level.
            library.propagate = False
            library.addHandler(logging.NullHandler())
        # No deadlines (see above), no files, no threads.
        asset = apprise.AppriseAsset(async_mode=False, service_timeout=0, storage_mode="memory", app_id="Runstream", app_desc="Runstream notifier")
        self._apprise: Any = apprise.Apprise(asset=asset)
        if not self._apprise.add(channel.address.reveal()):
            known = "" if channel.way in schemes() else f": it knows no {channel.way}://"
            raise SettingsError(f"channel {channel.name!r} in {channel.place} has an address that Apprise does not take{known}")

    def send(self, message: Message) -> Outcome:
        """Notifies once; may block for as long as the service's sockets do."""
        for service in self._apprise:
            # The key of an incident, of PagerDuty and five others, where the address does not set one of its own.
            if getattr(service, "dedup", "") is None or getattr(service, "_runstream_key", False):
                service.dedup = hashlib.sha256(message.incident.encode()).hexdigest()[:32]
                service._runstream_key = True
        result = self._apprise.notify(body=message.text, title=message.title, notify_type=_type_of(message), body_format="text", log_level=logging.DEBUG)
        if result:
            return Accepted()
        return outcome_of(entry.message for entry in result.logs())


def schemes() -> frozenset[str]:
    """What addresses of Apprise may begin with."""
    import apprise

    found: set[str] = set()
    for one in apprise.Apprise().details()["schemas"]:
        for name in ("protocols", "secure_protocols"):
            found.update(one.get(name) or ())
    return frozenset(found)


def outcome_of(lines: Iterable[str]) -> Outcome:
    """What a failure means, from Apprise's words of it."""
    said = list(lines)
    for text in said:
        if (status := _STATUS.search(text)) is not None:
            return of_status(int(status[1]))
        if "exception" in text.lower() and (code := _SMTP.search(text)) is not None:
            return _of_smtp(int(code[1]))
    words = "\n".join(said).lower()
    return next((outcome for word, outcome in _WORDS if word in words), Again("the service did not take it, and Apprise does not say why"))


def _of_smtp(code: int) -> Outcome:
    """In mail 4xx is what passes, and 5xx what does not."""
    return Refused(f"the mail server answered {code}") if code >= 500 else Again(f"the mail server answered {code}")


def _type_of(message: Message) -> str:
    if message.state == "resolved":
        # Success ends an incident: only where nothing of it fires any more.
        return "info" if message.still_firing else "success"
    return _TYPES[message.severity]
