"""The entry point: `ftdiag` and `python -m ftdiag`.

In: the arguments. Out: the exit status. Small, so that Ctrl-C has a meaning before anything is imported.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line; while it is imported, Ctrl-C just ends us, without Python's traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] in (["attach"], ["list"]):
        # They are for a machine whose cores others use: what is imported next would take seconds there.
        from ftdiag.sources.scheduling import hurry

        hurry()
    from ftdiag.commands.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
