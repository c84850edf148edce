"""The machine's apt sources become source-package entries of another suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.provision.apt_sources import (
    Source,
    for_suite,
    parse_deb822,
    parse_one_line,
    read_sources,
    to_deb822,
)

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

DEB822 = f"""\
Types: deb
# a comment in the middle
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}
"""

ONE_LINE = f"""\
# the distribution
deb [arch=amd64,arm64 signed-by={KEYRING}] http://mirror.example/debian bookworm main contrib  # trailing
deb-src http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
deb cdrom:[Debian 12]/ bookworm main
"""


def debian(*suites: str, **options: str) -> Source:
    """An entry of the distribution."""
    return Source(("http://mirror.example/debian",), suites, ("main",), tuple(options.items()))


def test_deb822_entries_are_read() -> None:
    # GIVEN a .sources file of two stanzas with a comment inside
    # WHEN it is parsed
    first, second = parse_deb822(DEB822)

    # THEN address, suites, components and keyring are there
    assert first.uris == ("http://mirror.example/debian",)
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.components == ("main", "contrib")
    assert dict(first.options) == {"signed-by": KEYRING}
    assert second.suites == ("bookworm-security",)


def test_disabled_and_empty_stanzas_are_left_out() -> None:
    # GIVEN a disabled stanza, one without an address, and text that is no stanza
    text = "Enabled: no\nTypes: deb\nURIs: http://a\nSuites: b\n\nTypes: deb\nSuites: b\n\nnonsense\n"

    # WHEN it is parsed, THEN nothing comes out
    assert list(parse_deb822(text)) == []


def test_embedded_key_survives() -> None:
    # GIVEN a stanza whose key is written into it over several lines
    text = (
        "Types: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )

    # WHEN it is turned into an entry of another suite and read again
    written = to_deb822(for_suite(parse_deb822(text), "bookworm", "trixie"), "deb")
    (again,) = parse_deb822(written)

    # THEN the key is the same, line by line
    key = dict(again.options)["signed-by"].split("\n")
    assert [line.strip() for line in key if line.strip()] == [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        ".",
        "mQINBF",
        "-----END PGP PUBLIC KEY BLOCK-----",
    ]
    assert "Suites: trixie\n" in written


def test_one_line_entries_are_read() -> None:
    # GIVEN a .list file with options, a comment, a source entry and a disc
    # WHEN it is parsed
    entries = list(parse_one_line(ONE_LINE))

    # THEN each entry has its parts, options under their deb822 names
    assert entries[0].suites == ("bookworm",)
    assert entries[0].components == ("main", "contrib")
    assert dict(entries[0].options) == {"architectures": "amd64 arm64", "signed-by": KEYRING}
    assert entries[1].options == ()
    assert entries[2].suites == ("bookworm-security",)


@pytest.mark.parametrize(
    ("wanted", "suites"),
    [
        pytest.param("trixie", {"trixie", "trixie-updates", "trixie-security"}, id="stable-with-pockets"),
        pytest.param("sid", {"sid"}, id="unstable-has-no-pockets"),
    ],
)
def test_codename_is_replaced_and_pockets_kept(wanted: str, suites: set[str]) -> None:
    # GIVEN the entries of a machine
    # WHEN they are turned to another suite
    changed = for_suite(parse_deb822(DEB822), "bookworm", wanted)

    # THEN each pocket is of that suite
    assert {suite for source in changed for suite in source.suites} == suites
    # AND only the component that has CPython is asked for
    assert {source.components for source in changed} == {("main",)}


def test_addresses_and_keyring_stay_and_architectures_go() -> None:
    # GIVEN one-line entries that name architectures and a keyring
    # WHEN they are turned to another suite
    text = to_deb822(for_suite(parse_one_line(ONE_LINE), "bookworm", "trixie"), "deb-src")

    # THEN the mirror and the keyring are the machine's own, for source packages
    assert "Types: deb-src\n" in text
    assert "URIs: http://mirror.example/debian\n" in text
    assert f"Signed-By: {KEYRING}\n" in text
    assert "Architectures" not in text
    assert "cdrom" not in text


def test_suites_named_by_role_are_the_distributions_own() -> None:
    # GIVEN a machine that follows "testing"
    # WHEN its entry is turned, THEN it is of the wanted suite
    assert for_suite([debian("testing")], "forky", "trixie") == (debian("trixie"),)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(debian("bookworm-pgdg"), id="suite-of-others"),
        pytest.param(debian("nodistro"), id="no-suite-of-debian"),
        pytest.param(Source(("https://docker.example",), ("bookworm",), ("stable",)), id="no-main"),
        pytest.param(Source(("cdrom:[x]/",), ("bookworm",), ("main",)), id="disc"),
    ],
)
def test_archives_of_others_are_left_out(other: Source) -> None:
    # GIVEN an entry that is not the distribution's
    # WHEN entries are turned to a suite, THEN it is not among them
    assert for_suite([other], "bookworm", "trixie") == ()


def test_same_entry_is_written_once() -> None:
    # GIVEN a binary and a source entry of one archive
    # WHEN they are turned, THEN there is one entry
    assert len(for_suite([debian("bookworm"), debian("bookworm")], "bookworm", "trixie")) == 1


def test_files_are_read_by_their_format(tmp_path: Path) -> None:
    # GIVEN one file of each format, and one that is not there
    (tmp_path / "a.list").write_text(ONE_LINE)
    (tmp_path / "b.sources").write_text(DEB822)

    # WHEN they are read
    sources = read_sources([tmp_path / "a.list", tmp_path / "b.sources", tmp_path / "none.list"])

    # THEN the entries of both are there
    assert sources == (*parse_one_line(ONE_LINE), *parse_deb822(DEB822))
    assert {suite for source in sources for suite in source.suites} >= {"bookworm", "bookworm-updates"}


@given(st.text())
def test_any_text_is_read_without_failing(text: str) -> None:
    # GIVEN any text at all
    # WHEN it is taken for sources, THEN it gives entries or none
    for source in [*parse_one_line(text), *parse_deb822(text)]:
        assert source.uris
        assert source.suites
