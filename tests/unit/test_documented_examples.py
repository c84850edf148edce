"""The examples of docs/extending.md, run as they stand; the reports in playbooks; rules that packages add."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from builders import RecordingBuilder, spent
from ftdiag.recording.reader import Recording
from ftdiag.rules import RULES, facts_of
from ftdiag.rules.added import added_rules
from ftdiag.rules.attribution.claims import ClaimTable
from ftdiag.rules.base import (
    Claims,
    Clear,
    Facts,
    Found,
    LibraryClaim,
    LineClaim,
    LockClaim,
    NotApplicable,
    Room,
    Rule,
    ShapeClaim,
    StopCause,
    Verdict,
    Wasted,
)
from ftdiag.session import Session
from fuzz.recordings import build_everything
from tools.playbook_reports import PAGES as PLAYBOOKS
from tools.playbook_reports import updated

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def example(name: str) -> str:
    """The code of an example."""
    found = re.search(rf"```python\n(# example: {name}\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, name
    return found[1]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Our Python in a folder."""
    source = str(Path(__file__).parents[2] / "src")
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip


def test_a_test_suite_is_recorded(tmp_path: Path) -> None:
    # GIVEN the suite of the example WHEN it is run with --ftdiag
    (tmp_path / "test_it.py").write_text(example("test suite"))
    plugin = ("-m", "pytest", "-p", "ftdiag.pytest_plugin", "-p", "no:cacheprovider")
    ran = run(tmp_path, *plugin, "--ftdiag=run.ftdiag")

    # THEN it passes, and the answer is in its summary
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "ftdiag open run.ftdiag" in ran.stdout
    assert (tmp_path / "run.ftdiag").exists()
    # WHEN it is run once more THEN the recording is not overwritten, and that is one message
    again = run(tmp_path, *plugin, "--ftdiag=run.ftdiag")
    assert again.returncode != 0
    assert "exists" in again.stdout + again.stderr


def test_a_plugin_that_nobody_asked_for_imports_nothing(tmp_path: Path) -> None:
    # GIVEN the plugin WHEN it is imported, as in every run of pytest THEN the rest of ftdiag is not
    script = "import sys, ftdiag.pytest_plugin; print([n for n in sys.modules if 'ftdiag.' in n])"
    ran = run(tmp_path, "-c", script)
    assert ran.stdout.strip() == "['ftdiag.pytest_plugin']"


def test_a_recording_in_a_data_frame(tmp_path: Path) -> None:
    # GIVEN a recording with waits for locks WHEN the example reads it THEN it says which lines wait
    build_everything(tmp_path / "app.ftdiag")
    (tmp_path / "frame.py").write_text(example("data frame"))
    ran = run(tmp_path, "frame.py")
    assert ran.returncode == 0, ran.stderr
    assert "self._lock" in ran.stdout
    assert "held by a" in ran.stdout


def a_rule() -> Rule:
    """The rule of the example."""
    module = ModuleType("my_rules")
    exec(compile(example("rule"), "my_rules.py", "exec", dont_inherit=True), module.__dict__)
    rule = module.RULE
    assert isinstance(rule, Rule)
    return rule


def test_a_rule_of_ones_own(tmp_path: Path) -> None:
    # GIVEN the rule of the example, and a program with sixty threads
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    builder.window({f"w{number}": [spent(10, "idle")] for number in range(60)}).end()
    facts = facts_of(builder.session().snapshot(), now=None, standing={})

    # WHEN it judges THEN its finding is there
    verdict = a_rule().verdict(facts)
    assert isinstance(verdict, Found)
    assert verdict.findings[0].summary.startswith("60 threads")


class Point:
    """An entry point without a package."""

    def __init__(self, name: str, value: object) -> None:
        self.name = name
        self.value = f"somewhere:{name}"
        self._value = value

    def load(self) -> object:
        """What it names."""
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


