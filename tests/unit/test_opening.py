"""Files that somebody else chose: what is opened, what never is, and with whose rights."""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag import opening
from ftdiag.opening import (
    EVERYBODY,
    NotPlain,
    Reader,
    TargetReader,
    names_in_root,
    open_in_root,
    open_plain,
    read_from,
    read_in_root,
    reader_of,
)

AS_ROOT = os.geteuid() == 0
US = os.getpid()
NAMELESS = "No such file|too long|a directory"


def below_root(path: Path | str) -> str:
    """The same file by way of our own root."""
    return f"/proc/{US}/root{path}"


def reach(path: Path) -> list[Callable[[], int]]:
    """All ways in which a file is opened."""
    return [
        lambda: open_plain(path),
        lambda: open_plain(below_root(path)),
        lambda: open_plain(f"/proc/{US}/task/{US}/root{path}"),
        lambda: open_in_root(US, str(path)),
        lambda: open_plain(path, reader=Reader(os.geteuid(), os.getegid(), tuple(os.getgroups()))),
    ]


def test_a_regular_file_is_read_and_no_more_of_it_than_is_wanted(tmp_path: Path) -> None:
    # GIVEN a file, and a link to it
    file = tmp_path / "app.py"
    file.write_bytes(b"import threading\n")
    (tmp_path / "link.py").symlink_to("app.py")

    # WHEN its beginning is read in each way
    # THEN that is what comes
    for path in (file, tmp_path / "link.py"):
        assert read_from(open_plain(path), 6) == b"import"
        assert read_from(open_plain(below_root(path)), 1 << 20) == b"import threading\n"
        assert read_in_root(US, str(path), 6) == b"import"


def test_a_descriptor_never_waits_and_is_not_inherited(tmp_path: Path) -> None:
    # GIVEN a file
    (tmp_path / "app.py").write_bytes(b"x")

    # WHEN it is opened
    for way in reach(tmp_path / "app.py"):
        descriptor = way()

        # THEN reading it does not wait, and children do not get it
        assert not os.get_blocking(descriptor)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_a_fifo_is_not_opened_in_any_way(tmp_path: Path) -> None:
    # GIVEN a FIFO with somebody who waits for a reader
    fifo = tmp_path / "perf-1.map"
    os.mkfifo(fifo)
    met = threading.Event()

    def wait_for_a_reader() -> None:
        os.close(os.open(fifo, os.O_WRONLY))
        met.set()

    writer = threading.Thread(target=wait_for_a_reader, daemon=True)
    writer.start()

    # WHEN it is to be opened
    for way in reach(fifo):
        with pytest.raises(NotPlain, match="not a regular file"):
            way()

    # THEN that is refused, and the writer has met nobody
    assert not met.wait(0.2)
    os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    writer.join()


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx"])
def test_a_device_is_not_opened(name: str, tmp_path: Path) -> None:
    # GIVEN a link to a device
    (tmp_path / "app.py").symlink_to(name)

    # WHEN it is to be opened, THEN that is refused; opening /dev/ptmx would have made a terminal
    before = len(os.listdir("/dev/pts"))
    for way in reach(tmp_path / "app.py"):
        with pytest.raises(OSError, match="not a regular file"):
            way()
    assert len(os.listdir("/dev/pts")) == before


def test_other_things_that_are_no_files_are_refused(tmp_path: Path) -> None:
    # GIVEN a directory and a socket
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))

        # WHEN they are to be opened, THEN that is refused
        for way in reach(tmp_path / "s"):
            with pytest.raises(NotPlain):
                way()
        for way in reach(tmp_path):
            with pytest.raises(NotPlain, match="a directory"):
                way()


@pytest.mark.parametrize(
    "name", ["/proc/self/status", "/proc/kmsg", "/proc/self/mem", "/sys/kernel/uevent_seqnum"]
)
def test_a_file_of_the_kernel_is_refused(name: str, tmp_path: Path) -> None:
    # GIVEN a link to a file whose reading does something, or never ends
    if not os.path.exists(name):
        pytest.fail(f"{name} is not there: name another file of that kind")
    (tmp_path / "os-release").symlink_to(name)

    # WHEN it is to be opened, THEN that is refused
    with pytest.raises(OSError, match="a file of the kernel"):
        open_plain(tmp_path / "os-release")
    with pytest.raises(OSError, match="a file of the kernel"):
        open_in_root(US, str(tmp_path / "os-release"))


def test_a_large_file_is_refused_where_a_bound_is_given(tmp_path: Path) -> None:
    # GIVEN a file of 3 MiB of which the disk has nothing
    with open(tmp_path / "large.py", "wb") as file:
        file.truncate(3 << 20)

    # WHEN 2 MiB are allowed, THEN it is refused
    with pytest.raises(NotPlain, match="more than 2 MiB") as refused:
        open_plain(tmp_path / "large.py", max_bytes=2 << 20)
    assert refused.value.errno == errno.EFBIG
    os.close(open_plain(tmp_path / "large.py", max_bytes=3 << 20))


