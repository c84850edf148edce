"""Trees whose nodes know their parents are made and dropped beside a table that stays."""

from __future__ import annotations

import os
import threading
from typing import Any

TABLE = [{"row": [n]} for n in range(300_000)]


def tree(depth: int, parent: dict[str, Any] | None) -> dict[str, Any]:
    """A node, with children that refer back to it."""
    node: dict[str, Any] = {"parent": parent, "children": []}
    if depth:
        node["children"] = [tree(depth - 1, node) for _ in range(3)]
    return node


def parse() -> None:
    """Documents, for ever."""
    while True:
        tree(5, None)


if __name__ == "__main__":
    threads = [threading.Thread(target=parse) for _ in range(2)]
    for thread in threads:
        thread.start()
    print(f"ready {os.getpid()}", flush=True)
    threads[0].join()
