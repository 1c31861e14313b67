"""What the seeds promise by name is there: scripts, requirements.txt, and a page that says what became of the rest."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LINES = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
PINNED = dict(line.split("==") for line in LINES)
DECLARED = [
    Requirement(text)
    for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]


def test_requirements_are_names_and_versions_only() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line)] == []
    assert sorted(PINNED) == list(PINNED)


@pytest.mark.parametrize("needed", DECLARED, ids=[needed.name for needed in DECLARED])
def test_requirements_match_the_project(needed: Requirement) -> None:
    """python tools/export_requirements.py writes them."""
    assert PINNED[canonicalize_name(needed.name)] in needed.specifier


def test_nothing_that_only_developers_need_is_in_them() -> None:
    assert not {"pytest", "ruff", "mypy", "hypothesis", "slip10"} & set(PINNED)


def test_the_seeds_scripts_are_calls_of_ours(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("correct horse battery")
    environment = {
        "AITBC_HOME": str(tmp_path / "home"),
        "AITBC_PASSWORD_FILE": str(password),
        "PATH": "/usr/bin:/bin",
    }
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / "keygen.py", "miner"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0 and made.stdout.startswith("miner  ait1"), made.stderr
    key = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
    words = ["-o", tmp_path / "genesis.json", "--chain-id", "ait-seed", "--timestamp", "1790000000"]
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_genesis.py", *words, "--authority", key],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert made.returncode == 0, made.stderr
    up = subprocess.run(
        [ROOT / "scripts" / "devnet_up.sh", "--help"], capture_output=True, text=True, timeout=60
    )
    assert up.returncode == 0 and "--validators" in up.stdout


PROMISED = [
    "keygen.py",
    "make_genesis.py",
    "devnet_up.sh",
    "create-account",
    "initc",
    "cnode",
    "discovery",
    "src/main.py",
    "mempool.py",
    "consensus.py",
    "p2p.py",
    "receipts.py",
    "requirements.txt",
    ".env.example",
]


@pytest.mark.parametrize("name", PROMISED)
def test_the_page_says_what_became_of_it(name: str) -> None:
    assert name in (ROOT / "docs" / "howto" / "from-the-seeds.md").read_text()
