"""Manual pages from the same source as `--help`.

In: the commands. Out: `ftdiag.1`, `ftdiag-attach.1`, ... in a folder. Usage: python -m tools.manpages FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from ftdiag import __version__
from ftdiag.commands.group import COMMANDS, cli


def main() -> int:
    """Write them."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/man")
    folder.mkdir(parents=True, exist_ok=True)
    context = click.Context(cli, info_name="ftdiag")
    # Ours are imported when they are used; click-man looks at those that are there.
    found = ((name, cli.get_command(context, name)) for name in COMMANDS)
    cli.commands = {name: command for name, command in found if command is not None}
    write_man_pages("ftdiag", cli, version=__version__, target_dir=str(folder))
    pages = sorted(folder.glob("ftdiag*.1"))
    print(f"{len(pages)} pages in {folder}")
    return 0 if pages else 1


if __name__ == "__main__":
    sys.exit(main())
