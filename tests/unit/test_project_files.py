"""What people who join rely on: workflows that call what is there, pages that are linked, pins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_what_is_there(path: Path) -> None:
    # GIVEN a workflow WHEN it is read THEN it may do little, and each target and module of ours is there
    text = path.read_text()
    found = yaml.safe_load(text)
    assert found["jobs"]
    assert found["permissions"] == {"contents": "read"}
    for line in re.findall(r"run: make ([a-z ]+)$", text, re.MULTILINE):
        assert set(line.split()) <= TARGETS
    for module in re.findall(r"-m (tools\.[a-z_.]+)", text):
        place = ROOT / module.replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").exists()


def test_hooks_run_our_own_tools() -> None:
    # GIVEN the hooks of pre-commit WHEN they are read THEN each runs a tool of the virtual environment
    found = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in found["repos"] for hook in repository["hooks"]]
    assert len(hooks) >= 4
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)


def test_every_page_is_linked() -> None:
    # GIVEN the pages WHEN the index and the README are read THEN each is linked from one of them
    text = (ROOT / "docs" / "index.md").read_text() + (ROOT / "README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if page not in text} == set()


def test_pins_cover_what_is_asked_for() -> None:
    # GIVEN the locked dependencies WHEN they are compared THEN each of pyproject is there, with hashes
    locked = (ROOT / "requirements-dev.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\s<>=;\[]", each)[0].lower() for each in wanted}
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", locked, re.MULTILINE))
    assert {
        name for name in names if name.replace("_", "-") not in {each.replace(".", "-") for each in pinned}
    } <= {"backports.zstd"}
    assert locked.count("--hash=sha256:") > len(pinned)
    assert all("; python_version" in each or re.search(r">=\d", each) for each in wanted)


def test_image_and_site_are_of_this_project() -> None:
    # GIVEN the image's file and the site's settings WHEN they are read THEN what they name is there
    image = (ROOT / "Containerfile").read_text()
    assert "FTDIAG_COMPILED=1" in image
    extras = set(re.findall(r"ftdiag\[([a-z]+)\]", image))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras <= set(project["optional-dependencies"])
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text())["strict"] is True


def test_each_change_is_a_file_of_a_known_kind() -> None:
    # GIVEN what changed since the last release WHEN a release is made of it THEN it finds each
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in settings["type"]}
    for path in (ROOT / "changelog.d").iterdir():
        if path.name == "README.md":
            continue
        assert re.fullmatch(rf"(\+[a-z0-9-]+|\d+)\.({'|'.join(kinds)})\.md", path.name), path.name
        text = path.read_text()
        assert text.endswith(".\n"), f"{path.name} is no sentence"
        assert not text.startswith(("-", "#", "*")), path.name
