"""Whose code a finding is about, and what that means for the advice.

In: a finding and the facts it was made of. Out: the finding with `whose`; where the line is a library's,
advice for who uses the library and cannot change it: upgrade it, call it less or otherwise from the program's
own line that leads there. A rule's advice is for the line's author, and stays where that is the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ftdiag.datatypes import dataclass, replace
from ftdiag.model import (
    NO_METADATA,
    PROGRAM,
    STANDARD_LIBRARY,
    Finding,
    Library,
    Remedy,
)
from ftdiag.rules.attribution.frames import is_file
from ftdiag.rules.attribution.libraries import PROCESS_WIDE, process_wide
from ftdiag.rules.attribution.own import Own, own_line, stacks_of
from ftdiag.rules.base import Advice, Facts, Rule
from ftdiag.rules.prose.inside import SET_FILTER_ONCE
from ftdiag.wording.places import place, place_in, short
from ftdiag.wording.units import share

_INSTEAD: Final[Mapping[str, tuple[tuple[str, str], str, str | None]]] = {
    "_strptime.py": (
        ("strptime", "fromisoformat"),
        "parse with datetime.fromisoformat() where the text is ISO 8601, it takes no lock; else parse a"
        " text that comes again only once: strptime() takes one lock of the process for each call",
        "when = datetime.fromisoformat(text)   # not datetime.strptime(text, ...)",
    ),
    **dict.fromkeys(
        ("warnings.py", "_py_warnings.py"), (("warnings", "once"), SET_FILTER_ONCE.text, SET_FILTER_ONCE.code)
    ),
}
"""What to do instead of calling what takes a lock of the whole process, with the case that was measured."""


REQUESTED_SHARE: Final = 0.5
"""Share of the time at a line that has to lead through what was asked for."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What a program may ask the standard library for: functions that do it, and what to do instead."""

    file: str
    functions: frozenset[str]
    said: str
    measured: tuple[str, str]
    text: str
    code: str


_REQUESTS: Final[Mapping[str, _Request]] = {
    "asyncio.run": _Request(
        "asyncio/runners.py",
        frozenset({"Runner._lazy_init", "Runner.close", "Runner.__exit__", "_cancel_all_tasks"}),
        "It is spent on making and closing an event loop for each call of asyncio.run().",
        ("runner", "kept"),
        "keep one event loop for each thread, instead of asyncio.run() for each call",
        "with asyncio.Runner() as runner:        # once in each thread\n"
        "    for item in items:\n        runner.run(work(item))",
    ),
    "a class": _Request(
        "abc.py",
        frozenset({"ABCMeta.__new__"}),
        "It is spent on making a class.",
        ("made-class", "once"),
        "make the class once, and give its objects what differs",
        "class Handler(Base):          # at module level\n    def __init__(self, value): ...\n"
        "handler = Handler(value)      # for each request: an object, not a class",
    ),
}
"""By name."""


def attributed(finding: Finding, rule: Rule, facts: Facts) -> Finding:
    """The finding with whose code it is about, and the advice that fits."""
    filename = finding.subject.get("file")
    if not isinstance(filename, str):
        return finding
    whose = facts.target.whose(filename)
    finding = replace(finding, whose=whose)
    if Advice.LOCK in rule.advice:
        finding = _of_the_process(finding, facts, filename)
    if Advice.LINE in rule.advice:
        finding = _requested(finding, facts, filename)
    if whose in (PROGRAM, STANDARD_LIBRARY) or Advice.LINE not in rule.advice:
        return finding
    own = own_line(facts, filename, finding.subject.get("line"))
    subject = dict(finding.subject)
    if own is not None:
        subject["own_file"] = own.frame.filename
        if own.frame.line is not None:
            subject["own_line"] = own.frame.line
    return replace(
        finding,
        summary=f"{finding.summary.removesuffix('.')}. The line is {_code_of(whose)}{_called_from(own)}.",
        subject=subject,
        remedy=(*_of_the_object(finding, rule), *_for_users(facts, filename, whose, own)),
    )


def _of_the_process(finding: Finding, facts: Facts, filename: str) -> Finding:
    """The finding with what helps where the lock is one of the standard library's for the whole process."""
    line = finding.subject.get("line")
    within: dict[str | None, float] = {}
    for stack, time in stacks_of(facts):
        if any(frame.filename == filename and frame.line == line for frame in stack):
            file = process_wide(stack)
            within[file] = within.get(file, 0.0) + time
    file = max(within, key=lambda each: within[each], default=None)
    if file is None:
        return finding
    what = f"Behind it is {PROCESS_WIDE[file]}, which the whole process shares."
    summary = f"{finding.summary.removesuffix('.')}. {what}"
    case, text, code = _INSTEAD[file]
    return replace(
        finding, summary=summary, remedy=facts.remedy(*case, text, code, instead=True) or finding.remedy
    )


def _requested(finding: Finding, facts: Facts, filename: str) -> Finding:
    """The finding with the remedy of what the program asked the standard library for, where that is known."""
    line = finding.subject.get("line")
    asked: dict[str, float] = {}
    whole = 0.0
    for stack, time in stacks_of(facts):
        if any(frame.filename == filename and frame.line == line for frame in stack):
            whole += time
            for name, request in _REQUESTS.items():
                if any(
                    is_file(frame, request.file) and frame.function in request.functions for frame in stack
                ):
                    asked[name] = asked.get(name, 0.0) + time
    most = max(asked, key=lambda each: asked[each], default=None)
    if most is None or asked[most] < REQUESTED_SHARE * whole:
        return finding
    request = _REQUESTS[most]
    remedy = facts.remedy(*request.measured, request.text, request.code, instead=True)
    if not remedy:
        return finding
    summary = f"{finding.summary.removesuffix('.')}. {request.said}"
    return replace(finding, summary=summary, remedy=remedy)


def _code_of(whose: str) -> str:
    return f"in {whose}" if whose == NO_METADATA else f"{short(whose)}'s"


def _called_from(own: Own | None) -> str:
    if own is None:
        return ""
    part = f" ({share(own.share, 1.0)} of it)" if own.share < 0.995 else ""
    return f"; your line that leads there is {place_in(own.frame)}{part}"


def _of_the_object(finding: Finding, rule: Rule) -> tuple[Remedy, ...]:
    """Advice about the object that is given to a library, which is the program's, and not about the line."""
    if Advice.OBJECT not in rule.advice:
        return ()
    return tuple(remedy for remedy in finding.remedy if remedy.code is None)


def _for_users(facts: Facts, filename: str, whose: str, own: Own | None) -> tuple[Remedy, ...]:
    """What somebody can do who calls the library and does not write it."""
    remedies: list[Remedy] = []
    library = facts.target.library_of(filename)
    if own is not None:
        remedies.append(
            Remedy(
                f"at {place(own.frame)}, call it less often: keep what it gives for as long as that is right,"
                " ask once for many, or do it before the threads start"
            )
        )
    if library is not None:
        remedies.append(_newer(library))
    remedies.append(
        Remedy(
            "use another backend or option of the library, or run this part in processes: the line itself is"
            " its authors' to change"
        )
    )
    return tuple(remedies)


def _newer(library: Library) -> Remedy:
    return Remedy(
        f"see whether a release of {short(library.name)} newer than {short(library.version)} is free"
        " of this; its changelog says so, or its tracker is the place to report it",
        f"pip index versions {short(library.name)}",
    )
