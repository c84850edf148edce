"""Facts that headers hold: the order and values of `_Py_DebugOffsets`, and offsets that CPython does not
publish.

In: a directory of headers (python3.15/, with internal/), a C compiler. Out: name -> value for a free-threaded
build and for one with the GIL: distributors install the headers of one, and `Py_GIL_DISABLED` in pyconfig.h
is what tells them apart.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

COMPILE_TIMEOUT_S: Final = 120.0
STRUCT: Final = "_Py_DebugOffsets"

UNPUBLISHED: Final[tuple[str, ...]] = (
    "sizeof(_Py_DebugOffsets)",
    "PyThreadState.state",
    "PyThreadState.critical_section",
    "PyThreadState.c_profileobj",
    "PyThreadState.c_traceobj",
    "PyModuleObject.md_dict",
    "PyModuleObject.md_gil",
    "PyModuleObject.md_requires_gil",
    "PyTypeObject.tp_basicsize",
    "PyTypeObject.tp_dict",
    "PyTypeObject.tp_mro",
    "PyHeapTypeObject.ht_cached_keys",
    "PyCodeObject.co_consts",
    "PyCodeObject.co_names",
    "PyCodeObject.co_exceptiontable",
    "PyCodeObject.co_stacksize",
    "PyCodeObject.co_nlocalsplus",
    "PyCodeObject.ob_base.ob_size",
    "_PyInterpreterFrame.f_globals",
    "_PyInterpreterFrame.f_builtins",
    "_PyInterpreterFrame.f_locals",
    "FRAME_OWNED_BY_CSTACK",
    "FRAME_OWNED_BY_INTERPRETER",
    "sizeof(PyCompactUnicodeObject)",
    "MANAGED_DICT_OFFSET",
    "UNICODE_KIND_BIT",
    "PyObject.ob_tid",
    "PyObject.ob_mutex",
    "PyObject.ob_gc_bits",
    "PyObject.ob_ref_local",
    "PyObject.ob_ref_shared",
    "PyDictKeysObject.dk_log2_index_bytes",
    "PyDictKeysObject.dk_kind",
    "PyDictKeysObject.dk_nentries",
    "sizeof(PyDictKeysObject)",
    "PyDictValues.values",
    "PyMemberDescrObject.d_member",
    "PyMemberDef.offset",
    "PyMethodObject.im_self",
    "PyMethodObject.im_func",
    "PyFunctionObject.func_code",
    "struct _stoptheworld_state.requested",
    "struct _stoptheworld_state.world_stopped",
    "struct _stoptheworld_state.thread_countdown",
    "struct _stoptheworld_state.requester",
    "sizeof(struct _stoptheworld_state)",
    "sizeof(struct _gil_runtime_state)",
    "struct gc_generation_stats.ts_start",
    "struct gc_generation_stats.ts_stop",
    "struct gc_generation_stats.collections",
    "struct gc_generation_stats.collected",
    "struct gc_generation_stats.candidates",
    "struct gc_generation_stats.duration",
    "sizeof(struct gc_generation_stats)",
    "struct gc_stats.old",
    "struct gc_stats.update_seq",
    "GC_YOUNG_STATS_SIZE",
    "GC_OLD_STATS_SIZE",
    "PyInterpreterState.monitoring_tool_names",
    "PyInterpreterState.types.mutex",
    "PyInterpreterState.warnings.mutex",
    "PyInterpreterState.warnings.lock",
    "PyInterpreterState.imports.lock",
    "PyInterpreterState.stoptheworld.mutex",
    "PyInterpreterState.code_state.mutex",
    "PyInterpreterState.func_state.mutex",
    "PyInterpreterState.mem_free_queue.mutex",
    "PyInterpreterState.brc",
    "sizeof(struct _brc_state)",
    "PyInterpreterState.weakref_locks",
    "NUM_WEAKREF_LIST_LOCKS",
    "_PyRuntimeState.stoptheworld.mutex",
    "_PyRuntimeState.interpreters.mutex",
    "_PyRuntimeState.unicode_state.ids.mutex",
    "_PyRuntimeState.imports.extensions.mutex",
)
"""What the readers need besides, as "struct.member", sizeof(...) or a constant; some versions lack some."""

_PRELUDE: Final = """
#define Py_BUILD_CORE 1
#include "Python.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "internal/pycore_runtime.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_frame.h"
#include "internal/pycore_code.h"
#include "internal/pycore_moduleobject.h"
#include "internal/pycore_critical_section.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_gc.h"
#include "internal/pycore_gil.h"
#if PY_VERSION_HEX >= 0x030E0000
#include "internal/pycore_debug_offsets.h"
#endif
static long long kind_bit(void) {
    PyASCIIObject text;
    memset(&text, 0, sizeof text);
    text.state.kind = 1;
    unsigned int word;
    memcpy(&word, &text.state, sizeof word);
    return __builtin_ctz(word);
}
"""


class HeaderError(Exception):
    """Headers that are not there or that do not compile; the message says which and why."""


def version_of(headers: Path) -> str:
    """ "3.15.2": the version that patchlevel.h names. Raises HeaderError."""
    try:
        text = (headers / "patchlevel.h").read_text()
    except OSError as problem:
        raise HeaderError(f"{headers} has no headers of CPython: {problem}") from problem
    found = re.search(r'#define\s+PY_VERSION\s+"([^"]+)"', text)
    if found is None:
        raise HeaderError(f"{headers}/patchlevel.h names no version")
    return found[1]


def published_names(headers: Path) -> tuple[str, ...]:
    """ "group.field" of every offset in `_Py_DebugOffsets`, in order, from its declaration. Raises
    HeaderError."""
    for name in ("pycore_debug_offsets.h", "pycore_runtime.h"):
        path = headers / "internal" / name
        text = path.read_text() if path.is_file() else ""
        found = re.search(rf"typedef struct {STRUCT} \{{(.*?)\n\}} {STRUCT};", text, re.DOTALL)
        if found is not None:
            break
    else:
        raise HeaderError(f"no header in {headers}/internal declares {STRUCT}")
    body = re.sub(r"//[^\n]*", "", found[1])
    names = []
    for group in re.finditer(r"struct\s*\w*\s*\{(.*?)\}\s*(\w+);", body, re.DOTALL):
        fields = re.findall(r"uint64_t\s+(\w+);", group[1])
        names += [f"{group[2]}.{field}" for field in fields]
    return tuple(names)


def read_headers(headers: Path, *, free_threaded: bool) -> tuple[dict[str, int], dict[str, int]]:
    """What `_Py_DebugOffsets` of such a build publishes, in order, and the other facts that it has.

    Raises HeaderError where the declaration does not account for every byte of the struct.
    """
    published = published_names(headers)
    with tempfile.TemporaryDirectory(prefix="cpython-facts-") as directory:
        copy = Path(directory) / "include"
        shutil.copytree(headers, copy)
        config = copy / "pyconfig.h"
        text = re.sub(r"^.*\bPy_GIL_DISABLED\b.*$", "", config.read_text(), flags=re.MULTILINE)
        config.write_text(text + ("\n#define Py_GIL_DISABLED 1\n" if free_threaded else "\n"))
        wanted = _known(copy)
        places = [f"offsetof({STRUCT}, {name})" for name in published]
        values = _evaluate(
            copy,
            [
                *(f"((uint64_t *)&offsets)[{place} / 8]" for place in places),
                *places,
                *(_expression(name) for name in wanted),
            ],
        )
    count = len(published)
    if values[count : 2 * count] != [24 + 8 * place for place in range(count)]:
        raise HeaderError(f"the fields of {STRUCT} are not one word each, in the order of their declaration")
    unpublished = dict(zip(wanted, values[2 * count :], strict=True))
    if unpublished[f"sizeof({STRUCT})"] != 24 + 8 * count:
        raise HeaderError(f"{STRUCT} has more fields than were found in its declaration")
    return dict(zip(published, values[:count], strict=True)), unpublished


def _expression(name: str) -> str:
    if name == "UNICODE_KIND_BIT":
        return "kind_bit()"
    structure, dot, member = name.partition(".")
    return f"offsetof({structure}, {member})" if dot else name


def _program(headers: Path, expressions: list[str]) -> str:
    lines = "".join(f'    printf("%lld\\n", (long long)({one}));\n' for one in expressions)
    initial = _initial_value(headers)
    return f"{_PRELUDE}\nint main(void) {{\n    {STRUCT} offsets = {initial};\n{lines}    return 0;\n}}\n"


def _initial_value(headers: Path) -> str:
    """The braces that CPython initialises `_Py_DebugOffsets` with. Raises HeaderError."""
    for name, beginning in (
        ("pycore_debug_offsets.h", f"{STRUCT}_INIT(debug_cookie) {{"),
        ("pycore_runtime_init.h", ".debug_offsets = {"),
    ):
        path = headers / "internal" / name
        text = path.read_text().replace("\\\n", "\n") if path.is_file() else ""
        start = text.find(beginning)
        if start < 0:
            continue
        start = depth = start + len(beginning) - 1
        for place in range(start, len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == start:
                return text[start : place + 1].replace("debug_cookie", '"xdebugpy"')
    raise HeaderError(f"no header in {headers}/internal says what {STRUCT} begins with")


def _compiler() -> str:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise HeaderError("there is no C compiler (gcc, cc); on Debian: apt-get install gcc")
    return compiler


def _compile(include: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    folders = (include, include / "internal", include / "internal" / "mimalloc")
    return subprocess.run(
        [_compiler(), "-w", "-x", "c", "-", *(f"-I{folder}" for folder in folders), *options],
        input=source,
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_S,
        check=False,
    )


def _known(include: Path) -> list[str]:
    """Those of UNPUBLISHED that this version and build has: the others do not compile."""
    head = f"{_PRELUDE}\n".count("\n")
    values = "".join(
        f"long long value_{place}(void) {{ return (long long)({_expression(name)}); }}\n"
        for place, name in enumerate(UNPUBLISHED)
    )
    told = _compile(include, f"{_PRELUDE}\n{values}", "-fsyntax-only").stderr
    absent = {int(line) - head - 1 for line in re.findall(r"<stdin>:(\d+):\d+: (?:fatal )?error", told)}
    return [name for place, name in enumerate(UNPUBLISHED) if place not in absent]


def _evaluate(include: Path, expressions: list[str]) -> list[int]:
    program = include.parent / "facts"
    made = _compile(include, _program(include, expressions), "-o", str(program))
    if made.returncode:
        raise HeaderError("the headers do not compile: " + made.stderr.strip()[:2000])
    run = subprocess.run([program], capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=True)
    return [int(line) for line in run.stdout.split()]


def differences(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """ "name: table 8, headers 16" for everything that differs."""
    return [
        f"{name}: the table says {expected.get(name)}, the headers {found.get(name)}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
