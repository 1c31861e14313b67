"""What costs nothing and needs no network: help, money, explanations, completion."""

import os
import resource
import subprocess
import sys

import pytest

from aitbc.cli import TABLE, root
from aitbc.cli.errors import run
from aitbc.cli.explanations import EXPLANATIONS
from aitbc.cli.money import parse_money
from aitbc.cli.submit import MAX_FEE_TEXT
from aitbc.client.transactions import MAX_FEE
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.peer.records import RecordReason
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Reason

HEAVY = ("fastapi", "sqlalchemy", "pydantic", "numpy", "httpx2", "rich", "starlette", "nacl", "msgspec")


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from aitbc.cli import root; from aitbc.cli.errors import run; "
        f"run(root, ['--help']); print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_costs_less_than_0_3_cpu_seconds() -> None:
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "aitbc", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) <= 0.3


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["--help"]) == 0
    text = capsys.readouterr().out
    for name, entry in TABLE.items():
        assert f"  {name} " in text
        assert entry.help in text


@pytest.mark.parametrize("name", [name for name, entry in TABLE.items() if entry.section != "Programs"])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, [name, "--help"]) == 0
    assert "Usage: aitbc" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["--version"]) == 0
    assert capsys.readouterr().out.startswith("aitbc 0.")


MONEY = [
    ("25ait", 25_000_000),
    ("1.5mait", 1_500),
    ("300uait", 300),
    ("0.000001ait", 1),
    ("2 AIT", 2_000_000),
    ("1mAIT", 1_000),
    ("9007199254.740991ait", MAX_SIGNED),
]


@pytest.mark.parametrize(("text", "base_units"), MONEY)
def test_money_is_typed_with_its_unit(text: str, base_units: int) -> None:
    assert parse_money(text) == base_units


def test_the_highest_fee_is_typed_as_it_is_meant() -> None:
    assert parse_money(MAX_FEE_TEXT) == MAX_FEE


NO_MONEY = [
    ("25", "has no unit: write 25ait, 25mait or 25uait"),
    ("1.5", "has no unit"),
    ("25btc", "'btc' is no unit"),
    ("0.5uait", "finer than the smallest unit"),
    ("0.0000001ait", "is no amount"),
    ("-5ait", "is no amount"),
    ("1e3ait", "is no amount"),
    ("1,000ait", "is no amount"),
    ("", "is no amount"),
    ("ait", "is no amount"),
    ("٣ait", "is no amount"),
    ("9007199254.740992ait", "is more than"),
]


@pytest.mark.parametrize(("text", "told"), NO_MONEY)
def test_what_is_no_money_is_refused_in_one_line(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=told):
        parse_money(text)
    assert run(root, ["send", "bob", "--from", "alice", "--", text]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error


def test_no_money_at_all_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["send", "bob", "0ait", "--from", "alice"]) == 2
    assert "give at least 1uait" in capsys.readouterr().err


USAGE = [
    (["hed"], "Did you mean 'head'?"),
    (["send", "bob"], "Missing argument 'AMOUNT'"),
    (["send", "bob", "1ait"], "Missing option '--from'"),
    (["send", "bob", "-1ait", "--from", "alice"], "an amount cannot be negative; write it like 25ait"),
    (["send", "bob", "-.5ait", "--from", "alice"], "an amount cannot be negative"),
    (["head", "--nonsense"], "No such option"),
    (["image", "x", "-o", "x.png", "--from", "alice", "--size", "63"], "64<=x<=1024"),
    (["keys", "lst"], "No such command 'lst'"),
    (["tx", "00"], "1 bytes where 32 are needed; an id has 64 hexadecimal digits"),
    (["refund", "x" * 64, "--from", "alice"], "is not lower-case hexadecimal"),
]


@pytest.mark.parametrize(("arguments", "told"), USAGE)
def test_usage_errors_are_one_line_and_exit_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert "--help" in error


def test_every_reason_is_explained() -> None:
    assert [reason for reason in (*Reason, *JobReason, *RecordReason) if reason not in EXPLANATIONS] == []


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["explain", "refund_too_early"]) == 0
    assert "What to do: Try again after that time." in capsys.readouterr().out
    assert run(root, ["explain", "refund_to_early"]) == 3
    assert "did you mean refund_too_early?" in capsys.readouterr().err
    assert run(root, ["explain"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(EXPLANATIONS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, ["completion", shell]) == 0
    assert "_AITBC_COMPLETE" in capsys.readouterr().out


COMPLETIONS = [
    ("aitbc ba", "balance"),
    ("aitbc send ali", "alice"),
    ("aitbc send bob 1ait --from car", "carol"),
]


@pytest.mark.parametrize(("line", "completed"), COMPLETIONS)
def test_the_shell_completes_commands_and_names(line: str, completed: str, tmp_path: object) -> None:
    environment = {
        **os.environ,
        "AITBC_HOME": str(tmp_path),
        "_AITBC_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "from aitbc.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"plain,{completed}" in done.stdout.splitlines(), done.stderr


def test_a_missing_program_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aitbc.cli.chain", None)
    monkeypatch.delitem(sys.modules, "aitbc.cli.chain")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    monkeypatch.delitem(sys.modules, "aitbc.client.node", raising=False)
    monkeypatch.delitem(sys.modules, "aitbc.client.http", raising=False)
    assert run(root, ["head"]) == 1
    assert "needs the Python package httpx2; install it with: pip install" in capsys.readouterr().err
