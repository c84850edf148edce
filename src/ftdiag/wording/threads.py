"""Threads in words: one by name, several together.

In: what is known of threads. Out: plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ftdiag.model import ThreadInfo
from ftdiag.wording.places import short

NAMED_ONE_BY_ONE: Final = 2
"""More threads than this are named by their first and last."""
_NUMBER: Final = re.compile(r"[0-9]+")
_PYTHONS_OWN: Final = re.compile(r"Thread-[0-9]+ \(")


def thread_name(thread: ThreadInfo | None) -> str:
    """A thread's name, its tid where it has none; that it is not known."""
    return "not known" if thread is None else thread.name or f"tid {thread.tid}"


def thread_names(threads: Iterable[ThreadInfo], at_least: int = 0) -> str:
    """ "worker-1", "worker-1 and worker-2", "worker-0 to worker-7 (8 threads)", "8 threads".

    `at_least` is a number of threads known from elsewhere, where not all are listed.
    """
    unique = {thread.index: thread for thread in threads}
    infos = [unique[index] for index in sorted(unique)]
    names = [short(info.name) for info in infos]
    number = max(len(names), at_least)
    if number == 0:
        return "threads"
    if number == len(names) <= NAMED_ONE_BY_ONE and len(set(names)) == len(names):
        return " and ".join(names)
    if number == len(names) and len({stem(name) for name in names}) == 1 and len(set(names)) == len(names):
        ordered = sorted(names, key=numbers)
        return f"{ordered[0]} to {ordered[-1]} ({number} threads)"
    return f"{number} threads" if number != 1 else "1 thread"


def pool_key(name: str) -> tuple[str, str] | None:
    """What names of threads of one pool have in common: what stands before and behind the number.

    The number that counts them is the last one, and of the names that Python gives ("Thread-12 (work)") the
    first; `None` without.
    """
    found = list(_NUMBER.finditer(name))
    if not found:
        return None
    counts = found[0] if _PYTHONS_OWN.match(name) else found[-1]
    return name[: counts.start()], name[counts.end() :]


def pool_name(names: Sequence[str]) -> str:
    """Threads of one pool by one name: "crunch-[0-15] x16". Raises ValueError where they are of none."""
    key = pool_key(names[0])
    if key is None:
        raise ValueError(f"{names[0]!r} has no number")
    before, after = key
    counts = sorted(int(name[len(before) : len(name) - len(after)][:12]) for name in names)
    return f"{before}[{counts[0]}-{counts[-1]}]{after} x{len(names)}"


def stem(name: str) -> str:
    """A thread's name without numbers: what threads of one pool have in common."""
    return _NUMBER.sub("", name)


def numbers(name: str) -> tuple[int, ...]:
    """The numbers in a name, to sort by."""
    return tuple(int(digits[:12]) for digits in _NUMBER.findall(name))


def verb(threads: str, one: str, many: str) -> str:
    """The form of a verb that goes with the names of threads: `one` after a single name."""
    single = " and " not in threads and not threads.endswith("threads)") and not threads.endswith("threads")
    return one if single else many


def lose(threads: str) -> str:
    """ "loses" after the name of one thread, else "lose"."""
    return verb(threads, "loses", "lose")
