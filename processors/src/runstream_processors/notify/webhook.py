"""Posts messages as JSON, signed where the channel has a secret. One call is one try; what it comes to is an outcome, never an exception.

A redirect is not followed, so that neither alerts nor signatures go where nobody sent them.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from runstream_processors.notify.outcome import Again, Outcome, Refused, of_status
from runstream_processors.notify.signature import HEADER, sign

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_processors.notify.channels import Channel
    from runstream_processors.notify.message import Message

MESSAGE_HEADER = "Runstream-Message"


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: object, fp: object, code: object, msg: object, headers: object, newurl: object) -> None:
        """No redirect is followed."""


class Webhook:
    """One address."""

    def __init__(self, channel: Channel, clock_s: Callable[[], float]) -> None:
        """Takes a channel of kind `webhook`, and the clock that signatures and Retry-After go by, epoch seconds."""
        self._url, self._login = _without_login(channel.address.reveal())
        self._secret = channel.secret
        self._timeout_s = channel.policy.timeout_s
        self._clock_s = clock_s
        self._opener = urllib.request.build_opener(_Stay)

    def send(self, message: Message) -> Outcome:
        """Posts once; each wait on the socket is bounded by the channel's time-out, the whole of it by whoever calls."""
        body = json.dumps(message.body, allow_nan=False, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "runstream-notifier", MESSAGE_HEADER: message.message_id}
        if self._login is not None:
            headers["Authorization"] = self._login
        if self._secret is not None:
            headers[HEADER] = sign(self._secret.reveal().encode(), body, int(self._clock_s()))
        request = urllib.request.Request(self._url, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return of_status(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return of_status(error.code, error.headers.get("Retry-After"), self._clock_s())
        except urllib.error.URLError as error:
            return why(error.reason)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return why(error)


def why(error: object) -> Outcome:
    """What a failure to reach somebody means, in words of ours."""
    if isinstance(error, TimeoutError):
        return Again("it did not answer in time")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused("its certificate is not trusted")
    if isinstance(error, socket.gaierror):
        return Again("the name of its host is not known")
    if isinstance(error, ConnectionRefusedError):
        return Again("nobody listens at its address")
    if isinstance(error, OSError | http.client.HTTPException) and not isinstance(error, http.client.InvalidURL):
        return Again("the connection failed")
    return Refused("its address is not one that HTTP takes")


def _without_login(url: str) -> tuple[str, str | None]:
    """The address without user and password, and those as a header."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), f"Basic {base64.b64encode(login).decode()}"
