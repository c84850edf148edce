"""ftdiag: why does this free-threaded Python process not scale, and what to change.

The public API; what is named in `__all__` is loaded when it is first asked for:

    import ftdiag

    ftdiag.record(4711, "app.ftdiag", duration_s=10)
    with ftdiag.open_recording("app.ftdiag") as recording:
        for finding in ftdiag.Session(recording).snapshot().findings:
            print(finding.summary)

    with ftdiag.attach(4711) as session:      # a session on a recording that grows
        time.sleep(5)
        session.refresh()
        print(session.last(5_000_000_000).metrics.useful_cores)

What cannot be done raises one of `ftdiag.errors`, with the reason and what to do next.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing `typing` takes longer than all of this
    from ftdiag import errors
    from ftdiag.live import attach, open_recording, record
    from ftdiag.model import Finding, Snapshot
    from ftdiag.session import Session

__all__ = ["Finding", "Session", "Snapshot", "attach", "errors", "open_recording", "record"]

_MODULES = {
    "Finding": "ftdiag.model",
    "Session": "ftdiag.session",
    "Snapshot": "ftdiag.model",
    "attach": "ftdiag.live",
    "open_recording": "ftdiag.live",
    "record": "ftdiag.live",
}


def __getattr__(name: str) -> object:
    """Load what was asked for. Raises AttributeError for what is not public."""
    import importlib

    if name == "errors":
        return importlib.import_module("ftdiag.errors")
    if name not in _MODULES:
        raise AttributeError(f"module 'ftdiag' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Everything public, loaded or not."""
    return sorted({*globals(), *__all__})
