"""Every file that is opened and every process that is started, anywhere in the source, is known here.

What a target's user can choose is opened by `ftdiag.opening` and run by `ftdiag.confined`, and by nothing
else. So each other place at which a file is opened or a process started stands in a table with the reason why
nobody else has a say in it. A file of the kernel's own that is named in the code needs none.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

SOURCE: Final = Path(__file__).parents[2] / "src" / "ftdiag"

OPENS: Final = frozenset(
    "open io.open os.open os.fdopen codecs.open io.FileIO mmap.mmap sqlite3.connect dbm.open shelve.open"
    " np.load np.fromfile np.memmap zipfile.ZipFile tarfile.open gzip.open bz2.open lzma.open"
    " shutil.copy shutil.copy2 shutil.copyfile shutil.copytree shutil.move runpy.run_path"
    " os.scandir os.listdir".split()
)
METHODS: Final = frozenset("open read_text read_bytes write_text write_bytes".split())
"""Of paths; whatever has a method of that name is taken for one."""
STARTS: Final = re.compile(
    r"subprocess\.\w+|os\.(system|popen|fork|forkpty|posix_spawnp?|exec\w+|spawn\w+)|pty\.(spawn|fork)"
    r"|multiprocessing\.\w+|asyncio\.create_subprocess\w+|webbrowser\.\w+"
)
NO_STARTS: Final = frozenset({"subprocess.TimeoutExpired", "subprocess.CalledProcessError"})
HIDING: Final = frozenset({"os", "io", "subprocess", "shutil", "mmap", "sqlite3", "pty", "multiprocessing"})
"""Modules of which single functions are not imported: they would not be found by their names."""
MAY_BE_IMPORTED: Final = frozenset({"IO"})
NOT_FILES: Final = frozenset({"Recording.open", "self._pages.open"})
"""Methods called `open` of what is no path."""

KERNEL: Final = re.compile(r"/(proc|sys)/(?!.*/(root|cwd|exe|fd|map_files)1*(/|$)).*", re.DOTALL)
"""Files that the kernel makes, and that lead to no other file; 1 stands for what is not written out."""
OWN_DATA: Final = "a file of ours, beside the code or below its data"
NAMED: Final = (
    "a recording that the person names or that is new, seen to be a regular file before SQLite reads it"
)
PRIVATE: Final = "a directory that only we may enter, or a new file"
HELD: Final = "a descriptor that is held already, of a file that was looked at"

FILES: Final[dict[str, str]] = {
    # the openers themselves
    "opening.open_plain.opened": "the opener: O_PATH",
    "opening._walk_ours": "the opener: O_PATH",
    "opening.open_in_root": "the opener: O_PATH",
    "opening.names_in_root": "the opener: O_PATH, and the listing of what was opened",
    "opening.names_in_root.opened": "the opener: through /proc/self/fd, when it was looked at",
    "opening.walk_in_root": "the opener: O_PATH",
    "opening._opened": "the opener: through /proc/self/fd, when it was looked at",
    # descriptors that come from it
    "formats.importers.chrometrace.import_file": HELD,
    "formats.importers.pyspy_raw.import_file": HELD,
    "formats.importers.speedscope.import_file": HELD,
    "formats.importers.memray.read_capture": HELD,
    "formats.importers.firefox.import_file": HELD,
    "formats.importers.jsonlines.import_file": HELD,
    "formats.importers.perf_script.import_file": HELD,
    "formats.importers.pprof.import_file": HELD,
    "formats.importers.tachyon._copied": "the file through the opener; its copy in a new directory of ours",
    "sources.native.symbols.CodeMap._opened": HELD,
    "tui.sourcetext.SourceFiles._lines": HELD,
    "confined.Tail._read": "our end of a pipe",
    "commands.lookers._answer": "our ends of pipes",
    # the kernel's files, through a folder in a variable
    "confined.owner_of": "the folder of a process, O_PATH",
    "confined._read_below": "files of /proc/PID by their names",
    "formats.importers.memray_process.Child.position_ratio": "/proc/PID/fdinfo of a child of ours",
    "sampling.threads.Threads.__init__": "/proc/PID/task",
    "sources.kernel.halts._frozen": "files of a cgroup below /sys/fs/cgroup; `..` is refused",
    "sources.kernel.memorymap._read": "/proc/PID/smaps and the like: called by this module alone",
    "sources.tools.memray.main_thread_runs": "/proc/PID/task/TID/schedstat",
    "sources.kernel.permissions._whole": "/proc and /sys: called by this module alone",
    "sources.kernel.permissions._read_error": "/proc: called by this module alone",
    "sources.kernel.procfs.ThreadFiles.__init__": "/proc/PID/task/TID",
    "sources.kernel.procfs.ThreadFiles._read": "/proc/PID/task/TID",
    "sources.kernel.procfs.ThreadFiles.name": "/proc/PID/task/TID",
    "sources.kernel.tasks.status_fields": "/proc/PID/status and those of its threads",
    "sources.kernel.procfs.DescriptorNames._sockets": "/proc/PID/net/tcp and the like",
    "sources.kernel.procfs.Throttle.read_ns": "files of a cgroup below /sys/fs/cgroup; `..` is refused",
    "sources.kernel.procfs._quota_in": "files of a cgroup below /sys/fs/cgroup; `..` is refused",
    "sources.kernel.room.idle_since_boot_ns": "/proc/stat",
    "sources.native.kernelsymbols.kernel_symbols_shown": "/proc/kallsyms; a test names another file",
    "sources.native.kernelsymbols.kernel_symbols.read": "/proc/kallsyms; a test names another file",
    "sources.native.kernelsymbols.this_kernel": "/proc/modules, /proc/sys/kernel/random/boot_id",
    "sampling.watchdog.Watchdog._wants_a_core": "/proc/self/task/TID/stat",
    "sampling.watchdog.Watchdog._what": "/proc/self/task/TID/syscall",
    "confined._processes_of": "/proc/PID/stat of all processes",
    # listings of names
    "commands.processes._pids": "/proc",
    "watching.targets._pids": "/proc",
    "confined_start.close_files": "/proc/self/fd",
    "formats.importers.memray_child.Begun.is_read_on": "/proc/self/fd",
    "sources.kernel.others.Others._read_all": "/proc: numbers",
    "sources.kernel.procfs.free_descriptors": "/proc/self/fd",
    "sources.tools.traces.open_files": "/proc/PID/fd: numbers",
    "leftovers._of_ours": "the directory for temporary files: names, which are looked at without following",
    # what is ours
    "confined._start_code": OWN_DATA,
    "confined_start.main": OWN_DATA,
    "formats.importers.memray_process.Child.__init__": OWN_DATA,
    "commands.explain.titles": OWN_DATA,
    "rules.figures.measured.table": OWN_DATA,
    "rules.figures.memory.table": OWN_DATA,
    "commands.explain._page": OWN_DATA,
    "leftovers.own": PRIVATE,
    "leftovers.remove_abandoned": "O_NOFOLLOW, in a directory that was seen to be ours",
    "sources.native.symbolcache.SymbolCache._write": "a new file in a directory that is ours alone",
    "sources.native.symbolcache._read_own": "in a directory that is ours alone, O_NOFOLLOW",
    "sources.native.symbolcache._make_room": "the listing of a directory that is ours alone",
    "leftovers.remove_capture": "the directory that we made, O_NOFOLLOW, to remove what is in it",
    # what the person names
    "commands.run._log_file": "a new file (x), or one that mkstemp made",
    "commands.exporting._output": "a new file (x)",
    "watching.store.Store.locked": "O_NOFOLLOW, in a directory that the person names; nothing is read",
    "watching.store.Store.files": "the listing of a directory that the person names: names, sizes, times",
    "watching.pushing.Pusher._send": "no file: a request of HTTP to the URL that the person names",
    "tui.saving.write_text": "a new file (x)",
    "commands.sweeping.write_sweep": "a new file (x), which then takes the name of the results",
    "commands.outputs._write": "new files (x); the summary of a job that the person names is appended to",
    "tracker.Tracking._keep": "the capture through the opener; its copy is a new file (x)",
    "recording.writer.create_file": "a new file (O_EXCL)",
    "recording.writer._open_database": NAMED,
    "recording.file.RecordingFile._connect": NAMED,
    "recording.file._copy": "what lies beside through the opener; its copy is new and private",
    "recording.file.names_another_file": HELD,
    "recording.copying._copy_into": NAMED,
    "recording.additions._opened.__enter__": NAMED,
    # a process of its own, which has given up everything before
    "formats.importers.memray_child.Begun.__init__": "/proc/self/fd/N of the capture, with its user's rights",
    "formats.importers.memray_child.is_ended": "/proc/self/fd/N of the capture, with its user's rights",
    "formats.importers.memray_child.read": "/proc/self/fd/N of the capture, with its user's rights",
    "commands.measured_run._started": "a new file (x) in a private directory; os.devnull",
    # none at all
    "commands.lookers._become_a_child": "os.devnull",
    "commands.run._nothing": "os.devnull",
    "commands.main._with_output_written": "os.devnull",
    "spawning.open_standard_descriptors": "os.devnull",
}
"""Where a file is opened in another way than by the opener, and why nobody else chooses it."""

PROCESSES: Final[dict[str, str]] = {
    "confined.Child.__init__": "the one place: everything is given up in it",
    "confined.edit": "the person's own editor; root starts it only on what nobody else can have written",
    "confined_start.main": "the one place: what the child becomes, when everything was given up",
    "spawning._spawned": "our own Python and module: the sampler, which needs our rights",
    "commands.tracking.Tracker.__init__": "our own Python and module: the tracker",
    "commands.program.start": "`ftdiag run` and `demo --live`: the person's own command, as the person",
    "commands.interpreters.ask": "`demo --live`, `scale --pythons`: the person's own interpreters",
    "commands.lookers.Lookers._forked": "a copy of ourselves, which looks at one process",
    "sources.kernel.permissions._foreign_memory": "a fork of our own that reads eight bytes and ends",
}
"""Where a process is started, and why that is no target's business."""


