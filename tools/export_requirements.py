"""Write requirements.txt: the packages that aitbc needs to run, with the versions that are installed here.

For who installs with `pip install -r requirements.txt`, as the seeds do. Names and versions only: where packages come from
is the installer's affair.
"""

import sys
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).resolve().parents[1] / "requirements.txt"
HEAD = (
    "# Made by tools/export_requirements.py: what aitbc needs to run, and all that these need, as tested.\n"
)


def closure(package: str = "aitbc") -> dict[str, str]:
    """Name → version of everything below a package, itself left out."""
    found: dict[str, str] = {}
    waiting = [(package, frozenset[str]())]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        for text in requires(name) or []:
            needed = Requirement(text)
            if needed.marker and not any(needed.marker.evaluate({"extra": e}) for e in (*extras, "")):
                continue
            below = (canonicalize_name(needed.name), frozenset(needed.extras))
            if below not in seen:
                seen.add(below)
                found[below[0]] = version(below[0])
                waiting.append(below)
    return found


def text() -> str:
    return HEAD + "".join(f"{name}=={number}\n" for name, number in sorted(closure().items()))


if __name__ == "__main__":
    FILE.write_text(text())
    print(FILE, file=sys.stderr)
