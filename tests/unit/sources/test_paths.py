"""When paths are searched for: what is new, after a rest; after a while again what was not found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fake_process import FakeProcess, Sink
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.paths import (
    EARLY_NS,
    LATER_EVERY_NS,
    PAUSE_NS,
    SETTLED_NS,
    STEP_EVERY_NS,
    PathSearch,
)


def test_new_objects_are_searched_for_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a search that finds nothing in two steps
    fake = FakeProcess("3.14.9t")
    search = PathSearch(InterpreterReader(fake.memory, fake.runtime, Sink()))
    asked: list[set[int]] = []

    def in_vain(wanted: set[int]) -> Iterator[None]:
        asked.append(set(wanted))
        yield
        yield

    monkeypatch.setattr(search, "_search", in_vain)
    now_ns = 10**9

    def go_on(steps: int) -> None:
        nonlocal now_ns
        for _ in range(4 * steps):  # ticks come more often than steps are due
            search.step(now_ns)
            now_ns += STEP_EVERY_NS // 4

    # WHEN nothing is wanted THEN nothing is done
    go_on(1)
    assert not asked
    # WHEN two are wanted, and another one later THEN each is searched for once, after a rest
    search.want([1, 2])
    go_on(1)
    assert asked == [{1, 2}]
    assert search.due_ns == now_ns
    search.want([3], "others")
    go_on(4)
    assert asked == [{1, 2}]
    go_on(2)
    assert asked == [{1, 2}, {3}]
    # WHEN time has passed THEN all of them again
    now_ns += PAUSE_NS
    go_on(10 * (LATER_EVERY_NS // STEP_EVERY_NS))
    assert asked[2:] == [{1, 2, 3}]


def test_searches_slow_down_after_the_first_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a search without an end, which begins after a second
    fake = FakeProcess("3.14.9t")
    search = PathSearch(InterpreterReader(fake.memory, fake.runtime, Sink()))
    monkeypatch.setattr(search, "_search", lambda wanted: iter(lambda: None, 1))
    search.step(0)
    search.want([1])
    now_ns, waits = 10**9, []
    # WHEN it goes on THEN steps come often until the first seconds are over, and seldom after that
    while now_ns < EARLY_NS + 3 * LATER_EVERY_NS:
        search.step(now_ns)
        assert search.due_ns is not None
        waits.append(search.due_ns - now_ns)
        now_ns = search.due_ns
    assert waits == [STEP_EVERY_NS] * ((EARLY_NS - 10**9) // STEP_EVERY_NS) + [LATER_EVERY_NS] * 3


def test_what_is_gone_soon_is_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a search without an end, the first seconds over
    fake = FakeProcess("3.14.9t")
    search = PathSearch(InterpreterReader(fake.memory, fake.runtime, Sink()))
    asked: list[set[int]] = []

    def without_end(wanted: set[int]) -> Iterator[None]:
        asked.append(set(wanted))
        while True:
            yield

    monkeypatch.setattr(search, "_search", without_end)
    search.step(0)
    now_ns = EARLY_NS

    def seconds(count: float) -> None:
        nonlocal now_ns
        end = now_ns + int(count * 10**9)
        while now_ns < end:
            search.step(now_ns)
            now_ns += LATER_EVERY_NS // 4

    def under_way() -> bool:
        return search.due_ns is not None

    # WHEN each second others are wanted, as the objects of requests are THEN nobody looks for them
    for number in range(2 * SETTLED_NS // 10**9):
        search.want([number])
        seconds(1)
    assert not asked
    # AND one that stays is looked for, until it is wanted no more: it is gone, and not tried
    search.want([99])
    seconds(SETTLED_NS / 10**9 - 1)
    assert not asked
    seconds(2)
    assert asked == [{99}]
    assert under_way()
    search.want([])
    seconds(1)
    assert not under_way()
    search.want([99])
    seconds(2 * SETTLED_NS / 10**9)
    assert asked == [{99}, {99}]


def test_names_are_read_of_what_is_found_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a module of the program with a hundred dicts of a hundred keys, and one of their values
    fake = FakeProcess("3.14.9t")
    wanted = fake.object("object", 64)
    tables = [
        fake.dict(
            {
                fake.string(f"key{key}"): wanted if (number, key) == (70, 30) else fake.object("object", 64)
                for key in range(100)
            }
        )
        for number in range(100)
    ]
    namespace = fake.dict({fake.string(f"TABLE{number}"): table for number, table in enumerate(tables)})
    module = fake.object("module", 64)
    fake.memory.write_word(module + fake.layout.object_size, namespace)
    fake.interpreter(modules=fake.dict({fake.string("app"): module}))
    interpreter = InterpreterReader(fake.memory, fake.runtime, Sink())
    read: list[int] = []
    string = interpreter.objects.string

    def noted(address: int) -> str:
        read.append(address)
        return string(address)

    monkeypatch.setattr(interpreter.objects, "string", noted)

    # WHEN it is searched for THEN it has its path, for the names of that and of the module
    assert PathSearch(interpreter).search([wanted]) == {wanted: "app.TABLE70['key30']"}
    assert len(read) == 3
