"""speedscope files of py-spy, ftdiag and others: profiles of samples or of events, one a thread.

In: JSON (https://www.speedscope.app/file-format-schema.json). Out: a recording. A sampled profile has its
samples in order, but not when they were taken: they are spread evenly over the length of the longest one. An
evented one (functions that open and close, with times) becomes the stacks between its events.
"""

from __future__ import annotations

import math
import os
from array import array
from pathlib import Path
from typing import Any, Final

from ftdiag.datatypes import dataclass, field
from ftdiag.errors import RecordingError
from ftdiag.formats.importers import Progress
from ftdiag.formats.importers.assembly import MAX_RUNS, Assembly, Carry
from ftdiag.formats.importers.jsonstream import JsonStream
from ftdiag.formats.pyspy_format import process_number, profile_label, thread_label
from ftdiag.model import Frame
from ftdiag.opening import open_plain

KIND: Final = "speedscope"
TAKES_RATE: Final = True
DEFAULT_RATE_HZ: Final = 100.0
FINE_RATE_HZ: Final = 1000.0
"""How finely times are looked at that are no whole numbers of a period."""
UNEVEN: Final = 0.01
EVEN_WEIGHTS: Final = 1000
"""Weights of each profile that are looked at for that."""
MIN_RATE_HZ: Final = 0.1
MAX_RATE_HZ: Final = 10_000.0
MAX_FRAMES: Final = 1 << 19
MAX_STACKS: Final = 1 << 19
MAX_PROFILES: Final = 20_000
MAX_DEPTH: Final = 4096
_SECONDS: Final = {"seconds": 1.0, "milliseconds": 1e-3, "microseconds": 1e-6, "nanoseconds": 1e-9}


@dataclass(slots=True)
class _Profile:
    name: str = ""
    kind: str = "sampled"
    unit: str = "none"
    samples: array[int] = field(default_factory=lambda: array("I"))
    weights: array[float] = field(default_factory=lambda: array("d"))
    open: list[int] = field(default_factory=list)
    """Of an evented profile: the frames that are open, root first ..."""
    since: float | None = None
    """... since this moment."""


def recognises(head: bytes, path: Path) -> bool:
    """Whether it is an object that names speedscope's schema, or has its two parts."""
    text = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    if not text.startswith(b"{"):
        return False
    return b"speedscope.app/file-format-schema" in text or (b'"profiles"' in text and b'"samples"' in text)


def import_file(source: Path, output: Path, progress: Progress, rate_hz: float | None = None) -> str:
    """Make the recording; `rate_hz` is the rate it was sampled at, where the file does not say."""
    frames: list[tuple[str, str, int | None]] = []
    stacks: dict[tuple[int, ...], int] = {}
    profiles: list[_Profile] = []
    try:
        with os.fdopen(open_plain(source), "rb") as stream:
            _read(source, JsonStream(source, stream, progress), profiles, frames, stacks)
    except OSError as error:
        raise RecordingError(f"{source} cannot be read: {error.strerror}", "Check the disk.") from None
    found, said = _rate(profiles, rate_hz)
    assembly = Assembly(source, KIND, found)
    _assemble(source, assembly, profiles, frames, list(stacks))
    notes = [
        "a sampled profile of speedscope does not say when a sample was taken: they are spread evenly",
    ]
    if not said:
        notes.append(f"it does not say its rate: {found:g} Hz, py-spy's default, is assumed")
    return assembly.write(output, notes)


# --- reading -----------------------------------------------------------------------------------------


def _read(
    source: Path,
    stream: JsonStream,
    profiles: list[_Profile],
    frames: list[tuple[str, str, int | None]],
    stacks: dict[tuple[int, ...], int],
) -> None:
    for key in stream.members():
        following = stream.peek()
        if key == "profiles" and following == "[":
            for _ in stream.elements():
                if len(profiles) >= MAX_PROFILES:
                    raise _refused(source, f"it has more than {MAX_PROFILES:,} threads")
                profiles.append(_read_profile(source, stream, stacks))
        elif key == "shared" and following == "{":
            for part in stream.members():
                if part == "frames" and stream.peek() == "[":
                    for _ in stream.elements():
                        if len(frames) >= MAX_FRAMES:
                            raise _refused(source, f"it has more than {MAX_FRAMES:,} frames")
                        frames.append(_frame(stream.value()))
                else:
                    stream.skip()
        else:
            stream.skip()


def _read_profile(source: Path, stream: JsonStream, stacks: dict[tuple[int, ...], int]) -> _Profile:
    profile = _Profile()
    if stream.peek() != "{":
        raise _refused(source, "a profile is no object")
    for key in stream.members():
        if key == "samples" and stream.peek() == "[":
            for _ in stream.elements():
                profile.samples.append(_stack(source, stream.value(), stacks))
                if len(profile.samples) > MAX_RUNS:
                    raise _refused(source, f"it has more than {MAX_RUNS:,} samples")
        elif key == "weights" and stream.peek() == "[":
            for _ in stream.elements():
                profile.weights.append(_weight(source, stream.value()))
                if len(profile.weights) > MAX_RUNS:
                    raise _refused(source, f"it has more than {MAX_RUNS:,} samples")
        elif key == "events" and stream.peek() == "[":
            for _ in stream.elements():
                _follow(source, stream.value(), profile, stacks)
        elif key in ("name", "type", "unit"):
            value = stream.value()
            if isinstance(value, str):
                setattr(profile, "kind" if key == "type" else key, value)
        else:
            stream.skip()
    if profile.kind not in ("sampled", "evented"):
        raise _refused(source, f"a profile is of the unknown type {profile.kind[:40]!r}")
    if profile.weights and len(profile.weights) != len(profile.samples):
        raise _refused(source, "a profile has another number of weights than of samples")
    return profile


