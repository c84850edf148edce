"""Tests of the cockpit do not hurry: what goes by the clock for a person waits for them.

In: tests of this folder. Out: notices that stay, and two clicks that are a double click however far apart.
"""

from __future__ import annotations

import pytest
from textual.app import App
from textual.notifications import Notification

LONG_S = 3600.0


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take seconds from one key to what follows."""
    monkeypatch.setattr(Notification, "time_left", LONG_S)
    monkeypatch.setattr(App, "CLICK_CHAIN_TIME_THRESHOLD", LONG_S)
