"""Run every measurement and write docs/performance.md from the results."""

import json
import subprocess
import sys
from pathlib import Path

from common import RESULTS, ROOT

SCRIPTS = (
    "startup",
    "job_latency",
    "engines",
    "ledger",
    "state_tree",
    "storage",
    "simplex",
    "network",
    "agreement",
    "workshop",
    "gateway",
    "mining",
    "sync",
    "load",
)


def flatten(value: object, path: str = "") -> list[tuple[str, str]]:
    """One row per figure; a spread becomes `min / median / max`."""
    if isinstance(value, dict) and {"min", "median", "max"} <= set(value):
        return [(path, f"{value['min']} / **{value['median']}** / {value['max']} (n = {value['n']})")]
    if isinstance(value, dict):
        return [row for name, item in value.items() for row in flatten(item, f"{path} {name}".strip())]
    if isinstance(value, list):
        return [(path, ", ".join(map(str, value)) or "none")]
    return [(path, str(value))]


def table(name: str) -> str:
    document = json.loads((RESULTS / f"{name}.json").read_text())
    machine = document["machine"]
    rows = "\n".join(
        f"| {path.replace('_', ' ')} | {figure} |" for path, figure in flatten(document["results"])
    )
    return (
        f"## {name.replace('_', ' ')}\n\nGoal: {document['goal']}. Script: `bench/{name}.py`.\n\n"
        f"| figure | min / **median** / max |\n|---|---|\n{rows}\n\n"
        f"{machine['cpus']} × {machine['processor']}, Python {machine['python']},"
        f" load at the end {machine['load_at_end']}.\n"
    )


def main() -> None:
    for name in sys.argv[1:] or SCRIPTS:
        subprocess.run([sys.executable, str(Path(__file__).parent / f"{name}.py")], check=True)
    known = [name for name in SCRIPTS if (RESULTS / f"{name}.json").exists()]
    head = (
        "# Measured performance\n\nWritten by `make bench`; every figure comes from a script in `bench/`, raw results"
        " lie in `bench/results/`. The machines are shared, so read differences under 1.5× as none.\n\n"
    )
    (ROOT / "docs" / "performance.md").write_text(head + "\n".join(table(name) for name in known))


if __name__ == "__main__":
    main()
