"""Which database is opened, and that a setting which may hold a password is never repeated."""

import sys
from pathlib import Path

import pytest

from aitbc.adapters.storage.opening import open_store, sqlite_path
from aitbc.ports import StorageError
from support.made_up import GENESIS_HASH, MadeUpChain
from support.store_model import check_everything


def test_without_a_url_the_file_in_the_folder_is_taken(tmp_path: Path) -> None:
    open_store("", default=tmp_path / "chain.db", genesis_hash=GENESIS_HASH).close()
    assert (tmp_path / "chain.db").exists()


def test_a_sqlite_url_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url, made in {
        f"sqlite:///{tmp_path}/absolute.db": "absolute.db",
        "sqlite:///relative.db": "relative.db",
    }.items():
        open_store(url, default=tmp_path / "chain.db", genesis_hash=GENESIS_HASH).close()
        assert (tmp_path / made).exists()
    assert not (tmp_path / "chain.db").exists()


def test_a_postgresql_url_names_a_database(postgres_url: str, tmp_path: Path) -> None:
    chain = MadeUpChain(seed=71)
    chain.grow(2)
    store = open_store(postgres_url, default=tmp_path / "chain.db", genesis_hash=GENESIS_HASH)
    for commit in chain.commits:
        store.commit(commit)
    check_everything(store, chain.commits)
    store.close()
    assert not (tmp_path / "chain.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://node:S3cret@db/chain",
        "postgresql+asyncpg://node:S3cret@db/chain",
        "sqlite://",
        "sqlite:///",
        "sqlite:S3cret",
        "S3cret",
        "://S3cret",
        "node:S3cret@db://x",
    ],
)
def test_anything_else_is_refused_without_repeating_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(
        StorageError, match="it must be postgresql://user:password@host:port/database or"
    ) as caught:
        open_store(url, default=tmp_path / "chain.db", genesis_hash=GENESIS_HASH)
    assert "S3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_driver_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "aitbc.adapters.storage.postgres", raising=False)
    with pytest.raises(StorageError, match=r"pip install 'aitbc\[postgres\]'"):
        open_store("postgresql://db/chain", default=tmp_path, genesis_hash=GENESIS_HASH)


def test_a_node_on_sqlite_imports_neither_driver_nor_sqlalchemy() -> None:
    """0.4 CPU-s of a node's start (docs/adr/0004-storage.md)."""
    import subprocess

    code = "import sys, aitbc.adapters.storage.opening; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"psycopg", "sqlalchemy", "sqlmodel"} & set(loaded)


def test_which_file_a_url_names() -> None:
    default = Path("chain.db")
    assert sqlite_path("", default=default) == default
    assert sqlite_path("sqlite:////a/b.db", default=default) == Path("/a/b.db")
    assert sqlite_path("sqlite:///b.db", default=default) == Path("b.db")
    assert sqlite_path("postgresql://db/chain", default=default) is None
