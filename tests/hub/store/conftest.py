"""The store on SQLite and on PostgreSQL: every story here is told to both."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aitbc.hub.store import JobStore, open_store
from support.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

Opener = Callable[[], JobStore]


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opener(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens the same database again and again; what is still open at the end is closed."""
    url = "" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    opened: list[JobStore] = []

    def open_again() -> JobStore:
        opened.append(open_store(url, default=tmp_path / "hub.sqlite", genesis_hash="aa"))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> JobStore:
    return opener()
