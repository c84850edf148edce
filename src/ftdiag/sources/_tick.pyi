from collections.abc import Callable, Sequence
from typing import Any, final

INTERFACE: int
MAX_DEPTH: int

Ranges = tuple[tuple[int, int], ...]

def peek(pid: int, address: int, size: int, /) -> bytes | None: ...
def line_table(table: bytes, first_line: int, /) -> tuple[list[int], list[int | None], int]: ...

@final
class Thread:
    def __init__(self, address: int, native_id: int, ident: int, interpreter: int) -> None: ...
    beside: Ranges
    @property
    def address(self) -> int: ...
    @property
    def native_id(self) -> int: ...
    @property
    def ident(self) -> int: ...
    @property
    def interpreter(self) -> int: ...
    @property
    def critical_section(self) -> int: ...
    @property
    def section(self) -> int: ...
    @property
    def late(self) -> int: ...
    @property
    def frames(self) -> tuple[int, ...]: ...
    @property
    def chain(self) -> tuple[int, ...]: ...
    @property
    def elsewhere(self) -> tuple[int, ...]: ...
    @property
    def with_exits(self) -> tuple[int, ...]: ...
    @property
    def marked(self) -> tuple[int, ...]: ...
    def snapshot(self) -> Thread: ...
    def become(self, snapshot: Thread, /) -> None: ...

Observation = tuple[int, int, int, int, int]

@final
class Chains:
    def __init__(
        self,
        frame: Callable[[int, int], tuple[int, tuple[int, ...], tuple[int, ...]] | None],
        stack: Callable[[list[int]], int],
    ) -> None: ...
    def __call__(self, chain: tuple[int, ...], /) -> tuple[int, Ranges, Ranges] | None: ...
    def forget(self) -> None: ...

class Seen:
    python: list[Any]
    observation: Observation | None
    runs: list[tuple[int, int, Observation]]
    run_start: int
    entry: int
    syscall_fd: int
    calm: bool
    ran: bool
    looked: bool
    changed_ns: int
    schedstat: bytes
    def __init__(self) -> None: ...
    def observe(self, observation: Observation, tick: int, /) -> None: ...
    def begin_run(self, observation: Observation, tick: int, /) -> None: ...
    def close_run(self, tick: int, /) -> None: ...
    unsettled: dict[Any, None]
    def note(self, thread: Any, generation: int, inside: bool, /) -> None: ...
    def remember_wait(self, line: bytes, stack: int, observation: Observation, /) -> None: ...

@final
class Walker:
    def __init__(
        self,
        pid: int,
        reader: Callable[[bytes, int, int], bytes | memoryview] | None,
        resolve: Callable[[tuple[int, ...]], tuple[int, Ranges, Ranges] | None],
        thread_fields: tuple[int, int, int, int],
        frame_fields: tuple[int, int, int, int],
        foreign_owner: int,
        no_stack: int,
        torn_stack: int,
    ) -> None: ...
    def take_cut(self) -> int: ...
    def take_given_up(self) -> int: ...
    def walk(
        self, threads: list[Thread], wanted: dict[int, int], found: dict[int, bytes | None] | None, /
    ) -> list[int]: ...
    def prepare(
        self,
        parse: Callable[[bytes], object],
        places: set[tuple[int, int]],
        entry_bytes: int,
        section_bytes: int,
        words_last: bool,
        plain: tuple[int, ...],
        /,
    ) -> None: ...
    def look(
        self,
        threads: list[Seen],
        wanted: dict[int, int],
        found: dict[int, bytes | None],
        unreadable: set[int],
        unreadable_count: int,
        generation: int,
        tick: int,
        /,
    ) -> tuple[
        list[Any],
        list[tuple[Any, Any, int]],
        list[tuple[Any, tuple[Any, ...], Any, tuple[int, ...]]],
        int,
        int,
    ]: ...
    def stretch(
        self,
        lines: Lines,
        unsettled: dict[Any, None],
        wanted: dict[int, int],
        found: dict[int, bytes | None],
        unreadable: set[int],
        unreadable_count: int,
        generation: int,
        watched: dict[int, bytes],
        directory: int,
        links: int,
        files: tuple[int, ...],
        quiet: bool,
        first_tick: int,
        times: tuple[int, int, int, int, int],
        quiet_stacks: bytearray | None,
        first_stack: int,
        process: int,
        rings: Rings | None,
        told: dict[int, bytes | None] | None,
        moved: dict[Any, None],
        waiting: tuple[tuple[Any, int, int], ...] | None,
        conclude: Callable[[list[Any], int], bool] | None,
        sight: Callable[[dict[Any, None], list[Any]], bool] | None,
        /,
    ) -> tuple[
        list[int],
        dict[Any, None],
        list[Any] | None,
        dict[Any, int] | None,
        tuple[list[Any], list[tuple[Any, tuple[Any, ...], Any, tuple[int, ...]]]] | None,
        list[Any] | None,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
        int,
    ]: ...
    def prepare_later(
        self,
        lock_places: dict[tuple[int, int], int],
        rests: dict[int, tuple[int, Observation]],
        known_words: set[int],
        lockless: set[int],
        pauses: dict[int, int],
        ask: Callable[[Any, Any, int], tuple[Any, ...] | None] | None,
        learn: Callable[[int], bool] | None,
        state_word: int,
        object_bytes: int,
        object_type: int,
        /,
    ) -> None: ...
    def know(self, thread: Thread, /) -> None: ...
    def mark_quiet(self, thread: Thread, /) -> None: ...
    def forget(self) -> None: ...

@final
class Lines:
    def follow(self, tid: int, schedstat: int, thread: Any = ..., /) -> None: ...
    def forget(self, tid: int, /) -> None: ...
    def ran(self) -> list[tuple[int, bytes | None]]: ...
    def syscalls(self, descriptors: Sequence[int], /) -> list[bytes | None]: ...

@final
class Rings:
    def __init__(self, pid: int = 0) -> None: ...
    every_ns: int
    @property
    def due_ns(self) -> int: ...
    def follow(self, number: int, head: int, tail: int, data: int, size: int, /) -> None: ...
    def forget(self, number: int, /) -> None: ...
    def drain(self, now_ns: int, /) -> None: ...
    def take(self) -> tuple[list[Any], int]: ...
    def active(self) -> set[int]: ...
