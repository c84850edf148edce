"""What must hold of every export, whatever the recording: it is what its format says.

In: an open recording. Out: what is wrong, in words without numbers.
"""

from __future__ import annotations

import gzip
import io
import json
from random import Random
from typing import Any, Final

from ftdiag.formats.exporters import exporter_of
from ftdiag.formats.exporters.material import Material
from ftdiag.formats.pprof_schema import profile
from ftdiag.recording.reader import Recording
from ftdiag.session import Session

FORMATS: Final = ("pprof", "firefox", "speedscope", "chrome", "collapsed", "markdown")


def wrong_in_export(recording: Recording, chance: Random) -> list[str]:
    """Write the recording in one of the formats; what is wrong with the file."""
    if recording.span_ns() is None:
        return []
    name = chance.choice(FORMATS)
    out = io.BytesIO()
    exporter_of(name).write(Material(Session(recording)), out)
    return [f"{name}: {words}" for words in _wrong(name, out.getvalue())]


def _wrong(name: str, data: bytes) -> list[str]:
    if name == "pprof":
        message = profile()()
        message.ParseFromString(gzip.decompress(data))
        wrong = any(value < 0 for sample in message.sample for value in sample.value)
        return ["a negative value"] if wrong else []
    text = data.decode("utf-8")
    if name == "collapsed":
        lines = text.splitlines()
        return [] if all(line.rpartition(" ")[2].isdigit() for line in lines) else ["a line without a number"]
    if name == "markdown":
        return ["markup of the target"] if "<img" in text or "<script" in text else []
    try:
        document = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        return [f"no JSON: {type(error).__name__}"]
    return _negative(document, name)


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _negative(document: Any, name: str) -> list[str]:
    if name == "chrome":
        lengths = [event["dur"] for event in document["traceEvents"] if event["ph"] == "X"]
    elif name == "speedscope":
        lengths = [weight for each in document["profiles"] for weight in each["weights"]]
    else:
        lengths = [weight for each in document["threads"] for weight in each["samples"]["weight"]]
    return ["a negative length"] if any(length < 0 for length in lengths) else []
