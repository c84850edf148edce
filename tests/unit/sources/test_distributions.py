"""Whose code a file is, by metadata of distributions as wheels leave it."""

from __future__ import annotations

import os
from pathlib import Path

from builders import a_target
from ftdiag.model import NO_METADATA, PROGRAM, STANDARD_LIBRARY, Library, Target
from ftdiag.sources.kernel.distributions import MAX_READ_BYTES, Distributions


def installed(folder: Path, name: str, version: str, files: tuple[str, ...]) -> None:
    """A distribution with its files, as pip leaves them."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "RECORD").write_text("".join(f"{file},sha256=abc,10\n" for file in files))


def test_a_file_is_its_distributions(tmp_path: Path) -> None:
    # GIVEN packages and a module of distributions with the same and other names, and a program beside them
    installed(tmp_path, "sqlalchemy", "2.1.9", ("sqlalchemy/__init__.py", "sqlalchemy/util/langhelpers.py"))
    installed(tmp_path, "beautifulsoup4", "4.15.0", ("bs4/__init__.py", "bs4/element.py"))
    installed(tmp_path, "typing_extensions", "4.16", ("typing_extensions.py",))
    installed(tmp_path, "google_auth", "1.0", ("google/auth/__init__.py",))
    installed(tmp_path, "google_cloud", "2.0", ("google/cloud/__init__.py",))
    known = Distributions(os.getpid())
    # WHEN asked THEN each file is its own distribution's, and what none lists is nobody's
    at = str(tmp_path)
    assert known.library_of(f"{at}/sqlalchemy/util/langhelpers.py") == Library(
        f"{at}/sqlalchemy", "sqlalchemy", "2.1.9"
    )
    assert known.library_of(f"{at}/bs4/element.py") == Library(f"{at}/bs4", "beautifulsoup4", "4.15.0")
    assert known.library_of(f"{at}/typing_extensions.py") == Library(
        f"{at}/typing_extensions.py", "typing_extensions", "4.16"
    )
    cloud = known.library_of(f"{at}/google/cloud/__init__.py")
    assert cloud == Library(f"{at}/google/cloud/__init__.py", "google_cloud", "2.0")
    for nobodys in (f"{at}/main.py", f"{at}/bs4/added.py", "<string>", "<frozen runpy>", "relative.py", "/"):
        assert known.library_of(nobodys) is None


def test_metadata_that_is_missing_or_huge_says_nothing(tmp_path: Path) -> None:
    # GIVEN metadata without a list of files, one that is a directory, and more of it than is ever read
    (tmp_path / "bare-1.dist-info").mkdir()
    (tmp_path / "odd-1.dist-info" / "RECORD").mkdir(parents=True)
    (tmp_path / "(broken.dist-info").write_text("")
    for number in range(2 * MAX_READ_BYTES >> 20):
        info = tmp_path / f"big{number}-1.dist-info"
        info.mkdir()
        with (info / "RECORD").open("wb") as file:
            file.truncate(2 << 20)
    # WHEN a file is looked up THEN nobody owns it, and reading ends
    assert Distributions(os.getpid()).library_of(f"{tmp_path}/bare/core.py") is None


def test_the_target_says_whose_code_a_file_is() -> None:
    # GIVEN a target with a library
    target: Target = a_target(libraries=(Library("/app/lib/flask", "flask", "3.1"),))
    # WHEN asked THEN it tells it from the program, the standard library and what has no metadata
    assert target.whose("/app/lib/flask/app.py") == "flask 3.1"
    assert target.whose("/app/lib/flask_login.py") == PROGRAM
    assert target.whose("/usr/lib/python3.14t/threading.py") == STANDARD_LIBRARY
    assert target.whose("/usr/lib/python3.14t/site-packages/x/y.py") == NO_METADATA
