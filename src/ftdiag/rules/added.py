"""Rules of others: installed packages bring them by the entry point group `ftdiag.rules`.

In: what is installed. Out: their `Rule`s. One that cannot be loaded, or that raises, is a rule that could not
look, with the reason: it is in every report, and nothing else suffers. Nothing is loaded from a recording or
a target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from ftdiag.datatypes import replace
from ftdiag.rules.attribution.claims import overlaps
from ftdiag.rules.base import Claims, Facts, Judgement, NotApplicable, Rule

GROUP: Final = "ftdiag.rules"
MAX_ADDED: Final = 100
_ID: Final = re.compile(r"[a-z][a-z0-9-]{1,60}")


def added_rules(known: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that installed packages add to those that are `known`."""
    rules: list[Rule] = []
    for point in sorted(entry_points(group=GROUP), key=lambda each: each.name)[:MAX_ADDED]:
        rule = _loaded(point, (*known, *rules))
        if all(rule.id != other.id for other in (*known, *rules)):
            rules.append(rule)
    return tuple(rules)


def _loaded(point: EntryPoint, known: Sequence[Rule]) -> Rule:
    try:
        rule = point.load()
    except Exception as error:  # noqa: BLE001 - whatever a package raises while it is imported
        return _silent(point, f"{point.value} cannot be loaded: {type(error).__name__}: {error}")
    if not isinstance(rule, Rule):
        return _silent(point, f"{point.value} is no ftdiag.rules.base.Rule")
    if not _ID.fullmatch(rule.id) or any(rule.id == other.id for other in known):
        return _silent(point, f"{point.value} has the id {rule.id[:60]!r}, which is taken or no id")
    claimed = next((words for other in known for words in overlaps(other, rule)), None)
    if claimed is not None:
        return _silent(point, f"{point.value} claims what another rule does: {claimed}")
    without = rule.without if isinstance(rule.without, str) else _or_else(rule.without, "the rule failed")
    return replace(rule, judge=_guarded(rule), claims=_guarded_claims(rule.claims), without=without)


def _silent(point: EntryPoint, why: str) -> Rule:
    """A rule that says why another one is not there."""
    name = re.sub(r"[^a-z0-9-]", "-", point.name.lower())[:50]
    return Rule(f"added-{name}", point.name[:60], (), (), lambda facts: NotApplicable(why[:300]))


def _guarded(rule: Rule) -> Callable[[Facts], Judgement]:
    """The rule's own judgement, or why it failed."""

    def judge(facts: Facts) -> Judgement:
        try:
            return rule.judge(facts)
        except Exception as error:  # noqa: BLE001 - somebody else's rule
            return NotApplicable(f"the rule failed: {type(error).__name__}: {error}"[:300])

    return judge


def _guarded_claims(claims: Claims) -> Claims:
    """The claims, of which one that raises claims nothing."""
    shape = claims.shape
    return replace(
        claims,
        locks=tuple(replace(each, when=_or_else(each.when, False)) for each in claims.locks),
        lines=tuple(
            replace(
                each,
                when=_or_else(each.when, False),
                near_lock=_or_else(each.near_lock, False),
                nobodys=_or_else(each.nobodys, False),
                joins=_or_else(each.joins, False),
            )
            for each in claims.lines
        ),
        libraries=tuple(
            replace(each, frames=_or_else(each.frames, False), when=_or_else(each.when, False))
            for each in claims.libraries
        ),
        shape=None if shape is None else replace(shape, find=_or_else(shape.find, None)),
    )


def _or_else(function: Any, instead: object) -> Any:
    """Somebody else's function, which gives `instead` where it raises; None stays None."""
    if function is None:
        return None

    def guarded(*arguments: object) -> object:
        try:
            return function(*arguments)
        except Exception:  # noqa: BLE001 - somebody else's rule
            return instead

    return guarded
