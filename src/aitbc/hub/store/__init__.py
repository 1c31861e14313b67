"""The hub's memory on disk. What it has confirmed survives `kill -9` of the process, on SQLite or on PostgreSQL.

`JobStore` is the port: `Jobs` → `Queue` → `Receipts` are its chapters (money is `hub.accounts`'), `SqliteDatabase` and
`PostgresDatabase` what it runs on; `tests/hub/store` is the suite that both pass. docs/spec/hub_store.md
"""

from pathlib import Path

from aitbc.hub.store.audits import AuditLog
from aitbc.hub.store.database import ConnectionLost, Database
from aitbc.hub.store.locks import Locks
from aitbc.hub.store.providers import Providers
from aitbc.hub.store.receipts import Receipts
from aitbc.hub.store.sqlite import SqliteDatabase
from aitbc.ports import StorageError


class JobStore(Receipts, Providers, Locks, AuditLog):
    """Jobs, their parts and attempts, receipts, and what is known of providers."""

    def __init__(self, database: Database, *, genesis_hash: str) -> None:
        super().__init__(database)
        with self._transaction() as session:
            session.run(
                "INSERT INTO hub_meta VALUES ('genesis_hash', ?) ON CONFLICT DO NOTHING", (genesis_hash,)
            )
            rows = session.rows("SELECT value FROM hub_meta WHERE name = 'genesis_hash'")
        if rows != [(genesis_hash,)]:
            self.close()
            raise StorageError(
                "this hub's database belongs to another chain; use another data folder or move it away"
            )


def open_store(url: str, *, default: Path, genesis_hash: str) -> JobStore:
    """SQLite in the hub's folder, or the PostgreSQL that the URL names. Raises StorageError with what to do."""
    if not url:
        return JobStore(SqliteDatabase(default), genesis_hash=genesis_hash)
    try:
        from aitbc.hub.store.postgres import PostgresDatabase
    except ImportError:
        raise StorageError("PostgreSQL needs one package more: pip install 'aitbc[postgres]'") from None
    return JobStore(PostgresDatabase(url), genesis_hash=genesis_hash)


__all__ = ["ConnectionLost", "JobStore", "SqliteDatabase", "open_store"]
