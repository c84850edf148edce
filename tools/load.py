"""Asks a service on this machine again and again: `python -m tools.load PORT [CONNECTIONS] [SECONDS] [PATH]`.

In: a port of 127.0.0.1. Out: on stdout the answers that came, "1234 answers in 5.0 s", at the end of SECONDS
or on SIGTERM. One thread; a connection that the service closes is opened again.
"""

from __future__ import annotations

import re
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Final

MAX_ANSWER_BYTES: Final = 1 << 20
_LENGTH: Final = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)


class _Connection:
    """A connection with a question under way."""

    def __init__(self, port: int, question: bytes) -> None:
        self._port = port
        self._question = question
        self.socket: socket.socket = self._open()
        self._received = b""

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=10.0)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.sendall(self._question)
        return opened

    def answered(self) -> tuple[bool, bool]:
        """Reads what came: whether an answer is complete, and whether the connection is a new one now."""
        data = b""
        with suppress(OSError):
            data = self.socket.recv(65536)
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        whole = bool(separator) and length is not None and len(body) >= int(length[1])
        ended = not data or len(self._received) > MAX_ANSWER_BYTES
        if whole or ended:
            self._received = b""
        if not ended and whole:
            with suppress(OSError):
                self.socket.sendall(self._question)
                return True, False
        if ended:
            self.socket.close()
            self.socket = self._open()
        return whole, ended


def ask(port: int, connections: int, seconds: float, path: str) -> tuple[int, float]:
    """Answers, and the seconds they took."""
    question = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    answers = 0
    start = time.monotonic()
    with selectors.DefaultSelector() as selector:
        try:
            for _ in range(connections):
                connection = _Connection(port, question)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            while (left := start + seconds - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    connection, before = key.data, key.fileobj
                    whole, renewed = connection.answered()
                    answers += whole
                    if renewed:
                        selector.unregister(before)
                        selector.register(connection.socket, selectors.EVENT_READ, connection)
        except (OSError, _Stopped):
            pass  # the service has gone, or the time is over
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()
    return answers, time.monotonic() - start


class _Stopped(Exception):
    """A signal asked us to end."""


def _stop(*_: object) -> None:
    raise _Stopped


def main(arguments: list[str]) -> int:
    """Asks, and says how many answers came."""
    signal.signal(signal.SIGTERM, _stop)
    port, connections, seconds, path, *_ = [*arguments, *("", "8", "3600", "/")[len(arguments) :]]
    answers, took = ask(int(port), int(connections), float(seconds), path)
    print(f"{answers} answers in {took:.2f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
