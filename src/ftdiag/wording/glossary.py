"""What the words of the views mean, each once: for the cockpit's help and for docs/glossary.md.

In: nothing. Out: a table of terms and sentences. A sentence is short enough for a line of help or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GLOSSARY: Final[Mapping[str, str]] = {
    "capacity": "the cores that the program may use: CPU affinity, the cgroup's quota, or fewer workers",
    "useful": "cores doing work, allocation and collection: what one thread alone would have to do, too",
    "on CPU": "cores in use by the program, for whatever",
    "efficiency": "useful cores, of those that could have been: the capacity, or the threads with work",
    "cores lost": "cores that a cause kept empty or wasted; an upper bound of what fixing it alone brings",
    "account": "where each core of the capacity went; its parts add up to the capacity",
    "no demand": "cores that no thread wanted: threads were idle or asleep, or there were too few",
    "waiting for a core": "runnable, in the kernel's run queue: ready to run, and others have the cores",
    "busy": "on a core, waiting for one, or kept from running by a lock; 200 % are two threads",
    "idle": "waits for work to be given, not for a lock",
    "critical wait": "waiting for a lock while a core stood empty: the part that costs throughput",
    "wait": "thread-time spent waiting for a lock: two threads for a second are two seconds",
    "queue": "threads waiting for a lock at once, on average; max: the most",
    "holder": "the thread that had the lock while others waited, and the line where it was then",
    "spinning": "trying to get a lock before parking: on a core without work, or having yielded it",
    "contended atomics": "cores waiting for each other's cache lines: reference counts that threads share",
    "pause": "stop-the-world: all threads are stopped for one of them, as for collections",
    "thread-time": "time summed over threads: four threads for a second are four seconds",
    "wall time": "time as a clock on the wall shows it; a line's part of it is what a user waits for",
    "measured": "of confidence: the owner, the count or the time was read",
    "likely": "of confidence: it follows from what was read, and other causes would look alike seldom",
    "possible": "of confidence: it fits, and other causes would look the same",
    "severity": "critical costs about a quarter of the capacity or more, warning about a twentieth",
    "unknown": "waits whose kind could not be read; under 2 % of thread-time is usual",
    "torn stack": "a stack that changed while it was read, and was thrown away; under 2 % is usual",
    "missed tick": "a moment at which nobody looked, because ftdiag had no core; under 2 % is usual",
    "rules skipped": "rules that need figures which this recording does not have; quality (7) says which",
    "pool": "threads whose names differ in a number only, shown as one row: crunch-[0-15] x16",
}
"""Term -> what it means."""
