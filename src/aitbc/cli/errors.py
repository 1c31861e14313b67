"""From exceptions to one line and an exit code: what is expected shows no traceback, what is a bug does."""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence

import click

from aitbc.client.errors import ApiError, ClientError, Stopped, TimedOut, TransactionFailed, Unreachable
from aitbc.core.types.reasons import Rejected

OK, FAILURE, USAGE, NOT_FOUND, REFUSED, UNREACHABLE, TIMED_OUT = range(7)
_NEGATIVE = re.compile(r"-[0-9.]")
STOPPED = 130
"""128 + SIGINT, as shells expect."""


class CliError(Exception):
    """Something expected went wrong: what, and what to do about it."""

    def __init__(
        self, message: str, fix: str = "", *, code: str = "failed", exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = code
        self.exit_code = exit_code if exit_code is not None else USAGE if code == "usage" else FAILURE


def run(command: click.Command, arguments: Sequence[str]) -> int:
    """Run a command line; returns its exit code and leaves at most one line of error on stderr."""
    try:
        result = command.main(list(arguments), prog_name="aitbc", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else OK
    except (click.Abort, KeyboardInterrupt) as stop:
        left = next((cause for cause in (stop, stop.__cause__) if isinstance(cause, Stopped)), None)
        if left is None:
            click.echo("stopped", err=True)
        else:
            _report(CliError("stopped", left.fix, code="stopped"), as_json="--json" in arguments)
        return STOPPED
    except BrokenPipeError:
        _silence_stdout()
        return FAILURE
    except Exception as error:
        expected = as_cli_error(error)
        if expected is None:
            raise
        _report(expected, as_json="--json" in arguments)
        return expected.exit_code


def as_cli_error(error: Exception) -> CliError | None:
    """An expected error as message, fix and exit code; None for a bug."""
    match error:
        case CliError():
            return error
        case click.exceptions.NoArgsIsHelpError():
            return CliError(error.format_message(), code="usage", exit_code=USAGE)
        case click.NoSuchOption() if _NEGATIVE.match(error.option_name):
            return CliError(
                "an amount cannot be negative",
                f"write it like 25ait, 1.5mait or 300uait; {_help_of(error)}",
                code="usage",
            )
        case click.UsageError():
            return CliError(_one_line(error.format_message()), _help_of(error), code="usage", exit_code=USAGE)
        case click.ClickException():
            return CliError(_one_line(error.format_message()), exit_code=error.exit_code)
        case ClientError():
            return CliError(error.message, error.fix, code=error.code, exit_code=_exit_code_of(error))
        case Rejected():
            return CliError(error.message, code=str(error.reason))
        case UnicodeEncodeError():
            return CliError("a text on the command line is not UTF-8", code="usage")
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            message = f"{where}{error.strerror or error}"
            return CliError(message, "check the path, its permissions and the free space", code="file_error")
        case _:
            return None


def _exit_code_of(error: ClientError) -> int:
    match error:
        case Unreachable():
            return UNREACHABLE
        case TimedOut():
            return TIMED_OUT
        case TransactionFailed():
            return REFUSED
        case ApiError(status=404):
            return NOT_FOUND
        case ApiError(status=status) if 400 <= status < 500:
            return REFUSED
        case _:
            return FAILURE


def _report(error: CliError, *, as_json: bool) -> None:
    if as_json:
        view = {"error": {"code": error.code, "message": error.message, "fix": error.fix}}
        click.echo(json.dumps(view), err=True)
    elif error.code == "usage" and not error.fix:
        click.echo(error.message, err=True)
    else:
        text = f"{error.message.rstrip('.')}; {error.fix}" if error.fix else error.message
        click.echo(f"error: {_one_line(text)}", err=True)


def _help_of(error: click.UsageError) -> str:
    return f"see: {error.ctx.command_path} --help" if error.ctx else ""


def _one_line(text: str) -> str:
    """Without line breaks, and without what a stranger's text could command the terminal by."""
    return " ".join("".join(letter for letter in text if _plain(letter)).split())


def _plain(letter: str) -> bool:
    return letter.isspace() or unicodedata.category(letter) != "Cc"


def _silence_stdout() -> None:
    """The reader has left (`aitbc … | head`): nothing more can be said, and that is no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
