"""The text of a module of `ftdiag.cpython`, from facts.

In: `Facts`. Out: Python source, one fact a line, so that two versions can be compared with diff.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ftdiag.cpython.facts import Facts, Row

_HEAD = '''"""Facts of CPython {version}, from headers of {headers} and the interpreter of {interpreter}.

Written by `python3 -m tools.cpython_facts make`, which also checks it; not to be edited by hand. What
each is for stands in `facts`.
"""

from __future__ import annotations

from typing import Final

from ftdiag.cpython.facts import Facts, Opcodes

FACTS: Final = Facts(
    version={pair},
    headers="{headers}",
    interpreter="{interpreter}",
'''


def module_text(facts: Facts) -> str:
    """Source of the module."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: Facts) -> Iterator[str]:
    version = ".".join(map(str, facts.version))
    head = _HEAD.format(
        version=version, headers=facts.headers, interpreter=facts.interpreter, pair=facts.version
    )
    yield head.rstrip("\n")
    yield from _rows("published", facts.published)
    yield from _rows("unpublished", facts.unpublished)
    yield "    opcodes=Opcodes("
    yield from _mapping("numbers", facts.opcodes.numbers)
    yield "        specialised={"
    for base, numbers in facts.opcodes.specialised.items():
        yield f'            "{base}": ('
        for start in range(0, len(numbers), 16):
            yield f"                {', '.join(map(str, numbers[start : start + 16]))},"
        yield "            ),"
    yield "        },"
    yield from _mapping("caches", facts.opcodes.caches)
    yield f"        first_instrumented={facts.opcodes.first_instrumented},"
    yield from _mapping("effects", facts.opcodes.effects)
    yield "    ),"
    yield "    waits=("
    for file, function in facts.waits:
        yield f'        ("{file}", "{function}"),'
    yield "    ),"
    yield ")  # fmt: skip"


def _rows(name: str, rows: tuple[Row, ...]) -> Iterator[str]:
    yield f"    {name}=("
    yield "        # name, free-threaded, with the GIL"
    for row in rows:
        yield f"        {row!r},".replace("'", '"')
    yield "    ),"


def _mapping(name: str, mapping: Mapping[str, object]) -> Iterator[str]:
    yield f"        {name}={{"
    for key, number in mapping.items():
        yield f'            "{key}": {number},'
    yield "        },"
