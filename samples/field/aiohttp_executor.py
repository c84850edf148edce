"""A service of aiohttp that hands its work to an executor in small pieces."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from serving import arguments, serve


def compute(number: int) -> int:
    """Half a millisecond."""
    total = 0
    for step in range(4000):
        total += step * number % 7
    return total


async def index(request: web.Request) -> web.Response:
    """Computes in a thread."""
    total = await asyncio.get_running_loop().run_in_executor(executor, compute, 3)
    return web.json_response({"total": total})


if __name__ == "__main__":
    service = arguments(__doc__)
    executor = ThreadPoolExecutor(service.threads, thread_name_prefix="compute")
    app = web.Application()
    app.router.add_get("/", index)
    serve(
        service,
        lambda: web.run_app(app, host="127.0.0.1", port=service.port, print=lambda _: None, access_log=None),
    )
