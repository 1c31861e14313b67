"""docs/spec/workshop.md names every reason and every kind with its limits."""

import re
from pathlib import Path

from aitbc.workshop.core.kinds import KINDS
from aitbc.workshop.core.reasons import WorkshopReason

CHAPTER = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "workshop.md").read_text()


def rows(title: str) -> dict[str, list[str]]:
    section = CHAPTER.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section, re.M)
    return {name: [cell.strip() for cell in rest.split("|")] for name, rest in lines}


def test_every_reason_is_published_and_no_other() -> None:
    assert set(rows("Reasons")) == {str(reason) for reason in WorkshopReason}


def test_every_kind_is_published_with_its_limits() -> None:
    listed = rows("Kinds")
    assert set(listed) == {name.decode() for name in KINDS}
    for name, kind in KINDS.items():
        type_, _, limit, rate, _ = listed[name.decode()]
        assert type_ == ("1" if kind.asks else "0")
        assert limit == f"{kind.limit:,}"
        assert rate == f"{kind.rate.per_second:,} / {kind.rate.burst:,}"
