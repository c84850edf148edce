"""An asyncio server whose handlers compute inline, with clients in the same loop."""

from __future__ import annotations

import asyncio
import os
import threading
import time


def render(number: int) -> str:
    """A page: pure computing."""
    return ",".join(str(n * number % 13) for n in range(3000))


async def client(number: int) -> None:
    """Page after page."""
    while True:
        page = render(number)
        await asyncio.sleep(0 if page else 1)


async def main() -> None:
    """Five clients."""
    print(f"ready {os.getpid()}", flush=True)
    await asyncio.gather(*(client(number) for number in range(5)))


def housekeeping() -> None:
    """Now and then."""
    while True:
        time.sleep(0.2)


if __name__ == "__main__":
    for _ in range(3):
        threading.Thread(target=housekeeping, daemon=True).start()
    asyncio.run(main())
