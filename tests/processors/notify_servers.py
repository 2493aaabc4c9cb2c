"""Real servers for the notifier to send to, an alert to begin from, and what was posted."""

from __future__ import annotations

import http.server
import json
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from runstream_processors.notify.channels import Channel, Policy, Secret
from runstream_schemas.records import Alert

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ALERT = Alert(
    alert_id="6f9b1e8e-0000-5000-8000-000000000001",
    version=0,
    state="firing",
    rule_id="r",
    rule_version=1,
    rule_name="loss is high",
    kind="threshold",
    severity="critical",
    run_id="0192f0c4-5a00-7cc3-98d2-3f5e8a1b7c4d",
    writer=(1 << 63) - 1,
    seq=7,
    rank=1,
    metric="loss",
    context="training",
    subject="",
    step=70,
    time_ms=1_700_000_000_000,
    value=float("inf"),
    operator=">",
    threshold=1.5,
    text="loss went\nto inf",
    late=False,
    decided_ms=1_700_000_000_100,
)


def channel(url: str, *, name: str = "ops", secret: str | None = None, **figures: float) -> Channel:
    """A webhook that is told at once unless said otherwise."""
    given: dict[str, Any] = {"wait_s": 0.0, "group_s": 0.0, "timeout_s": 2.0, **figures}
    return Channel(name, "webhook", "webhook", Secret(url), None if secret is None else Secret(secret), policy=Policy(**given))


class Post(NamedTuple):
    """What came: raw body, headers in small letters, and when by the monotonic clock."""

    raw: bytes
    headers: dict[str, str]
    at_s: float

    @property
    def body(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.raw)


class Server(http.server.ThreadingHTTPServer):
    """Answers with the codes it was given, then 200. Code 0 answers never, until the server ends; a pair is a code and its Retry-After."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, codes: list[int | tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.codes = codes
        self.posts: list[Post] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]  # the base class knows less

    def do_POST(self) -> None:  # the base class's name
        """Keeps what came, whatever it answers."""
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.codes.pop(0) if self.server.codes else 200
        code, after = answer if isinstance(answer, tuple) else (answer, "")
        self.server.posts.append(Post(raw, {name.lower(): value for name, value in self.headers.items()}, time.monotonic()))
        if code == 0:
            self.server.ended.wait(30)
            return
        self.send_response(code)
        if after:
            self.send_header("Retry-After", after)
        if code == 302:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""


@contextmanager
def serving(*codes: int | tuple[int, str]) -> Generator[Server]:
    """A server for a while."""
    with Server(list(codes)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join(10)


def wait_for(holds: Callable[[], bool], what: Callable[[], object], limit_s: float = 30.0) -> None:
    """Waits until something holds; fails with what there is instead."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
