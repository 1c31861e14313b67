"""A store of each SQL kind with some blocks in it, and a way to do to its rows what a store never does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.ports import Store
from support.made_up import GENESIS_HASH, MadeUpChain
from support.postgres import connected


class Stored:
    """A closed database of `chain`; `open` it, or `run` a statement on it by hand."""

    def __init__(
        self, kind: str, chain: MadeUpChain, open_store: Callable[..., Store], run: Callable[..., Any]
    ) -> None:
        self.kind = kind
        self.chain = chain
        self.open = open_store
        self.run = run


@pytest.fixture(params=["sqlite", "postgresql"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stored]:
    chain = MadeUpChain(seed=21)
    chain.grow(12)
    opened: list[Store] = []
    path = tmp_path / "chain.db"
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""

    def open_store(genesis_hash: bytes = GENESIS_HASH) -> Store:
        close()
        if request.param == "sqlite":
            opened.append(SqliteStore(path, genesis_hash))
        else:
            from aitbc.adapters.storage.postgres import PostgresStore

            opened.append(PostgresStore(url, genesis_hash))
        return opened[0]

    def run(statement: str, *values: object) -> list[tuple[Any, ...]]:
        if request.param == "sqlite":
            import sqlite3

            connection = sqlite3.connect(path, isolation_level=None)
            try:
                return connection.execute(statement, values).fetchall()
            finally:
                connection.close()
        with connected(url) as database:
            cursor = database.execute(statement.replace("?", "%s").encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def close() -> None:
        while opened:
            opened.pop().close()

    store = open_store()
    for commit in chain.commits:
        store.commit(commit)
    store.save_waiting([b"one", b"two"])
    close()
    yield Stored(request.param, chain, open_store, run)
    close()
