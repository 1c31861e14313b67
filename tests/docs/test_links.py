"""Every page and file that the documentation and the code point to exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def linked(page: Path) -> set[str]:
    """Targets of relative links, from the repository's root; anchors and code blocks left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    targets = {target.partition("#")[0] for target in re.findall(r"\]\(([^()\s]+)\)", text)}
    relative = {target for target in targets if target and not re.match(r"[a-z]+:", target)}
    return {name_of((page.parent / target).resolve()) for target in relative}


def mentioned(file: Path) -> set[str]:
    """Paths like docs/spec/keys.md, wherever they stand."""
    return {path.rstrip(".") for path in re.findall(r"\bdocs/[A-Za-z0-9_./-]*[A-Za-z0-9_]", file.read_text())}


def missing(names: set[str]) -> set[str]:
    return {name for name in names if not (ROOT / name).exists()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert missing(linked(page) | mentioned(page)) == set()


def test_what_the_code_cites_exists() -> None:
    cited = {path: mentioned(path) for path in (ROOT / "src").rglob("*.py")}
    assert len(set().union(*cited.values())) > 20, "the code cites its chapters"
    wrong = {name_of(path): missing(names) for path, names in cited.items() if missing(names)}
    assert wrong == {}


def test_every_howto_is_reachable_from_the_readme() -> None:
    pages = {name_of(page) for page in (ROOT / "docs" / "howto").glob("*.md")}
    index = ROOT / "docs" / "howto" / "README.md"
    assert name_of(index) in linked(ROOT / "README.md")
    assert pages - {name_of(index)} <= linked(index)


def test_a_broken_link_would_be_noticed(tmp_path: Path) -> None:
    page = ROOT / "docs" / "howto" / "use-a-hub.md"
    assert missing({"docs/howto/no-such-page.md", name_of(page)}) == {"docs/howto/no-such-page.md"}
    sample = tmp_path / "sample.md"
    sample.write_text("see docs/nowhere. And docs/spec/keys.md, docs/howto/x.md:")
    assert missing(mentioned(sample)) == {"docs/nowhere", "docs/howto/x.md"}
