"""An address that nothing answers until it is opened: then it forwards to the broker, as a cluster that is back."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Forwarder:
    """A loopback port that is closed until `open`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))  # Bound and not listening: connections are refused, and nobody else gets the port.
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def open(self) -> None:
        """Answers from now on."""
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=_relay, args=(near, self._target), daemon=True).start()


def _relay(near: socket.socket, target: tuple[str, int]) -> None:
    """Copies bytes both ways until either side ends."""
    with near, socket.create_connection(target) as far, contextlib.suppress(OSError):
        other = {near: far, far: near}
        while True:
            for source in select.select([near, far], [], [])[0]:
                data = source.recv(65_536)
                if not data:
                    return
                other[source].sendall(data)