def test_rules_that_packages_add(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # GIVEN packages with a good rule, one that raises, one that is none, a broken one, a taken id
    def fails(facts: Facts) -> Verdict:
        raise ZeroDivisionError("no")

    points = [
        Point("good", a_rule()),
        Point("raises", Rule("raises", "raises", (), (), fails)),
        Point("nothing", 7),
        Point("broken", ImportError("no such module")),
        Point("taken", Rule(RULES[0].id, "taken", (), (), lambda facts: Clear())),
        Point(
            "claims",
            Rule("claims", "claims", (), (), lambda facts: Clear(), Claims(stops=StopCause.REQUESTS)),
        ),
    ]
    from ftdiag.rules import added

    monkeypatch.setattr(added, "entry_points", lambda group: points)
    builder = RecordingBuilder(tmp_path / "a.ftdiag", rate_hz=10)
    builder.window({"a": [spent(10, "idle")]}).end()
    facts = facts_of(builder.session().snapshot(), now=None, standing={})

    # WHEN they are loaded and judge
    verdicts = {rule.id: rule.verdict(facts) for rule in added_rules(RULES)}

    # THEN the good one says what it says, and the others why they do not
    assert isinstance(verdicts.pop("too-many-threads"), Clear)
    reasons = {name: each.reason for name, each in verdicts.items() if isinstance(each, NotApplicable)}
    assert (
        set(reasons)
        == {"raises", "added-nothing", "added-broken", "added-taken", "added-claims"}
        == set(verdicts)
    )
    assert "ZeroDivisionError" in reasons["raises"]
    assert "no such module" in reasons["added-broken"]
    assert "stop-the-world and claims claim stops" in reasons["added-claims"]


def test_claims_of_a_package_that_raise_claim_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # GIVEN a rule of a package, all of whose claims raise
    def fails(*_: object) -> Any:
        raise ZeroDivisionError("no")

    claims = Claims(
        locks=(LockClaim(1, when=fails),),
        lines=(LineClaim(1, when=fails, near_lock=fails, nobodys=fails, joins=fails),),
        libraries=(LibraryClaim(frames=fails, when=fails),),
        shape=ShapeClaim(1, fails),
    )
    own = Rule("own", "own", (), (), lambda facts: Clear(), claims, without=fails)
    from ftdiag.rules import added

    monkeypatch.setattr(added, "entry_points", lambda group: [Point("own", own)])

    # WHEN it is loaded THEN none of them does, and none claims anything
    (rule,) = added_rules(RULES)
    table = ClaimTable((*RULES, rule))
    build_everything(tmp_path / "a.ftdiag")
    with Recording.open(tmp_path / "a.ftdiag") as recording:
        snapshot = Session(recording).snapshot()
    facts = facts_of(snapshot)
    assert facts.locks
    assert facts.hot
    for lock in facts.locks:
        assert table.lock(lock, facts) != "own"
    for hot in facts.hot:
        assert table.line(Wasted(hot, 0.1, 0.1), facts)[0] != "own"
        for asked in (
            rule.claims.lines[0].near_lock,
            rule.claims.lines[0].nobodys,
            rule.claims.lines[0].joins,
        ):
            assert asked is not None
            assert asked(hot) is False
    assert rule.claims.shape is not None
    assert rule.claims.shape.find(facts, Room((), 0.0, 0.0, 0.0)) is None
    assert not isinstance(rule.without, str)
    assert rule.without(snapshot.findings[0], snapshot) == "the rule failed"


def test_the_entry_point_is_the_one_that_is_documented() -> None:
    # GIVEN the group of the page WHEN it is asked for THEN it is the one that is looked at
    assert 'entry-points."ftdiag.rules"' in PAGE.read_text()
    assert all(isinstance(each, EntryPoint) for each in importlib.metadata.entry_points(group="ftdiag.rules"))


@pytest.mark.parametrize("page", sorted(path.name for path in PLAYBOOKS.glob("*.md")))
def test_playbooks_show_what_is_printed(page: str) -> None:
    # GIVEN a page with reports of recorded samples WHEN they are printed again THEN they are the same
    text = (PLAYBOOKS / page).read_text(encoding="utf-8")
    assert updated(text) == text, "python -m tools.playbook_reports writes them anew"
    # AND every block of a page is one, or a command
    assert page == "README.md" or "<!-- report " in text
