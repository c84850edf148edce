"""The compiled part of the sampler, where it can be used; else why not.

In: the extension module `_tick` beside this file, if one was built. Out: `tick`, `COMPILED`, and `WHY_NOT` in
words where it is not used: everything it does is there in Python, too, and slower.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["COMPILED", "INTERFACE", "WHY_NOT", "tick", "why_not_imported"]

INTERFACE: Final = 10
"""What this version expects of it (INTERFACE in `tick/tick.h`): an older one may lie in a source tree."""


def why_not_imported(error: ImportError | SystemError, folder: Path) -> str:
    """Why there is no compiled part, in words for people: `error` is of importing it from `folder`."""
    built = sorted(path.name for path in folder.glob("_tick*.so"))
    if not built:
        return "it was not built: there was no compiler when ftdiag was installed"
    # A free-threaded Python loads a module of the stable ABI, and finds that it is none of its own.
    if isinstance(error, ModuleNotFoundError | SystemError):
        return f"it was built for another Python ({', '.join(built)})"
    return f"{built[0]} cannot be loaded: {error}"


try:
    import ftdiag.sources._tick as tick
except (ImportError, SystemError) as _error:
    tick = None  # type: ignore[assignment] # what uses it asks COMPILED before
    COMPILED = False
    WHY_NOT: str | None = why_not_imported(_error, Path(__file__).parent)
else:
    COMPILED = getattr(tick, "INTERFACE", None) == INTERFACE
    WHY_NOT = None if COMPILED else "it was built from another version of ftdiag"
