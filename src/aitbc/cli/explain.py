"""`aitbc explain CODE`: what an error code means and what to do about it."""

from difflib import get_close_matches

import click

from aitbc.cli.errors import NOT_FOUND, CliError
from aitbc.cli.explanations import EXPLANATIONS
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, table


@click.command(name="explain", cls=AitbcCommand)
@click.argument("code", required=False)
@click.pass_obj
def command(settings: Settings, code: str | None) -> None:
    """Say what CODE means and what to do; without it, list every code."""
    if code is None:
        listed = [{"code": name, "meaning": known.meaning} for name, known in EXPLANATIONS.items()]
        answer(settings, listed, *table([(name, known.meaning) for name, known in EXPLANATIONS.items()]))
        return
    known = EXPLANATIONS.get(code.lower())
    if known is None:
        near = get_close_matches(code.lower(), EXPLANATIONS, n=1)
        fix = f"did you mean {near[0]}?" if near else "see all: aitbc explain"
        raise CliError(f"no error has the code {code[:60]!r}", fix, code="unknown_code", exit_code=NOT_FOUND)
    data = {"code": code.lower(), "meaning": known.meaning, "fix": known.fix}
    answer(settings, data, known.meaning, f"What to do: {known.fix}")
