"""`ftdiag completion`: the script that a shell needs to complete our commands, options and process ids."""

from __future__ import annotations

import click

from ftdiag.commands import terminal
from ftdiag.commands.parameters import examples


@click.command(
    epilog=examples(
        ('eval "$(ftdiag completion bash)"', "in ~/.bashrc"),
        ('eval "$(ftdiag completion zsh)"', "in ~/.zshrc, after compinit"),
        ("ftdiag completion fish > ~/.config/fish/completions/ftdiag.fish", ""),
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
def command(shell: str) -> None:
    """Print the script that completes commands in your SHELL."""
    from click.shell_completion import BashComplete, get_completion_class

    from ftdiag.commands.group import PROGRAM, cli
    from ftdiag.commands.main import COMPLETION_VARIABLE

    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(cli, {}, PROGRAM, COMPLETION_VARIABLE)
    # BashComplete.source() runs a bash to ask its version; the script is to come also where that fails.
    source = complete.source_template % complete.source_vars() if kind is BashComplete else complete.source()
    terminal.put(source)
