"""Healthy: a service at night. Threads wait for sockets, events, a condition and time."""

from __future__ import annotations

import os
import socket
import threading
import time


def accept(listener: socket.socket) -> None:
    """Nobody comes."""
    while True:
        connection, _ = listener.accept()
        connection.close()


def on_event(event: threading.Event) -> None:
    """With a timeout, again and again."""
    while not event.wait(0.5):
        pass


def on_condition(changed: threading.Condition) -> None:
    """Nothing changes."""
    with changed:
        changed.wait()


def heartbeat() -> None:
    """A little work every 50 ms."""
    while True:
        time.sleep(0.05)
        sum(range(5000))


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", 0))
    threads = [
        threading.Thread(target=accept, args=(listening,)),
        threading.Thread(target=on_event, args=(threading.Event(),)),
        threading.Thread(target=on_condition, args=(threading.Condition(),)),
        threading.Thread(target=heartbeat, name="heartbeat"),
    ]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
