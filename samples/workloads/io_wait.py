"""Threads that wait for sockets, pipes and timers: more cores would not help them."""

from __future__ import annotations

import os
import socket
import time

from throughput import Body, Tally, parse_options, run

MESSAGE = b"x" * 64
PAUSE_S = 0.01


class Feeder:
    """Writes a small message to every reader again and again; at the end closes the writing sides."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._pipes: list[int] = []

    def open_socket(self) -> socket.socket:
        """A socket to read from."""
        reader, writer = socket.socketpair()
        self._sockets.append(writer)
        return reader

    def open_pipe(self) -> int:
        """A pipe to read from."""
        reader, writer = os.pipe()
        self._pipes.append(writer)
        return reader

    def feed(self, worker: int, tally: Tally) -> None:
        """The body of the feeding thread. Ends by closing, which ends the readers."""
        while tally.go_on():
            for connection in self._sockets:
                connection.send(MESSAGE)
            for pipe in self._pipes:
                os.write(pipe, MESSAGE)
            time.sleep(PAUSE_S)
        for connection in self._sockets:
            connection.close()
        for pipe in self._pipes:
            os.close(pipe)


class SocketReader:
    """Reads one socket until its peer closes it."""

    def __init__(self, feeder: Feeder) -> None:
        self._connection = feeder.open_socket()

    def read_socket(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        with self._connection:
            while self._connection.recv(4096):
                tally.done()


class PipeReader:
    """Reads one pipe until its other end is closed."""

    def __init__(self, feeder: Feeder) -> None:
        self._pipe = feeder.open_pipe()

    def read_pipe(self, worker: int, tally: Tally) -> None:
        """The body of a worker thread."""
        while os.read(self._pipe, 4096):
            tally.done()
        os.close(self._pipe)


def poll_slowly(worker: int, tally: Tally) -> None:
    """The body of a thread that looks for something now and then."""
    while tally.go_on():
        time.sleep(0.05)
        tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, threads=6)
    feeder = Feeder()
    bodies: list[Body] = []
    for index in range(options.threads):
        # In turn a socket, a pipe, a timer; the feeding thread comes on top.
        if index % 3 == 0:
            bodies.append(SocketReader(feeder).read_socket)
        elif index % 3 == 1:
            bodies.append(PipeReader(feeder).read_pipe)
        else:
            bodies.append(poll_slowly)
    run([*bodies, feeder.feed], options, unit="messages", name="reader")
