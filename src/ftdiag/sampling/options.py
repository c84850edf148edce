"""What a sampler is asked to do: one definition for who asks, who passes it on and who does it.

In: values that a person or a program chose. Out: `SamplerOptions`, or a UsageError that names the limits.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ftdiag.datatypes import dataclass, fields
from ftdiag.errors import UsageError
from ftdiag.sampling.readers import READERS

SOURCES: Final = ("auto", *READERS)
MIN_RATE_HZ: Final = 1.0
MAX_RATE_HZ: Final = 10_000.0
MAX_NATIVE_RATE_HZ: Final = 1000.0
DEFAULT_RATE_HZ: Final = 100.0
DEFAULT_NATIVE_RATE_HZ: Final = 199.0
BURST_CORES: Final = 0.5
"""The budget of a burst."""
MIN_BUDGET_CORES: Final = 0.005
MAX_BUDGET_CORES: Final = 1.0
"""The sampler looks from one thread."""
PREPARE: Final = "prepare\n"
"""What the sampler may be told ahead of its request."""
STARTED: Final = b'{"event": "started"'
"""How the line begins that a sampler says when there is a recording."""
LONGEST_DURATION_S: Final = 31_536_000.0
MAX_PID: Final = 1 << 22
"""PID_MAX_LIMIT of Linux on 64-bit machines."""


class Limits(NamedTuple):
    """What a number that is asked for may be."""

    least: float
    most: float
    above: bool = False
    """Whether the least is too little."""

    def admit(self, number: float) -> bool:
        """Whether it is within them; nan never is."""
        return (self.least < number if self.above else self.least <= number) and number <= self.most


RATES: Final = Limits(MIN_RATE_HZ, MAX_RATE_HZ)
NATIVE_RATES: Final = Limits(0.0, MAX_NATIVE_RATE_HZ)
BUDGETS: Final = Limits(MIN_BUDGET_CORES, MAX_BUDGET_CORES)
DURATIONS: Final = Limits(0.0, LONGEST_DURATION_S, above=True)


@dataclass(frozen=True, slots=True)
class Effort:
    """How often to look, and what that may cost; as `SamplerOptions` has it."""

    rate_hz: float = DEFAULT_RATE_HZ
    native_rate_hz: float = DEFAULT_NATIVE_RATE_HZ
    budget_cores: float | None = None
    burst: bool = False


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """What to sample and where to write. `keep_*` make the recording a ring."""

    pid: int
    path: str
    rate_hz: float = DEFAULT_RATE_HZ
    duration_s: float | None = None
    keep_ns: int | None = None
    keep_bytes: int | None = None
    native_rate_hz: float = DEFAULT_NATIVE_RATE_HZ
    """Samples a second of machine code while a thread is on a core; 0 switches it off."""
    budget_cores: float | None = None
    """What the sampler may use; it looks less often rather than use more. `None`: sampling.budget says."""
    burst: bool = False
    """Look as often as `rate_hz` and the budget permit from the first moment on, for a second or so."""
    source: str = "auto"
    """Who reads the stacks: "native" (we), "py-spy", or "auto": py-spy for what we cannot read."""
    blocking: bool = False
    """py-spy may stop the target for each of its samples."""
    private: bool = False
    """The recording's folder is the asking command's alone: if that is killed, the sampler removes it."""

    def as_json(self) -> str:
        """On one line; the import of `json` takes longer than the process that asks does until then."""
        parts = [f'"{one.name}": {_in_json(getattr(self, one.name))}' for one in fields(self)]
        return "{" + ", ".join(parts) + "}"

    def __post_init__(self) -> None:
        """Raises UsageError for a rate or duration that makes no sense."""
        if not RATES.admit(self.rate_hz):
            raise UsageError(
                f"a rate of {self.rate_hz:g} Hz is not possible",
                f"--rate takes {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}; {DEFAULT_RATE_HZ:g} is usual",
            )
        if self.source not in SOURCES:
            raise UsageError(
                f"there is no source {self.source!r}", f"--source takes one of {', '.join(SOURCES)}"
            )
        if not NATIVE_RATES.admit(self.native_rate_hz):
            raise UsageError(
                f"a native rate of {self.native_rate_hz:g} Hz is not possible",
                f"--native-rate takes 0 (off) to {MAX_NATIVE_RATE_HZ:g}; {DEFAULT_NATIVE_RATE_HZ:g} is usual",
            )
        if self.budget_cores is not None and not BUDGETS.admit(self.budget_cores):
            raise UsageError(
                f"a budget of {self.budget_cores:g} cores is not possible",
                f"--budget takes {MIN_BUDGET_CORES:g} to {MAX_BUDGET_CORES:g}",
            )
        if self.duration_s is not None and not DURATIONS.admit(self.duration_s):
            raise UsageError(
                f"a duration of {self.duration_s:g} s is not possible", "--duration takes seconds above 0"
            )


def _in_json(value: str | float | bool | None) -> str:
    """A value as `json.dumps` has it; of numbers those that are finite."""
    if isinstance(value, str):
        return f'"{"".join(_escaped(one) for one in value)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else repr(value)


def _escaped(one: str) -> str:
    """A character of a string of JSON in ASCII (RFC 8259, 7)."""
    if " " <= one <= "~" and one not in '"\\':
        return one
    number = ord(one)
    if number <= 0xFFFF:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 | number >> 10:04x}\\u{0xDC00 | number & 0x3FF:04x}"
