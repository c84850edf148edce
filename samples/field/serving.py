"""What every service shares: its arguments, and "ready" when it answers.

In: what serves on a port until the process ends. Out: exactly one line "ready PID" on stdout.
"""

from __future__ import annotations

import argparse
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Service:
    """The arguments: how many workers, and where to listen."""

    threads: int
    port: int
    fixed: bool = False


def arguments(description: str | None, *, fixed: str | None = None) -> Service:
    """The command line; `fixed` says what --fixed changes, where a service offers it."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--port", type=int, required=True)
    if fixed is not None:
        parser.add_argument("--fixed", action="store_true", help=fixed)
    parsed = parser.parse_args()
    return Service(parsed.threads, parsed.port, getattr(parsed, "fixed", False))


def serve(service: Service, forever: Callable[[], object]) -> None:
    """Serves in the main thread; says that it is ready when a connection was taken."""
    threading.Thread(target=_say_when_ready, args=(service.port,), daemon=True).start()
    forever()


def _say_when_ready(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            print(f"ready {os.getpid()}", flush=True)
            return
