"""What every test may ask for: free-threaded interpreters, and workloads that run under them.

In: interpreters that provisioning finds. Out: the fixtures `free_threaded_python` (a test that asks for
it, or for one of the fixtures below, runs once for each interpreter), `free_threaded_pythons`, `workload`
and `workload_process`. Where there is no interpreter such tests fail; they are never skipped.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from gil_pythons import readable_by_us
from tools.provision.search import NAMED_VARIABLE, Found, find_interpreters
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload, running_workload

# A slow machine is not a failing property.
settings.register_profile("ftdiag", deadline=None)
settings.load_profile("ftdiag")

NO_INTERPRETER = (
    "there is no free-threaded interpreter, and this test needs one. Get one:\n"
    "    make pythons\n"
    "or name yours:\n"
    f"    export {NAMED_VARIABLE}=/path/to/python3.13t{os.pathsep}/path/to/python3.14t"
)


NEWEST_ONLY = frozenset(
    {
        "test_attach_errors",
        "test_cockpit",
        "test_commands",
        "test_field",
        "test_hosts",
        "test_isolation",
        "test_leftovers",
        "test_memray",
        "test_odd_programs",
        "test_odd_states",
        "test_pyspy",
        "test_sampler",
        "test_scale",
        "test_watch",
        "test_workloads",
    }
)
"""Modules whose tests are about ftdiag around its reader (commands, terminals, other tools, permissions, what
a process does or the kernel does to it), to which all versions are alike, or about programs that the benches
look at on each: they run on the newest interpreter. What reads a process runs on all."""


@functools.cache
def interpreters_at_hand() -> tuple[Interpreter, ...]:
    """The named interpreters; where none is named one of each series, the newest first."""
    return chosen(find_interpreters())


def chosen(found: Found) -> tuple[Interpreter, ...]:
    """What tests run on. A named interpreter that is refused is an error: somebody counts on it."""
    if found.named_refusals:
        told = "; ".join(f"{refusal.path} {refusal.reason}" for refusal in found.named_refusals)
        raise pytest.UsageError(f"{NAMED_VARIABLE}: {told}")
    return found.chosen


def pytest_configure() -> None:
    """Looks once, at the start, so that a wrong FTDIAG_PYTHONS is one message and no traceback.

    A shell starts background jobs with SIGINT ignored, and programs that tests start would inherit that.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    interpreters_at_hand()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that needs an interpreter runs on all of them."""
    if "python_with_gil" in metafunc.fixturenames:
        # A free-threaded build that is told to use the GIL is always at hand; builds with it where there are.
        with_gil: list[tuple[str, tuple[str, ...]]] = [
            (str(one.path), ("-X", "gil=1")) for one in interpreters_at_hand()
        ]
        names = [f"{one.version}t-gil=1" for one in interpreters_at_hand()]
        with_gil += [(one.path, ()) for one in readable_by_us()]
        names += [one.name for one in readable_by_us()]
        metafunc.parametrize(
            "python_with_gil", with_gil or [None], ids=names or ["no-interpreter"], indirect=True
        )
    if "free_threaded_python" not in metafunc.fixturenames:
        return
    found: tuple[Interpreter | None, ...] = interpreters_at_hand() or (None,)
    if metafunc.module.__name__.rpartition(".")[2] in NEWEST_ONLY:
        found = found[:1]
    metafunc.parametrize(
        "free_threaded_python",
        found,
        ids=["no-interpreter" if one is None else f"{one.version}t" for one in found],
        indirect=True,
        scope="session",
    )


def pytest_report_header() -> list[str]:
    """Says on what the tests run."""
    found = [f"{one.version} {one.path}" for one in interpreters_at_hand()]
    return [f"free-threaded interpreters: {', '.join(found) or 'none'}"]


@pytest.fixture(scope="session")
def free_threaded_python(request: pytest.FixtureRequest) -> Interpreter:
    """One free-threaded interpreter; the test runs on each."""
    interpreter: Interpreter | None = request.param
    if interpreter is None:
        pytest.fail(NO_INTERPRETER, pytrace=False)
    return interpreter


@pytest.fixture
def python_with_gil(request: pytest.FixtureRequest) -> tuple[str, tuple[str, ...]]:
    """An interpreter that ftdiag reads and that runs with the GIL, and the options that make it do so."""
    if request.param is None:
        pytest.fail(NO_INTERPRETER, pytrace=False)
    python: tuple[str, tuple[str, ...]] = request.param
    return python


@pytest.fixture(scope="session")
def free_threaded_pythons() -> tuple[Interpreter, ...]:
    """All free-threaded interpreters, for the rare test that compares them."""
    if not interpreters_at_hand():
        pytest.fail(NO_INTERPRETER, pytrace=False)
    return interpreters_at_hand()


@pytest.fixture
def workload_process(free_threaded_python: Interpreter) -> Iterator[Callable[..., RunningWorkload]]:
    """Starts a workload: `workload_process("hot_lock", "--threads", "4")`; it is ready, and ended later."""
    with ExitStack() as running:

        def start(name: str | Path, *arguments: str, **keywords: object) -> RunningWorkload:
            return running.enter_context(
                running_workload(free_threaded_python.path, str(name), *arguments, **keywords)  # type: ignore[arg-type]
            )

        yield start


@pytest.fixture
def workload(workload_process: Callable[..., RunningWorkload]) -> Callable[..., int]:
    """Starts a workload and gives its pid: `pid = workload("hot_lock", "--threads", "4")`."""

    def start(name: str | Path, *arguments: str, **keywords: object) -> int:
        return workload_process(name, *arguments, **keywords).pid

    return start
