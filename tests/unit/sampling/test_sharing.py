"""What threads share, in the window that a target ends in."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from ftdiag.errors import TargetGone
from ftdiag.model import SPUN_FOR, ThreadState
from ftdiag.sampling.sharing import Sharing
from ftdiag.sources.locks.identity import LockReader
from ftdiag.sources.python.sharedobjects import SharedObjectReader
from unit.sources.test_sharedobjects import BUILDS, OWN, Program


@pytest.mark.parametrize("spun_for", [True, False], ids=["spun for", "counted"])
def test_a_target_that_ends_while_its_objects_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, spun_for: bool
) -> None:
    # GIVEN samples of a window at an object, by its lock or by its count
    program = Program(BUILDS[0], [("NOP", 0)], [], {})
    engine = program.object("index.Engine")
    sharing = Sharing(program.interpreter, LockReader(program.interpreter), [0, 5])
    on_core: Any = SimpleNamespace(places=Counter(), spun={})
    if spun_for:
        on_core.spun = {(1, engine + 10): (-1, 6)}
    else:
        on_core.places = Counter({(1, engine + 16): 9})
    counts = {(0, 1, int(ThreadState.ATOMIC), 1): 9}
    (row,) = sharing.window(counts, on_core, (), {0: OWN}, 0)
    assert row[1].name == (SPUN_FOR if spun_for else "index.Engine")

    # WHEN the target ends before it is looked at THEN the window has nothing of it, and is written
    def gone(self: SharedObjectReader, place: int) -> NoReturn:
        raise TargetGone("process 1 has ended")

    for asked in ("at_place", "locked_at"):
        monkeypatch.setattr(SharedObjectReader, asked, gone)
    sharing = Sharing(program.interpreter, LockReader(program.interpreter), [0, 5])
    assert sharing.window(counts, on_core, (), {0: OWN}, 0) == ()