def called(node: ast.Call) -> str:
    """What is called, as it is written: `os.open`, `Path(path).read_text`."""
    return ast.unparse(node.func)


def opens_file(node: ast.Call) -> bool:
    """Whether a call opens a file."""
    name = called(node)
    if name in NOT_FILES:
        return False
    return name in OPENS or (isinstance(node.func, ast.Attribute) and node.func.attr in METHODS)


def starts_process(node: ast.Call) -> bool:
    """Whether a call starts a process, or becomes another program."""
    name = called(node)
    return name not in NO_STARTS and STARTS.fullmatch(name) is not None


def path_of(node: ast.Call) -> ast.expr | None:
    """The path of an opening call."""
    if called(node) in OPENS:
        return node.args[0] if node.args else None
    # Path(path).read_text()
    base = node.func.value if isinstance(node.func, ast.Attribute) else None
    if isinstance(base, ast.Call) and called(base) == "Path" and base.args:
        return base.args[0]
    return None


def is_kernels(path: ast.expr | None) -> bool:
    """Whether a path is written out as one of the kernel's: "/proc/stat", f"/proc/{pid}/maps"."""
    if isinstance(path, ast.Constant) and isinstance(path.value, str):
        return KERNEL.fullmatch(path.value) is not None
    if not isinstance(path, ast.JoinedStr):
        return False
    words = ""
    for number, part in enumerate(path.values):
        if isinstance(part, ast.Constant):
            words += str(part.value)
        elif isinstance(part, ast.FormattedValue):
            value = ast.unparse(part.value)
            # The folder of a process, as sources.kernel.tasks tells it.
            words += "/proc/1" if number == 0 and value.startswith("proc_folder(") else "1"
    return KERNEL.fullmatch(words) is not None


