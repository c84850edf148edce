"""The self-check on real interpreters: all is right as it is, and a field that lies is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from command_line import ftdiag
from ftdiag.cpython import FACTS
from ftdiag.cpython.facts import Facts
from ftdiag.sources.kernel.memory import RemoteMemory
from ftdiag.sources.python.layouts import HEADER_BYTES, VARYING
from ftdiag.sources.python.runtime import find_runtime_header
from ftdiag.sources.python.selfcheck import Judgement, SelfCheck, check_process
from tools.workloads import RunningWorkload

Program = Callable[..., RunningWorkload]

WAITING = """
    import os, threading, time
    def outer(): inner()
    def inner(): time.sleep(1000)
    for number in range(3):
        threading.Thread(target=outer, name=f"worker-{number}", daemon=True).start()
    print("ready", os.getpid(), flush=True)
    time.sleep(1000)
"""
TOLD_BY_READING = {
    "runtime_state.interpreters_head",
    "interpreter_state.threads_head",
    "interpreter_state.threads_main",
    "interpreter_state.sysdict",
    "interpreter_state.builtins",
    "interpreter_state.imports_modules",
    "thread_state.interp",
    "thread_state.native_thread_id",
    "thread_state.thread_id",
    "thread_state.next",
    "thread_state.prev",
    "thread_state.datastack_chunk",
    "interpreter_frame.previous",
    "code_object.linetable",
    "code_object.qualname",
    "pyobject.ob_type",
    "type_object.tp_name",
    "type_object.tp_flags",
    "dict_object.ma_keys",
    "tuple_object.ob_size",
    "tuple_object.ob_item",
    "list_object.ob_item",
    "float_object.ob_fval",
    "long_object.lv_tag",
    "long_object.ob_digit",
    "set_object.table",
    "unicode_object.state",
    "unicode_object.length",
    "unicode_object.asciiobject_size",
}
"""Fields that something is found through; of the others only the table tells whether they are right."""


SHIFTS = {"runtime_state.interpreters_head": 24}
"""How far a field is shifted, other than by a word: behind the newest interpreter stands the main one."""


TOLD_TOGETHER = (
    {"interpreter_state.gc", "gc.collecting", "gc.generation_stats"},
    {"interpreter_state.ceval_gil", "interpreter_state.gil_runtime_state"},
    {"unicode_object.state", "UNICODE_KIND_BIT"},
)
"""Fields that only their sum, or one another, can be checked by: both are named then."""


class Lying(RemoteMemory):
    """Memory of a process in which one published offset is another."""

    def __init__(self, pid: int, runtime: int, word: int, value: int) -> None:
        super().__init__(pid)
        self._lie = runtime, word, value

    def read_up_to(self, address: int, size: int) -> bytes:
        data = super().read_up_to(address, size)
        runtime, word, value = self._lie
        if address != runtime:
            return data
        changed = bytearray(data)
        struct.pack_into("<Q", changed, HEADER_BYTES + 8 * word, value)
        return bytes(changed)


def checked(pid: int, *, word: int | None = None, value: int = 0, facts: Facts | None = None) -> SelfCheck:
    memory = RemoteMemory(pid)
    runtime = find_runtime_header(pid, memory).address
    if word is not None:
        memory = Lying(pid, runtime, word, value)
    return check_process(pid, memory, runtime, facts)


@pytest.fixture
def pid(program: Program) -> int:
    return program(WAITING).pid


def facts_of(result: SelfCheck) -> Facts:
    assert result.version is not None
    return FACTS[result.version.major, result.version.minor]


def test_what_is_known_of_real_interpreters_is_right(pid: int) -> None:
    # GIVEN a process with threads, WHEN its CPython is checked
    result = checked(pid)

    # THEN nothing is wrong, AND what can be read was found through each field
    assert result.wrong == ()
    right = {each.field for each in result.fields if each.judgement is Judgement.RIGHT}
    assert {name for name in TOLD_BY_READING if name in {each.field for each in result.fields}} <= right
    assert len(right) >= 60
    # AND a known thread and a known lock are among it
    words = "\n".join(each.words for each in result.fields)
    assert "worker-1" in words
    assert "threading._active_limbo_lock" in words


def test_every_shifted_field_is_named(pid: int) -> None:
    # GIVEN a process, and one published field after the other shifted by a word
    honest = {each.field: each for each in checked(pid).fields}
    for word, (field, _, _) in enumerate(facts_of(checked(pid)).published):
        value = honest[field].value
        assert value is not None
        result = checked(pid, word=word, value=value + SHIFTS.get(field, 8))

        # THEN it is named, unless builds differ in it and nothing can be read through it; and it alone
        wrong = {each.field for each in result.wrong}
        if not field.startswith(VARYING) or field in TOLD_BY_READING:
            assert wrong == {field}, (field, result.wrong)
        else:
            assert wrong <= next((pair for pair in TOLD_TOGETHER if field in pair), {field})


def test_a_field_that_lies_in_the_table_too_is_named(pid: int) -> None:
    # GIVEN a process whose offset and whose table tell the same lie, as if the headers were wrong
    honest = {each.field: each for each in checked(pid).fields}
    facts = facts_of(checked(pid))
    for word, (field, _, _) in enumerate(facts.published):
        value = honest[field].value
        if field not in TOLD_BY_READING or value is None:
            continue
        shifted = value + SHIFTS.get(field, 8)
        rows = tuple(
            (name, shifted, shifted) if name == field else (name, free, locked)
            for name, free, locked in facts.published
        )

        # WHEN it is checked, THEN what is read through it gives it away, and no other field is called wrong
        result = checked(
            pid, word=word, value=value + SHIFTS.get(field, 8), facts=replace(facts, published=rows)
        )
        wrong = {each.field for each in result.wrong}
        assert field in wrong, field
        assert wrong <= next((pair for pair in TOLD_TOGETHER if field in pair), {field}), (
            field,
            result.wrong,
        )


def test_the_command_says_it_in_text_and_json(pid: int) -> None:
    # GIVEN a process, WHEN the command is run
    text = ftdiag("doctor", "--self-check", str(pid))
    told = ftdiag("doctor", "--self-check", str(pid), "--format", "json").json

    # THEN the first line is the answer, and every field has its line
    assert text.status == 0
    assert "holds for process" in text.out.splitlines()[0]
    assert told["wrong"] == []
    assert all(each["field"] in text.out for each in told["fields"])
    assert told["schema"] == "ftdiag-self-check/1"
