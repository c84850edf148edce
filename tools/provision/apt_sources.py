"""The machine's apt sources, turned into entries of another suite.

In: the text of `.list` files (one line an entry) and `.sources` files (deb822). Out: `Source` entries,
and the deb822 text of an entry for a wanted suite with the same address and keyring.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

POCKETS: Final = ("", "-security", "-updates")
"""Suffixes of a codename that make a suite of the distribution itself, not somebody's own archive."""
GENERIC_SUITES: Final = frozenset({"stable", "oldstable", "testing", "unstable", "sid"})
# What is said of one suite or machine and does not hold for another.
_DROPPED_OPTIONS: Final = frozenset(
    {"types", "uris", "suites", "components", "enabled", "architectures", "languages", "targets", "pdiffs"}
)
_ONE_LINE: Final = re.compile(
    r"^(?P<type>deb|deb-src)\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<rest>.*)$"
)
_ONE_LINE_OPTIONS: Final = {"arch": "architectures", "lang": "languages", "target": "targets"}


@dataclass(frozen=True, slots=True)
class Source:
    """One entry: where packages come from. `options` has deb822 field names in lower case (signed-by ...)."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


def parse_one_line(text: str) -> Iterator[Source]:
    """Entries of a `.list` file. Lines that are not entries are passed over, as apt does not fail on them."""
    for raw in text.splitlines():
        match = _ONE_LINE.match(raw.partition("#")[0].strip())
        if match is None:
            continue
        options: list[tuple[str, str]] = []
        for word in (match["options"] or "").split():
            name, sign, value = word.partition("=")
            if sign:
                name = name.rstrip("+-").lower()
                options.append((_ONE_LINE_OPTIONS.get(name, name), value.replace(",", " ")))
        yield Source((match["uri"],), (match["suite"],), tuple(match["rest"].split()), tuple(options))


def parse_deb822(text: str) -> Iterator[Source]:
    """Entries of a `.sources` file; disabled ones are left out."""
    for fields in _stanzas(text):
        if fields.get("enabled", "yes").strip().lower() in {"no", "false", "0"}:
            continue
        uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
        if not uris or not suites:
            continue
        options = tuple((name, value) for name, value in fields.items() if name not in _DROPPED_OPTIONS)
        yield Source(tuple(uris), tuple(suites), tuple(fields.get("components", "").split()), options)


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    last: str | None = None
    for raw in text.splitlines():
        if raw.startswith("#"):
            continue
        if not raw.strip():
            if fields:
                yield fields
            fields, last = {}, None
        elif raw[0] in " \t":
            # A continuation: an embedded key has many, with " ." for an empty line.
            if last is not None:
                fields[last] += "\n " + raw.strip()
        else:
            name, sign, value = raw.partition(":")
            if sign:
                last = name.strip().lower()
                fields[last] = value.strip()
    if fields:
        yield fields


def read_sources(files: Iterable[Path]) -> tuple[Source, ...]:
    """Entries of all files of an apt configuration, each in the format that its name tells."""
    sources: list[Source] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        sources.extend(parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text))
    return tuple(sources)


def for_suite(sources: Iterable[Source], codename: str, wanted: str) -> tuple[Source, ...]:
    """The distribution's own entries with `codename` replaced by `wanted`, pockets kept.

    Other people's archives are left out: they have other suites, or no component "main".
    """
    changed: list[Source] = []
    for source in sources:
        if "main" not in source.components or any(uri.startswith("cdrom:") for uri in source.uris):
            continue
        suites: list[str] = []
        for suite in source.suites:
            for pocket in POCKETS:
                own = {name + pocket for name in {codename, *GENERIC_SUITES}}
                # Unstable has no pockets of its own.
                if suite in own and not (pocket and wanted in {"sid", "unstable"}):
                    suites.append(wanted + pocket)
        if suites:
            entry = replace(
                source,
                suites=tuple(dict.fromkeys(suites)),
                components=("main",),
                options=tuple((n, v) for n, v in source.options if n not in _DROPPED_OPTIONS),
            )
            if entry not in changed:
                changed.append(entry)
    return tuple(changed)


def to_deb822(sources: Iterable[Source], types: str) -> str:
    """The entries as the text of a `.sources` file; `types` is "deb" or "deb-src"."""
    stanzas: list[str] = []
    for source in sources:
        fields: Mapping[str, str] = {
            "Types": types,
            "URIs": " ".join(source.uris),
            "Suites": " ".join(source.suites),
            "Components": " ".join(source.components),
            **{name.title(): value for name, value in source.options},
        }
        stanzas.append("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return "\n".join(stanzas)
