"""`_Py_DebugOffsets` and the interpreter behind them: every number of the struct may be anything."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

from fake_process import BUILDS, debug_offsets
from ftdiag.sources.python.layouts import HEADER_BYTES, parse_layout
from ftdiag.sources.python.runtime import Runtime
from fuzz.mutation import WORDS
from fuzz.processes import SceneOfObjects, look_at_everything, scene_of


class DebugOffsets:
    """A whole process whose table of offsets lies."""

    name = "debug offsets"
    share = 220

    def prepare(self, folder: Path) -> None:
        """One process of each build."""
        self._scenes = [scene_of(build) for build in BUILDS]

    def attempt(self, chance: Random) -> list[str]:
        """Read the table, then the process with it."""
        scene = chance.choice(self._scenes)
        data = changed_offsets(debug_offsets(scene.build), chance, scene)
        layout = parse_layout(data)
        runtime = Runtime(scene.process.runtime_address, layout, "/fake/python", 0x400000)
        return look_at_everything(scene, runtime, compiled=chance.random() < 0.5)


def changed_offsets(data: bytes, chance: Random, scene: SceneOfObjects) -> bytes:
    """The table with some numbers changed."""
    changed = bytearray(data)
    words = (len(data) - HEADER_BYTES) // 8
    for _ in range(chance.choice((1, 1, 1, 2, 4, 10, 60))):
        place = HEADER_BYTES + 8 * chance.randrange(words)
        (old,) = struct.unpack_from("<Q", data, place)
        other = struct.unpack_from("<Q", data, HEADER_BYTES + 8 * chance.randrange(words))[0]
        choices = (
            chance.choice(WORDS),
            old + chance.choice((8, -8, 1, -1, 64, 4096)),
            other,
            8 * chance.randrange(512),
            scene.address(chance) - scene.process.runtime_address,
        )
        struct.pack_into("<Q", changed, place, chance.choice(choices) % (1 << 64))
    if chance.random() < 0.1:
        struct.pack_into("<Q", changed, 8, chance.choice(WORDS))
    if chance.random() < 0.1:
        del changed[chance.randrange(len(changed)) :]
    return bytes(changed)