@pytest.mark.parametrize("path", ["", "a\0b", "\udfff\ud800", "/" + "x" * 5000, "none/there"])
def test_a_name_that_no_file_has_is_an_oserror(path: str) -> None:
    # GIVEN a name of which the kernel can make nothing
    # WHEN it is to be opened, THEN that is one kind of error
    with pytest.raises(OSError, match=NAMELESS):
        open_plain(path)
    with pytest.raises(OSError, match=NAMELESS):
        open_in_root(US, path)


# --- below a root ----------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A process's root, and a secret beside it."""
    (tmp_path / "secret").write_text("outside")
    inner = tmp_path / "root"
    (inner / "etc").mkdir(parents=True)
    (inner / "secret").write_text("inside")
    (inner / "etc" / "secret").write_text("inside etc")
    for name, target in {
        "absolute": "/secret",
        "up": "../../../secret",
        "through": "etc/../../secret",
        "etc/chain": "/absolute",
        "loop": "loop",
        "dangling": "/nowhere",
        "dir": "/etc",
    }.items():
        (inner / name).symlink_to(target)
    return inner


WAYS = [
    pytest.param(opening._openat2, id="openat2"),
    pytest.param(opening.walk_in_root, id="step-by-step"),
]


@pytest.mark.parametrize("take_hold", WAYS)
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/secret", "inside"),
        ("secret", "inside"),
        ("../../secret", "inside"),
        ("/etc/../../../secret", "inside"),
        ("/absolute", "inside"),
        ("/up", "inside"),
        ("/through", "inside"),
        ("/etc/chain", "inside"),
        ("/dir/secret", "inside etc"),
        ("/dir/../secret", "inside"),
        ("//etc/.//secret", "inside etc"),
    ],
)
def test_no_way_leads_out_of_a_root(
    take_hold: Callable[[int, bytes], int], path: str, found: str, root: Path
) -> None:
    # GIVEN a root with links that would lead out of it
    hold = os.open(root, os.O_PATH)

    # WHEN a path is followed in it
    descriptor = take_hold(hold, path.encode())

    # THEN it ends inside
    with open(f"/proc/self/fd/{descriptor}") as file:
        assert file.read() == found
    os.close(descriptor)
    os.close(hold)


@pytest.mark.parametrize("take_hold", WAYS)
@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/loop", errno.ELOOP),
        ("/dangling", errno.ENOENT),
        ("/secret/x", errno.ENOTDIR),
        ("/none", errno.ENOENT),
    ],
)
def test_what_leads_nowhere_is_the_same_error_in_both_ways(
    take_hold: Callable[[int, bytes], int], path: str, number: int, root: Path
) -> None:
    # GIVEN a path that leads nowhere
    hold = os.open(root, os.O_PATH)
    before = len(os.listdir("/proc/self/fd"))

    # WHEN it is followed, THEN the error is what the kernel says, and nothing stays open
    with pytest.raises(OSError, match=os.strerror(number)) as failed:
        take_hold(hold, path.encode())
    assert failed.value.errno == number
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(hold)


def test_a_path_of_many_directories_is_bounded(root: Path) -> None:
    # GIVEN more directories below each other than descriptors are spent on
    hold = os.open(root, os.O_PATH)
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(opening.MAX_DEPTH + 1):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    # WHEN the deepest is looked for, THEN it is given up
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        opening.walk_in_root(hold, b"/".join([b"d"] * (opening.MAX_DEPTH + 1)))
    os.close(hold)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EAGAIN])
