"""Children that may run what a target's user chose: what they have of us, asked from inside."""

from __future__ import annotations

import errno
import json
import os
import pty
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from elf_files import elf
from ftdiag import confined, opening
from ftdiag.confined import MIB, Child, Limits, Rights, Tail, owner_of, run
from ftdiag.errors import NoSuchProcess, PermissionRefused, TargetGone
from ftdiag.formats.importers import memray as captures
from ftdiag.sources.kernel.memory import Mapping
from ftdiag.sources.native.symbols import CodeMap
from ftdiag.sources.tools import memray, pyspy
from ftdiag.tracker import Tracking, TrackingRequest
from ftdiag.tui.sourcetext import SourceFiles
from reading import PATIENCE_S, eventually

AS_ROOT = os.geteuid() == 0
LOOK = Path(__file__).parent.parent / "programs" / "confined_look.py"
SOMEBODY = 54_321
LIMITS = Limits(30.0, cpu_s=17, memory_bytes=2048 * MIB, file_bytes=3 * MIB, processes=20, files=99)
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root becomes another user")


def common_python() -> str:
    """A Python that every user of this machine may run."""
    for candidate in ("/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"):
        if os.path.exists(candidate):
            return candidate
    pytest.fail("there is no Python that every user may run: /usr/bin/python3")


PYTHON = common_python()


def target_rights() -> Rights | None:
    """Somebody else's, where we can give them; else ours."""
    return Rights(SOMEBODY, SOMEBODY + 1) if AS_ROOT else None


def look(rights: Rights | None, **keywords: Any) -> dict[str, Any]:
    """What a child says of itself."""
    ran = run([PYTHON, "-I", "-c", LOOK.read_text()], LIMITS, rights, output_bytes=MIB, **keywords)
    assert ran.failure is None
    assert ran.status == 0, ran.messages
    said: dict[str, Any] = json.loads(ran.output)
    return said


def check_confined(said: dict[str, Any], limits: Limits, rights: Rights | None, kept: int = 0) -> None:
    """What holds of each of them."""
    user, group = (os.geteuid(), os.getegid()) if rights is None else (rights.user, rights.group)
    assert said["users"] == [user] * 3
    assert said["groups"] == [group] * 3
    if rights is not None:
        assert said["further_groups"] == []
    assert said["session"] == said["process_group"] == said["pid"]
    assert said["terminal"] == errno.ENXIO
    assert said["ttys"] == []
    assert (said["input"], said["input_file"]) == ("", "/dev/null")
    # Three, the listing, and those that are named.
    assert len(said["descriptors"]) == 4 + kept
    assert said["directory"] == "/"
    assert said["umask"] == 0o077
    for name, value in {
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_CPU": limits.cpu_s,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_CORE": 0,
    }.items():
        hard = resource.getrlimit(getattr(resource, name))[1]
        expected = value if hard == resource.RLIM_INFINITY else min(value, hard)
        assert said["limits"][name] == [expected, expected], name
    soft, hard = said["limits"]["RLIMIT_NPROC"]
    assert soft == hard
    assert limits.processes <= soft < 100_000
    assert said["no_new_privileges"] == ["1"]
    assert (said["blocked"], said["ignored"].strip("0")) == ("0" * 16, said["ignored"].strip("0"))
    if user != 0:
        assert [int(mask, 16) for mask in said["capabilities"]] == [0, 0, 0]
        assert said["root"] == errno.EPERM


SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret",
    "LD_PRELOAD": "/tmp/nothing.so",
    "LD_LIBRARY_PATH": "/tmp",
    "PYTHONPATH": "/tmp/evil",
    "PYTHONSTARTUP": "/tmp/evil.py",
    "SSH_AUTH_SOCK": "/tmp/agent",
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must not get into a child's environment."""
    for name, value in SECRETS.items():
        # The loader looks at LD_* when our own part of the child starts; it finds nothing there.
        monkeypatch.setenv(name, value if name != "LD_PRELOAD" else "")


