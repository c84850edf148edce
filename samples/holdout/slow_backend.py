"""Clients that wait for a backend, which answers after some milliseconds."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time


def backend(end: socket.socket, parent: int) -> None:
    """Answers late, as long as there is somebody to answer to."""
    end.settimeout(1.0)
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            data = end.recv(100)
            time.sleep(0.004)
            end.sendall(data)


def client(end: socket.socket) -> None:
    """Asks, waits, computes a little."""
    total = 0
    while True:
        end.sendall(b"question")
        total += len(end.recv(100))
        for n in range(300):
            total += n % 3


if __name__ == "__main__":
    threads = []
    me = os.getpid()
    for _ in range(4):
        ours, theirs = socket.socketpair()
        threads.append(threading.Thread(target=client, args=(ours,)))
        if os.fork() == 0:
            ours.close()
            backend(theirs, me)
            os._exit(0)
        theirs.close()
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
