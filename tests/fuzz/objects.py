"""Graphs of objects of a process: any pointer, size and count in its memory may be anything."""

from __future__ import annotations

from pathlib import Path
from random import Random

from fake_process import BUILDS
from fuzz.mutation import WORDS
from fuzz.processes import SceneOfObjects, look_at_everything, scene_of


class ObjectGraphs:
    """A process with the right offsets whose memory lies, is gone in part, or runs in circles."""

    name = "object graphs"
    share = 230

    def prepare(self, folder: Path) -> None:
        """One process of each build."""
        self._scenes = [scene_of(build) for build in BUILDS]

    def attempt(self, chance: Random) -> list[str]:
        """Damage the process, look at it, put it right."""
        scene = chance.choice(self._scenes)
        try:
            for _ in range(chance.choice((1, 1, 2, 4, 10, 60))):
                self._damage(scene, chance)
            compiled = chance.random() < 0.5
            return look_at_everything(scene, scene.process.runtime, compiled=compiled)
        finally:
            scene.heal()

    @staticmethod
    def _damage(scene: SceneOfObjects, chance: Random) -> None:
        address = chance.choice(scene.words)
        if chance.random() < 0.02:
            scene.lose(address)
            return
        old = int.from_bytes(
            scene.process.memory.pages.get(address & -4096, bytes(4096))[address % 4096 :][:8], "little"
        )
        choices = (
            chance.choice(WORDS),
            old + chance.choice((8, -8, 1, -1, 64, 4096, 1 << 32)),
            old ^ 1 << chance.randrange(64),
            scene.address(chance),
            address,
        )
        scene.damage(address, chance.choice(choices))
