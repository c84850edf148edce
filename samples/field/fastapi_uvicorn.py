"""A service of FastAPI that computes in the event loop of uvicorn, or in its executor."""

from __future__ import annotations

import asyncio

import uvicorn
from fastapi import FastAPI
from serving import arguments, serve

app = FastAPI()


def compute(number: int) -> int:
    """Half a millisecond."""
    total = 0
    for step in range(4000):
        total += step * number % 7
    return total


@app.get("/")
async def index() -> dict[str, int]:
    """Computes in the loop."""
    return {"total": compute(3)}


@app.get("/thread")
async def thread() -> dict[str, int]:
    """Computes in a thread of the loop's executor."""
    return {"total": await asyncio.to_thread(compute, 3)}


if __name__ == "__main__":
    service = arguments(__doc__)
    config = uvicorn.Config(app, host="127.0.0.1", port=service.port, log_level="error", loop="asyncio")
    serve(service, uvicorn.Server(config).run)
