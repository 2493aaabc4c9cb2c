"""The fault proxy in front of a server that answers each line: what a client feels of each fault."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from runstream_local.ports import HOST
from tests.faults.proxy import Ambush, FaultProxy
from tests.waiting import wait_for


class Echo:
    """Answers what it got, and keeps it."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # It is closed already.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with one:
            try:
                while data := one.recv(1000):
                    self.got.append(data)
                    one.sendall(data)
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server."""
    made = Echo()
    yield made
    made.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    """The proxy in front of it."""
    made = FaultProxy(echo.port)
    yield made
    made.close()


def client(proxy: FaultProxy) -> socket.socket:
    """A connection that has been answered once."""
    made = socket.create_connection((HOST, proxy.port), timeout=5.0)
    assert said(made, b"hello") == b"hello"
    return made


def said(one: socket.socket, words: bytes) -> bytes:
    """The answer; raises where the connection has ended instead."""
    one.sendall(words)
    return heard(one)


def heard(one: socket.socket) -> bytes:
    """What comes; raises where the connection has ended instead."""
    if answer := one.recv(1000):
        return answer
    raise ConnectionResetError


def test_a_reset_ends_what_is_open_and_nothing_else(proxy: FaultProxy) -> None:
    """A client sees its connection break, and may connect anew."""
    with client(proxy) as one:
        proxy.reset()
        with pytest.raises(ConnectionError):
            said(one, b"a")
    with client(proxy):
        pass


def test_silence_is_told_to_nobody(proxy: FaultProxy, echo: Echo) -> None:
    """A silent connection takes what is sent and brings no answer until it is forgotten; others work meanwhile."""
    with client(proxy) as one:
        proxy.silence()
        one.settimeout(0.2)
        with pytest.raises(TimeoutError):
            said(one, b"nobody hears this")
        with client(proxy):
            pass
        proxy.forget()
        with pytest.raises(ConnectionError):
            heard(one)
    assert b"nobody hears this" not in echo.got


def test_an_answer_is_lost_after_its_request_was_taken(proxy: FaultProxy, echo: Echo) -> None:
    """The server has the request, the client a broken connection; requests without the mark go on, and one answer is lost, not two."""
    proxy.cut_after_request(b"INSERT")
    with client(proxy) as one:
        assert said(one, b"SELECT") == b"SELECT"
        with pytest.raises(ConnectionError):
            said(one, b"INSERT 1")
    wait_for(lambda: b"INSERT 1" in echo.got, 5, "the request")
    with client(proxy) as one:
        assert said(one, b"INSERT 2") == b"INSERT 2"
    assert proxy.cuts == 1


@pytest.mark.parametrize("answered", [False, True], ids=["before its answer", "before its answer is passed on"])
def test_a_process_is_killed_in_the_midst_of_a_request(proxy: FaultProxy, echo: Echo, answered: bool) -> None:
    """Others' requests and those of clients that are not concerned harm nobody, and one request kills, not two."""
    with subprocess.Popen(["sleep", "60"]) as victim, client(proxy) as stranger, client(proxy) as one:
        ambush = Ambush(
            lambda piece: (lambda answer: answer == piece) if b"INSERT" in piece else None,
            lambda port: victim.pid if port == one.getsockname()[1] else None,
            answered,
        )
        proxy.lie_in_wait(ambush)
        assert said(stranger, b"INSERT 1") == b"INSERT 1"
        assert said(one, b"SELECT") == b"SELECT"
        assert victim.poll() is None
        one.sendall(b"INSERT 2")
        assert ambush.over.wait(5)
        assert victim.wait(5) == -signal.SIGKILL
        assert proxy.call_off(ambush)
        assert b"INSERT 2" in echo.got
        if answered:
            assert heard(one) == b"INSERT 2"
        else:
            with pytest.raises(ConnectionError):
                heard(one)


def test_an_ambush_that_nobody_comes_by_is_called_off(proxy: FaultProxy) -> None:
    """And kills nobody afterwards."""
    with subprocess.Popen(["sleep", "60"]) as victim, client(proxy) as one:
        ambush = Ambush(lambda _: lambda _: True, lambda _: victim.pid)
        proxy.lie_in_wait(ambush)
        assert not proxy.call_off(ambush)
        assert said(one, b"a") == b"a"
        assert victim.poll() is None
        victim.kill()


def test_nobody_behind_it_is_a_connection_refused(proxy: FaultProxy, echo: Echo) -> None:
    """Where the server is gone, a client that connects is sent away."""
    echo.close()
    with pytest.raises(ConnectionError), socket.create_connection((HOST, proxy.port), timeout=5.0) as one:  # Sent away before or after it is through.
        said(one, b"a")


def test_delays_end(proxy: FaultProxy) -> None:
    """Answers come late, whole and in order, and at once again afterwards."""
    proxy.delay(0.05)
    with client(proxy) as one:
        assert said(one, b"late") == b"late"
        proxy.delay(0.0)
        assert said(one, b"soon") == b"soon"
