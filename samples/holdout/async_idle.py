"""Healthy: an asyncio service whose tasks mostly sleep, with a little work in threads."""

from __future__ import annotations

import asyncio
import os


def small(number: int) -> int:
    """A millisecond."""
    return sum(n % number for n in range(20_000))


async def task(number: int) -> None:
    """Wakes up twenty times a second."""
    while True:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(small, number)


async def main() -> None:
    """Three of them."""
    print(f"ready {os.getpid()}", flush=True)
    await asyncio.gather(*(task(number) for number in range(1, 4)))


if __name__ == "__main__":
    asyncio.run(main())