def test_a_child_has_nothing_of_ours(secrets: None) -> None:
    # GIVEN secrets in our environment, an open file that is inheritable, an ignored signal, a blocked one
    leak = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leak, True)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        # WHEN a child looks around
        said = look(target_rights())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGTERM, before)
        os.close(leak)

    # THEN it finds nothing of that
    check_confined(said, LIMITS, target_rights())
    allowed = {*confined.ENVIRONMENT, "LC_CTYPE"}  # Python sets the latter itself
    assert set(said["environment"]) <= allowed
    assert said["ignored"] == "0" * 16 or not int(said["ignored"], 16) & 1 << signal.SIGTERM - 1


@needs_root
def test_root_without_all_of_its_capabilities() -> None:
    # GIVEN a child that needs root for looking, and nothing else
    rights = Rights(0, 0, (confined.CAP_SYS_PTRACE,))
    # WHEN it looks around THEN it has that capability alone
    said = look(rights)
    check_confined(said, LIMITS, rights)
    assert int(said["bounding"], 16) == 1 << confined.CAP_SYS_PTRACE
    assert int(said["capabilities"][0], 16) == 1 << confined.CAP_SYS_PTRACE


def test_only_root_gives_other_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN somebody who is not root
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    # WHEN a child shall have other rights THEN there is none
    with pytest.raises(PermissionError):
        run(["/bin/true"], LIMITS, Rights(0, 0), output_bytes=10)


# --- its time, its output, its end -----------------------------------------------------------------------


def test_what_cannot_be_begun_says_why() -> None:
    # GIVEN a program that is not there, and one that is none
    # WHEN they are run THEN the reason is told
    assert run(["/nowhere/python"], LIMITS, None, output_bytes=10).failure == os.strerror(errno.ENOENT)
    assert run(["/etc/passwd"], LIMITS, None, output_bytes=10).failure == os.strerror(errno.EACCES)


@pytest.mark.parametrize(
    ("code", "limits", "output_bytes"),
    [
        pytest.param("while True: print('x' * 1000)", LIMITS, 100_000, id="output"),
        pytest.param("import time; time.sleep(600)", Limits(1.0, 9, 2048 * MIB, MIB, 20), 100, id="time"),
        pytest.param(
            "import signal, time\nfor n in (1, 2, 14, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)",
            Limits(1.0, 9, 2048 * MIB, MIB, 20),
            100,
            id="deaf",
        ),
        pytest.param("while True: pass", Limits(60.0, 1, 2048 * MIB, MIB, 20), 100, id="cpu"),
        pytest.param("x = bytearray(1 << 34)", LIMITS, 10_000, id="memory"),
        pytest.param("open('/tmp/ftdiag-x', 'wb').write(bytes(1 << 23))", LIMITS, 10_000, id="file"),
    ],
)
def test_a_child_that_takes_too_much_is_ended(code: str, limits: Limits, output_bytes: int) -> None:
    # GIVEN a program without an end, or a bound
    begin = time.monotonic()
    # WHEN it is run THEN it ends without success, within its time
    try:
        ran = run([PYTHON, "-I", "-c", code], limits, target_rights(), output_bytes=output_bytes)
    finally:
        with suppress(FileNotFoundError):
            os.unlink("/tmp/ftdiag-x")
    assert ran.status != 0
    assert time.monotonic() - begin < PATIENCE_S


def test_what_it_starts_ends_with_it() -> None:
    # GIVEN a program that leaves one behind, which keeps the output open
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True)"
    # WHEN it is run THEN its answer comes at once, and what it left is gone
    ran = run([PYTHON, "-I", "-c", code], LIMITS, target_rights(), output_bytes=100)
    assert ran.status == 0
    left = int(ran.output)
    eventually(lambda: not os.path.exists(f"/proc/{left}"))


