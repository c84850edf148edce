"""Interpreters without a table of functions: what is found in them is what such a table calls it."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from ftdiag.errors import PermissionRefused
from ftdiag.model import ThreadState
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.perfevents import RawSample
from ftdiag.sources.kernel.procfs import thread_ids
from ftdiag.sources.native import debugfiles, images, symbols
from ftdiag.sources.native import sampler as native
from ftdiag.sources.native.classifier import Classifier, NativeSample
from ftdiag.sources.native.elf import FileSource, read_elf
from ftdiag.sources.native.sampler import NativeSampler
from ftdiag.sources.native.symbol_classes import Origin, state_of
from ftdiag.sources.native.symbolcache import SymbolCache
from ftdiag.sources.native.symboltable import table_of
from ftdiag.sources.native.unnamed import find_unnamed
from ftdiag.sources.python.runtime import find_runtime
from reading import PATIENCE_S, eventually
from tools.provision.verification import Interpreter
from tools.workloads import RunningWorkload, running_workload

FOUND: Final = {ThreadState.ALLOC: 0.97, ThreadState.GC: 0.75}
"""Part of the functions' bytes that is found: the rest is start, end and rare requests (`gc.get_objects`)."""
MOST_MISTAKEN: Final = 0.01
"""Part of all other functions' bytes that is taken for one of those."""
LEAST_FOUND: Final = {
    "mimalloc (": 300,
    "collector (": 30,
    "tp_traverse (": 40,
    ".tp_traverse": 60,
    "raw mutex (": 2,
}
"""Functions that are found in any free-threaded build, by the beginning or end of their name."""
NAMED: Final = frozenset(
    {"gc_collect_main", "_Py_brc_queue_object", "_PyMem_MiMalloc", "_PyObject_MiFree", "_PyMem_RawMalloc"}
)
SAME: Final = 0.97
"""Samples that are judged alike with names and without."""
LEAST_SAMPLES: Final = 1500

MIXED: Final = """
import gc, threading, time
shared = []
heap = [[n] for n in range(100_000)]
def allocates(index):
    while True:
        [bytearray(size) for size in range(64, 8192, 64)]
def collects(index):
    while True:
        gc.collect()
        time.sleep(0.001)
def appends(index):
    while True:
        shared.append(1)
        shared.pop()
def computes(index):
    while True:
        sum(n * n for n in range(1000))
for body in (allocates, collects, appends, appends, computes):
    threading.Thread(target=body, args=(0,), daemon=True).start()
import os
print("ready", os.getpid(), flush=True)
time.sleep(600)
"""


def named_functions(names: bytes, entries: list[tuple[int, int, int]]) -> dict[int, tuple[str, int]]:
    """Functions by address: name and size."""
    return {
        start: (names[at : names.index(b"\0", at)].decode(), size) for start, size, at in reversed(entries)
    }


def test_functions_are_found_without_their_names(free_threaded_python: Interpreter) -> None:
    # GIVEN an interpreter
    with free_threaded_python.path.open("rb") as file:
        source = FileSource(file.fileno())
        elf = read_elf(source)
        assert elf is not None

        # WHEN its functions are looked for by what is exported and what refers to them
        found = find_unnamed(elf, source)
        table = table_of(elf, source, ".symtab")
    assert found is not None
    functions = named_functions(found[1], found[0])

    # THEN there are as many as in other builds, and some are known by their names
    names = Counter(name for name, _ in functions.values())
    for part, least in LEAST_FOUND.items():
        assert sum(name.startswith(part) or name.endswith(part) for name in names) >= least, part
    assert names.keys() >= NAMED

    # AND where the file has a table of them, they are what it says
    if table is None:
        return
    true = named_functions(table.names, table.entries)
    total: Counter[ThreadState | None] = Counter()
    right: Counter[ThreadState | None] = Counter()
    mistaken = 0
    for start, (name, size) in functions.items():
        if start not in true:
            continue
        state = state_of(true[start][0], Origin.PYTHON)
        said = state_of(name, Origin.PYTHON) if name else None
        total[state] += size
        right[state] += size * (said is state)
        if state is None and said is not None:
            mistaken += size
    for kind, least_part in FOUND.items():
        assert right[kind] >= least_part * total[kind], (kind, right[kind], total[kind])
    assert mistaken <= MOST_MISTAKEN * total[None]


PT_GNU_EH_FRAME: Final = 0x6474E550


