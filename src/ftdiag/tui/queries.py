"""What a pane asks of a session besides the snapshot: questions as values, answered by the worker.

In: a `Range` of an open session. Out: `Answers`. A question is asked anew when it, or the range,
differs from the last one; two panes that ask the same kind of question get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ftdiag.datatypes import dataclass
from ftdiag.model import Snapshot
from ftdiag.tui.sourcetext import SourceText

if TYPE_CHECKING:
    # Brings numpy, which the first picture (without data) need not wait for.
    from ftdiag.session import Session

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Drifted:
    """The range that is shown against a baseline. `words` is one sentence.

    `figures`: those that are not as usual: name, now, the usual range, and whether that is worse. `causes`:
    ("new" or "gone", summary).
    """

    name: str
    words: str
    figures: tuple[tuple[str, float, float, float, bool], ...]
    causes: tuple[tuple[str, str], ...]


class BaselineControl(Protocol):
    """A good recording that the live one is compared with."""

    @property
    def name(self) -> str:
        """Its file."""

    @property
    def snapshot(self) -> Snapshot:
        """All of it."""

    def drifted(self, snapshot: Snapshot) -> Drifted:
        """What a range differs in."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of an open session: its snapshot, what reads source text, and what it is compared with.

    `pid` is the process whose files may be read now; `None` where it has ended or was not ours.
    """

    session: Session
    snapshot: Snapshot
    t0_ns: int | None
    t1_ns: int | None
    texts: SourceText
    pid: int | None
    baseline: BaselineControl | None = None


class Query(Generic[AnswerT]):
    """One question. Subclasses are frozen dataclasses: equal ones have the same answer."""

    __slots__ = ()

    def answer(self, of: Range) -> AnswerT:
        """Ask the session; called by the worker only."""
        raise NotImplementedError


class Answers:
    """The answers to what the screen asked, by the kind of question."""

    __slots__ = ("_known",)

    def __init__(self, known: Iterable[tuple[Query[Any], Any]] = ()) -> None:
        self._known = {type(query): found for query, found in known}

    def of(self, kind: type[Query[AnswerT]]) -> AnswerT | None:
        """The answer to a kind of question; `None` where it was not asked, or is not answered yet."""
        found: AnswerT | None = self._known.get(kind)
        return found


def answered(queries: Iterable[Query[Any]], of: Range) -> Answers:
    """All answers."""
    return Answers((query, query.answer(of)) for query in queries)