def test_it_ends_when_we_do(tmp_path: Path) -> None:
    # GIVEN a process of ours with a child that sleeps
    code = (
        "import os, sys, time\n"
        "from ftdiag.confined import *\n"
        "null = os.open('/dev/null', os.O_WRONLY)\n"
        f"limits, rights = Limits(60.0, 9, {2048 * MIB}, {MIB}, 20), {target_rights()!r}\n"
        "child = Child(['/bin/sleep', '600'], limits, rights, stdout=null, stderr=null)\n"
        "assert child.failure() is None\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    ours = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert ours.stdout is not None
    child = int(ours.stdout.readline())
    # WHEN ours is killed THEN the child is gone too
    ours.kill()
    ours.communicate()
    eventually(lambda: not os.path.exists(f"/proc/{child}"))


def test_a_child_gets_no_terminal() -> None:
    # GIVEN a terminal
    main, other = os.openpty()
    # WHEN a child is to write to it THEN there is none
    with pytest.raises(ValueError, match="no terminal"):
        Child(["/bin/true"], LIMITS, None, stdout=other, stderr=other)
    os.close(main)
    os.close(other)


def test_of_much_that_is_said_the_end_is_kept() -> None:
    # GIVEN a child that says a lot
    tail = Tail(1000)
    code = "for n in range(100000): print('line', n)"
    with Child(
        [PYTHON, "-I", "-c", code], LIMITS, target_rights(), stdout=tail.writer, stderr=tail.writer
    ) as child:
        tail.begun()
        assert child.wait(PATIENCE_S) == 0
        # WHEN it is asked for THEN its end is there, and no more is kept than was said
        text = tail.text(PATIENCE_S)
    assert text.endswith("line 99999\n")
    assert len(text) <= 1000


# --- whose process it is ---------------------------------------------------------------------------------


@contextmanager
def sleeping(**keywords: Any) -> Iterator[int]:
    """A process that does nothing."""
    process = subprocess.Popen([PYTHON, "-c", "import time; time.sleep(600)"], **keywords)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_process_is_known_with_its_owner_and_program() -> None:
    # GIVEN a process
    keywords = {"user": SOMEBODY, "group": SOMEBODY + 1, "extra_groups": []} if AS_ROOT else {}
    with sleeping(**keywords) as pid:
        # WHEN it is asked whose it is
        owner = owner_of(pid)
        # THEN it is that user's, and still the same
        assert (owner.user, owner.group) == (
            (SOMEBODY, SOMEBODY + 1) if AS_ROOT else (os.getuid(), os.getgid())
        )
        status = os.stat(f"/proc/{pid}/exe")
        assert owner.executable == (status.st_dev, status.st_ino)
        confined.check_still(owner)
    # WHEN it is gone THEN that is said
    with pytest.raises(NoSuchProcess):
        owner_of(pid)
    with pytest.raises(TargetGone):
        confined.check_still(owner)


def test_a_process_that_became_another_program_is_not_the_same() -> None:
    # GIVEN a process that waits for a line, then becomes another program under the same number
    code = "import os; input(); os.execv('/bin/sleep', ['sleep', '600'])"
    process = subprocess.Popen([PYTHON, "-c", code], stdin=subprocess.PIPE, text=True)
    try:
        eventually(lambda: os.readlink(f"/proc/{process.pid}/exe") == os.path.realpath(PYTHON))
        owner = owner_of(process.pid)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        eventually(lambda: "sleep" in os.readlink(f"/proc/{process.pid}/exe"))
        # WHEN it is asked whether it is the one that was agreed to THEN it is not
        with pytest.raises(TargetGone, match="another program"):
            confined.check_still(owner)
    finally:
        process.kill()
        process.communicate()


@needs_root
@pytest.mark.parametrize("ids", [(0, SOMEBODY, SOMEBODY), (SOMEBODY, SOMEBODY, 0), (SOMEBODY, 0, 0)])
@pytest.mark.parametrize("call", ["setresuid", "setresgid"])
def test_a_process_with_the_rights_of_more_than_one_user_is_refused(
    call: str, ids: tuple[int, int, int]
) -> None:
    # GIVEN a process that was started by a set-user-ID program: its ids differ
    code = f"import os, time; os.{call}{ids}; print(flush=True); time.sleep(600)"
    process = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        # WHEN it is asked whose it is THEN nobody's rights are taken
        with pytest.raises(PermissionRefused, match="more than one user"):
            owner_of(process.pid)
    finally:
        process.kill()
        process.communicate()


@needs_root
def test_a_set_user_id_program_is_refused(tmp_path: Path) -> None:
    # GIVEN a process of a program that is set-user-ID to whoever runs it
    program = tmp_path / "sleep"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o4755)
    process = subprocess.Popen([program, "600"])
    try:
        eventually(lambda: os.readlink(f"/proc/{process.pid}/exe") == str(program))
        # WHEN it is asked whose it is THEN that is refused
        with pytest.raises(PermissionRefused, match="more than one user"):
            owner_of(process.pid)
    finally:
        process.kill()
        process.communicate()


