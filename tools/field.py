"""Programs of the field: public reports and libraries, what is right to say of each, and how to run them.

In: the programs of samples/field, a free-threaded interpreter. Out: `CASES`; a virtual environment of a
version in the cache, with the libraries that have a wheel for it; a program that runs, with load where it is
a service. What is right of each case was written down before ftdiag looked at it; reports that do not
reproduce are cases of healthy programs.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ftdiag.model import Finding
from tools.provision.verification import Interpreter, probe_environment
from tools.workloads import WORKLOADS, RunningWorkload, running_workload

FIELD: Final = WORKLOADS.parent / "field"
CONNECTIONS: Final = 8
INSTALL_TIMEOUT_S: Final = 300.0
LOAD_END_TIMEOUT_S: Final = 30.0
_TOTAL: Final = re.compile(r"^total ([\d,]+) \S+ in ([\d.]+) s", re.MULTILINE)
_SOURCE_ONLY: Final = ("huey",)
"""Libraries that publish sources only; without C, they need no compiler."""


@dataclass(frozen=True, slots=True)
class Case:
    """A program of samples/field.

    `rules` are right as the first finding, none where no finding of warning or above is; `on` has those of a
    series of Python ("3.13") where they are others. `edge` are right as well as none is where what is lost is
    about what a warning begins at, as measured without ftdiag. `names` are words of which the finding has to
    say one. `fixed` says whether the program takes --fixed, which is what the first remedy says. `needs` are
    requirements as pip takes them; those of tests name the releases for which the expectation holds. `report`
    is where the fault was reported.
    """

    name: str
    rules: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    on: tuple[tuple[str, tuple[str, ...]], ...] = ()
    edge: tuple[tuple[str, tuple[str, ...]], ...] = ()
    service: bool = False
    fixed: bool = False
    environ: tuple[tuple[str, str], ...] = ()
    program: str = ""
    path: str = "/"
    report: str = ""

    def right_on(self, series: str) -> tuple[str, ...]:
        """The rules that are right on a series."""
        return dict(self.on).get(series, self.rules)

    def is_right(self, finding: Finding | None, series: str) -> bool:
        """Whether a first finding of warning or above is the right one."""
        rules = self.right_on(series)
        if finding is None:
            return not rules
        return finding.rule_id in rules or (not rules and finding.rule_id in dict(self.edge).get(series, ()))

    def names_it(self, finding: Finding) -> bool:
        """Whether it says where or what the cause is."""
        said = " ".join([finding.summary, *map(str, finding.subject.values())])
        return not self.names or any(word in said for word in self.names)


_HEALTHY: Final[tuple[str, ...]] = ()
_COUNTS: Final = ("refcount-contention",)

CASES: Final[tuple[Case, ...]] = (
    # --- public reports, without libraries ---
    Case(
        "cached_prices",
        ("object-lock", "refcount-contention"),
        ("price", "lru_cache"),
        on=(("3.14", _HEALTHY), ("3.15", _HEALTHY)),
        fixed=True,
        report="python/cpython#131757",
    ),
    # d.get(key) locks the dict for keys that are no strings: two threads do per second of CPU time 0.68 and
    # 0.84 of what one does on 3.13, 0.61 to 0.85 (four pairs of runs) on 3.14.9t. On 3.15.1t what is left are
    # the references of the module's tables (`_deepcopy_dispatch`), which each load counts: with both cores
    # sure, 0.86 and 0.95 of one beside arithmetic, and 0.85 to 0.92 of two that have a module each.
    Case(
        "copied_templates",
        on=(("3.13", ("object-lock", *_COUNTS)), ("3.14", ("object-lock", *_COUNTS))),
        edge=(("3.15", _COUNTS),),
        report="python/cpython#132657",
    ),
    Case(
        "data_records", _COUNTS, on=(("3.14", _HEALTHY), ("3.15", _HEALTHY)), report="python/cpython#139103"
    ),
    Case(
        "own_databases",
        ("native-lock", "allocator-contention"),
        ("sqlite", "query"),
        on=(("3.14", _HEALTHY), ("3.15", _HEALTHY)),
        report="coleifer/pysqlite3#84",
    ),
    Case(
        "class_factories",
        _COUNTS,
        ("clamp", "unit", "Money"),
        on=(("3.14", _HEALTHY), ("3.15", _HEALTHY)),
        fixed=True,
        report="python/cpython#145779",
    ),
    Case("tuple_tables", ("gc-pressure",), fixed=True, report="python/cpython#142531"),
    Case(
        "made_interfaces",
        ("class-mutation", "stop-the-world"),
        ("build", "abc.py", "made_interfaces.py"),
        # 0.94, 0.94 and 0.93 (three measures), the twin 0.93.
        on=(("3.14", _HEALTHY),),
        fixed=True,
        report="python/cpython#148953",
    ),
    Case(
        "stop_event",
        _COUNTS,
        ("STOPPING", "is_set", "Event"),
        # On 3.14.9t by CPU time 0.49 to 0.70 (four pairs of runs).
        on=(("3.15", _HEALTHY),),
        fixed=True,
        report="python/cpython#134761",
    ),
    Case(
        "foreign_calls",
        ("object-lock", *_COUNTS),
        ("hypot", "_FuncPtr"),
        # 0.97, 1.02 and 0.86, where the machine had two cores; its twin gains 0.95, 1.12 and 1.41. What
        # counts references of the function and of the type of what it is given has 18 % of the samples of
        # two threads, 2 % of one's.
        on=(("3.13", _HEALTHY),),
        edge=(("3.13", ("object-lock", "heap-type-churn", *_COUNTS)),),
        fixed=True,
        report="python/cpython#134637",
    ),
    Case(
        "service_container",
        _COUNTS,
        ("singletons", "resolvers", "APP", "container", "resolve"),
        on=(("3.13", ("object-lock", *_COUNTS)),),
        fixed=True,
        report="modern-python/modern-di#435",
    ),
    Case("parsed_dates", ("hot-lock",), ("strptime",), fixed=True, report="dagster-io/dagster#32593"),
    # What is stopped for is the names of functions, for which 3.13 does not stop: 0.94, 1.07 and 0.86 there.
    # (That the twin gains 6 times as much is the same with one thread.)
    Case(
        "runner_per_call",
        ("stop-the-world",),
        ("runner_per_call.py",),
        on=(("3.13", _HEALTHY),),
        fixed=True,
    ),
    Case(
        "stranded_memory",
        ("retained-memory",),
        ("libc's heaps",),
        fixed=True,
        report="python/cpython#156159",
    ),
    Case("tasks_of_own_queues"),
    # --- public reports about libraries ---
    # Threads count the references of a ufunc: by CPU time 0.65 and 0.68 (3.13, 3.15, with nothing else on the
    # machine), 0.86, 0.76 and 0.81 (3.13, 3.14, 3.15) beside others, where the twin does 0.73 to 0.91.
    Case(
        "small_vectors",
        ("extension-singleton", *_COUNTS),
        needs=("numpy",),
        fixed=True,
        report="numpy/numpy#27786",
    ),
    Case(
        "fresh_arrays",
        ("refcount-contention", "allocator-contention", "native-lock"),
        ("fresh", "slice_up", "numpy"),
        # 0.93, 0.94 and 1.00 on 3.13, 0.97 and 1.01 on 3.15, 0.73 on 3.14.
        on=(("3.13", _HEALTHY), ("3.15", _HEALTHY)),
        edge=tuple((series, ("extension-singleton", *_COUNTS)) for series in ("3.13", "3.15")),
        needs=("numpy",),
        fixed=True,
        report="numpy/numpy#30494",
    ),
    # --- libraries in a pool of threads ---
    # 3.13 does not stop for names of functions. Beside other work most samples in locks are in dict.get, that
    # locks the dict for keys that are tuples (25 of 28, 51 of 57, 48 of 56, 58 of 63; perf, stacks by unwind
    # tables); with both cores free they are in lookups of types (128 of 165, 141 of 201).
    Case(
        "sqlalchemy_orm",
        ("stop-the-world",),
        ("langhelpers", "sqlalchemy", "LRUCache"),
        needs=("sqlalchemy",),
        on=(("3.13", ("object-lock", "class-mutation")),),
    ),
    Case("soup_with_lxml", ("gil-enabled",), ("lxml",), needs=("beautifulsoup4<5", "lxml<7"), fixed=True),
    Case(
        "huey_tasks",
        ("gil-enabled", "hot-lock"),
        ("hiredis", "SqliteStorage"),
        needs=("huey<4", "redis<9", "hiredis<4"),
    ),
    Case(
        "huey_tasks-gil_off",
        ("hot-lock",),
        ("SqliteStorage", "huey"),
        needs=("huey<4", "redis<9", "hiredis<4"),
        program="huey_tasks",
        environ=(("PYTHON_GIL", "0"),),
    ),
    # On 3.13 nine of ten threads that spun were, as a debugger and their registers have it, at the lock of an
    # index engine (StringObjectEngine), those of the shared table's columns most of all. From 3.14 on filters
    # of warnings belong to a context, and two threads do per second of CPU time 0.88 (3.14.9t) and 0.92
    # (3.15.1t) of what one does: healthy but for noise.
    Case(
        "pandas_groups",
        ("object-lock", "hot-lock"),
        ("warnings", "StringObjectEngine"),
        needs=("pandas",),
        on=(("3.14", _HEALTHY), ("3.15", _HEALTHY)),
    ),
    # scikit-learn wraps the function of each tree (functools.wraps in sklearn/utils/parallel.py), which stops
    # all threads from 3.14 on: without that two threads grow a forest 1.12 times as fast on 3.15.1t (1.08 to
    # 1.17), and 1.02 and 1.01 times on 3.14.9t (0.97 to 1.12, 0.98 to 1.06; 37 and 20 pairs of runs); 1.03
    # times on 3.13, where nothing contends (0.98 by CPU time).
    Case(
        "sklearn_forest",
        ("stop-the-world",),
        ("warnings", "wraps", "parallel.py"),
        needs=("scikit-learn",),
        on=(("3.13", _HEALTHY), ("3.14", _HEALTHY)),
        edge=(("3.14", ("stop-the-world",)),),
    ),
    Case("numpy_products", ("nested-parallelism",), needs=("numpy",), fixed=True),
    Case("numpy_elements", needs=("numpy",)),
    Case("pydantic_orders", needs=("pydantic",)),
    # On 3.13 two threads did 0.78 to 1.08 of twice the work of one (four pairs, median 0.88).
    Case("jinja_pages", needs=("jinja2",), edge=(("3.13", ("class-mutation",)),)),
    Case("cryptography_blocks", needs=("cryptography",)),
    Case("pillow_thumbnails", needs=("pillow",)),
    # --- services ---
    Case("wsgiref_threads", ("short-lived-threads",), service=True, fixed=True),
    Case(
        "fastapi_uvicorn",
        ("event-loop-bound",),
        ("fastapi_uvicorn.py",),
        needs=("fastapi<1", "uvicorn<1"),
        service=True,
    ),
    Case(
        "fastapi_uvicorn-thread",
        ("executor-tiny-tasks", "event-loop-bound"),
        needs=("fastapi<1", "uvicorn<1"),
        service=True,
        program="fastapi_uvicorn",
        path="/thread",
    ),
    Case(
        "aiohttp_executor",
        ("executor-tiny-tasks", "event-loop-bound"),
        needs=("aiohttp",),
        service=True,
    ),
    # On 3.13 by CPU time 0.79: 19 of 25 samples in locks (perf) are where a dict that another thread made is
    # read for the first time.
    Case(
        "waitress_flask",
        edge=(("3.13", ("spin-contention", "object-lock")),),
        needs=("waitress", "flask"),
        service=True,
    ),
)


class NotInstalled(Exception):
    """A library that has no wheel for a version; the text says why."""


def environment_of(interpreter: Interpreter, needs: Sequence[str]) -> Path:
    """The interpreter of a virtual environment of the version that has these libraries.

    It is kept in the cache; a library is installed when a case first needs it. Raises `NotInstalled`.
    """
    folder = _cache() / f"{interpreter.series}t"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(
            [os.fspath(interpreter.path), "-m", "venv", "--without-pip", os.fspath(folder)],
            check=True,
            env=probe_environment(),
        )
    missing = [need for need in needs if not _is_there(folder, need)]
    if missing:
        command = [
            *(sys.executable, "-m", "pip", "--python", os.fspath(python), "install", "--quiet"),
            *("--only-binary", ":all:", "--no-binary", ",".join(_SOURCE_ONLY), "--prefer-binary", *missing),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        if ran.returncode != 0:
            said = [line for line in ran.stderr.splitlines() if line.lower().startswith("error")]
            raise NotInstalled((said or [f"pip ended with status {ran.returncode}"])[-1])
    return python


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "ftdiag" / "field"


def _is_there(folder: Path, need: str) -> bool:
    wanted = re.sub(r"[-_.]+", "[-_.]+", re.split(r"[<>=!~]", need)[0])
    name = re.compile(rf"{wanted}-[^-]+\.dist-info", re.IGNORECASE)
    return any(name.fullmatch(path.name) for path in folder.glob("lib/python3.*/site-packages/*.dist-info"))


@contextmanager
def running_case(case: Case, python: Path, *, threads: int = 2, fixed: bool = False) -> Iterator[RunningCase]:
    """The case's program, ready, with load where it is a service."""
    port = _free_port() if case.service else 0
    given = ["--threads", str(threads), *(["--port", str(port)] if port else []), *(["--fixed"] * fixed)]
    environ = {"PYTHONPATH": os.fspath(WORKLOADS), **dict(case.environ)}
    path = FIELD / f"{case.program or case.name}.py"
    with running_workload(python, os.fspath(path), *given, environ=environ) as running:
        load = None
        if port:
            load = subprocess.Popen(
                [sys.executable, "-m", "tools.load", str(port), str(CONNECTIONS), "600", case.path],
                stdout=subprocess.PIPE,
                text=True,
                cwd=FIELD.parent.parent,
            )
        try:
            yield RunningCase(running, load)
        finally:
            if load is not None:
                load.kill()
                load.wait()
                if load.stdout is not None:
                    load.stdout.close()


@dataclass(frozen=True, slots=True)
class RunningCase:
    """A case that runs."""

    running: RunningWorkload
    load: subprocess.Popen[str] | None

    @property
    def pid(self) -> int:
        """The process to attach to."""
        return self.running.pid

    def rate(self) -> float | None:
        """Ends it; what it did in a second, `None` where it does not say."""
        if self.load is not None:
            self.load.send_signal(signal.SIGTERM)
            said, _ = self.load.communicate(timeout=LOAD_END_TIMEOUT_S)
            found = re.match(r"(\d+) answers in ([\d.]+) s", said)
        else:
            self.running.terminate()
            found = _TOTAL.search(self.running.said())
        return None if found is None else int(found[1].replace(",", "")) / max(float(found[2]), 1e-9)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def case_named(name: str) -> Case:
    """The case of that name."""
    return next(case for case in CASES if case.name == name)
