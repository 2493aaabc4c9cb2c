"""The HTTP page of a worker: `/metrics` for Prometheus and `/healthz` for whoever restarts or alerts. It reads what others leave for it and never waits for the worker.

It stands here, beside the settings that it is served by, because sinks and processors serve it alike; what is on the page is theirs.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, cast

from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT = "text/plain; charset=utf-8"
_IDLE_TIMEOUT_S = 10.0
_STOP_LOOK_S = 0.1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    page: Callable[[], bytes]
    kind: str
    trouble: Callable[[], str]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE_TIMEOUT_S
    server_version = "runstream"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Keeps quiet: a scrape comes every few seconds."""

    def do_GET(self) -> None:  # the base class's name
        """Answers the two pages."""
        server = cast("_Server", self.server)
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, server.page(), server.kind)
            case "/healthz":
                trouble = server.trouble()
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK, f"{trouble or 'ok'}\n".encode(), _TEXT)
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"there are /metrics and /healthz\n", _TEXT)

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Endpoint:
    """Serves from its own thread until it is closed."""

    def __init__(self, host: str, port: int, *, page: Callable[[], bytes], kind: str, trouble: Callable[[], str]) -> None:
        """`page` gives the figures, of the content type `kind`; `trouble` a sentence, or nothing while all is well.

        Raises:
            SettingsError: the port cannot be had.
        """
        try:
            self._server = _Server((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise SettingsError(
                f"setting 'metrics_port' (RUNSTREAM_METRICS_PORT) must name a port that is free at {host}, but {port} is not: {error}"
            ) from error
        self._server.page = page
        self._server.kind = kind
        self._server.trouble = trouble
        threading.Thread(target=self._server.serve_forever, args=(_STOP_LOOK_S,), name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