def _follow(source: Path, event: Any, profile: _Profile, stacks: dict[tuple[int, ...], int]) -> None:
    """The stack that was there until an event becomes a sample of that length."""
    if not isinstance(event, dict):
        raise _refused(source, "an event is no object")
    kind, frame, at = event.get("type"), event.get("frame"), _weight(source, event.get("at"))
    if type(frame) is not int or frame < 0 or kind not in ("O", "C"):
        raise _refused(source, "an event is neither the beginning nor the end of a frame")
    if profile.since is not None and at < profile.since:
        raise _refused(source, "its events are not in the order of time")
    if profile.since is not None and at > profile.since:
        profile.samples.append(_stack(source, profile.open, stacks))
        profile.weights.append(at - profile.since)
        if len(profile.samples) > MAX_RUNS:
            raise _refused(source, f"it has more than {MAX_RUNS:,} samples")
    profile.since = at
    if kind == "C":
        # The innermost of that frame: events of one moment may come in any order.
        while profile.open and profile.open.pop() != frame:
            pass
    elif len(profile.open) >= MAX_DEPTH:
        raise _refused(source, f"a stack is deeper than {MAX_DEPTH:,} functions")
    else:
        profile.open.append(frame)


def _stack(source: Path, value: Any, stacks: dict[tuple[int, ...], int]) -> int:
    # A bool is an int to Python, but no index.
    if not isinstance(value, list) or not all(type(frame) is int and frame >= 0 for frame in value):
        raise _refused(source, "a sample is no list of frame numbers")
    key = tuple(value[-MAX_DEPTH:])
    known = stacks.setdefault(key, len(stacks))
    if len(stacks) > MAX_STACKS:
        raise _refused(source, f"it has more than {MAX_STACKS:,} different stacks")
    return known


def _weight(source: Path, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(source, "a weight is no number")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not 0 <= weight < 1e15:
        raise _refused(source, "a weight makes no sense")
    return weight


def _frame(value: Any) -> tuple[str, str, int | None]:
    if not isinstance(value, dict):
        return "", "?", None
    name, file, line = value.get("name"), value.get("file"), value.get("line")
    return (
        file if isinstance(file, str) else "",
        name if isinstance(name, str) and name else "?",
        line if type(line) is int and 0 < line < 1 << 31 else None,
    )


# --- what it means -----------------------------------------------------------------------------------


def _rate(profiles: list[_Profile], asked_hz: float | None) -> tuple[float, bool]:
    """Samples a second, and whether somebody said so: py-spy's weights are one period each."""
    if asked_hz is not None:
        return asked_hz, True
    weights = [
        weight * unit
        for profile in profiles
        if (unit := _SECONDS.get(profile.unit)) is not None
        for weight in profile.weights[:EVEN_WEIGHTS]
        if weight > 0
    ]
    if not weights:
        return DEFAULT_RATE_HZ, False
    period = min(weights)
    evented = any(profile.kind == "evented" for profile in profiles)
    if evented or any(abs(weight / period - round(weight / period)) > UNEVEN for weight in weights):
        return FINE_RATE_HZ, True  # no periods: times, which are looked at finely
    if MIN_RATE_HZ <= 1 / period <= MAX_RATE_HZ:
        return 1 / period, True
    return DEFAULT_RATE_HZ, False


def _assemble(
    source: Path,
    assembly: Assembly,
    profiles: list[_Profile],
    frames: list[tuple[str, str, int | None]],
    stacks: list[tuple[int, ...]],
) -> None:
    known: list[Frame] = [assembly.frame(*frame) for frame in frames]
    labels = [
        thread_label(frame.function) is not None or process_number(frame.function) is not None
        for frame in known
    ]
    numbers: list[int] = []
    for stack in stacks:
        if any(frame >= len(known) for frame in stack):
            raise _refused(source, "a sample names a frame that is not there")
        numbers.append(assembly.stack([known[frame] for frame in stack if not labels[frame]]))
    ticks = [_ticks(profile, assembly.rate_hz) for profile in profiles]
    total = max((sum(each) for each in ticks), default=0)
    for number, (profile, lengths) in enumerate(zip(profiles, ticks, strict=True)):
        label = profile_label(profile.name)
        name = profile.name if label is None else label.name
        tid = 0 if label is None else label.number
        thread = assembly.thread((number, profile.name), name, tid, main=name == "MainThread")
        begun = 0
        own = sum(lengths)
        for sample, length in zip(profile.samples, lengths, strict=True):
            assembly.add(thread, total * begun // own if own else 0, numbers[sample], length)
            begun += length


def _ticks(profile: _Profile, rate_hz: float) -> list[int]:
    """How many ticks each sample stands for."""
    unit = _SECONDS.get(profile.unit)
    if unit is None or not profile.weights:
        return [1] * len(profile.samples)
    carry = Carry(1 / (unit * rate_hz))
    return [carry.ticks(weight) for weight in profile.weights]


def _refused(source: Path, why: str) -> RecordingError:
    return RecordingError(
        f"{source} cannot be taken over: {why}",
        "py-spy record --format speedscope -i -t   makes a file that can",
    )