def test_without_openat2_files_are_found_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a kernel, or a container's filter, without openat2; and one where directories always move
    def missing(root: int, path: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(opening, "_openat2", missing)
    (tmp_path / "app.py").write_bytes(b"x = 1")

    # WHEN a file below a root is read, THEN it is there
    assert read_in_root(US, str(tmp_path / "app.py"), 100) == b"x = 1"


# --- with whose rights -----------------------------------------------------------------------------------


def test_what_a_user_may_not_read_is_refused_for_that_user(tmp_path: Path) -> None:
    # GIVEN a file that only we may read, behind a link (as a program's source that leads to /etc/shadow)
    secret = tmp_path / "secret"
    secret.write_text("root:*:")
    secret.chmod(0o600)
    (tmp_path / "app.py").symlink_to(secret)

    # WHEN it is to be shown of a program of another user
    # THEN it is not, whether we could become that user to ask (root) or not
    for way in (open_plain, lambda path, reader: open_in_root(US, str(path), reader=reader)):
        with pytest.raises(PermissionError):
            way(tmp_path / "app.py", reader=EVERYBODY)


@pytest.mark.skipif(not AS_ROOT, reason="only root may ask as another user; the refusal is tested above")
def test_the_kernel_decides_with_the_users_own_rights(tmp_path: Path) -> None:
    # GIVEN files of a group, in a directory that everybody may enter
    home = Path("/tmp") / f"ftdiag-test-{US}"
    home.mkdir(mode=0o755)
    try:
        shared = home / "shared"
        shared.write_text("x")
        os.chown(shared, 0, 12_345)
        shared.chmod(0o640)
        inside = home / "closed"
        inside.mkdir(mode=0o700)
        (inside / "app.py").write_text("x")

        # WHEN a member of the group, somebody else, and root ask
        os.close(open_plain(shared, reader=Reader(4_242, 4_242, (7, 12_345))))
        os.close(open_plain(shared, reader=Reader(4_242, 12_345)))
        os.close(open_plain(shared, reader=Reader(0, 0)))
        with pytest.raises(PermissionError):
            open_plain(shared, reader=Reader(4_242, 4_242, (7,)))
        # THEN each is answered for itself, also for a directory in which everybody may read the file
        with pytest.raises(PermissionError):
            open_plain(inside / "app.py", reader=Reader(4_242, 4_242))
    finally:
        for path in (home / "closed" / "app.py", home / "shared"):
            path.unlink(missing_ok=True)
        for path in (home / "closed", home):
            path.rmdir()


@pytest.mark.skipif(not AS_ROOT, reason="only root becomes another user")
def test_nothing_of_ours_changes_when_a_file_was_read_as_another_user(tmp_path: Path) -> None:
    # GIVEN our rights
    def ours() -> tuple[object, ...]:
        with open("/proc/self/status") as stream:
            return tuple(line for line in stream if line.startswith(("Uid", "Gid", "Groups", "Cap")))

    before = ours(), opening._dumpable()
    (tmp_path / "x").write_text("x")

    # WHEN a file was opened with others
    with pytest.raises(PermissionError):
        open_plain(tmp_path / "x", reader=EVERYBODY)
    os.close(open_plain("/etc/passwd", reader=EVERYBODY))

    # THEN ours are what they were
    assert (ours(), opening._dumpable()) == before


def test_the_rights_of_a_process_are_read() -> None:
    # GIVEN ourselves
    # WHEN our rights are read, THEN they are ours
    assert opening.reader_of(US) == Reader(os.geteuid(), os.getegid(), tuple(os.getgroups()))


def test_the_rights_of_a_process_that_is_gone_are_an_oserror() -> None:
    # GIVEN a number that no process has
    # WHEN its rights are asked for, THEN that is an OSError
    with pytest.raises(FileNotFoundError):
        opening.reader_of(1 << 30)


def test_a_process_of_more_than_one_user_reads_what_everybody_may(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN what the kernel says of processes: of one user, of a set-user-ID or set-group-ID program, gone
    said = {
        "one": "Uid:\t7\t7\t7\t7\nGid:\t8\t8\t8\t8\nGroups:\t8 9 \n",
        "user": "Uid:\t7\t0\t0\t0\nGid:\t8\t8\t8\t8\nGroups:\t8 9 \n",
        "saved": "Uid:\t7\t7\t0\t7\nGid:\t8\t8\t8\t8\nGroups:\t\n",
        "group": "Uid:\t7\t7\t7\t7\nGid:\t8\t0\t0\t0\nGroups:\t\n",
        "gone": "Name:\tx\n",
    }
    monkeypatch.setattr(
        opening, "open", lambda path, mode: io.BytesIO(said[path.split("/")[2]].encode()), raising=False
    )
    # WHEN it is asked whose rights they have THEN of several it is nobody's
    assert reader_of("one") == Reader(7, 8, (8, 9))
    for name in ("user", "saved", "group"):
        assert reader_of(name) == EVERYBODY, name
    with pytest.raises(ProcessLookupError):
        reader_of("gone")


def test_a_process_that_becomes_another_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # GIVEN a look at a process of a user
    rights: list[Reader | None] = [Reader(7, 7)]

    def now(process: int | str) -> Reader:
        if rights[-1] is None:
            raise ProcessLookupError
        return rights[-1]

    monkeypatch.setattr(opening, "reader_of", now)
    target = TargetReader(1)
    assert target.now == Reader(7, 7)

    # WHEN it becomes root's, ends, or is as before THEN only what both may read is read meanwhile
    for becomes, expected in (
        (Reader(0, 0), EVERYBODY),
        (None, EVERYBODY),
        (Reader(7, 7, (5,)), EVERYBODY),
        (Reader(7, 7), Reader(7, 7)),
    ):
        rights.append(becomes)
        assert target.now == expected


def test_names_of_a_directory(tmp_path: Path) -> None:
    # GIVEN a directory, and a link to it and to one of the kernel's
    (tmp_path / "site").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "site" / name).touch()
    (tmp_path / "link").symlink_to("site")
    (tmp_path / "kernel").symlink_to("/proc/self/task")
    # WHEN names in it are asked for THEN there are so many at most, and none of the kernel's
    assert sorted(names_in_root(US, str(tmp_path / "link"), 10)) == ["a", "b", "c"]
    assert len(names_in_root(US, str(tmp_path / "site"), 2)) == 2
    for path in (tmp_path / "kernel", tmp_path / "site" / "a", tmp_path / "none"):
        with pytest.raises(OSError, match=r"of the kernel|Not a directory|No such file"):
            names_in_root(US, str(path), 10)
