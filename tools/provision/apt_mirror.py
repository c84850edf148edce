"""Packages of CPython from the machine's own Debian or Ubuntu mirror.

In: the machine's apt configuration, the wanted series. Out: a verified `.orig.tar` in a directory, or the
files of binary packages, unpacked.

Everything happens in a private apt state, so that nothing of the system changes: its own lists, caches
and (empty) package status. The machine's proxies, credentials and keyrings stay in force. apt checks the
signature of the index and the checksum of each file.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from tools.provision.apt_sources import Source, for_suite, read_sources, to_deb822
from tools.provision.commands import run_logged
from tools.provision.failures import ProvisioningFailure
from tools.provision.progress import Progress

SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    # Stable first: its index and its pool change together, so what is listed is there.
    "debian": ("trixie", "forky", "sid"),
    "ubuntu": ("resolute", "questing", "plucky"),
}
APT_TIMEOUT_S: Final = 900.0
_ANOTHER_WAY: Final = (
    "Instead, name an interpreter you have: FTDIAG_PYTHONS=/path/to/python3.13t "
    "(uv gives one: uv python install 3.14t)."
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A package that an index lists. Whether its files are still there is seen when they are taken."""

    package: str
    version: str
    suite: str

    @property
    def upstream_version(self) -> str:
        """The CPython version: "1:3.13.5-2+deb13u5" -> "3.13.5"; pre-releases as "3.15.0a5"."""
        without_epoch = self.version.rpartition(":")[2]
        return re.split(r"[+-]", without_epoch, maxsplit=1)[0].replace("~", "")


def parse_stanzas(text: str, package: str, suite: str) -> tuple[Candidate, ...]:
    """The candidates in the output of `apt-cache showsrc` or `apt-cache show`, newest version first."""
    candidates: list[Candidate] = []
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Package|Version):\s*(\S+)\s*$", stanza, re.MULTILINE))
        if fields.get("Package") != package or "Version" not in fields:
            continue
        candidate = Candidate(package, fields["Version"], suite)
        # Letters, digits and the signs of a Debian version: it becomes part of a command and a path.
        if re.fullmatch(r"[0-9A-Za-z.+:~-]+", candidate.version) and candidate not in candidates:
            candidates.append(candidate)
    return tuple(sorted(candidates, key=_newness, reverse=True))


def _newness(candidate: Candidate) -> tuple[int, ...]:
    # Good enough to order point releases and revisions of one series; exactness would need dpkg's rules.
    return tuple(int(number) for number in re.findall(r"\d+", candidate.version))