def found_in(module: str, text: str) -> Iterator[tuple[str, ast.AST]]:
    """Calls and imports that count, each with the name of the function that they are in."""

    def walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            if isinstance(child, ast.Call | ast.ImportFrom):
                yield ".".join((module, *inside)), child
            yield from walk(child, (*inside, child.name) if named else inside)  # type: ignore[attr-defined]

    yield from walk(ast.parse(text), ())


@functools.cache
def modules() -> tuple[tuple[str, str], ...]:
    """Names and texts of all modules."""
    return tuple(
        (".".join(path.relative_to(SOURCE).with_suffix("").parts), path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
    )


def strange(module: str, text: str) -> Iterator[str]:
    """Places that open a file or start a process and are in no table; and imports that hide such."""
    for place, node in found_in(module, text):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names} - MAY_BE_IMPORTED
            if node.module in HIDING and names:
                yield f"{place} line {node.lineno}: from {node.module} import {', '.join(sorted(names))}"
        elif isinstance(node, ast.Call):
            where = f"{place} line {node.lineno}: {called(node)}"
            if starts_process(node) and place not in PROCESSES:
                yield where
            if opens_file(node) and place not in FILES and not is_kernels(path_of(node)):
                yield where


def test_no_file_is_opened_and_no_process_started_that_is_not_known_here() -> None:
    # GIVEN all of the source
    # WHEN it is searched
    unknown = [place for module, text in modules() for place in strange(module, text)]
    # THEN each place that opens a file or starts a process is in a table, with its reason. If this fails:
    # has anybody but us a say in that file or program? Then it is for ftdiag.opening or ftdiag.confined.
    assert unknown == []


