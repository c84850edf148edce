"""The entry point: `ftdiag` and `python -m ftdiag`.

In: the arguments. Out: the exit status. Small, so that Ctrl-C has a meaning before anything is imported.
"""

from __future__ import annotations

import gc
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes as long to import as all of this
    from typing import Final

_IN_A_HURRY: Final = frozenset({"attach", "record", "list"})
"""They are for a machine whose cores others use: what is imported for them would take seconds there."""
_COLLECT_EVERY: Final = 50_000
"""New objects between two looks for garbage: what is imported is none, and looking for it takes time."""
_SAMPLING: Final = frozenset({"attach", "record"})


def main() -> int:
    """Run the command line; while it is imported, Ctrl-C just ends us, without Python's traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.set_threshold(_COLLECT_EVERY)
    _start_ahead(sys.argv[1:])
    from ftdiag.commands.main import main as run
    from ftdiag.ownthreads import take_name

    take_name()
    return run()


def _start_ahead(arguments: list[str]) -> None:
    """Take early turns, and start the sampler's process, before anything else is imported.

    It waits for its request; if none comes, because the arguments are wrong, it ends with us.
    """
    name = next((word for word in arguments if not word.startswith("-")), "")
    if name not in _IN_A_HURRY or {"-h", "--help"} & set(arguments):
        return
    from ftdiag.sources.kernel.scheduling import hurry, hurry_child

    hurry()
    if name in _SAMPLING and any(word.isdigit() for word in arguments):
        from ftdiag import spawning

        spawning.open_standard_descriptors()
        child = spawning.begin_sampler()
        if child is not None:
            hurry_child(child.pid)


if __name__ == "__main__":
    sys.exit(main())
