"""A service of Flask behind waitress."""

from __future__ import annotations

import logging
from typing import Any

import waitress
from flask import Flask, jsonify
from serving import arguments, serve

app = Flask(__name__)


@app.get("/")
def index() -> Any:
    """Twenty users."""
    total = 0
    for step in range(2000):
        total += step % 7
    return jsonify(users=[{"id": n, "name": f"u{n}"} for n in range(20)], total=total)


if __name__ == "__main__":
    logging.getLogger("waitress").setLevel(logging.ERROR)
    service = arguments(__doc__)
    serve(service, lambda: waitress.serve(app, host="127.0.0.1", port=service.port, threads=service.threads))
