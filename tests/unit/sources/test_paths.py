"""When paths are searched for: what is new, after a rest; after a while again what was not found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fake_process import FakeProcess, Sink
from ftdiag.sources.python.interpreter import InterpreterReader
from ftdiag.sources.python.paths import PAUSE_STEPS, REST_STEPS, PathSearch


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
    # WHEN nothing is wanted THEN nothing is done
    search.step()
    assert not asked
    # WHEN two are wanted, and another one later THEN each is searched for once
    search.want([1, 2])
    for _ in range(10):
        search.step()
    search.want([3], "others")
    assert asked == [{1, 2}]
    # after a rest that is as long as the search was, times so much
    for _ in range(3 * REST_STEPS + 3):
        search.step()
    assert asked == [{1, 2}, {3}]
    # WHEN time has passed THEN all of them again
    for _ in range(PAUSE_STEPS):
        search.step()
    assert asked[2:] == [{1, 2, 3}]


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
