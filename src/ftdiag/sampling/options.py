"""What a sampler is asked to do: one definition for who asks, who passes it on and who does it.

In: values that a person or a program chose. Out: `SamplerOptions`, or a UsageError that names the limits.
"""

from __future__ import annotations

from typing import Final

from ftdiag.datatypes import dataclass
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
LONGEST_DURATION_S: Final = 31_536_000.0


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

    def __post_init__(self) -> None:
        """Raises UsageError for a rate or duration that makes no sense."""
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:  # also false for NaN
            raise UsageError(
                f"a rate of {self.rate_hz:g} Hz is not possible",
                f"--rate takes {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}; {DEFAULT_RATE_HZ:g} is usual",
            )
        if self.source not in SOURCES:
            raise UsageError(
                f"there is no source {self.source!r}", f"--source takes one of {', '.join(SOURCES)}"
            )
        if not 0 <= self.native_rate_hz <= MAX_NATIVE_RATE_HZ:
            raise UsageError(
                f"a native rate of {self.native_rate_hz:g} Hz is not possible",
                f"--native-rate takes 0 (off) to {MAX_NATIVE_RATE_HZ:g}; {DEFAULT_NATIVE_RATE_HZ:g} is usual",
            )
        if self.budget_cores is not None and not MIN_BUDGET_CORES <= self.budget_cores <= MAX_BUDGET_CORES:
            raise UsageError(
                f"a budget of {self.budget_cores:g} cores is not possible",
                f"--budget takes {MIN_BUDGET_CORES:g} to {MAX_BUDGET_CORES:g}",
            )
        if self.duration_s is not None and not 0 < self.duration_s <= LONGEST_DURATION_S:
            raise UsageError(
                f"a duration of {self.duration_s:g} s is not possible", "--duration takes seconds above 0"
            )