# --- every child that is started -------------------------------------------------------------------------


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch, secrets: None, tmp_path: Path) -> Callable[[], list[Any]]:
    """Puts the program that looks around into the place of each child's own; what they all said."""
    where = Path(f"/tmp/ftdiag-test-{os.getpid()}-{time.monotonic_ns()}")
    where.mkdir()
    where.chmod(0o777)
    begin = Child.__init__
    seen: list[tuple[Path, Limits, Rights | None, int]] = []

    def looking(
        self: Child, command: list[str], limits: Limits, rights: Rights | None, **keywords: Any
    ) -> None:
        said = where / f"{len(seen)}.json"
        keywords["script"] = None
        kept = keywords.get("kept", ())
        seen.append((said, limits, rights, len(kept)))
        code = f"import sys; sys.stdout = open({str(said)!r}, 'w')\n{LOOK.read_text()}"
        begin(self, [PYTHON, "-I", "-c", code + "sys.stdout.close()\n"], limits, rights, **keywords)

    monkeypatch.setattr(Child, "__init__", looking)

    def all_said() -> list[Any]:
        found = []
        for said, limits, rights, kept in seen:
            eventually(lambda said=said: said.exists() and said.stat().st_size > 0)
            # The one in which it says what it found is not ours.
            found.append((json.loads(said.read_text()), limits, rights, kept + 1))
        shutil.rmtree(where)
        return found

    return all_said


@contextmanager
def target() -> Iterator[int]:
    """A Python of somebody else's, where there is somebody else; else of ours."""
    keywords = {"user": SOMEBODY, "group": SOMEBODY + 1, "extra_groups": []} if AS_ROOT else {}
    with sleeping(cwd="/", env={"HOME": "/tmp", "PATH": "/usr/bin"}, **keywords) as pid:
        eventually(lambda: os.readlink(f"/proc/{pid}/exe") == os.path.realpath(PYTHON))
        yield pid


def outline(pid: int) -> memray.Outline:
    """As if memray could be attached by gdb."""
    version = (3, sys.version_info.minor)
    return memray.Outline(owner_of(pid), PYTHON, version, False, ("gdb",), "", {"PATH": "/usr/bin"})


def test_the_probe_of_memray(looked: Callable[[], list[Any]]) -> None:
    # GIVEN a process whose interpreter is to be asked for its memray
    with target() as pid:
        # WHEN that is done (it answers what is no answer)
        with pytest.raises(Exception, match="does not answer"):
            memray.plan(outline(pid))
        (said, limits, rights, kept), *_ = looked()
    # THEN its interpreter has its user's rights and nothing of ours
    assert rights == target_rights()
    check_confined(said, limits, rights, kept)
    assert set(said["environment"]) <= {"PATH", "LC_CTYPE"}


def test_the_commands_of_memray(looked: Callable[[], list[Any]]) -> None:
    # GIVEN a process to which memray is to be attached
    with target() as pid:
        how = outline(pid)
        plan = memray.Plan(how.owner, PYTHON, "3.0.0", False, "1.20.0", ("gdb",), how.environment)
        # WHEN it is tried (nothing comes of it)
        with pytest.raises(Exception, match=r"capture\.bin does not exist"):
            Tracking(TrackingRequest(plan, 1), lambda said: None, lambda wait_s: True).run()
        found = looked()
    # THEN memray, and the debugger that it starts, have the user's rights and nothing of ours
    assert found
    for said, limits, rights, kept in found:
        assert rights == target_rights()
        check_confined(said, limits, rights, kept)
        assert set(said["environment"]) <= {"PATH", "LC_CTYPE"}


