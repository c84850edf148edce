"""A logger of a module, and two handlers on the root: every step of every request is written twice."""

from __future__ import annotations

import logging
import logging.handlers
import os
import tempfile
import threading

logger = logging.getLogger("shop.orders")


def handle(order: int) -> int:
    """Says what it does."""
    logger.info("order %d received", order)
    total = sum(n * order for n in range(30))
    logger.info("order %d costs %d", order, total)
    return total


def orders(first: int) -> None:
    """One after the other."""
    order = first
    while True:
        order += 1
        handle(order % 1000)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        rotating = logging.handlers.RotatingFileHandler(
            os.path.join(directory, "shop.log"), maxBytes=4 << 20, backupCount=1
        )
        null = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
        logging.basicConfig(
            level=logging.INFO, handlers=[rotating, null], format="%(asctime)s %(name)s %(message)s"
        )
        threads = [threading.Thread(target=orders, args=(n,), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        print(f"ready {os.getpid()}", flush=True)
        threads[0].join()
