"""Which database a node keeps its chain in: SQLite in its folder, or what DATABASE_URL names."""

from pathlib import Path

from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.ports import StorageError, Store

KINDS = "postgresql://user:password@host:port/database or sqlite:///path"


def sqlite_path(url: str, *, default: Path) -> Path | None:
    """The file that a URL names, the default for none; None: it names no file."""
    if not url:
        return default
    path = url.removeprefix("sqlite:///")
    return Path(path) if path and path != url else None


def open_store(url: str, *, default: Path, genesis_hash: bytes) -> Store:
    """Raises StorageError with what to do; no message repeats the URL, which may hold a password."""
    path = sqlite_path(url, default=default)
    if path is not None:
        return SqliteStore(path, genesis_hash)
    scheme = url.partition("://")[0]
    if scheme not in ("postgresql", "postgres"):
        known = scheme if scheme != url and scheme.replace("+", "").isalnum() else "nothing known"
        raise StorageError(f"DATABASE_URL names {known[:40]}; it must be {KINDS}")
    try:
        from aitbc.adapters.storage.postgres import PostgresStore
    except ImportError:
        raise StorageError("PostgreSQL needs one package more: pip install 'aitbc[postgres]'") from None
    return PostgresStore(url, genesis_hash)
