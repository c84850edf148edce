"""Profiles pushed to an endpoint that takes pprof as Pyroscope's `/ingest` does.

In: profiles as bytes, with a name and the time they are of. Out: requests from a thread of its own. The queue
is bounded: an endpoint that is down, slow or lying costs profiles, which are counted, never the recorder's
time.
"""

from __future__ import annotations

import queue
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Final

from ftdiag.datatypes import dataclass
from ftdiag.errors import UsageError

QUEUE: Final = 8
"""Profiles that wait."""
TIMEOUT_S: Final = 5.0
MAX_ANSWER: Final = 4096
_BOUNDARY: Final = "ftdiag-pprof-boundary"


@dataclass(frozen=True, slots=True)
class Pushed:
    """One profile: of which application, from when until when (Unix time, s)."""

    name: str
    begin_s: int
    end_s: int
    profile: bytes


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An endpoint that sends elsewhere is not followed."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class Pusher:
    """Raises UsageError for what is no URL of HTTP."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"{url!r} is no URL of HTTP", "--push http://127.0.0.1:4040   is Pyroscope's own"
            )
        path = parts.path.rstrip("/")
        self._url = urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc, path if path.endswith("/ingest") else f"{path}/ingest", "", "")
        )
        self._queue: queue.Queue[Pushed | None] = queue.Queue(QUEUE)
        self._opener = urllib.request.build_opener(_NoRedirects)
        self.sent = 0
        self.dropped = 0
        """Profiles for which there was no place, or that the endpoint did not take."""
        self.last_error: str | None = None
        self._thread = threading.Thread(target=self._run, name="ftdiag-push", daemon=True)
        self._thread.start()

    def push(self, profile: Pushed) -> bool:
        """Whether it waits to be sent; at once."""
        try:
            self._queue.put_nowait(profile)
        except queue.Full:
            self.dropped += 1
            self.last_error = self.last_error or f"{QUEUE} others wait"
            return False
        return True

    def close(self, timeout_s: float = TIMEOUT_S) -> None:
        """Send what waits, for so long at most."""
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (profile := self._queue.get()) is not None:
            try:
                self._send(profile)
                self.sent += 1
            except Exception as error:  # noqa: BLE001 - an endpoint that lies may raise anything
                self._note(error)

    def _note(self, error: Exception) -> None:
        self.dropped += 1
        self.last_error = f"{type(error).__name__}: {error}"[:300]

    def _send(self, profile: Pushed) -> None:
        query = urllib.parse.urlencode(
            {"name": profile.name, "from": profile.begin_s, "until": profile.end_s, "format": "pprof",
             "spyName": "ftdiag"}
        )  # fmt: skip
        head = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="profile"; filename="profile.pprof"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + profile.profile + f"\r\n--{_BOUNDARY}--\r\n".encode()
        request = urllib.request.Request(
            f"{self._url}?{query}",
            data=body,
            headers={"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"},
            method="POST",
        )
        with self._opener.open(request, timeout=TIMEOUT_S) as answer:
            answer.read(MAX_ANSWER)
