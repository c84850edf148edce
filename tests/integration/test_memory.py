"""The memory of real processes: kinds and threads of a program that holds a known amount of each."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdiag.model import MemoryKind, MemoryReading
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.kernel.memorymap import Owner, ProcessMemory
from ftdiag.sources.kernel.memorywatch import MemoryWatch
from ftdiag.sources.kernel.procfs import read_distribution
from ftdiag.sources.python.runtime import find_runtime
from reading import Look, eventually, recordings, until_asleep
from tools.workloads import RunningWorkload, running_workload

KINDS = Path(__file__).parents[1] / "programs" / "memory_kinds.py"
MIB = 1 << 20
Program = Callable[..., RunningWorkload]


def owners_of(pid: int) -> dict[str, Owner]:
    """The threads of a process by their Python names."""
    interpreter = Look(pid).interpreter
    names = interpreter.thread_names()
    return {
        names.get(thread.ident, "?"): Owner(index, thread.native_id, thread.ident, thread.native_id == pid)
        for index, thread in enumerate(interpreter.threads())
    }


def of_thread(reading: MemoryReading, owner: Owner) -> tuple[int, int]:
    """(stack, heap) of a thread in bytes."""
    row = reading.by_thread.thread.index(owner.index)
    return reading.by_thread.stack_bytes[row], reading.by_thread.heap_bytes[row]


def test_every_kind_of_memory(workload_process: Program) -> None:
    # GIVEN a program that holds a known amount of memory of each kind
    pid = workload_process(KINDS).pid
    until_asleep(pid)
    owners = owners_of(pid)

    # WHEN its memory is read
    reading = ProcessMemory(pid, find_runtime(pid, RemoteMemory(pid))).read(list(owners.values()))

    # THEN each kind has what the program holds, and all of them add up to what is resident
    assert reading is not None
    assert reading.not_measured == {}
    assert reading.rss_bytes == sum(reading.kinds.values())
    held = {
        MemoryKind.PYTHON_HEAPS: 48 + 16,
        MemoryKind.LIBC_ARENAS: 24,
        MemoryKind.ANONYMOUS: 30,
        MemoryKind.SHARED: 20,
    }
    for kind, expected in held.items():
        assert expected * MIB <= reading.kinds[kind] < (1.5 * expected + 8) * MIB, kind
    assert 0 < reading.kinds[MemoryKind.THREAD_STACKS] < 2 * MIB
    assert 0 < reading.kinds[MemoryKind.FILES] < 40 * MIB
    # AND what belongs to a thread is with that thread
    stack, heap = of_thread(reading, owners["python_objects"])
    assert heap >= 48 * MIB
    assert 0 < stack < MIB
    assert of_thread(reading, owners["idle"])[1] < 2 * MIB
    assert of_thread(reading, owners["MainThread"])[0] > 0
    # AND the objects of the thread that ended are somebody's still: nobody's, or of who took them over
    of_ended = reading.ended_heap_bytes or 0
    others = [of_thread(reading, owner)[1] for owner in owners.values()]
    assert of_ended + sum(others) >= (48 + 16) * MIB
    assert reading.arenas is not None
    assert reading.arenas >= 1
    assert reading.uss_bytes is not None
    assert reading.pss_bytes is not None
    assert reading.uss_bytes <= reading.pss_bytes <= reading.rss_bytes
    # AND little of it is in no use
    assert reading.heaps_free_bytes is not None
    assert reading.heaps_free_bytes < 12 * MIB
    assert reading.libc_free_bytes is not None
    assert reading.libc_free_bytes < 8 * MIB


@pytest.mark.parametrize("fixed", [False, True], ids=["kept", "given-back"])
def test_what_libc_keeps_of_freed_memory(fixed: bool, workload_process: Program) -> None:
    # GIVEN a program whose C library freed a quarter of a gigabyte, and one that had it given back
    pid = workload_process("kept_buffers", *(["--fixed"] if fixed else [])).pid

    # WHEN its memory is read
    reading = ProcessMemory(pid, find_runtime(pid, RemoteMemory(pid))).read(())

    # THEN it is what is free and resident
    assert reading is not None
    assert reading.libc_free_bytes is not None
    assert (reading.libc_free_bytes > 230 * MIB) is not fixed
    assert reading.libc_free_bytes <= 256 * MIB


def test_reading_agrees_with_smaps(workload_process: Program) -> None:
    # GIVEN a program that sleeps
    pid = workload_process(KINDS).pid
    until_asleep(pid)

    # WHEN its memory is read, and the kernel's own account of each mapping
    reading = ProcessMemory(pid, find_runtime(pid, RemoteMemory(pid))).read(())
    heap = 0
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = 2 << 40 <= int(line.split("-")[0], 16) < 30 << 40
        elif inside and line.startswith("Rss:"):
            heap += int(line.split()[1]) << 10

    # THEN they agree on Python's arenas, up to pages that were read and never written (the kernel does not
    # count these as resident)
    assert reading is not None
    assert heap <= reading.kinds[MemoryKind.PYTHON_HEAPS] < heap + MIB


def test_a_build_with_the_gil_says_what_it_cannot_tell() -> None:
    # GIVEN a process whose interpreter has a GIL (or none that is known)
    with running_workload(sys.executable, str(KINDS)) as running:
        # WHEN its memory is read
        reading = ProcessMemory(running.pid, None).read([Owner(0, running.pid, None, True)])

    # THEN Python's heaps are anonymous memory, and that is said
    assert reading is not None
    assert MemoryKind.PYTHON_HEAPS not in reading.kinds
    assert "GIL" in reading.not_measured["python_heaps"]
    assert reading.kinds[MemoryKind.ANONYMOUS] >= (48 + 30) * MIB
    assert reading.kinds[MemoryKind.LIBC_ARENAS] >= 24 * MIB
    assert reading.by_thread.stack_bytes[0] > 0
    assert reading.by_thread.heap_bytes[0] == -1
    assert reading.rss_bytes == sum(reading.kinds.values())


def test_a_process_that_is_gone_is_no_reading() -> None:
    # GIVEN the id of a process that ended
    with subprocess.Popen(["true"]) as child:
        child.wait()

    # WHEN its memory is read, THEN there is nothing, and no error
    assert ProcessMemory(child.pid, None).read(()) is None
    watch = MemoryWatch(child.pid, None)
    watch.begin((), time.monotonic_ns())
    assert watch.take(wait_s=30.0) is None
    watch.close()


def test_readings_are_taken_beside_ticks() -> None:
    # GIVEN our own process, which is watched
    watch = MemoryWatch(os.getpid(), None)
    now = time.monotonic_ns()

    # WHEN a reading is asked for
    watch.begin([Owner(7, os.getpid(), None, True)], now)
    found = eventually(watch.take)
    watch.close()

    # THEN it comes, and the next may come five seconds later
    assert found.by_thread.thread.tolist() == [7]
    assert watch.due_ns >= now + 5_000_000_000


def test_recordings_have_readings(workload_process: Program, tmp_path: Path) -> None:
    # GIVEN a program that holds memory
    pid = workload_process(KINDS).pid

    # WHEN it is recorded for a moment, or for longer where a reading takes longer
    for recording in recordings(pid, tmp_path, 1.5):
        # THEN it says on which system it runs, for advice that depends on it
        assert recording.target.distribution == read_distribution(os.getpid())
        assert recording.target.machine == os.uname().machine
        # AND there is a reading of its memory, by the recording's threads
        readings = recording.memory(0, len(recording))
        if readings:
            _, reading = readings[0]
            by_name = {
                recording.thread(index).name: heap
                for index, heap in zip(reading.by_thread.thread, reading.by_thread.heap_bytes, strict=True)
            }
            assert reading.kinds[MemoryKind.PYTHON_HEAPS] >= 64 * MIB
            assert by_name["python_objects"] >= 48 * MIB
            break
    else:
        pytest.fail("no recording has a reading of the memory")
