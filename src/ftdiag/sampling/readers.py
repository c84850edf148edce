"""Who can read the stacks of a target: names, and the modules of `observers` that do it.

In: nothing. Out: `READERS`. Each module has `open_observer` (options, process, descriptors, refusal,
watchdog): it returns an observer or raises UnsupportedPython; `refusal` is why the reader before could not.
"""

from __future__ import annotations

from typing import Final

READERS: Final = {
    "native": "interpreter",
    "py-spy": "pyspy",
}
"""Name, as --source takes it -> module. In this order they are tried where nobody was asked for."""
