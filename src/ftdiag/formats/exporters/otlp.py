"""Profiles of OpenTelemetry (OTLP, v1development): the format still changes, so it is experimental.

In: the material of a range. Out: a `ProfilesData` message: one profile of thread-time in ns, with the
attributes `thread.name`, `thread.id`, `ftdiag.state`, `ftdiag.lock` and `ftdiag.holder` on every sample. The
messages are those of the package opentelemetry-proto, which follows the specification.
"""

from __future__ import annotations

from typing import IO, Any, Final

from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.errors import UsageError
from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.material import Material, holder_name, wait_name
from ftdiag.model import Frame, Stack

NAME: Final = "otlp"
ENDING: Final = ".otlp.pb"
NEEDS: Final = Needs.SNAPSHOT
EXTRA: Final = "otlp"


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the message. Raises UsageError where its package is not installed or has other messages."""
    try:
        from opentelemetry.proto.profiles.v1development import profiles_pb2
    except ImportError:
        raise UsageError(
            "the format otlp needs opentelemetry-proto, which is not installed", "pip install 'ftdiag[otlp]'"
        ) from None
    try:
        data = _Data(profiles_pb2)
        for sample in material.samples():
            held = sample.state in LOCK_STATES
            attributes: dict[str, str | int | None] = {
                "thread.name": sample.thread.name,
                "thread.id": min(sample.thread.tid, (1 << 63) - 1),
                "ftdiag.state": sample.state.label,
                "ftdiag.lock": wait_name(sample.wait) if held else None,
                "ftdiag.holder": holder_name(sample.state, sample.holder, sample.confidence),
            }
            if round(sample.time_ns):
                data.add(sample.stack, attributes, round(sample.time_ns))
        message = data.finished(material)
    except (AttributeError, ValueError, TypeError) as error:
        raise UsageError(
            f"this opentelemetry-proto has other messages than the ones that ftdiag writes: {error}",
            "pip install 'ftdiag[otlp]'   takes one that fits",
        ) from None
    out.write(message)
    return ("OpenTelemetry's profiles are not final: a collector of another version may refuse them",)


class _Data:
    """The message and its dictionary, whose first entries are empty as the specification wants."""

    def __init__(self, messages: Any) -> None:
        self._data = messages.ProfilesData()
        self._dictionary = self._data.dictionary
        for table in ("mapping", "location", "function", "link", "attribute", "stack"):
            getattr(self._dictionary, f"{table}_table").add()
        self._texts: dict[str, int] = {"": 0}
        self._frames: dict[Frame, int] = {}
        self._functions: dict[tuple[str, str], int] = {}
        self._stacks: dict[Stack, int] = {(): 0}
        self._attributes: dict[tuple[str, str | int], int] = {}
        resource = self._data.resource_profiles.add()
        self._resource = resource.resource
        scope = resource.scope_profiles.add()
        scope.scope.name = "ftdiag"
        self._profile = scope.profiles.add()

    def add(self, stack: Stack, attributes: dict[str, str | int | None], time_ns: int) -> None:
        """A sample."""
        sample = self._profile.samples.add(stack_index=self._stack(stack))
        sample.values.append(time_ns)
        sample.attribute_indices.extend(
            self._attribute(key, value) for key, value in attributes.items() if value is not None
        )

    def _stack(self, stack: Stack) -> int:
        known = self._stacks.get(stack)
        if known is None:
            known = self._stacks[stack] = len(self._stacks)
            self._dictionary.stack_table.add().location_indices.extend(self._location(each) for each in stack)
        return known

    def _location(self, frame: Frame) -> int:
        known = self._frames.get(frame)
        if known is None:
            known = self._frames[frame] = len(self._frames) + 1
            key = frame.function, frame.filename
            if key not in self._functions:
                self._functions[key] = len(self._functions) + 1
                self._dictionary.function_table.add(
                    name_strindex=self._text(frame.function), filename_strindex=self._text(frame.filename)
                )
            location = self._dictionary.location_table.add()
            location.lines.add(function_index=self._functions[key], line=frame.line or 0)
        return known

    def _attribute(self, key: str, value: str | int) -> int:
        known = self._attributes.get((key, value))
        if known is None:
            known = self._attributes[key, value] = len(self._attributes) + 1
            entry = self._dictionary.attribute_table.add(key_strindex=self._text(key))
            if isinstance(value, str):
                entry.value.string_value = _utf8(value)
            else:
                entry.value.int_value = value
        return known

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def finished(self, material: Material) -> bytes:
        """The bytes."""
        profile, snapshot = self._profile, material.snapshot
        profile.sample_type.type_strindex = self._text("thread_time")
        profile.sample_type.unit_strindex = self._text("nanoseconds")
        rate = snapshot.settings.rate_hz
        profile.period_type.CopyFrom(profile.sample_type)
        profile.period = round(1e9 / rate) if rate > 0 else 0
        profile.time_unix_nano = max(0, material.begin_unix_ns)
        profile.duration_nano = snapshot.metrics.duration_ns
        for name, words in material.origin().items():
            self._resource.attributes.add(key=f"ftdiag.{name}").value.string_value = _utf8(words)
        self._dictionary.string_table.extend(_utf8(text) for text in self._texts)
        packed: bytes = self._data.SerializeToString()
        return packed


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
