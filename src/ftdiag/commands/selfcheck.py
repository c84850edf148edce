"""`ftdiag doctor --self-check PID`: every fact about CPython that can be checked from outside, on one
process.

In: a process. Out: a table or JSON, one line a field, to be put into a bug report; the exit status says
whether anything lies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from ftdiag import __version__
from ftdiag.commands import terminal
from ftdiag.sources.python.selfcheck import Judgement, SelfCheck, check_process

SCHEMA: Final = "ftdiag-self-check/1"
DIFFERS_STATUS: Final = 1
_SIGNS: Final = {
    Judgement.RIGHT: "ok",
    Judgement.TABLE: "ok (table)",
    Judgement.PLAUSIBLE: "plausible",
    Judgement.WRONG: "WRONG",
    Judgement.UNCHECKED: "-",
}


def self_check(pid: int, form: str) -> int:
    """Check, print, and return the exit status: 0, or 1 where a field is wrong.

    Raises AttachError of any kind: UnsupportedPython names how the table of a version is made.
    """
    from ftdiag.commands.silence import told_if_silent
    from ftdiag.sources.kernel.memory import RemoteMemory
    from ftdiag.sources.python.runtime import find_runtime_header

    terminal.require_output()
    memory = RemoteMemory(pid)
    with told_if_silent(pid):
        header = find_runtime_header(pid, memory)
        result = check_process(pid, memory, header.address)
    if form == "json":
        terminal.put_json(
            {
                "schema": SCHEMA,
                "ftdiag_version": __version__,
                "pid": pid,
                "python_version": None if result.version is None else str(result.version),
                "free_threaded": result.free_threaded,
                "image": header.image,
                "fields": [
                    {
                        "field": each.field,
                        "value": each.value,
                        "judgement": each.judgement.name.lower(),
                        "found": each.words or None,
                    }
                    for each in result.fields
                ],
                "wrong": [each.field for each in result.wrong],
            }
        )
    else:
        for line in lines(result, pid, header.image):
            terminal.put(terminal.harmless(line))
    return DIFFERS_STATUS if result.wrong else 0


def lines(result: SelfCheck, pid: int, image: str) -> Iterator[str]:
    """The answer, then field by field."""
    build = "free-threaded" if result.free_threaded else "with the GIL"
    names = ", ".join(each.field for each in result.wrong)
    if names:
        yield f"What is known of CPython {result.version} ({build}) is wrong for process {pid}: {names}"
    else:
        yield f"What is known of CPython {result.version} ({build}) holds for process {pid}."
    counts = Counter(each.judgement for each in result.fields)
    yield ", ".join(f"{counts[one]} {one.value}" for one in Judgement if counts[one]) + f"; {image}"
    yield ""
    width = max(len(each.field) for each in result.fields)
    for each in result.fields:
        value = "" if each.value is None else str(each.value)
        yield f"{_SIGNS[each.judgement]:>10}  {each.field:<{width}}  {value:>7}  {each.words}".rstrip()
