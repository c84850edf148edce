"""Pages read with Beautiful Soup, with lxml as its parser, which wants the GIL."""

from __future__ import annotations

from bs4 import BeautifulSoup
from pool import pooled

from throughput import parse_options

PAGE = "".join(
    f'<div class="item c{n % 7}"><h2>Title {n}</h2><p>Some <b>bold</b> <a href="/x/{n}">link</a></p></div>'
    for n in range(80)
)


def read(number: int) -> int:
    """One page."""
    soup = BeautifulSoup(f"<html><body>{PAGE}</body></html>", PARSER)
    return len([(item.h2.get_text(), item.a["href"]) for item in soup.find_all("div", class_="item")])


if __name__ == "__main__":
    options = parse_options(__doc__, fixed="the parser of the standard library")
    PARSER = "html.parser" if options.fixed else "lxml"
    read(0)
    pooled(read, options, unit="pages")
