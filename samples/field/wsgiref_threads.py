"""The server of the standard library: a thread for each connection, and a connection for each request."""

from __future__ import annotations

import json
import queue
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from serving import arguments, serve


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128


class Pooled(WSGIServer):
    """Connections handed to threads that stay."""

    request_queue_size = 128

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.waiting: queue.SimpleQueue[tuple[socket.socket, Any]] = queue.SimpleQueue()
        for number in range(service.threads):
            threading.Thread(target=self.work, name=f"worker-{number}", daemon=True).start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Leave it to a worker."""
        self.waiting.put((request, client_address))

    def work(self) -> None:
        """The body of a worker."""
        while True:
            request, client_address = self.waiting.get()
            try:
                self.finish_request(request, client_address)
            finally:
                self.shutdown_request(request)


class Quiet(WSGIRequestHandler):
    """Says nothing."""

    def log_message(self, *given: Any) -> None:
        """Nothing."""


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Twenty users."""
    total = 0
    for step in range(2000):
        total += step % 7
    body = json.dumps([{"id": n, "name": f"u{n}"} for n in range(20)]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    service = arguments(__doc__, fixed="threads that stay")
    server = make_server("127.0.0.1", service.port, answer, Pooled if service.fixed else Threaded, Quiet)
    serve(service, server.serve_forever)