def obfuscated(interpreter: Path, folder: Path) -> Path:
    """A copy of an interpreter without section headers, and whose unwind tables nothing points at."""
    data = bytearray(interpreter.read_bytes())
    segments, _ = struct.unpack_from("<QQ", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for place in range(segments, segments + size * count, size):
        if struct.unpack_from("<I", data, place)[0] == PT_GNU_EH_FRAME:
            struct.pack_into("<I", data, place, 0)
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HHH", data, 58, 0, 0, 0)
    path = folder / "bin" / interpreter.name
    path.parent.mkdir()
    path.write_bytes(data)
    path.chmod(0o755)
    (folder / "lib").symlink_to(interpreter.resolve().parent.parent / "lib")
    return path


def test_what_an_obfuscated_interpreter_does_is_not_guessed(
    free_threaded_python: Interpreter, tmp_path: Path
) -> None:
    # GIVEN a program that allocates and collects, on an interpreter that tells nothing of its functions
    program = tmp_path / "program.py"
    program.write_text(MIXED)
    python = obfuscated(free_threaded_python.path, tmp_path)
    with running_workload(python, str(program)) as running:
        pid = running.pid
        try:
            sampler = NativeSampler(pid, 499.0, find_runtime(pid, RemoteMemory(pid)))
        except PermissionRefused:
            return  # how that is said is tested in test_native
        for tid in thread_ids(pid):
            sampler.add_thread(tid)
        sampler.drain(0)
        assert sampler._classifier.end_search(PATIENCE_S)

        # WHEN it is sampled
        samples: list[NativeSample] = []

        def enough() -> bool:
            samples.extend(sampler.read())
            return len(samples) >= 300

        eventually(enough, every_s=0.05)
        told = sampler.take_unnamed()
        sampler.close()

    # THEN code of the interpreter is not known, no work, and no collector's; which file that is, is said
    inside = [each.state for each in samples if each.symbol == f"[{python.name}]"]
    assert len(inside) > 0.3 * len(samples)
    assert set(inside) <= {ThreadState.UNKNOWN, ThreadState.ATOMIC, ThreadState.SPIN}
    assert ThreadState.GC not in {each.state for each in samples}
    assert (python.name, symbols.HIDES) in told


class Twice(Classifier):
    """Judges every sample with the names that a file has, and with none but those that are found."""

    pairs: list[tuple[NativeSample, NativeSample]]

    def __init__(self, pid: int, python_image: str, *, kernel: bool) -> None:
        super().__init__(pid, python_image, kernel=kernel)
        self.pairs = []
        self.without = Classifier(pid, python_image, kernel=kernel)
        with pytest.MonkeyPatch.context() as patched:
            for module in (images, debugfiles):
                patched.setattr(
                    module,
                    "table_of",
                    lambda elf, source, name, *beside: (
                        None if name == ".symtab" else table_of(elf, source, name, *beside)
                    ),
                )
            patched.setattr(SymbolCache, "get", lambda *_: None)
            patched.setattr(SymbolCache, "put", lambda *_: None)
            self.without.begin_search()
            assert self.without.end_search(PATIENCE_S)
        assert self.without.python_stripped

    def judge(self, sample: RawSample) -> NativeSample:
        """As with names; both are kept."""
        first = super().judge(sample)
        self.pairs.append((first, self.without.judge(sample)))
        return first

    def judge_all(self, samples: Sequence[RawSample]) -> list[NativeSample]:
        """Each of them so."""
        return list(map(self.judge, samples))


def test_what_threads_do_is_seen_without_names(
    workload_process: Callable[..., RunningWorkload], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a program that allocates, collects, waits for a lock, and computes
    path = tmp_path / "program.py"
    path.write_text(MIXED)
    pid = workload_process(path).pid
    monkeypatch.setattr(native, "Classifier", Twice)
    try:
        sampler = NativeSampler(pid, 997.0, find_runtime(pid, RemoteMemory(pid)))
    except PermissionRefused:
        return  # how that is said is tested in test_native
    for tid in thread_ids(pid):
        sampler.add_thread(tid)

    # WHEN it is sampled, and every sample is judged with the interpreter's names and without
    classifier = sampler._classifier
    assert isinstance(classifier, Twice)
    sampler.drain(0)
    assert classifier.end_search(PATIENCE_S)

    def enough() -> bool:
        sampler.read()
        return len(classifier.pairs) >= LEAST_SAMPLES

    eventually(enough, every_s=0.05)
    sampler.close()

    # THEN nothing is unknown without
    without = Counter(second.state for _, second in classifier.pairs)
    assert without[ThreadState.UNKNOWN] <= 0.02 * without.total()
    for state in (ThreadState.ALLOC, ThreadState.GC, ThreadState.WORK):
        assert without[state] > 0.01 * without.total(), without

    # AND the states are the same
    differ = Counter(
        (first.state.name, first.symbol, second.state.name, second.symbol)
        for first, second in classifier.pairs
        if first.state is not second.state
    )
    assert differ.total() <= (1 - SAME) * len(classifier.pairs), differ.most_common(10)
    for state in (ThreadState.ALLOC, ThreadState.GC, ThreadState.SPIN):
        named = sum(first.state is state for first, _ in classifier.pairs)
        assert abs(without[state] - named) <= 0.02 * without.total(), (state, named, without[state])