@pytest.mark.parametrize("whose", ["not known", "somebody's"])
def test_the_reader_of_captures(looked: Callable[[], list[Any]], whose: str) -> None:
    # GIVEN a capture (its magic number alone), in a directory of the user's whose program wrote it
    given = target_rights() if whose == "somebody's" else None
    with tempfile.TemporaryDirectory() as home:
        capture = Path(home, "capture.bin")
        capture.write_bytes(captures.MAGIC + bytes(100))
        if given is not None:
            os.chown(home, given.user, given.group)
            os.chown(capture, given.user, given.group)
        # WHEN it is read
        with pytest.raises(Exception, match=r"cannot be read|damaged|says too much"):
            captures.read_capture(capture, lambda words: None, rights=given)
    (said, limits, rights, kept), *_ = looked()
    # THEN root has no part in it: its user reads it, or nobody
    if AS_ROOT:
        assert rights == (given or Rights(65_534, 65_534))
    check_confined(said, limits, rights, kept)
    assert set(said["environment"]) <= {*confined.ENVIRONMENT, "LC_CTYPE"}


def test_py_spy(looked: Callable[[], list[Any]]) -> None:
    # GIVEN a process that py-spy is to look at
    with target() as pid:
        # WHEN it does
        with pytest.raises(pyspy.PySpyFailed):
            pyspy.probe(pid, Path(PYTHON))
        (said, limits, rights, kept), *_ = looked()
        # THEN it has the user's rights, where the kernel lets that user look, else the least of root's
        expected = pyspy.rights_to_look(pid) if AS_ROOT else None
    assert rights == expected
    if AS_ROOT:
        assert rights in (target_rights(), Rights(0, 0, (confined.CAP_SYS_PTRACE, 2)))
    check_confined(said, limits, rights, kept)
    assert set(said["environment"]) <= {*pyspy.ENVIRONMENT, "LC_CTYPE"}


# --- the attack ------------------------------------------------------------------------------------------

EVIL = """
import fcntl, os, termios
got = []
for place in ("/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"):
    try:
        descriptor = os.open(place, os.O_RDWR)
    except OSError as error:
        continue
    if os.isatty(descriptor):
        got.append(f"terminal {place}")
    try:
        for letter in b"touch /tmp/owned\\n":
            fcntl.ioctl(descriptor, termios.TIOCSTI, bytes([letter]))
        got.append(f"typed {place}")
    except OSError:
        pass
with open(os.environ["HOME"] + "/ran", "a") as file:
    file.write(f"{os.getuid()} {os.getgid()} {os.getgroups()} {got} {os.environ.get('SECRET')}\\n")
"""


