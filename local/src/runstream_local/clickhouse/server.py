"""Owns the HTTP server: it takes a request apart, runs it on the engine, and answers as ClickHouse does.

Answers are written by the engine into a file that is unlinked at once and sent from there: memory stays bounded however large the answer, a
failure late in a query is still an honest status and not a broken stream, and a slow reader does not hold the engine. Rows of an insert wait in
a file of their own until all have come, so a client that dies halfway inserts nothing.
"""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import shutil
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Generator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from runstream_local.clickhouse.body import open_body, spooled
from runstream_local.clickhouse.engine import Engine, Outcome, quote_string
from runstream_local.clickhouse.failures import QueryError
from runstream_local.clickhouse.request import Request, is_own_page, read_parameters
from runstream_local.clickhouse.statement import Insert, Other, Read, Refused, Statement, only_reads, parse
from runstream_local.clickhouse.users import Users
from runstream_local.ports import HOST

__all__ = ["serve"]

# A statement must begin its data within this many bytes; ClickHouse's own bound on a statement's text is max_query_size, 256 KiB.
_HEAD_BYTES = 1 << 20
_TEXT_BYTES_MAX = 64 << 20
_IDLE_TIMEOUT_S = 300.0
_DRAIN_TIMEOUT_S = 5.0

_CONTENT_TYPES = (
    (re.compile(r"TabSeparated.*|TSV.*"), "text/tab-separated-values; charset=UTF-8"),
    (re.compile(r"CSV.*"), "text/csv; charset=UTF-8"),
    (re.compile(r"JSON.*EachRow.*|JSONLines|NDJSON"), "application/x-ndjson; charset=UTF-8"),
    (re.compile(r"JSON.*"), "application/json; charset=UTF-8"),
    (re.compile(r"Pretty.*|Vertical|Values|Markdown"), "text/plain; charset=UTF-8"),
)


def _content_type(format_name: str) -> str:
    return next((kind for pattern, kind in _CONTENT_TYPES if pattern.fullmatch(format_name)), "application/octet-stream")


