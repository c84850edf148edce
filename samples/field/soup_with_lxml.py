"""Pages read with Beautiful Soup, with lxml as its parser, which wants the GIL.

Beautiful Soup imports lxml wherever it is there, so that another parser alone does not help: --fixed leaves
lxml out.
"""

from __future__ import annotations

import sys

from pool import pooled

from throughput import parse_options

OPTIONS = parse_options(__doc__, fixed="the parser of the standard library, without lxml")
PARSER = "html.parser" if OPTIONS.fixed else "lxml"
if OPTIONS.fixed:
    sys.modules["lxml"] = None  # type: ignore[assignment]  # as if it was not installed

from bs4 import BeautifulSoup  # noqa: E402

PAGE = "".join(
    f'<div class="item c{n % 7}"><h2>Title {n}</h2><p>Some <b>bold</b> <a href="/x/{n}">link</a></p></div>'
    for n in range(80)
)


def read(number: int) -> int:
    """One page."""
    soup = BeautifulSoup(f"<html><body>{PAGE}</body></html>", PARSER)
    return len([(item.h2.get_text(), item.a["href"]) for item in soup.find_all("div", class_="item")])


if __name__ == "__main__":
    read(0)
    pooled(read, OPTIONS, unit="pages")