@needs_root
def test_an_interpreter_that_writes_to_roots_terminal(tmp_path: Path) -> None:
    # GIVEN a process of a hostile user, whose interpreter runs a sitecustomize.py that types into the
    # terminal of whoever starts it; and root at a terminal, with a secret in the environment
    home = Path(f"/tmp/ftdiag-test-{os.getpid()}-evil")
    home.mkdir()
    os.chown(home, SOMEBODY, SOMEBODY + 1)
    (home / "sitecustomize.py").write_text(EVIL)
    environ = {"HOME": str(home), "PYTHONPATH": str(home), "PATH": "/usr/bin"}
    keywords = {"user": SOMEBODY, "group": SOMEBODY + 1, "extra_groups": []}
    code = (
        "import sys\n"
        "from ftdiag.sources.tools import memray\n"
        "pid = int(sys.argv[1])\n"
        "from ftdiag.confined import owner_of\n"
        f"how = memray.Outline(owner_of(pid), {PYTHON!r}, (3, 0), False, ('gdb',), '',"
        " memray._environment(pid))\n"
        "input()\n"
        "try:\n    memray.plan(how)\nexcept Exception as error:\n    print('refused', error)\n"
        "print('done', flush=True)\n"
    )
    try:
        with sleeping(env=environ, cwd="/", **keywords) as target_pid:
            eventually((home / "ran").exists)
            pid, main = pty.fork()
            if pid == 0:
                os.environ["SECRET"] = "roots"
                os.execv(sys.executable, [sys.executable, "-c", code, str(target_pid)])
            # WHEN the interpreter is asked for its memray, after the person has said so
            time.sleep(0.5)
            assert len((home / "ran").read_text().splitlines()) == 1, "nothing runs before"
            os.write(main, b"\n")
            seen = b""
            while b"done" not in seen:
                seen += os.read(main, 4096)
            os.waitpid(pid, 0)
            os.close(main)
        # THEN it ran, as that user alone, with no terminal, no group and no secret of root's
        ran = (home / "ran").read_text().splitlines()
        assert len(ran) >= 2, seen
        assert set(ran) == {f"{SOMEBODY} {SOMEBODY + 1} [] [] None"}
        assert b"touch" not in seen
    finally:
        shutil.rmtree(home)


# --- what a view shows -----------------------------------------------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter."""
    where = Path(f"/tmp/ftdiag-test-{os.getpid()}-{time.monotonic_ns()}")
    where.mkdir()
    where.chmod(0o755)
    yield where
    shutil.rmtree(where)


@needs_root
def test_a_source_that_is_a_link_to_a_secret_is_not_shown(public: Path) -> None:
    # GIVEN a program of a hostile user whose source is a link to a file that only root may read
    (public / "app.py").symlink_to("/etc/shadow")
    (public / "own.py").write_text("x = 1")
    texts = SourceFiles()
    with target() as pid:
        # WHEN root looks at it
        stolen, own = texts.read(str(public / "app.py"), pid), texts.read(str(public / "own.py"), pid)
    # THEN nothing of that file is shown; what the program's user may read is
    assert stolen.lines == ()
    assert "not what the program's user may read" in stolen.why
    assert own.lines == ("x = 1",)
    # nor when the program has ended, or of a recording that anybody may have made
    for pid_or_none in (pid, None):
        assert texts.read(str(public / "app.py"), pid_or_none).lines == ()
        assert texts.read("/etc/shadow", pid_or_none).lines == ()
        assert texts.read(str(public / "own.py"), pid_or_none).lines == ("x = 1",)


@needs_root
def test_source_below_another_root_is_the_programs(public: Path) -> None:
    # GIVEN a program in a root of its own, with a file of its own, and a link that would lead out of it
    (public / "srv").mkdir()
    (public / "srv" / "app.py").write_text("inside")
    (public / "srv" / "out.py").symlink_to(f"../../../../../..{public}/secret")
    (public / "secret").write_text("outside")
    code = f"import os, time; os.chroot({str(public)!r}); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        # WHEN its source is read
        inside = SourceFiles().read("/srv/app.py", process.pid)
        outside = SourceFiles().read("/srv/out.py", process.pid)
    finally:
        process.kill()
        process.communicate()
    # THEN it is that below its root
    assert inside.lines == ("inside",)
    assert inside.path == f"/proc/{process.pid}/root/srv/app.py"
    assert outside.lines == ()


@pytest.mark.parametrize("what", ["fifo", "device", "secret", "map"])
def test_a_perf_map_that_is_none_is_not_opened(what: str, public: Path) -> None:
    # GIVEN a process with a FIFO, a device, a link to a perf map that only root may read, or to one of its
    # own where its perf map would be
    (public / "map").write_text("10000000 1000 a_function\n")
    (public / "map").chmod(0o600 if what == "secret" else 0o644)
    with target() as pid:
        place = Path(f"/tmp/perf-{pid}.map")
        if what == "fifo":
            os.mkfifo(place)
        else:
            place.symlink_to("/dev/zero" if what == "device" else public / "map")
        try:
            # WHEN its symbols are read
            begin = time.monotonic()
            code = CodeMap(pid)
            found = code._jit_symbols()
            # THEN there are those that its user may read, and nothing waited
            shown = what == "map" or (what == "secret" and not AS_ROOT)
            assert len(found) == (1 if shown else 0)
            assert time.monotonic() - begin < PATIENCE_S
        finally:
            place.unlink()