def machine_distribution(os_release: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """The distribution's id and codename; raises ProvisioningFailure on neither Debian nor Ubuntu."""
    try:
        facts = dict(re.findall(r"^(\w+)=[\"']?([^\"'\n]*)[\"']?$", os_release.read_text(), re.MULTILINE))
    except OSError:
        facts = {}
    names = [facts.get("ID", ""), *facts.get("ID_LIKE", "").split()]
    # A derivative names its own codename, and that of the distribution whose archive it uses.
    fields = ("UBUNTU_CODENAME", "DEBIAN_CODENAME", "VERSION_CODENAME")
    codename = next((facts[field] for field in fields if facts.get(field)), "stable")
    for name in names:
        if name in SUITES:
            return name, codename
    raise ProvisioningFailure(
        "packages of CPython are taken from mirrors of Debian and Ubuntu only, and this is neither",
        _ANOTHER_WAY,
    )


class AptMirror:
    """A private apt state under `home`, for one suite after the other and one type of packages."""

    def __init__(
        self,
        home: Path,
        *,
        types: str,
        sources: Iterable[Source],
        codename: str,
        log: BinaryIO,
        progress: Progress,
        kept_fds: tuple[int, ...] = (),
    ) -> None:
        if '"' in str(home):
            raise ProvisioningFailure(f"apt cannot work in {home}: its name has a quotation mark")
        self._home = home
        self._types = types
        self._sources = tuple(sources)
        self._codename = codename
        self._log = log
        self._progress = progress
        self._kept_fds = kept_fds
        self.trouble: list[str] = []
        """What apt complained of while it read indexes: why a suite may have listed nothing."""
        for part in ("state/lists/partial", "cache/archives/partial", "sources", "empty"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "state/status").touch()
        (home / "apt.conf").write_text(apt_configuration(home, as_root=os.geteuid() == 0))

    def candidates(self, package: str, suite: str) -> tuple[Candidate, ...]:
        """What the suite lists of a source package; empty where the suite or the package is not there."""
        self._read_index(suite)
        listed = self._run(["apt-cache", "showsrc", "--only-source", package])
        return parse_stanzas("\n".join(listed), package, suite)

    def binary_candidates(self, package: str, suite: str) -> tuple[Candidate, ...]:
        """What the suite lists of a binary package; empty where the suite or the package is not there."""
        self._read_index(suite)
        listed = self._run(["apt-cache", "show", package])
        return parse_stanzas("\n".join(listed), package, suite)

    def _read_index(self, suite: str) -> None:
        entries = for_suite(self._sources, self._codename, suite)
        if not entries:
            raise ProvisioningFailure(
                f"apt's configuration has no entry of the distribution itself (suite {self._codename}, "
                "component main)",
                "Look at /etc/apt/sources.list and /etc/apt/sources.list.d.\n" + _ANOTHER_WAY,
            )
        (self._home / "sources/wanted.sources").write_text(to_deb822(entries, self._types))
        self._progress.step(f"reading the package index of {suite}")
        # A failing pocket is no failure: what the others list may do. An index whose signature the machine's
        # keyrings cannot verify is left out by apt itself.
        said = self._run(["apt-get", "update"])
        self.trouble.extend(line for line in said if line.startswith(("E:", "W:", "Err:")))

    def download(self, candidate: Candidate, directory: Path) -> Path:
        """The upstream tarball of a candidate, checked by apt; raises ProvisioningFailure if it is gone."""
        directory.mkdir(parents=True, exist_ok=True)
        self._progress.step(f"downloading {candidate.package} {candidate.version} ({candidate.suite})")
        wanted = f"{candidate.package}={candidate.version}"
        tail = self._run(
            ["apt-get", "source", "--only-source", "--download-only", wanted], cwd=directory, must=True
        )
        tarballs = sorted(directory.glob(f"{candidate.package}_{candidate.upstream_version}*.orig.tar.*"))
        tarballs = [file for file in tarballs if file.suffix != ".asc"]
        if not tarballs:
            raise ProvisioningFailure(
                f"{wanted} came without an upstream tarball: {tail[-1] if tail else '?'}"
            )
        return tarballs[0]

    def unpack_binaries(self, packages: Iterable[Candidate], root: Path) -> None:
        """The files of binary packages of the index that was read last, checked by apt, below `root`."""
        wanted = [f"{candidate.package}={candidate.version}" for candidate in packages]
        debs = root.with_name(root.name + "-debs")
        debs.mkdir(parents=True)
        self._progress.step(f"downloading {' '.join(wanted)}")
        self._run(["apt-get", "download", *wanted], cwd=debs, must=True)
        files = sorted(debs.glob("*.deb"))
        if len(files) != len(wanted):
            raise ProvisioningFailure(f"apt-get download gave {len(files)} of {len(wanted)} packages")
        for file in files:
            unpacked = run_logged(
                ["dpkg-deb", "--extract", os.fspath(file), os.fspath(root)],
                cwd=debs,
                log=self._log,
                progress=self._progress,
                timeout_s=APT_TIMEOUT_S,
                kept_fds=self._kept_fds,
            )
            if unpacked.status != 0:
                raise ProvisioningFailure(f"{file.name} cannot be unpacked: {' '.join(unpacked.tail[-1:])}")

    def _run(self, command: list[str], *, cwd: Path | None = None, must: bool = False) -> tuple[str, ...]:
        program, *arguments = command
        ended = run_logged(
            [program, f"--config-file={self._home / 'apt.conf'}", *arguments],
            cwd=cwd or self._home,
            log=self._log,
            progress=self._progress,
            timeout_s=APT_TIMEOUT_S,
            environ={**os.environ, "LC_ALL": "C"},
            kept_fds=self._kept_fds,
            tail_lines=5000,
        )
        if must and ended.status != 0:
            said = [line for line in ended.tail if line.startswith(("E:", "Err:"))]
            reason = said[0] if said else f"exit status {ended.status}"
            raise ProvisioningFailure(f"{' '.join(command)} failed: {reason}")
        return ended.tail


def apt_configuration(home: Path, *, as_root: bool) -> str:
    """The private apt configuration; it is read after the machine's own, and overrides it."""
    lines = [
        f'Dir::State "{home}/state";',
        f'Dir::State::status "{home}/state/status";',
        f'Dir::Cache "{home}/cache";',
        'Dir::Etc::sourcelist "/dev/null";',
        f'Dir::Etc::sourceparts "{home}/sources";',
        # Pins and a default release speak of the machine's suites, which are not in this state.
        'Dir::Etc::preferences "/dev/null";',
        f'Dir::Etc::preferencesparts "{home}/empty";',
        'APT::Default-Release "";',
        'Acquire::Languages "none";',
        'Acquire::Retries "3";',
        'Acquire::http::Timeout "60";',
        'Acquire::https::Timeout "60";',
        # Hooks of the machine would clean or refresh the system's own caches.
        "#clear APT::Update::Pre-Invoke;",
        "#clear APT::Update::Post-Invoke;",
        "#clear APT::Update::Post-Invoke-Success;",
        # Indexes for software centres and of file names: not wanted here, only the packages themselves.
        "#clear Acquire::IndexTargets::deb;",
        'Acquire::IndexTargets::deb::Packages::MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";',
        'Acquire::IndexTargets::deb::Packages::flatMetaKey "Packages";',
        'Acquire::IndexTargets::deb::Packages::ShortDescription "Packages";',
        'Acquire::IndexTargets::deb::Packages::Description "$(RELEASE) $(ARCHITECTURE) Packages";',
        'Acquire::IndexTargets::deb::Packages::flatDescription "$(RELEASE) Packages";',
        'Acquire::IndexTargets::deb::Packages::Optional "false";',
    ]
    if as_root:
        # apt would drop to the user _apt, who may not enter root's cache directory.
        lines.append('APT::Sandbox::User "root";')
    return "\n".join(lines) + "\n"


def machine_sources(etc: Path = Path("/etc/apt")) -> tuple[Source, ...]:
    """The entries of the machine's apt configuration."""
    parts = sorted(
        file for file in (etc / "sources.list.d").glob("*") if file.suffix in {".list", ".sources"}
    )
    return read_sources([etc / "sources.list", *parts])


def candidate_order(mirror: AptMirror, series: str, suites: Iterable[str]) -> Iterator[Candidate]:
    """Candidates of a series, suite after suite: the next suite's index is read only if it is needed."""
    tried: set[str] = set()
    for suite in suites:
        for candidate in mirror.candidates(f"python{series}", suite):
            if candidate.version not in tried:
                tried.add(candidate.version)
                yield candidate


def require_apt() -> None:
    """Raises ProvisioningFailure where apt is not there."""
    if shutil.which("apt-get") is None or shutil.which("apt-cache") is None:
        raise ProvisioningFailure("apt-get is not on PATH, so no package can be had", _ANOTHER_WAY)
