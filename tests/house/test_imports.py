"""The import contracts hold, and would notice: each kind of violation is planted in a copy and must be found."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

VIOLATIONS = [
    ("core/ledger/fees.py", "import time", "Core is pure"),
    ("core/chain/mempool.py", "from random import random", "Core is pure"),
    ("core/replica.py", "import asyncio", "Core is pure"),
    ("core/crypto/merkle.py", "import aitbc.core.ledger.fees", "Inside core"),
    ("core/types/blocks.py", "import aitbc.core.codec.wire", "Inside core"),
    ("core/consensus/engine.py", "import aitbc.core.ledger.params", "Agreement and peers do not"),
    ("core/peer/handshake.py", "import aitbc.core.ledger.params", "Agreement and peers do not"),
    ("core/peer/channel.py", "import socket", "Core is pure"),
    ("core/ledger/state.py", "import aitbc.ports", "Imports point one way"),
    ("hub/config.py", "import aitbc.node.config", "Imports point one way"),
    ("adapters/storage/memory.py", "import aitbc.node.config", "Imports point one way"),
    ("workshop/core/machine.py", "import asyncio", "Core is pure"),
    ("workshop/client.py", "import aitbc.core.crypto.schemes", "The workshop is a room of its own"),
    ("core/peer/channel.py", "import aitbc.workshop.core.texts", "Imports point one way"),
    ("client/node.py", "import aitbc.core.ledger.fees", "The client knows"),
    ("client/node.py", "import aitbc.adapters.storage.memory", "The client knows"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; sys.path.insert(0, 'src');"
        "from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-S", "-c", _with_site(code)], cwd=folder, capture_output=True, text=True
    )


def _with_site(code: str) -> str:
    """The environment's packages without its editable install, so that the copy is what is read."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    return f"import sys; sys.path.extend({packages!r}); {code}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"), VIOLATIONS, ids=[f"{v[0]}: {v[1]}" for v in VIOLATIONS]
)
def test_a_planted_violation_is_found(copy: Path, file: str, line: str, contract: str) -> None:
    target = copy / "src" / "aitbc" / file
    text = target.read_text()
    marker = "\nimport " if "\nimport " in text else "\nfrom "
    target.write_text(text.replace(marker, f"\n{line}\n{marker.strip()} ", 1))
    result = lint(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert contract in result.stdout.split("Broken contracts")[-1]