def functions_of(name: bytes) -> bytes:
    """An ELF file whose only function is called so."""
    symbol = struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 100, 10)
    return elf({".symtab": (2, 3, bytes(24) + symbol), ".strtab": (3, 0, b"\0" + name + b"\0")})


def named_at(code: CodeMap, mapping: Mapping) -> str | None:
    """What the code at the function's address is called."""
    place = code.place(mapping.start + 105)
    return None if place is None else place.name


@needs_root
@pytest.mark.parametrize("whose", ["the user's", "root's"])
@pytest.mark.parametrize("what", ["library", "debug file", "linked file"])
def test_files_with_functions_are_those_that_the_user_may_read(public: Path, what: str, whose: str) -> None:
    # GIVEN a program with a library, or a debug file of it, that is a link to a file of its user's, or root's
    hidden = functions_of(b"a_function")
    (public / "secret").write_bytes(hidden)
    (public / "secret").chmod(0o600 if whose == "root's" else 0o644)
    build_id = bytes(range(20))
    note = struct.pack("<III4s", 4, 20, 3, b"GNU") + build_id
    library = public / "library.so"
    if what == "library":
        library.symlink_to("secret")
    elif what == "debug file":
        library.write_bytes(elf({".note.gnu.build-id": (7, 0, note)}))
        (public / "secret").write_bytes(
            elf(
                {
                    ".symtab": (2, 3, bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 1, 100, 10)),
                    ".strtab": (3, 0, b"\0a_function\0"),
                    ".note.gnu.build-id": (7, 0, note),
                }
            )
        )
        place = public / ".build-id" / build_id.hex()[:2]
        place.mkdir(parents=True)
        (place / f"{build_id.hex()[2:]}.debug").symlink_to(public / "secret")
    else:
        link = b"linked.debug" + bytes(4) + struct.pack("<I", zlib.crc32(hidden))
        library.write_bytes(elf({".gnu_debuglink": (1, 0, link)}))
        (public / "linked.debug").symlink_to("secret")
    with target() as pid:
        code = CodeMap(pid)
        code._debug_directories = lambda path: ([str(public)], [str(public)])  # type: ignore[method-assign]
        mapping = Mapping(0x7000_0000, 0x7000_1000, "r-xp", 0, 7, str(library))
        code._mappings, code._starts = [mapping], [mapping.start]
        # WHEN its functions are read THEN they are those that the user could have read
        assert named_at(code, mapping) == ("a_function" if whose == "the user's" else None)


@needs_root
def test_what_a_process_is_looked_at_through_is_what_its_user_may_read(public: Path) -> None:
    # GIVEN a file of root's alone, in a directory of root's alone, and a program that may name any
    (public / "secret").write_text("ID=secret")
    (public / "secret").chmod(0o600)
    (public / "closed").mkdir(mode=0o700)
    (public / "closed" / "numpy-2.0.dist-info").mkdir()
    with target() as pid:
        # WHEN files are opened through the process, with nobody's rights named
        # THEN they are opened with those of its user
        for path in (f"/proc/{pid}/root{public}/secret", f"/proc/{pid}/task/{pid}/root{public}/secret"):
            with pytest.raises(PermissionError):
                opening.open_plain(path)
        with pytest.raises(PermissionError):
            opening.read_in_root(pid, f"{public}/secret", 10)
        with pytest.raises(PermissionError):
            opening.names_in_root(pid, f"{public}/closed", 10)
        # AND what it runs can be read
        os.close(opening.open_plain(f"/proc/{pid}/exe"))
