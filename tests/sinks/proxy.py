"""A proxy in front of ClickHouse that a test may have hold an insert half way, or cut the connection once an insert was stored and before its answer comes."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runstream_local.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_BYTES = 1 << 16
_WAIT_S = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Gone(Exception):
    """One side closed its connection."""


class Proxy:
    """Passes requests on, one after the other on each connection; `url` is what clients use instead of ClickHouse's."""

    def __init__(self, target: str) -> None:
        split = urlsplit(target)
        self._target = split.hostname or HOST, split.port or 8123
        self._server = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._server.getsockname()[1]}"
        self.cuts_left = 0
        self.cuts = 0
        self._hold_at: float | None = None
        self._go = threading.Event()
        self.holding = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold_next_insert(self, share: float) -> None:
        """Of the next insert so much of the body is passed on and then nothing until `let_go`; with 1 all of it is, and the answer is kept back."""
        self.holding.clear()
        self._go.clear()
        self._hold_at = share

    def let_go(self) -> None:
        """What is held goes on."""
        self._hold_at = None
        self._go.set()

    def close(self) -> None:
        """Ends all connections."""
        self.let_go()
        for one in (self._server, *self._sockets):
            with contextlib.suppress(OSError):
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, Gone), client, socket.create_connection(self._target) as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                self._exchange(client, server)

    def _exchange(self, client: socket.socket, server: socket.socket) -> None:
        head, rest, length = _head(client)
        body = _body(client, rest, length)
        first = next(body, b"")
        is_insert = b"query=INSERT" in head.partition(b"\r\n")[0]
        hold_at = self._hold_at if is_insert else None
        if hold_at is not None:
            self._hold_at = None
        server.sendall(head)
        passed = 0
        for piece in itertools.chain((first,), body):
            if hold_at is not None and hold_at < 1 and passed + len(piece) > hold_at * length:
                server.sendall(piece[: len(piece) // 2])
                self._hold()
                piece = piece[len(piece) // 2 :]
                hold_at = None
            server.sendall(piece)
            passed += len(piece)
        answer, rest, length = _head(server)
        if hold_at is not None:
            self._hold()
        if is_insert and self.cuts_left > 0:
            self.cuts_left -= 1
            self.cuts += 1
            raise Gone
        client.sendall(answer)
        for piece in _body(server, rest, length):
            client.sendall(piece)

    def _hold(self) -> None:
        self.holding.set()
        self._go.wait(_WAIT_S)


def _head(source: socket.socket) -> tuple[bytes, bytes, int]:
    """Head of a message, what of its body came with it, and the body's length."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += _piece(source)
    head, _, rest = text.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    assert found is not None or b"transfer-encoding" not in head.lower(), "this proxy knows bodies with a length only"
    return head + b"\r\n\r\n", rest, int(found[1]) if found else 0


def _body(source: socket.socket, rest: bytes, length: int) -> Iterator[bytes]:
    while length > 0:
        piece = rest or _piece(source)
        rest = b""
        length -= len(piece)
        yield piece


def _piece(source: socket.socket) -> bytes:
    piece = source.recv(_PIECE_BYTES)
    if not piece:
        raise Gone
    return piece
