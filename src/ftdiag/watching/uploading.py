"""Recordings that were kept, copied to where a fleet's recordings lie: a store of objects, by fsspec.

In: a URL as fsspec takes them (`s3://bucket/ftdiag`, `gs://`, `abfs://`, `file:///mnt/shared`), paths of
complete recordings. Out: `URL/HOST/NAME`, copied by a thread of its own. The queue is bounded, and what does
not arrive after some tries is dropped and counted; the recording itself stays where it is, within the
recorder's own limits.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ftdiag.errors import UsageError
from ftdiag.watching.store import COMPANIONS

QUEUE: Final = 64
"""Recordings that wait."""
TRIES: Final = 4
FIRST_RETRY_S: Final = 5.0
"""Until the second try; three times as long until each later one."""
CLOSE_S: Final = 30.0
"""What waits when the recorder ends may take so long."""
_HINT: Final = "--store s3://bucket/folder, gs://..., file:///mnt/...   is what fsspec takes"


class Uploader:
    """See the module. `say` is told what was dropped. Raises UsageError for a URL that fsspec cannot use."""

    def __init__(
        self,
        url: str,
        say: Callable[[str], None],
        *,
        host: str | None = None,
        first_retry_s: float = FIRST_RETRY_S,
    ) -> None:
        self._files, self._folder = _file_system(url)
        self._url = url
        self._host = os.uname().nodename if host is None else host
        self._say = say
        self._first_retry_s = first_retry_s
        self._queue: queue.Queue[Path | None] = queue.Queue(QUEUE)
        self._over = threading.Event()
        self.sent = 0
        self.dropped = 0
        """Recordings for which there was no place, that were gone, or that the store did not take."""
        self._thread = threading.Thread(target=self._run, name="ftdiag-store", daemon=True)
        self._thread.start()

    def upload(self, path: Path) -> bool:
        """Whether it waits to be copied; at once."""
        try:
            self._queue.put_nowait(path)
        except queue.Full:
            self._drop(path, f"{QUEUE} others wait")
            return False
        return True

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Copy what waits, for so long at most; nothing is tried again."""
        self._over.set()
        end_s = time.monotonic() + timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            self._say(f"{self._queue.qsize()} recordings were not copied to {self._url}")
            return
        self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._thread.is_alive():
            self._say(f"{max(1, self._queue.qsize())} recordings were not copied to {self._url}")

    def _run(self) -> None:
        while (path := self._queue.get()) is not None:
            try:
                self._send(path)
                self.sent += 1
            except Exception as error:  # noqa: BLE001 - a file system of anybody's may raise anything
                self._drop(path, f"{type(error).__name__}: {error}"[:300])

    def _send(self, path: Path) -> None:
        wait_s = self._first_retry_s
        for attempt in range(1, TRIES + 1):
            try:
                place = f"{self._folder}/{self._host}"
                self._files.makedirs(place, exist_ok=True)
                # What a sampler that was killed left beside its recording belongs to it.
                for ending in COMPANIONS:
                    if not ending or os.path.exists(f"{path}{ending}"):
                        self._files.put_file(f"{path}{ending}", f"{place}/{path.name}{ending}")
            except Exception:
                if attempt == TRIES or not path.exists() or self._over.wait(wait_s):
                    raise
                wait_s *= 3
            else:
                return

    def _drop(self, path: Path, why: str) -> None:
        self.dropped += 1
        self._say(f"{path.name} was not copied to {self._url}: {why}")


def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise UsageError("--store needs fsspec", "pip install 'ftdiag[store]'") from None
    if "://" not in url:
        raise UsageError(f"{url!r} is no URL of a store", _HINT)
    try:
        files, folder = url_to_fs(url)
    except (ImportError, ValueError) as error:  # a driver that is not installed, a protocol nobody knows
        raise UsageError(f"{url} cannot be used: {error}", _HINT) from None
    return files, str(folder).rstrip("/")
