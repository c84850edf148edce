"""The load of services in tests: it asks again and again, whether a connection is kept or not."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from tools.load import ask


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers everything with two bytes."""

    def do_GET(self) -> None:
        """An answer with its length."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *given: object) -> None:
        """Nothing."""


@pytest.fixture(params=["HTTP/1.0", "HTTP/1.1"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server that closes connections, or keeps them."""
    handler = type("Handler", (Answering,), {"protocol_version": request.param})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_answers_are_counted(port: int) -> None:
    # GIVEN a server WHEN asked for a moment over two connections
    answers, took = 0, 0.0
    for seconds in (0.3, 3.0, 20.0):
        answers, took = ask(port, 2, seconds, "/")
        assert took >= seconds
        # THEN more answers came than there are connections
        if answers > 2:
            return
    pytest.fail(f"{answers} answers in {took:.0f} s")


def test_a_server_that_is_not_there_is_no_answer() -> None:
    # GIVEN a port that nobody listens on WHEN asked THEN no answer came, and nothing is raised
    assert ask(1, 1, 0.1, "/")[0] == 0
