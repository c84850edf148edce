"""Samples as a table: Parquet, for pandas, Polars, DuckDB and others.

In: the material of a range. Out: a row for each time that a thread was in one state at one stack, in order:

`begin_ns` (since the range began), `time_ns`, `thread`, `tid`, `state`, `function`, `file`, `line` (of the
innermost frame), `stack` (the frames, outermost first, separated by `;`), `lock`, `wait`, `holder`. All of
the recording, however long: rows are written as they are read. Needs pyarrow.
"""

from __future__ import annotations

from typing import IO, Any, Final

import numpy as np

from ftdiag.analysis.efficiency import LOCK_STATES
from ftdiag.analysis.grouping import Ints
from ftdiag.errors import UsageError
from ftdiag.formats.exporters import Needs
from ftdiag.formats.exporters.collapsed import frame_text
from ftdiag.formats.exporters.material import Material, holder_name, wait_name
from ftdiag.model import Confidence, ThreadState

NAME: Final = "parquet"
ENDING: Final = ".parquet"
NEEDS: Final = Needs.RANGE
EXTRA: Final = "parquet"


def write(material: Material, out: IO[bytes]) -> tuple[str, ...]:
    """Write the table; no notes. Raises UsageError where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError(
            "the format parquet needs pyarrow, which is not installed", "pip install 'ftdiag[parquet]'"
        ) from None
    words = pa.dictionary(pa.int32(), pa.string())
    names = ("thread", "state", "function", "file", "stack", "lock", "wait", "holder")
    fields = [("begin_ns", pa.int64()), ("time_ns", pa.int64()), ("tid", pa.int64()), ("line", pa.int32())]
    schema = pa.schema([*fields, *((name, words) for name in names)], metadata=material.origin())
    tables = _Words(material)
    begin = material.begin_ns
    parts, _ = material.stays(None)
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for part in parts:
            if not len(part):
                continue
            texts = tables.of(part)
            columns: dict[str, Any] = {
                "begin_ns": pa.array(np.rint(part.begin_ns - begin).astype(np.int64)),
                "time_ns": pa.array(np.rint(part.time_ns).astype(np.int64)),
                "tid": pa.array(tables.numbers(part.thread, lambda index: material.thread(index).tid)),
                "line": pa.array(tables.lines(part.stack), type=pa.int32(), from_pandas=True),
            }
            for name in names:
                codes, values = texts[name]
                columns[name] = pa.DictionaryArray.from_arrays(
                    pa.array(codes, type=pa.int32(), mask=codes < 0), pa.array(values, type=pa.string())
                )
            writer.write_table(pa.table(columns, schema=schema))
    return ()


class _Words:
    """Texts of columns, one look-up for each different value of a part."""

    def __init__(self, material: Material) -> None:
        self._material = material

    def of(self, part: Any) -> dict[str, tuple[Ints, list[str]]]:
        """Codes (-1: none) and texts of the columns that have texts."""
        material, recording = self._material, self._material.recording

        def leaf(stack: int, name: str) -> str | None:
            frames = recording.stack(stack)
            return str(getattr(frames[0], name)) if frames else None

        def whole(stack: int) -> str | None:
            return ";".join(frame_text(each) for each in reversed(recording.stack(stack))) or None

        def lock(wait: int, *, wanted: bool) -> str | None:
            known = recording.wait(wait)
            is_lock = known is not None and known.lock is not None
            return wait_name(known) if is_lock is wanted else None

        confidences = len(Confidence)
        held = np.isin(part.state, [int(state) for state in LOCK_STATES])
        holders = np.where(held, part.holder * confidences + part.confidence, -1)

        def holder(key: int) -> str | None:
            if key < 0:
                return None
            number, confidence = divmod(key, confidences)
            return holder_name(ThreadState.LOCK, material.holder(number), Confidence(confidence))

        return {
            "thread": _coded(part.thread, lambda index: material.thread(index).name),
            "state": _coded(part.state, lambda state: ThreadState(state).label),
            "function": _coded(part.stack, lambda stack: leaf(stack, "function")),
            "file": _coded(part.stack, lambda stack: leaf(stack, "filename")),
            "stack": _coded(part.stack, whole),
            "lock": _coded(part.wait, lambda wait: lock(wait, wanted=True)),
            "wait": _coded(part.wait, lambda wait: lock(wait, wanted=False)),
            "holder": _coded(holders, holder),
        }

    def numbers(self, column: Ints, number_of: Any) -> Ints:
        """A number for each value."""
        values, place = np.unique(column, return_inverse=True)
        found: Ints = np.array([min(number_of(int(each)), (1 << 63) - 1) for each in values], dtype=np.int64)
        return found[place]

    def lines(self, stacks: Ints) -> list[int | None]:
        """The line of the innermost frame."""
        values, place = np.unique(stacks, return_inverse=True)
        frames = [self._material.recording.stack(int(each)) for each in values]
        lines = [each[0].line if each else None for each in frames]
        return [lines[each] for each in place.tolist()]


def _coded(column: Ints, text_of: Any) -> tuple[Ints, list[str]]:
    """Column as numbers of texts (-1: none), and the texts."""
    values, place = np.unique(column, return_inverse=True)
    texts: list[str] = []
    codes = np.empty(len(values), dtype=np.int64)
    for number, value in enumerate(values.tolist()):
        text = text_of(value)
        codes[number] = -1 if text is None else len(texts)
        if text is not None:
            texts.append(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    return codes[place].astype(np.int32), texts
