"""Causes that look alike in one figure and are told apart by another; and what is said of them."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from builders import RecordingBuilder, a_lock, counted, spent
from ftdiag.analysis.pauses import GARBAGE_COLLECTION, reason_of_symbol
from ftdiag.model import (
    STOP_EVENT,
    CollectorMetrics,
    Confidence,
    CorePart,
    Finding,
    GenerationCollections,
    HookKind,
    Library,
    LockKind,
    OtherProcess,
    Pauses,
    ProcessCounters,
    SamplerCost,
    Severity,
    SharedObject,
    Snapshot,
    Stack,
    ThreadState,
    TracingHook,
)
from ftdiag.rules import changes_of, diagnose, facts_of
from ftdiag.session import Session
from ftdiag.sources.kernel import procfs
from ftdiag.wording.account import efficiency_words, useful_words
from ftdiag.wording.answer import answer
from ftdiag.wording.locks import lock_expression
from unit.rules.scenes import (
    LIB,
    WORK,
    list_lock,
    look,
    loop_busy,
    named,
    serial,
    target,
    tiny_tasks,
    two_of_one,
    waiting_for,
    wasting,
    workers,
)

IMPORTING = (*((f"_Py_step{number}", 0.05) for number in range(8)), ("import_get_module", 0.05))
"""What the machine code of an import statement looks like on 3.14: other functions come first."""


def judged(snapshot: Snapshot, **metrics: object) -> Snapshot:
    """The snapshot judged again with other metrics."""
    snapshot = replace(snapshot, metrics=replace(snapshot.metrics, **metrics))  # type: ignore[arg-type]
    return replace(snapshot, findings=diagnose(facts_of(snapshot)).findings)


def one(snapshot: Snapshot, rule: str) -> Finding:
    (found,) = (finding for finding in snapshot.findings if finding.rule_id == rule)
    return found


def ids(snapshot: Snapshot) -> list[str]:
    return [finding.rule_id for finding in snapshot.findings]


# --- stops of all threads --------------------------------------------------------------------------------


def paused(folder: Path, symbol: str, state: str = "work") -> Session:
    """Two threads that are stopped again and again by a third, whose machine code has `symbol`."""
    at = "/srv/jobs.py:12 start < /srv/jobs.py:3 main"
    stop = spent(10, "stopped", at=WORK, holder="asker")
    asks = spent(10, "on_cpu", at=at)
    parts = [spent(15, "on_cpu", at=WORK), stop] * 4
    builder = RecordingBuilder(folder / "r", native="cpu-clock at 199 Hz", target=target())
    for _ in range(3):
        builder.window(
            {"worker-1": parts, "worker-2": parts, "asker": [spent(15, "idle", at=at), asks] * 4},
            native=[
                ("worker-1", WORK, "work", "_PyEval_EvalFrameDefault", 60),
                ("worker-2", WORK, "work", "_PyEval_EvalFrameDefault", 60),
                ("asker", at, state, symbol, 100),
            ],
        )
    return builder.end().session()


@pytest.mark.parametrize(
    ("symbol", "reason", "remedy"),
    [
        ("copy_page_range [kernel]", "fork", "subprocess"),
        ("object_set_class", "x.__class__", "another object"),
        ("func_set_name.cold", "function", "decorate"),
        ("_PyEval_SetProfile", "tracing", "before the threads start"),
    ],
)
def test_who_stops_all_threads_is_told_with_what_for(
    symbol: str, reason: str, remedy: str, tmp_path: Path
) -> None:
    # GIVEN pauses whose requester the interpreter noted, and its machine code
    snapshot = paused(tmp_path, symbol).snapshot()

    # THEN the finding counts them, names who asked, where and for what, and has a remedy for just that
    found = one(snapshot, "stop-the-world")
    assert "asker asks for them at start (jobs.py:12)" in found.summary
    assert reason in found.summary
    assert "at least 12 pauses in 3.00 s, 100 ms each on average and 100 ms at most" in found.summary
    assert remedy in found.remedy[0].text
    assert found.confidence == "known"
    assert {each.metric: each.value for each in found.evidence}["pauses_at_least"] == 12


def test_pauses_of_the_collector_are_told_by_its_rule_with_their_number(tmp_path: Path) -> None:
    # GIVEN the same pauses for garbage collection THEN no other rule claims them
    snapshot = paused(tmp_path, "gc_collect_main", state="gc").snapshot()
    assert "stop-the-world" not in ids(snapshot)
    assert "at least 12 pauses in 3.00 s" in one(snapshot, "gc-pressure").summary


def test_stops_are_shared_among_those_who_asked(tmp_path: Path) -> None:
    # GIVEN pauses of which a third were for the collector, a third for another reason, and a third by a
    # thread that is known to have asked for the collector
    session = paused(tmp_path, "gc_collect_main", state="gc")
    snapshot = session.snapshot()
    (pauses,) = snapshot.pauses
    other = replace(snapshot.threads[0].info)
    several = (
        pauses,
        replace(pauses, reason=None),
        replace(pauses, requester=other, reason="fork"),
    )

    # WHEN charged THEN what is not known of a thread goes with what is known of it
    shares = facts_of(replace(snapshot, pauses=several)).charges.stop_shares
    assert shares == {"gc-pressure": pytest.approx(2 / 3), "stop-the-world": pytest.approx(1 / 3)}


def test_the_queue_for_stopping_others_is_known_by_its_two_waits(tmp_path: Path) -> None:
    # GIVEN threads that wait for two locks of the interpreter four bytes apart, and spin more than they park
    turn = a_lock("interpreter lock", kind=LockKind.RUNTIME, type_name=None, address=0x7000)
    stopped = a_lock("interpreter lock", kind=LockKind.RUNTIME, type_name=None, address=0x7004)
    at = "/srv/order.py:38 pay < /srv/app.py:3 main"
    threads = {
        "w-1": [spent(60, "spin", at=at), spent(40, "runtime_lock", at=at, lock=turn)],
        "w-2": [spent(40, "runtime_lock", at=at, lock=stopped), spent(60, "spin", at=at)],
    }
    # THEN it is the stops; with only one of the two it might as well be the lock of all types
    assert ids(look(tmp_path, threads))[0] == "stop-the-world"
    threads["w-2"] = [spent(40, "runtime_lock", at=at, lock=turn), spent(60, "spin", at=at)]
    assert ids(look(tmp_path, threads))[0] == "class-mutation"


def test_waits_to_stop_others_that_the_collector_had_no_time_for_are_not_its(tmp_path: Path) -> None:
    # GIVEN threads that wait for others to stand still, most of the time, and a pause for a collection: the
    # only one that was long enough to be met
    still = a_lock(STOP_EVENT, kind=LockKind.RUNTIME, type_name=None)
    at = "/usr/lib/python3.15/abc.py:107 ABCMeta.__new__ < /srv/app.py:13 build"
    threads = {
        "w-1": [
            spent(2, "gc", at=at),
            spent(58, "runtime_lock", at=at, lock=still),
            spent(40, "work", at=at),
        ],
        "w-2": [spent(2, "stopped", at=at), spent(40, "work", at=at), spent(58, "work", at=WORK)],
    }
    sampled = look(tmp_path, threads)
    asked = replace(sampled.threads[0].info)
    pause = Pauses(asked, Confidence.KNOWN, GARBAGE_COLLECTION, (), 1, 20_000_000, 20_000_000, 1)
    sampled = replace(sampled, pauses=(pause,))

    # WHEN the collector's own clock says how long it took in all, THEN these waits are for something else
    own = CollectorMetrics((GenerationCollections(0, 1, 20_000_000, 100, 0),), 1.0, 1, 20_000_000)
    measured = judged(replace(sampled, collector=own))
    assert ids(measured)[0] == "stop-the-world"
    # AND where it may have taken that long, or nothing tells how long, they are its
    longer = CollectorMetrics((GenerationCollections(0, 9, 2_000_000_000, 100, 0),), 1.0, 9, 300_000_000)
    assert ids(judged(replace(sampled, collector=longer)))[0] == "gc-pressure"
    assert ids(judged(sampled))[0] == "gc-pressure"


def test_symbols_are_read_as_the_kernel_and_compilers_write_them() -> None:
    # GIVEN names with suffixes WHEN looked up THEN they count as the function; others say nothing
    assert reason_of_symbol("object_set_class.part.0") == "a change of x.__class__"
    assert reason_of_symbol("dup_mmap [kernel]") == "fork"
    assert reason_of_symbol("_PyEval_EvalFrameDefault") is None
    assert reason_of_symbol("") is None


# --- whose atomics and waits -----------------------------------------------------------------------------


def test_an_import_statement_is_known_by_a_little_of_its_machine_code(tmp_path: Path) -> None:
    # GIVEN contended atomics at a line, with a function of imports behind many others
    assert ids(named(look(tmp_path, wasting("atomic", WORK)), 10, IMPORTING))[0] == "import-in-hot-path"
    # THEN it is the import; without it, reference counts
    assert ids(named(look(tmp_path, wasting("atomic", WORK)), 10, IMPORTING[:-1]))[0] == "refcount-contention"


def test_the_dict_of_modules_is_no_shared_dict_of_the_program(tmp_path: Path) -> None:
    # GIVEN a wait for a dict without a name at a line that imports
    lock = a_lock(None, kind=LockKind.OBJECT, type_name="dict")
    snapshot = look(tmp_path, waiting_for(lock, "object_lock", WORK))
    assert ids(snapshot)[0] == "object-lock"
    assert ids(named(snapshot, 10, IMPORTING))[0] == "import-in-hot-path"


def test_a_cell_that_is_locked_to_be_read_is_reference_counts(tmp_path: Path) -> None:
    # GIVEN atomics at a line of a closure, and waits for the lock of its cell (3.13)
    lock = a_lock(None, kind=LockKind.OBJECT, type_name="cell")
    threads = {
        "w-1": [
            spent(40, "atomic", at=WORK),
            spent(30, "object_lock", at=WORK, lock=lock),
            spent(30, "work"),
        ],
        "w-2": [spent(60, "work", at=WORK), spent(40, "atomic", at=WORK)],
    }
    snapshot = named(look(tmp_path, threads), 10, (), (SharedObject("cell limit", "cell", Confidence.KNOWN),))

    # THEN one finding has both, and advises a closure for each thread
    assert ids(snapshot) == ["refcount-contention"]
    assert "in each thread" in snapshot.findings[0].remedy[0].text


def test_numbers_that_are_merely_somebody_elses_are_not_named(tmp_path: Path) -> None:
    # GIVEN a loop variable and a table, both possibly shared
    shared = (
        SharedObject("_", "int", Confidence.KNOWN),
        SharedObject("total", "int", Confidence.INFERRED),
        SharedObject("RATES.table", "list", Confidence.INFERRED),
    )
    found = named(look(tmp_path, wasting("atomic", WORK)), 10, (), shared).findings[0]
    assert ": RATES.table (a list) is shared." in found.summary
    assert "table = RATES.table" in (found.remedy[0].code or "")


# --- what is no cause, or another one --------------------------------------------------------------------


def test_no_loss_is_claimed_of_what_no_sample_shows(tmp_path: Path) -> None:
    # GIVEN two busy threads in the same code, with thread-local bytecode off
    of = target(("PYTHON_TLBC=0",))
    same = one(look(tmp_path, workers(2, spent(100, "work", at=WORK)), of=of), "tlbc-disabled")

    # THEN it is a warning without a figure; with code of its own for each thread it is none
    assert same.lost_cores == 0.0
    assert same.severity is Severity.WARNING
    apart = {
        f"w-{number}": [spent(100, "work", at=f"/srv/part{number}.py:1 f{number}")] for number in range(2)
    }
    assert one(look(tmp_path, apart, of=of), "tlbc-disabled").severity is Severity.INFO


def test_a_profile_function_of_the_program_is_known_by_the_calls_of_it(tmp_path: Path) -> None:
    # GIVEN a line whose machine code calls a profile function
    snapshot = look(tmp_path, workers(2, spent(100, "work", at=WORK)))
    assert "tracing-on" not in ids(snapshot)
    hooked = named(snapshot, 10, (("_PyEval_EvalFrameDefault", 0.6), ("call_instrumentation_vector", 0.04)))
    found = one(hooked, "tracing-on")
    assert found.severity is Severity.WARNING
    assert "settrace" in (found.remedy[0].code or "")


def test_what_a_profile_function_waits_for_is_its_own(tmp_path: Path) -> None:
    # GIVEN threads that wait for a dict in a function that another one calls, and one that wastes time there
    stack = "/srv/app.py:31 count < /srv/app.py:29 noted < /srv/app.py:5 worker"
    lock = a_lock("calls", kind=LockKind.OBJECT, type_name="Counter")
    waiting, atomics = waiting_for(lock, "object_lock", stack), wasting("atomic", stack)
    plain = {
        "object-lock": (waiting, one(look(tmp_path, waiting), "object-lock")),
        "refcount-contention": (atomics, one(look(tmp_path, atomics), "refcount-contention")),
    }

    # WHEN that one was set as a profile function
    noted = TracingHook(HookKind.PROFILE, "noted", "/srv/app.py")
    for rule, (scene, before) in plain.items():
        profiled = look(tmp_path, scene, of=replace(target(), tracing=(noted,)))

        # THEN that is the cause, by its name, and there is no other one
        found = one(profiled, "tracing-on")
        assert rule not in ids(profiled)
        assert "profile function noted (app.py)" in found.summary
        assert before.lost_cores is not None
        assert found.lost_cores is not None
        assert found.lost_cores > before.lost_cores - 1e-9
        assert "setprofile" in (found.remedy[0].code or "")

    # AND a tool that is registered, or a function of that name elsewhere, is none
    for other in (
        TracingHook(HookKind.TOOL, "cover"),
        TracingHook(HookKind.PROFILE, "noted", "/a.py"),
    ):
        assert one(look(tmp_path, waiting, of=replace(target(), tracing=(other,))), "object-lock").lost_cores


def test_tasks_that_take_milliseconds_are_not_too_small(tmp_path: Path) -> None:
    # GIVEN what looks like tiny tasks, with much work between waits
    snapshot = tiny_tasks(tmp_path)
    assert ids(snapshot)[0] == "executor-tiny-tasks"
    assert "executor-tiny-tasks" not in ids(judged(snapshot, work_per_wakeup_ns=4_600_000.0))


def test_what_one_loop_would_gain_in_threads_is_not_guessed(tmp_path: Path) -> None:
    # GIVEN a program of which one event loop is all that works
    snapshot = loop_busy(tmp_path)
    finding = one(snapshot, "event-loop-bound")
    # WHEN asked what is different without it, THEN nothing is replayed with the one thread there is
    assert isinstance(changes_of(finding, snapshot), str)
    several = replace(snapshot, metrics=replace(snapshot.metrics, threads_with_work=3))
    assert isinstance(changes_of(finding, several), tuple)


def test_processes_that_used_next_to_nothing_are_not_to_stand_back(tmp_path: Path) -> None:
    # GIVEN a machine on which a compiler has a core, and others a hundredth of that
    snapshot = two_of_one(tmp_path)
    others = tuple(OtherProcess(pid, "init", 9_000_000) for pid in (1, 77))
    found = one(
        judged(snapshot, other_processes=(*snapshot.metrics.other_processes, *others)), "starved-by-others"
    )
    # WHEN told, THEN only the compiler is named, and only it is to stand back
    assert "cc1 (4711)" in found.summary
    assert "init" not in found.summary
    assert found.remedy[0].code == "renice -n 10 -p 4711   # let them stand back"
    # AND where none of those that are known used much of what others did, who it is is to be looked for
    found = one(judged(snapshot, other_processes=others), "starved-by-others")
    assert "init" not in found.summary
    assert "renice -n 10 -p PID_OF_THE_OTHER" in (found.remedy[0].code or "")


def test_a_busy_event_loop_needs_no_idle_workers_to_be_found(tmp_path: Path) -> None:
    # GIVEN a loop that is always busy, alone in its process
    alone = {"main": [spent(100, "work", at=loop_stack(tmp_path))]}
    found = one(look(tmp_path, alone), "event-loop-bound")
    assert found.lost_cores == pytest.approx(1.0)


def loop_stack(folder: Path) -> Stack:
    """A stack inside an event loop."""
    (folder / "scratch").mkdir()
    busy = max(loop_busy(folder / "scratch").threads, key=lambda thread: thread.cpu_ns)
    return busy.hot[0].stacks[0][0]


def test_others_cost_no_more_than_they_use(tmp_path: Path) -> None:
    # GIVEN threads that wait for cores of which the program leaves half empty
    half = counted(cpu_ns=500_000_000, run_queue_ns=500_000_000)
    snapshot = look(
        tmp_path, workers(2, spent(100, "on_cpu", at=WORK)), counters={"worker-1": half, "worker-2": half}
    )
    # THEN processes that used a fifth of a core cost at most that, and such that used none cost nothing
    account = dict(snapshot.metrics.account)
    account[CorePart.OTHER_PROGRAMS], account[CorePart.RUNNABLE] = 0.2, account[CorePart.RUNNABLE] - 0.2
    others = judged(snapshot, other_programs_cores=0.2, account=account)
    assert one(others, "starved-by-others").lost_cores == pytest.approx(0.2)
    assert "starved-by-others" not in ids(judged(snapshot, other_programs_cores=0.0))


# --- threads that nobody saw -----------------------------------------------------------------------------


def test_what_ended_threads_used_is_the_programs(tmp_path: Path) -> None:
    # GIVEN one core used by a thread that is known, of 1.8 by the process and 1.9 of the machine
    builder = RecordingBuilder(tmp_path / "r", target=target())
    process = ProcessCounters(cpu_ns=1_800_000_000, machine_busy_ns=1_900_000_000)
    free = SamplerCost(0, 100, 0, 0, 100, 0)
    builder.window({"main": [spent(100, "on_cpu", at=WORK)]}, process=process, cost=free)
    snapshot = builder.end().session().snapshot()
    metrics = snapshot.metrics

    # THEN 0.8 are of threads that were not seen, and others used 0.1
    assert metrics.on_cpu_cores == pytest.approx(1.8)
    assert metrics.unseen_threads_cores == pytest.approx(0.8)
    assert metrics.other_programs_cores == pytest.approx(0.1)
    # AND the first line counts them
    assert answer(snapshot).scope == "1.8 of 2 cores on CPU"
    assert snapshot.workload is not None


def test_efficiency_is_a_range_with_threads_that_nobody_saw(tmp_path: Path) -> None:
    # GIVEN workers of which one waits for a lock while threads that were not seen use 0.8 cores
    builder = RecordingBuilder(tmp_path / "r", target=target())
    spans = {"one": [spent(100, "work", at=WORK)], "two": [spent(100, "lock", at=WORK)]}
    builder.window(spans, process=ProcessCounters(cpu_ns=1_800_000_000))
    snapshot = builder.end().session().snapshot()

    # THEN what was useful is known to a range, and no more is lost than what nobody used
    assert snapshot.metrics.useful_cores == pytest.approx(1.0)
    assert snapshot.metrics.useful_most_cores == pytest.approx(1.8)
    assert useful_words(snapshot.metrics) == "1.00 to 1.80"
    assert efficiency_words(snapshot.metrics) == "50 to 90 %"
    assert sum(snapshot.metrics.lost_cores.values()) == pytest.approx(0.2)
    # AND the plot of cores over time is of the whole program
    timeline = builder.session().timeline(None, None, 1)
    assert timeline is not None
    assert timeline.on_cpu_cores == pytest.approx((1.8,))


def test_what_looking_costs_is_no_other_program(tmp_path: Path) -> None:
    # GIVEN a machine of which the program used 1.8 cores, the sampler 0.05 and others nothing
    builder = RecordingBuilder(tmp_path / "r", target=target())
    process = ProcessCounters(cpu_ns=1_800_000_000, machine_busy_ns=1_850_000_000)
    cost = SamplerCost(50_000_000, 100, 0, 0, 100, 0)
    builder.window({"main": [spent(100, "on_cpu", at=WORK)]}, process=process, cost=cost)
    assert builder.end().session().snapshot().metrics.other_programs_cores == pytest.approx(0.0, abs=1e-9)


def test_without_the_clock_of_the_process_nothing_is_said_of_unseen_threads(tmp_path: Path) -> None:
    # GIVEN a window without the reading and one with it THEN the sum would be too small
    builder = RecordingBuilder(tmp_path / "r", target=target())
    builder.window({"main": [spent(100, "on_cpu")]})
    builder.window({"main": [spent(100, "on_cpu")]}, process=ProcessCounters(cpu_ns=10**9))
    assert builder.end().session().snapshot().metrics.unseen_threads_cores is None


def test_when_a_program_ends_its_cores_stay_its_own(tmp_path: Path) -> None:
    # GIVEN a program that uses 1.8 cores, 1 of them seen, and ends in a third window, which has no reading
    builder = RecordingBuilder(tmp_path / "r", target=target())
    reading = ProcessCounters(cpu_ns=1_800_000_000, machine_busy_ns=1_800_000_000)
    free = SamplerCost(0, 100, 0, 0, 100, 0)
    for process in (reading, reading, ProcessCounters(machine_busy_ns=1_800_000_000)):
        builder.window({"main": [spent(100, "on_cpu", at=WORK)]}, process=process, cost=free)
    metrics = builder.end().session().snapshot().metrics
    # THEN the last window counts with what was seen, and nothing of it is taken for other programs
    assert metrics.on_cpu_cores == pytest.approx((1.8 + 1.8 + 1.0) / 3)
    assert metrics.unseen_threads_cores == pytest.approx(1.6 / 3)
    assert metrics.other_programs_cores == pytest.approx(0.0, abs=1e-9)


def test_the_clock_of_a_process_counts_threads_that_have_ended() -> None:
    # GIVEN a thread that computes and ends
    before = procfs.process_cpu_ns(os.getpid())
    thread = threading.Thread(target=lambda: sum(range(2_000_000)))
    thread.start()
    thread.join()
    after = procfs.process_cpu_ns(os.getpid())

    # THEN its time is in; of a process that is not there nothing is known
    assert before is not None
    assert after is not None
    assert after > before
    assert procfs.process_cpu_ns(2**22 + 1) is None


# --- words -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "expression"),
    [
        ("cache (PriceCache._lock)", "self._lock"),
        ("Mailbox._changed (Condition._lock)", "self._changed"),
        ("changed (Condition._lock)", "changed"),
        ("_guard", "_guard"),
        ("target.lock", "target.lock"),
        ("Handler.lock", "self.lock"),
        (None, "lock"),
        ("x; import os", "lock"),
    ],
)
def test_sketches_write_a_lock_as_the_program_does(
    label: str | None, expression: str, tmp_path: Path
) -> None:
    lock = replace(list_lock(tmp_path).locks[0], lock=a_lock(label))
    assert lock_expression(lock) == expression


def test_cores_that_others_took_hide_no_serial_section(tmp_path: Path) -> None:
    # GIVEN a serial section in a program that waits for cores for longer than the section costs
    snapshot = serial(tmp_path)
    lost = {ThreadState.RUNNABLE: 1.4}

    # THEN it is hidden where the program's own threads took the cores, and not where others did
    assert "serial-section" not in ids(judged(snapshot, lost_cores=lost, other_programs_cores=0.0))
    assert "serial-section" in ids(judged(snapshot, lost_cores=lost, other_programs_cores=1.4))


def test_threads_that_work_for_a_moment_each_are_no_serial_section(tmp_path: Path) -> None:
    # GIVEN ticks with one thread at work, another one each time
    threads = {
        f"w-{number}": [
            spent(10 * number, "idle"),
            spent(8, "on_cpu", at=WORK),
            spent(92 - 10 * number, "idle"),
        ]
        for number in range(8)
    }
    assert "serial-section" not in ids(look(tmp_path, threads, of=target(capacity_cores=4.0)))


def test_yielding_before_a_wait_for_an_event_is_no_contention(tmp_path: Path) -> None:
    # GIVEN threads that spin where they wait for a barrier WHEN judged THEN there is no lock to look for
    at = f"{LIB}/threading.py:359 Condition.wait < {LIB}/threading.py:764 Barrier._wait < /srv/app.py:9 step"
    assert "spin-contention" not in ids(look(tmp_path, wasting("spin", at, share=20)))
    assert "spin-contention" in ids(look(tmp_path, wasting("spin", WORK, share=20)))


def test_a_loop_that_wants_a_core_is_as_busy_as_one_that_has_it(tmp_path: Path) -> None:
    # GIVEN a busy loop that gets half of a core, beside programs that use the rest
    alone = {"main": [spent(100, "work", at=loop_stack(tmp_path))]}
    half = counted(cpu_ns=500_000_000, run_queue_ns=500_000_000)
    snapshot = look(tmp_path, alone, counters={"main": half})
    judgement = judged(snapshot, other_programs_cores=1.5)
    assert "event-loop-bound" in ids(judgement)
    # AND what others have while it wants it is no core that it leaves without work: all together fit.
    (loop,) = [each for each in judgement.findings if each.rule_id == "event-loop-bound"]
    queued = snapshot.metrics.lost_cores[ThreadState.RUNNABLE]
    assert queued > 0.4
    capacity = snapshot.metrics.capacity_cores
    assert capacity is not None
    assert loop.lost_cores == pytest.approx(capacity - snapshot.metrics.on_cpu_cores - queued, abs=0.01)


def test_a_worker_at_the_line_where_it_waited_hands_out_nothing(tmp_path: Path) -> None:
    # GIVEN a pool whose workers mostly wait, and use a little CPU where they do
    at = f"{LIB}/concurrent/futures/thread.py:90 _worker < {LIB}/threading.py:990 Thread.run"
    parts = (spent(70, "idle", at=at, detail="work for the thread pool"), spent(30, "on_cpu", at=at))
    assert "executor-tiny-tasks" not in ids(look(tmp_path, workers(2, *parts)))


def test_the_machines_load_stands_beside_the_answer(tmp_path: Path) -> None:
    # GIVEN two workers of which one waits for a lock, while another program has three quarters of their cores
    builder = RecordingBuilder(tmp_path / "r", target=target())
    held = [spent(100, "work", at=WORK)]
    kept = [spent(20, "lock", at=WORK, lock=a_lock("self._lock"), holder="one"), spent(80, "on_cpu", at=WORK)]
    builder.window(
        {"one": held, "two": kept},
        counters={
            "one": counted(cpu_ns=250_000_000, run_queue_ns=750_000_000),
            "two": counted(cpu_ns=150_000_000, run_queue_ns=650_000_000),
        },
        process=ProcessCounters(cpu_ns=400_000_000, machine_busy_ns=1_900_000_000),
    )
    snapshot = builder.end().session().snapshot()

    # THEN the program's own cause is the first line and the first finding, and what others took stands beside
    told = answer(snapshot)
    assert snapshot.findings[-1].rule_id == "starved-by-others"
    assert snapshot.findings[-1].context
    assert "self._lock" in told.cause
    assert "other processes take" in told.scope
    # AND where the program has no cause of its own, the machine's load is the answer, said once
    alone = replace(snapshot, findings=snapshot.findings[-1:])
    assert answer(alone).cause == snapshot.findings[-1].summary
    assert "other processes" not in answer(alone).scope


def test_one_busy_thread_on_many_cores_is_not_idle(tmp_path: Path) -> None:
    # GIVEN a thread that fills one of 64 cores
    builder = RecordingBuilder(tmp_path / "r", target=replace(target(), capacity_cores=64.0))
    builder.window({"one": [spent(100, "work", at=WORK)]})
    # THEN it is called what it is
    workload = builder.end().session().snapshot().workload
    assert workload is not None
    assert workload.kind == "cpu-bound"


def test_a_program_that_waits_for_its_locks_is_not_called_cpu_bound(tmp_path: Path) -> None:
    # GIVEN eight threads that wait for a lock nine tenths of the time, and one that has it and works
    threads = waiting_for(
        "self._lock", "lock", "/srv/cache.py:88 Cache.get", holder="boss", share=90, count=8
    )
    threads["boss"] = [spent(100, "on_cpu", at="/srv/cache.py:131 _refresh < /srv/app.py:5 run")]
    # THEN more threads are not what it is told to take
    workload = look(tmp_path, threads, of=target(capacity_cores=4.0)).workload
    assert workload is not None
    assert workload.kind == "lock-bound"
    assert "neither cores nor threads" in workload.advice
    # AND with as many threads that compute it is what it does most
    for number in range(16):
        threads[f"busy-{number}"] = [spent(100, "work", at=WORK)]
    busy = look(tmp_path, threads, of=target(capacity_cores=16.0)).workload
    assert busy is not None
    assert busy.kind == "cpu-bound"


def test_advice_about_a_library_is_for_who_uses_it(tmp_path: Path) -> None:
    # GIVEN threads that queue for a lock in a library, into which one line of the program leads
    queued = "/v/site-packages/cachelib/core.py:40 Cache.get < /app/views.py:12 show < /app/main.py:3 run"
    library = Library("/v/site-packages/cachelib", "cachelib", "1.2")
    scene = waiting_for(a_lock("Cache._lock"), "lock", queued, holder="worker-1")

    # WHEN it is known whose code it is
    known = look(tmp_path, scene, of=replace(target(), libraries=(library,)))
    finding = one(known, "hot-lock")

    # THEN the finding says so, names the program's own line, and asks nobody to change the library's
    assert finding.whose == "cachelib 1.2"
    assert "cachelib 1.2's; your line that leads there is show (views.py:12)" in finding.summary
    assert (finding.subject["own_file"], finding.subject["own_line"]) == ("/app/views.py", 12)
    texts = " ".join(remedy.text for remedy in finding.remedy)
    assert "views.py:12" in texts
    assert "newer than 1.2" in texts
    assert "do less while" not in texts
    assert "with self._lock" not in " ".join(remedy.code or "" for remedy in finding.remedy)
    # AND without metadata nobody is named
    unknown = one(look(tmp_path, scene), "hot-lock")
    assert unknown.whose == "a library without metadata"
    assert "cachelib" not in " ".join(remedy.text for remedy in unknown.remedy)


@pytest.mark.parametrize(
    ("file", "kind", "helps"),
    [
        ("_strptime.py:560 _strptime", LockKind.USER, "fromisoformat"),
        ("warnings.py:81 catch_warnings.__enter__", LockKind.RUNTIME, "catch_warnings"),
        ("_py_warnings.py:700 catch_warnings.__enter__", LockKind.USER, "catch_warnings"),
    ],
)
def test_a_lock_of_the_whole_process_is_told_by_what_it_guards(
    tmp_path: Path, file: str, kind: LockKind, helps: str
) -> None:
    # GIVEN threads that queue for a lock of the standard library, below a line of the program
    lock = a_lock("_cache_lock" if kind is LockKind.USER else None, kind=kind, type_name=None)
    state = "lock" if kind is LockKind.USER else "runtime_lock"
    snapshot = look(tmp_path, waiting_for(lock, state, f"{LIB}/{file} < /app/log.py:9 parse"))
    # THEN it is a hot lock at the program's line, and the advice is what to call instead
    finding = one(snapshot, "hot-lock")
    assert (finding.subject["file"], finding.subject["line"]) == ("/app/log.py", 9)
    assert "which the whole process shares" in finding.summary
    assert helps in finding.remedy[0].text
    assert not any("256" in remedy.text for remedy in finding.remedy)


def test_measured_collections_are_told_as_such(tmp_path: Path) -> None:
    # GIVEN pauses of the collector, in a recording that has its own count, and none of machine code
    session = paused(tmp_path, "gc_collect_main", state="gc")
    sampled = session.snapshot()
    own = CollectorMetrics((GenerationCollections(0, 40, 1_200_000_000, 4_000_000, 80),), 1.0, 38, 90_000_000)
    measured = judged(replace(sampled, collector=own))

    # THEN number and time are its own, and said to be measured; without it they are said to be sampled
    found = one(measured, "gc-pressure")
    assert "measured: 40 collections in 3.00 s, 30 ms each on average and 90 ms at most" in found.summary
    assert "looked at 100,000 objects and freed 2 on average" in found.explanation
    assert {each.metric: each.value for each in found.evidence}["collections"] == 40
    assert "sampled: at least 12 pauses" in one(sampled, "gc-pressure").summary
    assert "Sampled" in one(sampled, "gc-pressure").explanation
    # AND the collector is judged even where no native samples were taken
    states = {
        ThreadState.ON_CPU if state in (ThreadState.WORK, ThreadState.GC) else state: time
        for state, time in measured.metrics.states_ns.items()
    }
    blind = judged(measured, states_ns=states)
    assert not blind.metrics.on_cpu_is_split
    assert one(blind, "gc-pressure").lost_cores > 0.3


def test_pauses_that_are_not_the_collectors_are_told_beside_its_own(tmp_path: Path) -> None:
    # GIVEN pauses for something else, and collections that were measured
    own = CollectorMetrics((GenerationCollections(0, 2, 20_000_000, 100, 0),), 1.0, 2, 11_000_000)
    found = one(
        judged(replace(paused(tmp_path, "copy_page_range [kernel]").snapshot(), collector=own)),
        "stop-the-world",
    )

    # THEN the two are kept apart
    assert "at least 12 pauses" in found.summary
    assert "2 collections in 3.00 s, 10 ms each on average and 11 ms at most" in found.explanation
