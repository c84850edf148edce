"""refcount-contention: threads count references of the same objects, with an atomic instruction each time."""

from __future__ import annotations

from typing import Final

from ftdiag.model import Confidence, Frame, Remedy
from ftdiag.rules.base import WORTH_SAYING, Clear, Facts, Found, Need, Rule, Verdict, evidence, subject_of
from ftdiag.rules.library import caller, together, together_evidence
from ftdiag.rules.wording import is_file, lose, of_cores, place, place_in, places, report_again, short


def _hint(frame: Frame) -> tuple[str, str] | None:
    """What is counted at a line of the standard library, and its measured scaling (3.13 / 3.14)."""
    if is_file(frame, "enum.py") or is_file(frame, "types.py"):
        return "an Enum's .value", "0.78x / 0.41x"
    if is_file(frame, "os.py") or is_file(frame, "_collections_abc.py"):
        return "os.environ", "1.01x / 1.06x"
    if is_file(frame, "abc.py"):
        return "isinstance() with an abstract class", "0.85x / 1.04x"
    if "<lambda>" in frame.function or "<locals>" in frame.function:
        return "a lambda, closure or nested function that threads share", "0.69x / 0.65x"
    return None


def _remedies(facts: Facts, frame: Frame) -> tuple[Remedy, ...]:
    at = place(frame)
    own = Remedy(
        "give each thread its own: a copy, wrapper, closure or cache per thread gave 1.8-2.05x on 3.13 and"
        " 3.14",
        f"# {at}\ndef work(items):\n    config = copy.deepcopy(CONFIG)   # of this thread\n    for item in"
        " items: ...",
    )
    alias = Remedy(
        "on 3.14, bind the shared object to a local name before the loop (1.81x); on a line of its own",
        f"# {at}\ntable = TABLE           # before the loop; a local is borrowed, not counted\n"
        "for item in items:\n    use(table[item])",
    )
    deferred = Remedy(
        "on 3.14, an extension may switch counting off for one object that lives long (0.59x -> 1.99x); it"
        " is then"
        " freed by the collector only",
        "PyUnstable_Object_EnableDeferredRefcount(object);   /* C */",
    )
    return (alias, own, deferred) if facts.version >= (3, 14) else (own,)


def _touched(hint: tuple[str, str] | None) -> str:
    return f"; there, {hint[0]} is touched (measured {hint[1]})" if hint is not None else ""


def _judge(facts: Facts) -> Verdict:
    found = together(facts, RULE.id)
    if not found.lines or not facts.loses(found.lost_cores, RULE.id):
        return Clear()
    first = found.lines[0].line
    frame = caller(first)
    hint = _hint(first.frame)
    shared = first.shared[:2]
    names = " and ".join(f"{short(one.name)} (a {short(one.type_name)})" for one in shared)
    touched = f": {names} is shared" if len(shared) == 1 else f": {names} are shared" if shared else ""
    touched = touched or _touched(hint)
    atomic = sum(each.atomic_cores for each in found.lines)
    on_cpu = facts.metrics.on_cpu_cores
    alias = (
        "A local alias, often suggested, does nothing on 3.13 (0.98x)."
        if facts.version < (3, 14)
        else "Binding a bound method per thread does not help (0.7x): the object behind it stays shared."
    )
    return Found(
        (
            RULE.finding(
                facts,
                lost_cores=found.lost_cores,
                confidence="known" if any(one.confidence is Confidence.KNOWN for one in shared) else "likely",
                subject=subject_of(frame),
                summary=(
                    f"{found.threads} {lose(found.threads)} {of_cores(found.lost_cores, facts.capacity)}"
                    " counting references"
                    f" of objects that they share, most at {place_in(frame)}{touched}."
                ),
                explanation=(
                    "Native samples stood right behind atomic instructions in these lines:"
                    f" {places(c.line for c in found.lines)}."
                    " Code that touches only objects of its own thread shows none. The CPU looks fully used,"
                    " because a core"
                    " that waits for a cache line counts as busy. Small integers, interned strings, plain"
                    " functions of a"
                    f" module and C functions are free of it. {alias}"
                ),
                could_also_be=(
                    "object-lock: the same object is changed as well",
                    "heap-type-churn: objects of C types made in the loop",
                ),
                remedy=_remedies(facts, frame),
                verify=f"{report_again(facts.pid)}: 'contended atomics' falls, 'useful' under Cores rises",
                evidence=(
                    *together_evidence(facts, found),
                    evidence("atomic_share_of_cpu", atomic / on_cpu if on_cpu > 0 else 0.0, "ratio"),
                    evidence("lines", float(len(found.lines)), "lines"),
                ),
            ),
        )
    )


RULE: Final = Rule(
    id="refcount-contention",
    title="Threads count references of the same objects",
    needs=(Need.TICKS, Need.CAPACITY, Need.NO_GIL, Need.NATIVE),
    thresholds=(WORTH_SAYING,),
    judge=_judge,
)