def test_the_tables_have_no_place_that_is_gone() -> None:
    # GIVEN all of the source
    files, processes = set(), set()
    for module, text in modules():
        for place, node in found_in(module, text):
            if isinstance(node, ast.Call) and opens_file(node):
                files.add(place)
            if isinstance(node, ast.Call) and starts_process(node):
                processes.add(place)
    # THEN what a table allows is there
    assert set(FILES) - files == set()
    assert set(PROCESSES) - processes == set()


@pytest.mark.parametrize(
    "line",
    [
        "open(name)",
        "os.open(path, os.O_RDONLY)",
        "os.scandir(f'/proc/{pid}/root{folder}')",
        "Path(name).read_text()",
        "(folder / 'x').read_bytes()",
        "path.open('rb')",
        "open(f'/proc/{pid}/root/etc/os-release')",
        "open(f'/proc/{pid}/exe', 'rb')",
        "open(f'/proc/{pid}/fd/{number}')",
        "open(f'{proc_folder(pid)}/root/tmp/x')",
        "open(f'{path}/maps')",
        "mmap.mmap(descriptor, 0)",
        "sqlite3.connect(path)",
        "np.memmap(path)",
        "subprocess.run(command)",
        "subprocess.Popen(command)",
        "os.execve(path, [], {})",
        "os.system('ls')",
        "os.fork()",
        "multiprocessing.Process(target=f)",
        "from subprocess import run",
        "from os import open as harmless",
    ],
)
def test_what_the_search_finds(line: str) -> None:
    # GIVEN a line that opens a file that could be anybody's, or starts a process, however deep it stands
    text = f"class A:\n    def b(self):\n        if x:\n            return [{line} for _ in y]\n"
    if line.startswith("from"):
        text = f"def b():\n    {line}\n"
    # WHEN it is searched THEN it is found
    assert list(strange("somewhere", text)) != []


@pytest.mark.parametrize(
    "line",
    [
        "open('/proc/stat')",
        "open(f'/proc/{pid}/maps')",
        "open(f'/proc/{pid}/task/{tid}/status', 'rb')",
        "open(f'{proc_folder(pid)}/maps')",
        "Path(f'/proc/{pid}/cgroup').read_text()",
        "open_plain(path)",
        "Recording.open(path)",
        "database.execute('SELECT 1')",
    ],
)
def test_what_the_search_lets_pass(line: str) -> None:
    # GIVEN a line that opens a file of the kernel, or none
    # WHEN it is searched THEN nothing is found
    assert list(strange("somewhere", f"def b():\n    return {line}\n")) == []
