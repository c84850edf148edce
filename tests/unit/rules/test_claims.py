"""What rules claim: no two the same, everything somebody's, and a rule of one's own beside the others."""

from __future__ import annotations

import ast
import itertools
import os
import sysconfig
from pathlib import Path

import pytest

import ftdiag.rules
from builders import a_lock
from ftdiag.model import Frame, LockKind
from ftdiag.rules import RULES
from ftdiag.rules.attribution.claims import ClaimTable, overlaps
from ftdiag.rules.attribution.machine_code import may_be_same, pattern_of
from ftdiag.rules.base import (
    Claims,
    Clear,
    LibraryClaim,
    LineClaim,
    LockClaim,
    Priority,
    Rule,
    ShapeClaim,
    Shortage,
    StopCause,
)
from ftdiag.rules.registry import CLAIMS
from unit.rules.scenes import look, waiting_for


def a_rule(claims: Claims, name: str = "own") -> Rule:
    """A rule that finds nothing and claims something."""
    return Rule(name, "a rule of one's own", (), (), lambda _: Clear(), claims)


def all_overlaps(*rules: Rule) -> list[str]:
    """What any two of the rules claim alike."""
    return [words for one, other in itertools.combinations(rules, 2) for words in overlaps(one, other)]


def test_no_two_rules_claim_the_same() -> None:
    # GIVEN all rules WHEN their claims are compared THEN none overlap
    assert all_overlaps(*RULES) == []


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (Claims(locks=(LockClaim(Priority.REST, kinds=(LockKind.USER,)),)), "hot-lock and own"),
        (Claims(locks=(LockClaim(Priority.NAMED, types=("type",)),)), "class-mutation and own"),
        (Claims(lines=(LineClaim(Priority.REST),)), "refcount-contention and own"),
        (Claims(lines=(LineClaim(7, symbols=("import_f?o",)),)), "import_?*, import_f?o"),
        (Claims(lines=(LineClaim(7, symbols=("*_dealloc",)),)), "array_dealloc, *_dealloc"),
        (Claims(libraries=(LibraryClaim(files=("queue.py",)),)), "queue.py, queue.py"),
        (Claims(libraries=(LibraryClaim(files=("functools.py",), functions=("wraps",)),)), "functools.py"),
        (Claims(stops=StopCause.COLLECTOR), "stops for the cyclic collector"),
        (Claims(shortage=Shortage.QUOTA), "cpu-quota and own claim a shortage of cores by a CPU quota"),
        (Claims(shape=ShapeClaim(40, lambda *_: None)), "io-bound and own claim shapes"),
    ],
)
def test_a_claim_that_somebody_has_already_is_told(claims: Claims, said: str) -> None:
    # GIVEN a rule more, which claims what another one does WHEN claims are compared THEN both are named
    assert any(said in each for each in all_overlaps(*RULES, a_rule(claims)))


def test_claims_of_other_things_do_not_overlap() -> None:
    # GIVEN a rule that claims locks, lines and a library that nobody does
    own = Claims(
        locks=(LockClaim(Priority.NAMED, kinds=(LockKind.OBJECT,), types=("mine.Cache",)),),
        lines=(LineClaim(45, symbols=("mine_lookup",)),),
        libraries=(
            LibraryClaim(files=("shelve.py",)),
            LibraryClaim(files=("functools.py",), functions=("reduce",)),
        ),
    )
    # WHEN claims are compared THEN nothing is said
    assert all_overlaps(*RULES, a_rule(own)) == []


def test_a_rule_of_ones_own_gets_what_it_claims(tmp_path: Path) -> None:
    # GIVEN threads that wait for a lock of an object, and a rule that knows that type better than the others
    scene = look(
        tmp_path,
        waiting_for(a_lock(kind=LockKind.OBJECT, type_name="mine.Cache"), "OBJECT_LOCK", "/srv/app.py:4 put"),
    )
    (lock,) = scene.locks
    own = a_rule(Claims(locks=(LockClaim(Priority.NAMED, kinds=(LockKind.OBJECT,), types=("mine.Cache",)),)))
    from ftdiag.rules import facts_of

    facts = facts_of(scene)
    # WHEN the lock is judged without and with it THEN it goes from the rule of its kind to that one
    assert CLAIMS.lock(lock, facts) == "object-lock"
    assert ClaimTable((*RULES, own)).lock(lock, facts) == "own"


@pytest.mark.parametrize("left", [Claims(locks=(LockClaim(1),)), Claims(lines=(LineClaim(1),))])
def test_a_table_without_a_rule_for_the_rest_is_refused(left: Claims) -> None:
    # GIVEN rules of which none claims the locks, or the lines, that are left
    rules = [a_rule(left)]
    # WHEN put together THEN that is an error
    with pytest.raises(ValueError, match="nobody else"):
        ClaimTable(rules)


def test_every_file_of_the_standard_library_is_at_most_one_rules() -> None:
    # GIVEN all files of the standard library, in whatever function
    stdlib = Path(sysconfig.get_path("stdlib"))
    files = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(stdlib)
        if "packages" not in folder
        for name in names
        if name.endswith(".py")
    ]
    claims = [(rule.id, claim) for rule in RULES for claim in rule.claims.libraries]
    # WHEN it is asked who claims them
    for file in files:
        owners = {
            rule
            for rule, claim in claims
            if any(file.endswith("/" + end) for end in claim.files)
            or (claim.frames is not None and claim.frames(Frame(file, "f", 1)))
        }
        # THEN it is one rule, or none
        assert len(owners) <= 1, f"{file}: {owners}"
    assert len(files) > 500


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("malloc", "malloc", True),
        ("malloc", "mallocs", False),
        ("tcache_?*", "tcache_", False),
        ("tcache_*", "tcache_", True),
        ("a*c", "ab*", True),
        ("a*c", "b*c", False),
        ("*", "?", True),
        ("super_init*", "super_?etattro", False),
        ("**a", "a**", True),
    ],
)
def test_patterns_that_have_a_name_in_common_are_found(one: str, other: str, same: bool) -> None:
    # GIVEN two patterns WHEN compared, in either order THEN it is said whether a name fits both
    assert may_be_same(one, other) is may_be_same(other, one) is same


def test_patterns_of_names_are_literal_but_for_their_signs() -> None:
    # GIVEN names with signs of regular expressions WHEN made a pattern THEN only ? and * are signs
    pattern = pattern_of(("a.b", "c?*"))
    assert pattern.fullmatch("a.b")
    assert not pattern.fullmatch("axb")
    assert pattern.fullmatch("cd")
    assert not pattern.fullmatch("c")


def test_nothing_names_a_rule_but_its_own_file() -> None:
    # GIVEN the modules of rules, predictions and views, but for what the word also is: a kind of workload
    rules = Path(ftdiag.rules.__file__).parent
    files = [path for path in rules.parent.rglob("*.py") if path.name != "workload.py"]
    ids = {rule.id for rule in RULES}
    named = {
        (path.relative_to(rules.parent).as_posix(), node.value)
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in ids
    }
    # WHEN ids of rules are looked for THEN only the rule's own module has it, and the registry its name
    own = {(f"rules/causes/{each.replace('-', '_')}.py", each) for each in ids}
    assert own <= named
    assert {row for row in named - own if row[0] != "rules/registry.py"} == set()
