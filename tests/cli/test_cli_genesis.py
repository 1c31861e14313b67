"""`aitbc genesis make`: what is refused, and in which words."""

import json
import time
from pathlib import Path

import pytest

from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.core.codec.keytext import key_to_text
from support.people import VALIDATOR

NOW = int(time.time())
GOOD = {"--chain-id": "my-chain", "--timestamp": str(NOW), "--authority": key_to_text(VALIDATOR.auth_key)}


def make(folder: Path, **changed: str) -> int:
    options = {**GOOD, **{f"--{name.replace('_', '-')}": value for name, value in changed.items()}}
    words = [word for pair in options.items() for word in pair]
    return run(root, ["genesis", "make", "-o", str(folder / "genesis.json"), *words])


def test_a_genesis_is_made_and_names_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path) == 0
    assert "genesis hash" in capsys.readouterr().out
    assert json.loads((tmp_path / "genesis.json").read_bytes())["chain_id"] == "my-chain"


REFUSED = [
    ({"timestamp": str(NOW * 1000)}, 1, "that looks like milliseconds; it is in seconds"),
    ({"timestamp": str(NOW + 2 * 24 * 3600)}, 1, "is more than a day ahead (that is 20"),
    (
        {"authority": VALIDATOR.address},
        2,
        "that is an address: give the public key, as `aitbc keys show NAME` shows it",
    ),
    (
        {"chain_id": "Fut"},
        2,
        "'Fut' is no chain id: 1 to 64 lower-case letters, digits and dashes, no dash in front",
    ),
    ({"chain_id": "-x"}, 2, "'-x' is no chain id"),
    ({"chain_id": "x" * 65}, 2, "is no chain id"),
    ({"chain_id": "x\n"}, 2, "is no chain id"),
]


@pytest.mark.parametrize(("changed", "code", "said"), REFUSED, ids=[row[2][:30] for row in REFUSED])
def test_what_cannot_be_meant_is_refused_in_words(
    tmp_path: Path, changed: dict[str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path, **changed) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "genesis.json").exists()
