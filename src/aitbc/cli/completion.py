"""`aitbc completion`: the script that makes a shell complete commands, options and key names."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from aitbc.cli.errors import CliError

_USE = {
    "bash": 'eval "$(aitbc completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(aitbc completion zsh)"   # in ~/.zshrc',
    "fish": "aitbc completion fish > ~/.config/fish/completions/aitbc.fish",
}


_FOLDERS = {
    "bash": (".local/share/bash-completion/completions", "aitbc"),
    "zsh": (".zfunc", "_aitbc"),
    "fish": (".config/fish/completions", "aitbc.fish"),
}
"""Below the home folder: where each shell looks for a command's completion when it is first needed."""
INSTALL = "install"


@click.command(name="completion", epilog="\b\n" + "\n".join(_USE.values()))
@click.argument("shell", type=click.Choice([*_USE, INSTALL]))
def command(shell: str) -> None:
    """Print the completion script of SHELL; `install` puts it where your own shell looks."""
    if shell == INSTALL:
        _install(Path(os.environ.get("SHELL", "")).name)
    else:
        click.echo(_script(shell))


def _install(shell: str) -> None:
    if shell not in _FOLDERS:
        raise CliError(
            f"SHELL is {shell or 'not set'}, which is none of {', '.join(_FOLDERS)}",
            "print the script with: aitbc completion bash",
        )
    folder, name = _FOLDERS[shell]
    target = Path.home() / folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_script(shell) + "\n")
    click.echo(str(target))
    if shell == "zsh":
        click.echo("fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit   # once in ~/.zshrc", err=True)


def _script(shell: str) -> str:
    from aitbc.cli import root

    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell in the choice"
    return kind(root, {}, "aitbc", "_AITBC_COMPLETE").source()
