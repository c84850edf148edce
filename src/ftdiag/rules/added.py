"""Rules of others: installed packages bring them by the entry point group `ftdiag.rules`.

In: what is installed. Out: their `Rule`s. One that cannot be loaded, or that raises, is a rule that could not
look, with the reason: it is in every report, and nothing else suffers. Nothing is loaded from a recording or
a target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from ftdiag.datatypes import replace
from ftdiag.rules.base import Facts, NotApplicable, Rule, Verdict

GROUP: Final = "ftdiag.rules"
MAX_ADDED: Final = 100
_ID: Final = re.compile(r"[a-z][a-z0-9-]{1,60}")


def added_rules(known: Collection[str]) -> tuple[Rule, ...]:
    """The rules that installed packages add; `known` are the ids that are taken."""
    taken = set(known)
    rules = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name)[:MAX_ADDED]:
        rule = _loaded(point, taken)
        if rule.id not in taken:
            taken.add(rule.id)
            rules.append(rule)
    return tuple(rules)


def _loaded(point: EntryPoint, taken: Collection[str]) -> Rule:
    try:
        rule = point.load()
    except Exception as error:  # noqa: BLE001 - whatever a package raises while it is imported
        return _silent(point, f"{point.value} cannot be loaded: {type(error).__name__}: {error}")
    if not isinstance(rule, Rule):
        return _silent(point, f"{point.value} is no ftdiag.rules.base.Rule")
    if not _ID.fullmatch(rule.id) or rule.id in taken:
        return _silent(point, f"{point.value} has the id {rule.id[:60]!r}, which is taken or no id")
    return replace(rule, judge=_guarded(rule))


def _silent(point: EntryPoint, why: str) -> Rule:
    """A rule that says why another one is not there."""
    name = re.sub(r"[^a-z0-9-]", "-", point.name.lower())[:50]
    return Rule(f"added-{name}", point.name[:60], (), (), lambda facts: NotApplicable(why[:300]))


def _guarded(rule: Rule) -> Callable[[Facts], Verdict]:
    """The rule's own judgement, or why it failed."""

    def judge(facts: Facts) -> Verdict:
        try:
            return rule.judge(facts)
        except Exception as error:  # noqa: BLE001 - somebody else's rule
            return NotApplicable(f"the rule failed: {type(error).__name__}: {error}"[:300])

    return judge
