"""One event loop that computes itself while its executor's threads wait for jobs."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

from throughput import Tally, parse_options, run

REQUESTS_AT_ONCE = 50


def render_page(request: int) -> int:
    """What is moved off the loop: a small part of the work."""
    return sum((request + step) & 0x7F for step in range(1000))


def parse_request(request: int) -> int:
    """What is left on the loop, and blocks every other request meanwhile."""
    total = 0
    for step in range(8000):
        total = (total * 31 + request + step) & 0xFFFFFF
    return total


class WebService:
    """Handles requests as coroutines of one loop."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def run_loop(self, worker: int, tally: Tally) -> None:
        """The body of the loop's thread."""
        asyncio.run(self.accept_requests(tally))

    async def accept_requests(self, tally: Tally) -> None:
        """Keeps a number of requests under way."""
        clients = [self.serve_client(client, tally) for client in range(REQUESTS_AT_ONCE)]
        await asyncio.gather(*clients)

    async def serve_client(self, client: int, tally: Tally) -> None:
        """One client's requests, one after the other."""
        while tally.go_on():
            await asyncio.sleep(0.005)
            parsed = parse_request(client)
            await asyncio.get_running_loop().run_in_executor(self._executor, render_page, parsed)
            tally.done()


def run_own_loop(worker: int, tally: Tally) -> None:
    """The same with a loop for each thread, which does all of its requests itself."""
    asyncio.run(accept_own_requests(tally))


async def accept_own_requests(tally: Tally) -> None:
    """Keeps a number of requests under way."""
    await asyncio.gather(*[serve_own_client(client, tally) for client in range(REQUESTS_AT_ONCE)])


async def serve_own_client(client: int, tally: Tally) -> None:
    """One client's requests; nothing is worth being moved off this loop."""
    while tally.go_on():
        await asyncio.sleep(0.005)
        render_page(parse_request(client))
        tally.done()


if __name__ == "__main__":
    options = parse_options(__doc__, threads=4, fixed="a loop for each core, which does the work itself")
    if options.fixed:
        loops = max(2, len(os.sched_getaffinity(0)))
        run([run_own_loop] * loops, options, unit="requests", name="event-loop")
    with ThreadPoolExecutor(options.threads, thread_name_prefix="render") as executor:
        service = WebService(executor)
        run([service.run_loop], options, unit="requests", name="event-loop")
