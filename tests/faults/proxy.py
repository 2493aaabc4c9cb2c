"""A TCP proxy on loopback that does to connections what networks do: delays, resets, silence that only one side knows of, an answer that is lost after its request was taken. Since it sees
requests and answers pass, it also kills processes in the midst of them.

It understands no protocol: a request is whatever the client sends before the server sends next. Which requests an answer may be lost of is told by bytes that they hold; who lies in wait
for a request brings what knows it, and its answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runstream_local.ports import HOST, choose_port

_PIECE_BYTES = 1 << 16
_LINGER_NONE = struct.pack("ii", 1, 0)  # Closing sends a reset and drops what is under way.


IsAnswer = Callable[[bytes], bool]


@dataclass(eq=False)
class Ambush:
    """A kill in the midst of a request.

    Attributes:
        asks: for what a client sent, what tells its answer; None where it is not the request that is waited for.
        whom: for the port of a client, the process to kill; None where that client is not concerned.
        answered: whether the answer is waited for, which the client then has not got; else the request has been passed on, and the client gets no answer.
        after_s: what lies between the passing on and the kill.
        killed: the process that was killed; 0 before.
    """

    asks: Callable[[bytes], IsAnswer | None]
    whom: Callable[[int], int | None]
    answered: bool = False
    after_s: float = 0.0
    killed: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def strike(self, pid: int) -> None:
        """Kills."""
        time.sleep(self.after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.killed = pid
        self.over.set()


@dataclass(eq=False)
class _Pair:
    """A client's connection and the one that was made for it."""

    near: socket.socket
    far: socket.socket
    silent: bool = False
    doomed: bool = False  # Its next answer is lost.
    awaited: tuple[Ambush, IsAnswer] | None = None

    def reset(self) -> None:
        for one in (self.near, self.far):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # Wakes the thread that reads from it.
        for one in (self.near, self.far):
            one.close()


class FaultProxy:
    """Listens on `port`, forwards to `target`, and misbehaves when told; `cuts` counts the answers that were lost."""

    def __init__(self, target: int) -> None:
        self._target = (HOST, target)
        self.port = choose_port(avoid=frozenset({target}))
        self._listener = socket.create_server((HOST, self.port))
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._delay_s = 0.0
        self._cut: tuple[bytes, int] | None = None
        self._ambushes: list[Ambush] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{HOST}:{self.port}"

    def delay(self, by_s: float) -> None:
        """From now on each piece is passed on so much later; 0 ends it."""
        self._delay_s = by_s

    def reset(self) -> None:
        """Resets all connections."""
        for pair in self._open():
            pair.reset()

    def silence(self) -> None:
        """From now on nothing passes on the connections that are open, and nobody is told; new ones work."""
        for pair in self._open():
            pair.silent = True

    def forget(self) -> None:
        """Resets the connections that are silent, as a router does that has forgotten them."""
        for pair in self._open():
            if pair.silent:
                pair.reset()

    def cut_after_request(self, mark: bytes = b"", bytes_min: int = 0) -> None:
        """Of the next request that has a piece so long and with the mark, the server gets all and the client no answer: its connection is reset instead."""
        with self._lock:
            self._cut = mark, bytes_min

    def spare(self) -> bool:
        """No answer is to be lost any more; False, for who waited for one in vain."""
        with self._lock:
            self._cut = None
        return False

    def lie_in_wait(self, ambush: Ambush) -> None:
        """From now on the first request that is waited for springs it."""
        with self._lock:
            self._ambushes.append(ambush)

    def call_off(self, ambush: Ambush) -> bool:
        """Ends an ambush; whether somebody was killed by it."""
        self._spring(ambush)
        return bool(ambush.killed)

    def close(self) -> None:
        """Ends it with all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _open(self) -> list[_Pair]:
        with self._lock:
            return list(self._pairs)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=5.0)
        except OSError:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
            near.close()
            return
        far.settimeout(None)
        pair = _Pair(near, far)
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.add(pair)
        back = threading.Thread(target=self._pass, args=(pair, far, near), daemon=True)
        back.start()
        self._pass(pair, near, far)
        back.join()
        with self._lock:
            self._pairs.discard(pair)
        pair.reset()

    def _pass(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                if self._delay_s:
                    time.sleep(self._delay_s)
                if pair.silent:
                    continue
                victim = None
                if source is pair.near:
                    self._ask(pair, piece)
                    victim = self._request(pair, piece)
                elif pair.doomed:
                    break
                else:
                    self._answer(pair, piece)
                sink.sendall(piece)
                if victim is not None:
                    ambush, pid = victim
                    ambush.strike(pid)
        if not pair.silent:
            pair.reset()

    def _request(self, pair: _Pair, piece: bytes) -> tuple[Ambush, int] | None:
        """Who is to be killed once the request has been passed on."""
        for ambush in list(self._ambushes):
            if (is_answer := ambush.asks(piece)) is None or (pid := ambush.whom(pair.near.getpeername()[1])) is None:
                continue
            if ambush.answered:
                pair.awaited = ambush, is_answer
            elif self._spring(ambush):
                pair.doomed = True
                return ambush, pid
        return None

    def _answer(self, pair: _Pair, piece: bytes) -> None:
        """Kills who is to be killed before an answer is passed on."""
        if pair.awaited is None or not pair.awaited[1](piece):
            return
        (ambush, _), pair.awaited = pair.awaited, None
        pid = ambush.whom(pair.near.getpeername()[1])
        if pid is not None and self._spring(ambush):
            ambush.strike(pid)

    def _spring(self, ambush: Ambush) -> bool:
        """Whether it is this connection's to spring it."""
        with self._lock:
            mine = ambush in self._ambushes
            self._ambushes = [one for one in self._ambushes if one is not ambush]
        return mine

    def _ask(self, pair: _Pair, piece: bytes) -> None:
        """Marks a connection whose answer is to be lost."""
        with self._lock:
            if self._cut is not None and len(piece) >= self._cut[1] and self._cut[0] in piece:
                pair.doomed = True
                self._cut = None
                self.cuts += 1
