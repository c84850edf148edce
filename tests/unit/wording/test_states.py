"""States: one name and one colour each, that can be told apart and read."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

import ftdiag.rules
from ftdiag.model import Confidence, CorePart, ThreadState
from ftdiag.wording.quality import FIGURE_NAMES
from ftdiag.wording.states import (
    BAR_ORDER,
    BY_CHOICE,
    CONFIDENCE_NAMES,
    FACTOR_NAMES,
    LOCK_STATES,
    PART_NAMES,
    STATE_COLOURS,
    STATE_MEANINGS,
    STATE_NAMES,
    STATE_OF_PART,
    longest,
    split_words,
)

RULES = Path(ftdiag.rules.__file__).parent
GOLDEN = Path(__file__).parents[2] / "golden"
LABEL = re.compile(r"'([A-Za-z/][A-Za-z /]+)'")
"""How a rule's prose names a label of a view."""
SEEN_NAMES = {"native", "malloc arena"}
"""A role of threads, and what the sampler calls the lock of glibc's arenas."""


def test_every_state_and_part_has_one_name_of_its_own() -> None:
    for names in (STATE_NAMES, PART_NAMES, CONFIDENCE_NAMES, STATE_MEANINGS):
        assert len(set(names.values())) == len(names)
    assert set(STATE_NAMES) == set(STATE_MEANINGS) == set(STATE_COLOURS) == set(BAR_ORDER) == set(ThreadState)
    assert set(PART_NAMES) == set(STATE_OF_PART) == set(CorePart)
    assert set(CONFIDENCE_NAMES) == set(Confidence)


def test_a_part_and_a_factor_that_are_a_state_are_called_like_it() -> None:
    for state in (*LOCK_STATES, ThreadState.ATOMIC, ThreadState.SPIN, ThreadState.IO):
        assert PART_NAMES[CorePart(state.label)] == STATE_NAMES[state]
    for state in (ThreadState.ATOMIC, ThreadState.SPIN, ThreadState.RUNNABLE, ThreadState.GIL):
        assert FACTOR_NAMES[state.label] == STATE_NAMES[state]
    wanting = [part for part in CorePart if STATE_OF_PART[part] is ThreadState.RUNNABLE]
    assert all(PART_NAMES[part].startswith(STATE_NAMES[ThreadState.RUNNABLE]) for part in wanting)


def verify_texts() -> Iterator[tuple[str, str]]:
    """Every piece of text that a rule's `verify` is made of, with the rule's file."""
    for path in sorted(RULES.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        made: list[ast.AST] = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "verify"
        ]
        made += [
            node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "verify" in node.name
        ]
        for node in made:
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield path.name, part.value


def test_what_a_rule_says_to_look_at_is_what_the_views_show() -> None:
    # GIVEN the labels that remedies are verified by
    shown = {*STATE_NAMES.values(), *PART_NAMES.values(), *FIGURE_NAMES.values(), *SEEN_NAMES}
    named = [(file, label) for file, text in verify_texts() for label in LABEL.findall(text)]
    # THEN there are some, and each is a label of the views
    assert len(named) >= 10
    assert [(file, label) for file, label in named if label not in shown] == []


def test_parts_of_reports_that_a_rule_names_are_there() -> None:
    # GIVEN the golden reports, of a recording in which everything was seen
    report = json.loads((GOLDEN / "memory.json").read_text("utf-8"))
    headings = set(re.findall(r"^[A-Z][a-z]+", (GOLDEN / "contended.txt").read_text("utf-8"), re.MULTILINE))
    texts = list(verify_texts())
    parts = [(file, part) for file, text in texts for part in re.findall(r"under ([A-Z][a-z]+)", text)]
    keys = [
        (file, key)
        for file, text in texts
        if "JSON" in text
        for key in re.findall(r"[a-z]+[._][a-z_.]+", text)
    ]
    # WHEN what rules say to look at is looked for THEN each part is a heading, each key in the JSON report
    assert len(parts) >= 8
    assert len(keys) >= 5
    assert [(file, part) for file, part in parts if part not in headings] == []
    assert [(file, key) for file, key in keys if not has(report, key.split("."))] == []


def has(value: object, keys: list[str]) -> bool:
    """Whether the keys lead somewhere in a JSON value, from any place on."""
    if has_here(value, keys):
        return True
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(has(each, keys) for each in below)


def has_here(value: object, keys: list[str]) -> bool:
    """Whether the keys lead somewhere from this value."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


@pytest.mark.parametrize("ground", ["dark", "light"])
def test_no_two_states_have_one_colour(ground: str) -> None:
    for one, other in combinations(STATE_COLOURS.items(), 2):
        assert getattr(one[1], ground) != getattr(other[1], ground), (one[0], other[0])


# How Okabe and Ito's check is made: what is left of a colour for somebody without one of the three cones
# (Viénot, Brettel, Mollon 1999), in linear light.
BLIND = {
    "protan": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deutan": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}
NEIGHBOURS = (
    (ThreadState.WORK, ThreadState.LOCK),
    (ThreadState.WORK, ThreadState.RUNNABLE),
    (ThreadState.WORK, ThreadState.ATOMIC),
    (ThreadState.WORK, ThreadState.OBJECT_LOCK),
    (ThreadState.RUNNABLE, ThreadState.LOCK),
    (ThreadState.ALLOC, ThreadState.ATOMIC),
    (ThreadState.IO, ThreadState.LOCK),
)
"""States that stand beside each other in most pictures, and mean opposite things."""


def linear(colour: str) -> tuple[float, float, float]:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return red, green, blue


@pytest.mark.parametrize("ground", ["dark", "light"])
@pytest.mark.parametrize("kind", BLIND)
def test_opposites_are_told_apart_without_red_or_green(kind: str, ground: str) -> None:
    for one, other in NEIGHBOURS:
        seen = []
        for state in (one, other):
            light = linear(getattr(STATE_COLOURS[state], ground))
            seen.append([max(0.0, sum(map(operator.mul, row, light))) ** (1 / 2.2) for row in BLIND[kind]])
        distance = sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5
        assert distance >= 0.12, (one, other, distance)


def test_time_is_split_in_words_the_largest_first() -> None:
    states = {ThreadState.WORK: 20.0, ThreadState.LOCK: 80.0, ThreadState.GC: 0.0}

    assert longest(states) == [(ThreadState.LOCK, 80.0), (ThreadState.WORK, 20.0)]
    assert split_words(states, 100.0) == "lock 80 %, work 20 %"
    assert split_words({}, 0.0) == "no time"
    assert set(BY_CHOICE) < set(ThreadState)
