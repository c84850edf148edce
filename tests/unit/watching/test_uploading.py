"""What was kept, copied to a store of objects that may be there, slow, wrong or gone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ftdiag.errors import UsageError
from ftdiag.watching import uploading
from ftdiag.watching.uploading import TRIES, Uploader
from reading import eventually


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """A store that refuses the first of what it is given, or all, and waits while it is told to."""

    protocol = "bucket"
    store: ClassVar[dict[str, Any]] = {}
    refuses: ClassVar[int] = 0
    asked: ClassVar[int] = 0
    open_door: ClassVar[threading.Event] = threading.Event()

    def put_file(self, *given: Any, **more: Any) -> None:
        """Takes a file."""
        type(self).asked += 1
        self.open_door.wait()
        if self.asked <= self.refuses:
            raise OSError("slow down")
        super().put_file(*given, **more)


@pytest.fixture
def bucket() -> type[Bucket]:
    """An empty one."""
    made = type("Made", (Bucket,), {"store": {}, "open_door": threading.Event(), "cachable": False})
    made.open_door.set()  # type: ignore[attr-defined]
    fsspec.register_implementation("bucket", made, clobber=True)
    return made


def a_recording(folder: Path, name: str = "kept-1-before.ftdiag") -> Path:
    """A file."""
    path = folder / name
    path.write_bytes(name.encode())
    return path


def test_what_was_kept_lies_below_the_hosts_name(tmp_path: Path) -> None:
    # GIVEN a shared folder, and a recording whose sampler was killed WHEN it is stored
    path = a_recording(tmp_path)
    Path(f"{path}-wal").write_bytes(b"last second")
    said: list[str] = []
    uploader = Uploader(f"file://{tmp_path}/shared/", said.append, host="web-1")
    assert uploader.upload(path)
    uploader.close()

    # THEN it is there with what belongs to it, and here
    there = tmp_path / "shared" / "web-1" / path.name
    assert there.read_bytes() == path.read_bytes()
    assert Path(f"{there}-wal").read_bytes() == b"last second"
    assert (uploader.sent, uploader.dropped, said) == (1, 0, [])


def test_a_store_that_refuses_at_first_is_tried_again(tmp_path: Path, bucket: type[Bucket]) -> None:
    # GIVEN a store that is busy twice WHEN something is stored THEN it comes
    bucket.refuses = 2
    uploader = Uploader("bucket://b", print, host="h", first_retry_s=0.01)
    uploader.upload(a_recording(tmp_path))
    assert eventually(lambda: uploader.sent == 1)
    uploader.close()
    assert [name.rpartition("//")[2] for name in bucket.store] == ["b/h/kept-1-before.ftdiag"]


def test_a_store_that_takes_nothing_is_told_and_costs_no_time(tmp_path: Path, bucket: type[Bucket]) -> None:
    # GIVEN a store that refuses everything WHEN something is stored
    bucket.refuses = 10**9
    said: list[str] = []
    uploader = Uploader("bucket://b", said.append, host="h", first_retry_s=0.01)
    uploader.upload(a_recording(tmp_path))

    # THEN it is tried some times, dropped, counted and told
    assert eventually(lambda: uploader.dropped == 1)
    uploader.close()
    assert bucket.asked == TRIES
    assert said == ["kept-1-before.ftdiag was not copied to bucket://b: OSError: slow down"]


def test_a_store_that_hangs_holds_up_nothing(tmp_path: Path, bucket: type[Bucket]) -> None:
    # GIVEN a store that does not answer
    bucket.open_door.clear()
    said: list[str] = []
    uploader = Uploader("bucket://b", said.append, host="h")

    # WHEN more is stored than may wait THEN the rest is dropped at once, and the end does not wait long
    taken = sum(
        uploader.upload(a_recording(tmp_path, f"kept-{n}.ftdiag")) for n in range(uploading.QUEUE + 9)
    )
    assert taken in (uploading.QUEUE, uploading.QUEUE + 1)
    assert uploader.dropped == uploading.QUEUE + 9 - taken
    uploader.close(0.1)
    assert "recordings were not copied to bucket://b" in said[-1]
    bucket.open_door.set()


def test_a_recording_that_is_gone_is_told(tmp_path: Path, bucket: type[Bucket]) -> None:
    # GIVEN one that the limits of the directory removed WHEN it is stored THEN that is told at once
    said: list[str] = []
    uploader = Uploader("bucket://b", said.append, host="h")
    uploader.upload(tmp_path / "kept-9.ftdiag")
    assert eventually(lambda: uploader.dropped == 1)
    uploader.close()
    assert "kept-9.ftdiag was not copied" in said[0]
    assert "No such file" in said[0]


@pytest.mark.parametrize("url", ["", "/mnt/shared", "s3:bucket", "no-such-protocol://a/b"])
def test_what_is_no_store(url: str) -> None:
    # GIVEN something else WHEN it is to be used THEN it is said, with what is possible
    with pytest.raises(UsageError) as raised:
        Uploader(url, print)
    assert "s3://bucket/folder" in (raised.value.hint or "")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN an installation without the extra WHEN a store is asked for THEN the command that gets it is named
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(UsageError) as raised:
        Uploader("s3://bucket", print)
    assert raised.value.hint == "pip install 'ftdiag[store]'"
