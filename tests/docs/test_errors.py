"""The error catalogue holds every code that a node answers with, and each has something to do."""

import ast
import re
from pathlib import Path

from aitbc.adapters.http.fixes import FIXES
from aitbc.cli.explanations import EXPLANATIONS
from aitbc.core.types.reasons import Reason

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [ROOT / "src" / "aitbc" / "node", ROOT / "src" / "aitbc" / "adapters" / "http"]
CALLS = {"Problem": 1, "not_found": 0, "_error": 0}
"""Functions that make an error, and which argument is its code."""


def codes() -> set[str]:
    found = set()
    for file in [path for room in ROOMS for path in room.rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
                place = CALLS[node.func.id]
                code = node.args[place] if len(node.args) > place else None
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    found.add(code.value)
    return found


def test_every_code_of_a_node_is_catalogued_and_explained() -> None:
    found = codes()
    assert {"unknown_block", "no_browsers", "too_old", "rate_limited", "bad_token"} <= found
    text = (ROOT / "docs" / "errors.md").read_text()
    listed = set(re.findall(r"`([a-z_]+)`", text))
    assert found - listed - set(Reason) == set()
    assert found - set(EXPLANATIONS) == set()


def test_every_reason_says_what_to_do() -> None:
    assert [reason for reason in Reason if not FIXES.get(reason)] == []
