"""`aitbc completion`: the script that makes a shell complete commands, options and key names."""

import click
from click.shell_completion import get_completion_class

_USE = {
    "bash": 'eval "$(aitbc completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(aitbc completion zsh)"   # in ~/.zshrc',
    "fish": "aitbc completion fish > ~/.config/fish/completions/aitbc.fish",
}


@click.command(name="completion", epilog="\b\n" + "\n".join(_USE.values()))
@click.argument("shell", type=click.Choice(list(_USE)))
def command(shell: str) -> None:
    """Print the completion script of SHELL."""
    from aitbc.cli import root

    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell in the choice"
    click.echo(kind(root, {}, "aitbc", "_AITBC_COMPLETE").source())
