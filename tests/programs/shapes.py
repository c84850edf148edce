"""Threads asleep in every shape of stack that Python has; says what the interpreter itself sees of them.

Usage: shapes.py FILE. Writes to FILE a JSON object: thread name -> [[file, qualified name, line], ...], root
first, as `sys._current_frames` says once all threads sleep. Then "ready PID".
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType

DEEP = 950
VERY_DEEP = 3500
LONG_NAME = "/long/" + "x" * 4990 + ".py"

cases: dict[str, Callable[[], object]] = {}


def case(function: Callable[[], object]) -> Callable[[], object]:
    """Adds one."""
    cases[function.__name__] = function
    return function


def rest(*_: object) -> int:
    """The end of the line of every case."""
    time.sleep(1000)
    return 0


@case
def plain() -> None:
    rest()


@case
def lambdas() -> None:
    inner = lambda value: lambda: rest(value)  # noqa: E731
    inner(1)()


@case
def comprehension() -> None:
    [rest(number) for number in range(3) if number == 1 or number == 2]


@case
def generator_expression() -> None:
    sum(rest(number) for number in range(3))


def produce(depth: int) -> Generator[int, None, None]:
    if depth:
        yield from produce(depth - 1)
    else:
        yield rest()


@case
def generators() -> None:
    for _ in produce(12):
        pass


async def deeper(depth: int) -> int:
    if depth:
        return await deeper(depth - 1)
    await asyncio.sleep(0)
    return rest()


@case
def coroutines() -> None:
    asyncio.run(deeper(9))


@case
def async_generators() -> None:
    async def numbers():  # type: ignore[no-untyped-def]
        yield 1
        yield rest()

    async def consume() -> None:
        async for _ in numbers():
            pass

    asyncio.run(consume())


def descend(depth: int) -> int:
    if depth == 0:
        return rest()
    return descend(depth - 1) + 1


@case
def recursion() -> None:
    descend(DEEP)


@case
def deep_recursion() -> None:
    descend(VERY_DEEP)


@case
def recursion_through_c() -> None:
    def down(depth: int) -> int:
        return sorted([depth], key=lambda left: down(left - 1) if left else rest())[0]

    down(60)


@case
def sort_key() -> None:
    sorted([3, 1, 2], key=rest)


@case
def reduce() -> None:
    functools.reduce(lambda left, right: left + rest(right), [1, 2, 3])


@case
def partials() -> None:
    functools.partial(functools.partial(rest, 1), 2)()


@case
def class_body() -> None:
    class Outer:
        class Inner:
            value = rest()


class Meta(type):
    def __call__(cls, *arguments: object) -> object:
        return super().__call__(*arguments)


class Made(metaclass=Meta):
    def __init__(self) -> None:
        self.number = self.value

    @property
    def value(self) -> int:
        return rest()


@case
def metaclass_and_property() -> None:
    Made()


class Dropped:
    def __del__(self) -> None:
        rest()


@case
def destructor() -> None:
    dropped = Dropped()
    del dropped


@case
def context_manager() -> None:
    class Manager:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            rest()

    with Manager():
        pass


@case
def exception_handlers() -> None:
    try:
        raise ValueError
    except ValueError:
        try:
            raise KeyError
        finally:
            rest()


def run_source(filename: str, source: str) -> None:
    exec(compile(source, filename, "exec"), {"rest": rest})


@case
def odd_filename() -> None:
    run_source("/tmp/ünïcode/日本語/🧵.py", "def функция():\n  rest()\nфункция()\n")


@case
def control_characters() -> None:
    run_source("\x1b[31mred\r\n[/bold]\x07", "\n\nrest()\n")


@case
def lone_surrogate() -> None:
    run_source("/tmp/bad\udcff", "rest()\n")


@case
def long_filename() -> None:
    run_source(LONG_NAME, "rest()\n")


@case
def far_line() -> None:
    run_source("far.py", "\n" * 200_000 + "def far():\n  return [\n" + "\n" * 300 + "  rest()\n  ]\nfar()\n")


@case
def long_function() -> None:
    run_source("wide.py", "def wide(a=1):\n" + "  a = a + 1\n" * 20_000 + "  rest()\nwide()\n")


@case
def many_locals() -> None:
    names = "".join(f"  v{number} = {number}\n" for number in range(900))
    run_source("locals.py", f"def wide():\n{names}  rest()\nwide()\n")


@case
def traced() -> None:
    def body() -> None:
        for _ in range(100):
            pass
        rest()

    sys.settrace(lambda *_: None)
    body()


def monitored_body() -> None:
    for _ in range(100):
        pass
    rest()


@case
def monitored() -> None:
    monitoring = sys.monitoring
    monitoring.use_tool_id(3, "shapes")
    monitoring.register_callback(3, monitoring.events.LINE, lambda *_: None)
    monitoring.set_local_events(3, monitored_body.__code__, monitoring.events.LINE)
    monitored_body()


def shared(turns: int) -> None:
    total = 0
    for turn in range(turns):
        total += turn
        if turn == turns - 1:
            rest()


for index in range(6):
    # The same code, hot in several threads: each runs a copy of its own from 3.14 on.
    cases[f"shared {index}"] = functools.partial(shared, 20_000 + index)


def frames_of(frame: FrameType | None) -> list[list[object]]:
    found = []
    while frame is not None:
        found.append([frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno])
        frame = frame.f_back
    return found[::-1]


def asleep() -> bool:
    frames = sys._current_frames()
    return all(
        thread.ident in frames and frames[thread.ident].f_code is rest.__code__
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
    )


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    threading.stack_size(256 << 20)
    threads = [threading.Thread(target=function, name=name, daemon=True) for name, function in cases.items()]
    for thread in threads:
        thread.start()
    while not asleep():
        time.sleep(0.02)
    frames = sys._current_frames()
    expected = {thread.name: frames_of(frames[thread.ident]) for thread in threads if thread.ident}
    del frames
    Path(sys.argv[1]).write_text(json.dumps(expected))
    sys.stdout.write(f"ready {os.getpid()}\n")
    sys.stdout.flush()
    rest()
