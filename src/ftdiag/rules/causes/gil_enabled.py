"""gil-enabled: a free-threaded build runs with the GIL on, so one thread runs Python code at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.model import BottleneckKind, ChangeKind, LockKind, Remedy, ThreadState
from ftdiag.rules.attribution.changes import everywhere
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Judgement,
    LockClaim,
    Need,
    NotApplicable,
    Priority,
    Rule,
    evidence,
    finite,
)
from ftdiag.rules.prose.fixed_versions import GIL, known_fix
from ftdiag.wording.places import short
from ftdiag.wording.units import of_cores

MODULES_NAMED: Final = 3
STABLE_ABI: Final = (3, 15)
"""The first version whose free-threaded builds load extensions of a stable ABI (PEP 803; files *.abi3t.so,
tried: one that was compiled with Py_TARGET_ABI3T is imported, and the GIL stays off)."""
WITHOUT: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    # (who imports it, package): what to do, how. Sources: the libraries' own documentation.
    # "Installing a parser", beautifulsoup documentation.
    ("bs4", "lxml"): (
        "leave lxml out and let Beautiful Soup use the parser of the standard library, which needs no GIL",
        'soup = BeautifulSoup(page, "html.parser")\npip uninstall lxml      # it imports it if it is there',
    ),
    # README of redis-py: hiredis is used where it is installed.
    ("redis", "hiredis"): (
        "leave hiredis out: redis-py then parses answers itself, in Python",
        "pip uninstall hiredis",
    ),
}
"""Libraries that use a C module only where it is there."""


def _chain(facts: Facts) -> tuple[str, ...]:
    """The packages that lead to the first culprit, the outermost first: ("__main__", "bs4", "lxml")."""
    if not facts.target.gil_importers or not facts.target.gil_importers[0]:
        return ()
    return (*facts.target.gil_importers[0], facts.target.gil_culprits[0].partition(".")[0])


def _by(chain: tuple[str, ...]) -> str:
    """ " (by bs4, which your program imports)", for a chain that was found."""
    others = chain[:-1]
    if not others:
        return ""
    nearest = others[-1]
    if nearest == "__main__":
        return " by the program itself"
    if others == ("__main__", nearest):
        return f" by {short(nearest)}, which the program imports"
    named = [short(name) for name in chain if name != "__main__"]
    return f" by {short(nearest)} ({' -> '.join(named)})"


def _upgrade(facts: Facts, named: str, package: str) -> tuple[Remedy, ...]:
    """The release that is free of it where it is known, else that one may be."""
    library = next((one for one in facts.target.libraries if one.prefix.endswith(f"/{package}")), None)
    known = known_fix(package, "0" if library is None else library.version, GIL)
    if known is not None:
        return (known,)
    return facts.remedy(
        *("gil", "off"),
        f"look for a release of {named} that supports free threading (Py_MOD_GIL_NOT_USED"
        f"{', a wheel for abi3t' if facts.version >= STABLE_ABI else ''}), or load it in another process",
        f"pip install --upgrade {short(package)}",
    )


def _leave_out(facts: Facts, chain: tuple[str, ...], culprit: str) -> tuple[Remedy, ...]:
    """Doing without a culprit that a library imported: it often is an accelerator that may be missing."""
    others = [name for name in chain[:-1] if name != "__main__"]
    if not others:
        return ()
    package, library = short(culprit.partition(".")[0]), short(others[-1])
    option = WITHOUT.get((others[-1], culprit.partition(".")[0]))
    if option is not None:
        return facts.remedy("gil", "off", *option)
    return facts.remedy(
        *("gil", "off"),
        f"if {library} does without {package} (many libraries import such a module only where it is"
        " installed), leave it out",
        f"pip uninstall {package}      # then see that {library} still imports",
    )


def _judge(facts: Facts) -> Judgement:
    target = facts.target
    if target.gil_enabled is None:
        return NotApplicable("the state of the GIL could not be read")
    if not target.gil_enabled:
        return Clear()
    waits = finite(facts.metrics.lost_cores.get(ThreadState.GIL, 0.0))
    culprits = target.gil_culprits
    named = ", ".join(short(name) for name in culprits[:MODULES_NAMED])
    if len(culprits) > MODULES_NAMED:
        named += f" and {len(culprits) - MODULES_NAMED} more"
    forced = facts.environment("PYTHON_GIL") == "1"
    if forced:
        why = "PYTHON_GIL=1 asks for it"
        remedy: tuple[Remedy, ...] = (
            *facts.remedy("gil", "off", "start without PYTHON_GIL=1", "env -u PYTHON_GIL python app.py"),
        )
    elif culprits:
        chain = _chain(facts)
        why = f"{named} asked for it when it was imported{_by(chain)}"
        remedy = (
            *_leave_out(facts, chain, culprits[0]),
            *_upgrade(facts, named, culprits[0].partition(".")[0]),
            *facts.remedy(
                *("gil", "off"),
                "keep the GIL off at your own risk: the module may corrupt memory when threads meet in it",
                "PYTHON_GIL=0 python app.py",
            ),
        )
    else:
        why = "who asked for it is not known"
        remedy = (
            Remedy(
                "see which import turns it on: Python warns of it on standard error",
                "python -W always -c 'import yourapp; import sys; print(sys._is_gil_enabled())'",
            ),
            *facts.remedy("gil", "off", "keep the GIL off at your own risk", "PYTHON_GIL=0 python app.py"),
        )
    lost = (
        f"threads lose {of_cores(waits, facts.capacity)} waiting for it"
        if waits
        else "threads share one core's worth"
    )
    return RULE.finding(
        facts,
        lost_cores=waits,
        confidence="known",
        subject={"module": culprits[0]} if culprits else {},
        summary=f"The GIL is on in this free-threaded build: {why}; {lost}.",
        explanation=(
            "The interpreter's own flag says so (sys._is_gil_enabled() is true in the program)."
            " While it is on, threads take turns as in any other Python, and what is changed"
            " besides gains one core at most. Two threads that only compute:"
            f" {facts.scaling('gil', 'on')} of what one does with it, without it"
            f" {facts.scaling('gil', 'off')}."
        ),
        remedy=remedy,
        verify=f"ftdiag doctor {facts.pid}: it says that the GIL is off",
        evidence=(
            evidence("gil_enabled", 1.0, "bool"),
            evidence("gil_wait", waits, "cores"),
            evidence("on_cpu", facts.metrics.on_cpu_cores, "cores"),
            evidence("modules_that_want_it", float(len(culprits)), "modules"),
        ),
    )


RULE: Final = Rule(
    id="gil-enabled",
    title="The GIL is on in a free-threaded build",
    needs=(Need.FREE_THREADED,),
    thresholds=(),
    judge=_judge,
    without=everywhere(ChangeKind.GIL),
    claims=Claims(
        locks=(
            LockClaim(
                Priority.GIL, kinds=(LockKind.GIL,), when=lambda _, facts: bool(facts.target.free_threaded)
            ),
        )
    ),
    cases=("gil",),
    about=frozenset({BottleneckKind.GIL}),
)
