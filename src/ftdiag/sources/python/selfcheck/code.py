"""Code objects: their names, files and line tables, and the frames that run them.

In: an inspection of a process. Out: judgements of fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from ftdiag.errors import MemoryReadError
from ftdiag.sources.python.locations import LineTable
from ftdiag.sources.python.objects import NotAnObject
from ftdiag.sources.python.selfcheck.inspection import MAX_TABLE, Inspection, Judgement, Wrong

MAX_FRAMES: Final = 64
_TAGS: Final = 7


class CodeObjects(Inspection):
    """Checks of code objects and frames."""

    def _code_of(self, frame: int) -> int:
        return self._at(frame, "interpreter_frame.executable") & ~_TAGS

    def code_objects(self) -> None:
        needed = "thread_state.next type_object.tp_name type_object.tp_flags pyobject.ob_type"

        def is_code(frame: int) -> bool:
            try:
                return self._type_name(self._code_of(frame)) == "code"
            except (MemoryReadError, NotAnObject):
                return False

        def starts() -> list[int]:
            return [
                frame for state in self._threads if (frame := self._at(state, "thread_state.current_frame"))
            ]

        def current() -> str:
            found = starts()
            good = [frame for frame in found if is_code(frame) or self._in_chunk(frame)]
            if not good:
                raise Wrong("no thread has a frame there")
            return f"frames of {len(good)} threads"

        def executable() -> str:
            good = [frame for frame in starts() if is_code(frame)]
            if not good:
                raise Wrong("no code object")
            return "a code object"

        def previous() -> str:
            longest: list[int] = []
            for frame in starts():
                walked: list[int] = []
                while frame and frame not in walked and len(walked) < MAX_FRAMES:
                    if self._memory.read(frame + self._values["interpreter_frame.owner"], 1)[0] > 4:
                        raise Wrong("it leads to no frame")
                    walked.append(frame)
                    frame = self._at(frame, "interpreter_frame.previous")
                kept = [each for each in walked if is_code(each)]
                if len(kept) > len(longest):
                    longest = kept
            if len(longest) < 2:
                raise Wrong("no thread has two frames")
            self._frames = longest
            return f"a stack of {len(longest)} frames"

        def owner() -> str:
            found = {
                self._memory.read(frame + self._values["interpreter_frame.owner"], 1)[0] for frame in starts()
            }
            if any(each > 4 for each in found):
                raise Wrong(f"{sorted(found)} are no owners")
            return f"owners {sorted(found)}"

        def chunk() -> str:
            if not any(self._in_chunk(frame) for frame in starts()):
                raise Wrong("no frame lies in it")
            return "holds the thread's frames"

        self._judge("interpreter_frame.executable thread_state.current_frame", needed, executable)
        self._found_again("thread_state.current_frame", needed, current, "interpreter_frame.executable")
        self._judge("thread_state.datastack_chunk", f"{needed} thread_state.current_frame", chunk)
        needed += " thread_state.current_frame interpreter_frame.executable"
        self._judge("interpreter_frame.owner", needed, owner)
        self._judge("interpreter_frame.previous", f"{needed} interpreter_frame.owner", previous)
        needed += " interpreter_frame.previous"
        self._code_fields(needed)

    def _found_again(self, field: str, needs: str, check: Callable[[], str], other: str) -> None:
        """Where two fields failed together: `field` may be right by itself, so that the other one lies."""
        if self._good(field) or field not in self._found:
            return
        del self._found[field]
        if not self._judge(field, needs, check):
            self._found[other] = Judgement.UNCHECKED, f"needs {field}"

    def _in_chunk(self, frame: int) -> bool:
        for state in self._threads:
            try:
                chunk = self._at(state, "thread_state.datastack_chunk")
                size = self._word(chunk + 8)
            except MemoryReadError:
                continue
            if chunk < frame < chunk + size <= chunk + (1 << 32):
                return True
        return False

    def _code_fields(self, needed: str) -> None:
        strings = f"{needed} unicode_object.length unicode_object.state unicode_object.asciiobject_size"

        def codes() -> list[int]:
            return [self._code_of(frame) for frame in self._frames]

        def texts(field: str, suits: Callable[[str], bool]) -> Callable[[], str]:
            def check() -> str:
                found = [self._objects.string(self._at(code, field)) for code in codes()]
                if not found or not all(map(suits, found)):
                    raise Wrong(f"{found[:1]} is no such name")
                return repr(found[0])

            return check

        def is_file(text: str) -> bool:
            return "/" in text or text.startswith("<") or text.endswith(".py")

        def is_name(text: str) -> bool:
            return "/" not in text

        self._judge("code_object.filename", strings, texts("code_object.filename", is_file))
        self._judge("code_object.name", strings, texts("code_object.name", is_name))

        def qualified() -> str:
            for code in codes():
                whole = self._objects.string(self._at(code, "code_object.qualname"))
                if not whole.endswith(self._objects.string(self._at(code, "code_object.name"))):
                    raise Wrong(f"{whole!r} does not end with the function's name")
            return "ends with the function's name"

        self._judge("code_object.qualname", f"{strings} code_object.name", qualified)

        def units(code: int) -> int:
            return self._at(code, "PyCodeObject.ob_base.ob_size")

        def raw(address: int) -> bytes:
            if self._type_name(address) != "bytes":
                raise Wrong("it is no bytes object")
            return self._objects.bytes_object(address)

        def table() -> str:
            for code in codes():
                data = raw(self._at(code, "code_object.linetable"))
                lines = LineTable(data, 1)
                # The table accounts for every code unit, and for no further one.
                if lines.units != units(code):
                    raise Wrong(f"lines of {lines.units} code units, of {units(code)}")
            return "lines of every code unit"

        def ends_with_null() -> str:
            for code in codes():
                handlers = self._at(code, "PyCodeObject.co_exceptiontable")
                size = self._at(handlers, "bytes_object.ob_size")
                start = handlers + self._values["bytes_object.ob_sval"]
                data = self._memory.read(start, min(size, MAX_TABLE) + 1)
                # Objects/bytesobject.c: a null follows; in a table of handlers the first byte is no null.
                if data[-1] or (size and not data[0]):
                    raise Wrong(f"{size} bytes, and no null behind them")
            return "a null follows the bytes"

        def inside() -> str:
            for frame in self._frames:
                code = self._code_of(frame)
                place = self._at(frame, "interpreter_frame.instr_ptr")
                if not any(start <= place < start + 2 * units(code) for start in self._bytecodes(code)):
                    raise Wrong(f"{place:#x} is not in the bytecode of its function")
            return "in the bytecode of its function"

        def kind_of(field: str, kind: str) -> Callable[[], str]:
            def check() -> str:
                for code in codes():
                    found = self._type_name(self._at(code, field))
                    if found != kind:
                        raise Wrong(f"a {found}, not a {kind}")
                return f"a {kind}"

            return check

        def locals_named() -> str:
            for code in codes():
                names = self._at(code, "code_object.localsplusnames")
                count = self._at(names, "tuple_object.ob_size")
                kinds = raw(self._at(code, "code_object.localspluskinds"))
                if self._type_name(names) != "tuple" or len(kinds) != count:
                    raise Wrong(f"{len(kinds)} kinds of {count} names")
                (said,) = struct.unpack("<i", self._memory.read(code + self._layout.code_local_count, 4))
                if said != count:
                    raise Wrong(f"{said} locals, but {count} names")
            return "names, kinds and number agree"

        def arguments() -> str:
            for code in codes():
                (said,) = struct.unpack(
                    "<i", self._memory.read(code + self._values["code_object.argcount"], 4)
                )
                (local,) = struct.unpack("<i", self._memory.read(code + self._layout.code_local_count, 4))
                if not 0 <= said <= local:
                    raise Wrong(f"{said} arguments among {local} locals")
            return "no more than there are locals"

        table_of_handlers = "PyCodeObject.co_exceptiontable"
        self._judge(table_of_handlers, needed, kind_of(table_of_handlers, "bytes"))
        self._judge(
            "bytes_object.ob_size bytes_object.ob_sval", f"{needed} {table_of_handlers}", ends_with_null
        )
        in_bytes = f"{needed} bytes_object.ob_size bytes_object.ob_sval"
        self._judge("code_object.linetable", in_bytes, table)
        self._judge("PyCodeObject.ob_base.ob_size", f"{in_bytes} code_object.linetable", table)
        bytecode = f"{needed} PyCodeObject.ob_base.ob_size"
        self._judge(
            "code_object.co_code_adaptive code_object.co_tlbc interpreter_frame.instr_ptr", bytecode, inside
        )
        self._judge("PyCodeObject.co_consts", needed, kind_of("PyCodeObject.co_consts", "tuple"))
        self._judge("PyCodeObject.co_names", needed, kind_of("PyCodeObject.co_names", "tuple"))
        self._judge(
            "code_object.localsplusnames code_object.localspluskinds PyCodeObject.co_nlocalsplus",
            f"{needed} bytes_object.ob_size tuple_object.ob_size",
            locals_named,
        )
        self._judge("code_object.argcount", f"{needed} PyCodeObject.co_nlocalsplus", arguments)

    def _bytecodes(self, code: int) -> list[int]:
        """Where the bytecode of a code object begins: the shared one, and the threads' own."""
        found = [code + self._layout.code_bytecode]
        if self._layout.code_tlbc is not None:
            table = self._word(code + self._layout.code_tlbc)
            count = self._word(table)
            if not 0 < count <= MAX_TABLE:
                raise Wrong("no table of threads' own bytecode")
            found += struct.unpack(f"<{count}Q", self._memory.read(table + 8, 8 * count))
        return found