class _Server(ThreadingHTTPServer):
    """The listening socket, the engine, and a count of the requests that are being answered."""

    daemon_threads = True
    request_queue_size = 128
    # A thread a connection: with keep-alive, waiting for them at the end would mean waiting for idle clients.
    block_on_close = False

    def __init__(self, port: int, engine: Engine, scratch: Path, users: Users) -> None:
        super().__init__((HOST, port), _Handler)
        self.engine = engine
        self.users = users
        self.scratch = scratch
        self._busy = 0
        self._quiet = threading.Condition()

    def server_bind(self) -> None:
        # HTTPServer's own also asks DNS for a name, which can take seconds where there is none.
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        del request, client_address
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):  # a client that goes away is no news
            super().handle_error(cast("socket.socket", None), None)

    def begin(self) -> None:
        with self._quiet:
            self._busy += 1

    def end(self) -> None:
        with self._quiet:
            self._busy -= 1
            self._quiet.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Waits until no request is being answered; says whether that came true in time."""
        with self._quiet:
            return self._quiet.wait_for(lambda: self._busy == 0, timeout=timeout_s)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    timeout = _IDLE_TIMEOUT_S
    server_version = "runstream-clickhouse"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Keeps quiet: a line a request would fill the disk in a day."""

    def do_GET(self) -> None:  # the base class's name
        """Answers /ping and statements that only read."""
        self._answer(may_write=False)

    def do_HEAD(self) -> None:
        """As GET, without a body."""
        self._answer(may_write=False)

    def do_POST(self) -> None:
        """Answers any statement."""
        self._answer(may_write=True)

    def _answer(self, *, may_write: bool) -> None:
        server = cast("_Server", self.server)
        server.begin()
        self._query_id = str(uuid.uuid4())
        self._body_read = self._reads_only = False
        try:
            self._dispatch(server, may_write=may_write)
        except QueryError as error:
            # What is left of the body cannot be told from the next request.
            self.close_connection = self.close_connection or not self._body_read
            text = f"{error.message} (version {server.engine.version} (embedded))\n".encode()
            self._send(error.status, text, {"X-ClickHouse-Exception-Code": str(error.code), "Content-Type": "text/plain; charset=UTF-8"})
        finally:
            self.wfile.flush()
            server.end()

    def _dispatch(self, server: _Server, *, may_write: bool) -> None:
        url = urlsplit(self.path)
        headers = cast("dict[str, str]", self.headers)
        if not is_own_page(headers):
            raise QueryError.of(497, "This server answers programs on this machine only: the Host header must name it, and other sites' pages are refused")
        if url.path in ("/ping", "/replicas_status"):
            self._body_read = True
            self._send(HTTPStatus.OK, b"Ok.\n", {"Content-Type": "text/plain; charset=UTF-8"})
            return
        if url.path != "/":
            raise QueryError.of(60, f"There is no page {url.path}: statements go to /")
        body = open_body(cast("BinaryIO", self.rfile), headers).chunks()
        fields: list[tuple[str, str]] = []
        if headers.get("Content-Type", "").startswith("multipart/form-data"):
            fields = _form_fields(headers["Content-Type"], _read_text(body, b""))
        request = read_parameters(url.query, headers, fields)
        self._query_id = request.query_id or self._query_id
        self._reads_only = server.users.reads_only(request.user, request.password)
        self._run(server, request, body, may_write=may_write)

    def _run(self, server: _Server, request: Request, body: Generator[bytes], *, may_write: bool) -> None:
        text = request.query.encode()
        text += b"\n" if text else b""
        for piece in body:
            text += piece
            if len(text) >= _HEAD_BYTES:
                break
        if not text.strip():
            self._body_read = True
            self._send(HTTPStatus.OK, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
            return
        statement = parse(text)
        if isinstance(statement, Insert):
            self._check_may(statement, request, may_write=may_write)
            self._insert(server, request, statement, text, body)
            return
        rest = _read_text(body, b"")
        self._body_read = True
        statement = parse(text + rest) if rest else statement
        self._check_may(statement, request, may_write=may_write)
        match statement:
            case Refused(code, reason):
                raise QueryError.of(code, reason)
            case Read():
                self._read(server, request, statement)
            case Other():
                outcome = self._ask(server.engine, request, statement.text, marks_session=statement.marks_session)
                self._send(HTTPStatus.OK, outcome.body, _summary(outcome) | {"Content-Type": _content_type(request.default_format)})
            case Insert():
                # The first megabyte did not reach the data's beginning.
                raise QueryError.of(229, f"The INSERT statement itself is longer than {_HEAD_BYTES} bytes")

    def _check_may(self, statement: Statement, request: Request, *, may_write: bool) -> None:
        """Refuses what this request may not do; of an analyst the engine would let through what changes no table, such as an insert into a file, or SYSTEM STOP MERGES."""
        if isinstance(statement, Insert | Other) and not may_write:
            raise QueryError.of(164, "Cannot execute query in readonly mode: send it with POST")
        if self._reads_only and not isinstance(statement, Refused) and not only_reads(statement):
            raise QueryError.of(164, f"{request.user}: Cannot execute query in readonly mode")

    def _ask(self, engine: Engine, request: Request, sql: bytes, *, marks_session: bool = False) -> Outcome:
        return engine.run(
            sql,
            default_format=request.default_format,
            database=request.database,
            settings=dict(request.settings),
            parameters=dict(request.parameters),
            marks_session=marks_session,
            reads_only=self._reads_only,
        )

    def _insert(self, server: _Server, request: Request, statement: Insert, text: bytes, body: Generator[bytes]) -> None:
        with spooled(text[statement.data_at :], body, server.scratch) as path:
            self._body_read = True
            source = f"\nFROM INFILE {quote_string(str(path))} COMPRESSION 'none' ".encode()
            sql = statement.head + source + statement.settings + b" FORMAT " + statement.format.encode()
            outcome = self._ask(server.engine, request, sql)
        # The engine counts rows that come from a file as read.
        written = Outcome(b"", outcome.read_rows, outcome.read_bytes, outcome.read_rows, outcome.read_bytes, outcome.elapsed_s)
        self._send(HTTPStatus.OK, b"", _summary(written) | {"Content-Type": "text/plain; charset=UTF-8"})

    def _read(self, server: _Server, request: Request, statement: Read) -> None:
        format_name = statement.format or request.default_format
        if not re.fullmatch(r"\w+", format_name):
            raise QueryError.of(73, f"Unknown format {format_name}")
        path = server.scratch / f"answer-{uuid.uuid4().hex}"
        tail = statement.tail or f"FORMAT {format_name}".encode()
        sql = statement.head + f"\nINTO OUTFILE {quote_string(str(path))} COMPRESSION 'none' ".encode() + tail
        try:
            outcome = self._ask(server.engine, request, sql)
            file = path.open("rb")
        finally:
            path.unlink(missing_ok=True)
        with file:
            headers = {**_summary(outcome), "X-ClickHouse-Format": format_name, "Content-Type": _content_type(format_name)}
            self._send_head(HTTPStatus.OK, os.fstat(file.fileno()).st_size, headers)
            if self.command != "HEAD":
                self.wfile.flush()
                shutil.copyfileobj(file, self.wfile, 1 << 20)

    def _send(self, status: HTTPStatus, body: bytes, headers: dict[str, str]) -> None:
        self._send_head(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_head(self, status: HTTPStatus, length: int, headers: dict[str, str]) -> None:
        server = cast("_Server", self.server)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.send_header("X-ClickHouse-Query-Id", self._query_id)
        self.send_header("X-ClickHouse-Timezone", server.engine.timezone)
        self.send_header("X-ClickHouse-Server-Display-Name", "runstream")
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()


def _read_text(body: Generator[bytes], first: bytes) -> bytes:
    pieces, size = [first], len(first)
    for piece in body:
        pieces.append(piece)
        size += len(piece)
        if size > _TEXT_BYTES_MAX:
            raise QueryError.of(229, f"The statement is longer than {_TEXT_BYTES_MAX} bytes")
    return b"".join(pieces)


def _form_fields(content_type: str, body: bytes) -> list[tuple[str, str]]:
    message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP)
    fields: list[tuple[str, str]] = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_filename() is not None:
            raise QueryError.of(48, "External tables (files in a form) are not supported by the embedded server")
        payload = cast("bytes | None", part.get_payload(decode=True))
        fields.append((str(name), (payload or b"").decode()))
    return fields


def _summary(outcome: Outcome) -> dict[str, str]:
    numbers = {
        "read_rows": outcome.read_rows,
        "read_bytes": outcome.read_bytes,
        "written_rows": outcome.written_rows,
        "written_bytes": outcome.written_bytes,
        "elapsed_ns": int(outcome.elapsed_s * 1e9),
    }
    return {"X-ClickHouse-Summary": json.dumps({name: str(number) for name, number in numbers.items()}, separators=(",", ":"))}


def serve(data: Path, port: int, config: Path | None = None, users: Users | None = None) -> int:
    """Opens the engine on `data`, serves it on loopback until SIGTERM or SIGINT, then finishes what runs (5 s at most) and closes it."""
    scratch = data / "tmp" / "http"
    shutil.rmtree(scratch, ignore_errors=True)  # what a hard kill left
    scratch.mkdir(parents=True)
    engine = Engine(data, config)
    server = _Server(port, engine, scratch, users or Users())

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        # shutdown() waits for the loop that this handler interrupts, so it needs a thread of its own.
        threading.Thread(target=server.shutdown).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    sys.stdout.write(f"ClickHouse engine {engine.version} listens on http://{HOST}:{port}, data in {data}\n")
    sys.stdout.flush()
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    if not server.drain(_DRAIN_TIMEOUT_S):
        sys.stdout.write(f"statements still ran {_DRAIN_TIMEOUT_S:g} s after the signal; leaving them\n")
        sys.stdout.flush()
        os._exit(0)  # closing the engine under a running statement would wait for it
    engine.close()
    return 0
