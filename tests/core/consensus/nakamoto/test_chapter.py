"""The chapter says what the code does: settings with their defaults, tags, reasons and bounds."""

import json
import re
from pathlib import Path

import msgspec

from aitbc.core.consensus.nakamoto import engine, fetching, orphans, rules, tree
from aitbc.core.types import nakamoto as settings
from aitbc.core.types.reasons import Reason

CODE = Path(engine.__file__).parent
TEXT = (CODE.parents[4] / "docs" / "spec" / "nakamoto.md").read_text()


def test_every_setting_has_its_row_and_default() -> None:
    rows = {line.split("`")[1]: line for line in TEXT.splitlines() if line.startswith("| `")}
    plain = msgspec.to_builtins(settings.NakamotoSettings())
    for name, default in plain.items():
        cell = rows[name].split("|")[2].strip()
        assert cell == ("all 0" if name == "reward" else f"`{json.dumps(default)}`"), name
    assert all(f"`{name}`" in TEXT for name in plain["reward"])


def test_every_hash_tag_is_said() -> None:
    used = [
        tag for path in CODE.glob("*.py") for tag in re.findall(r'tagged\(\s*"([^"]+)"', path.read_text())
    ]
    assert sorted(used) == ["aitbc/template/1", "aitbc/work/1"]
    assert all(f'"{tag}"' in TEXT for tag in used)


def test_every_reason_is_said() -> None:
    used = {name for path in CODE.glob("*.py") for name in re.findall(r"Reason\.([A-Z_]+)", path.read_text())}
    assert [name for name in sorted(used) if f"`{Reason[name]}`" not in TEXT] == []


def test_the_bounds_are_the_codes() -> None:
    for number in (
        f"{tree.MAX_AHEAD:,} ahead",
        f"{tree.MAX_SIDE:,} beside",
        f"| tips | {tree.MAX_TIPS} |",
        f"remembered ({tree.MAX_INVALID:,})",
        f"{orphans.MAX_ORPHANS}, {orphans.MAX_ORPHAN_BYTES // 1024} KiB, {orphans.MAX_ORPHANS_PER_PEER} of a",
        f"| {fetching.MAX_IN_FLIGHT}, {fetching.MAX_PER_PEER} of a peer",
        f"after {fetching.STALL_MS // 1000} s",
        f"{rules.LOOKAHEAD} on a branch, {rules.MAX_BRANCHES} branches",
        f"{rules.MAX_APPLY} blocks",
        f"kept account of | {rules.MAX_PEERS} |",
        f"every {rules.POLL_MS // 1000} s",
        f"at most {engine.MAX_HEADERS} headers",
        f"1 … {settings.MAX_FINALITY_DEPTH}",
    ):
        assert number in TEXT, number
