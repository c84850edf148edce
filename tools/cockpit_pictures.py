"""Pictures of the cockpit's main panes for the docs: `python -m tools.cockpit_pictures` (`make pictures`).

In: the recording of `ftdiag demo`, and its program. Out: docs/pictures/cockpit-PANE.svg, the same for the
same recording.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

from ftdiag.commands.viewing import RecordingSource
from ftdiag.recording.reader import Recording
from ftdiag.session import Session
from ftdiag.tui.app import CockpitApp
from ftdiag.tui.look import DARK
from ftdiag.tui.panes.registry import MAIN_PANES
from ftdiag.tui.sourcetext import MovedFiles

ROOT: Final = Path(__file__).resolve().parent.parent
RECORDING: Final = ROOT / "src" / "ftdiag" / "data" / "demo.ftdiag"
PROGRAM: Final = ROOT / "samples" / "demo"
PICTURES: Final = ROOT / "docs" / "pictures"
SHOWN: Final = ("overview", "threads", "locks", "hot", "scaling", "memory")
SIZE: Final = (120, 36)
PATIENCE_TICKS: Final = 2000
_RANDOM: Final = re.compile(r"terminal-[0-9]+-")
"""Textual numbers the styles of each picture by chance."""


async def settled(app: CockpitApp, pause: float = 0.01) -> None:
    """Wait until all that was asked for is on the screen."""
    for _ in range(PATIENCE_TICKS):
        await asyncio.sleep(pause)
        if app.settled:
            return
    raise SystemExit("the cockpit does not come to rest")


async def draw() -> None:
    """Draw all of them."""
    PICTURES.mkdir(exist_ok=True)
    with Recording.open(RECORDING) as recording:
        source = RecordingSource(Session(recording))
        app = CockpitApp(source, ascii_only=False, theme=DARK, texts=MovedFiles(PROGRAM))
        async with app.run_test(size=SIZE) as pilot:
            await settled(app)
            for pane in MAIN_PANES:
                if pane.name in SHOWN:
                    await pilot.press(pane.key)
                    await pilot.pause(0.2)
                    await settled(app)
                    picture = _RANDOM.sub("terminal-", app.export_screenshot(title=f"ftdiag: {pane.title}"))
                    (PICTURES / f"cockpit-{pane.name}.svg").write_text(picture, "utf-8")


if __name__ == "__main__":
    asyncio.run(draw())
