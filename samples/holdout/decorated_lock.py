"""A decorator takes one lock around every call of the functions it decorates."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

_guard = threading.Lock()


def synchronized(function: Callable[..., Any]) -> Callable[..., Any]:
    """Only one thread at a time inside."""

    @functools.wraps(function)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with _guard:
            return function(*args, **kwargs)

    return locked


@synchronized
def price(amount: int) -> int:
    """Some arithmetic on the argument."""
    total = 0
    for step in range(400):
        total += (amount * step) % 97
    return total


def serve() -> None:
    """Prices for ever."""
    amount = 0
    while True:
        amount = (amount + price(amount & 255)) & 0xFFFF


if __name__ == "__main__":
    servers = [threading.Thread(target=serve, name=f"http-{n}") for n in range(4)]
    for server in servers:
        server.start()
    print(f"ready {os.getpid()}", flush=True)
    for server in servers:
        server.join()
