"""The tables of accounts, alike in SQLite and PostgreSQL; versioned apart from the jobs'. docs/spec/accounts.md"""

import msgspec

from aitbc.adapters.storage.sql import Session as Sql
from aitbc.ports import StorageError

VERSION = "1"


def _tables(serial: str, bytes_type: str) -> tuple[str, ...]:
    return (
        """CREATE TABLE IF NOT EXISTS account_key (
            id TEXT PRIMARY KEY, account TEXT NOT NULL, label TEXT NOT NULL, budget BIGINT, spent BIGINT NOT NULL,
            held BIGINT NOT NULL, rpm BIGINT, tpm BIGINT, models TEXT NOT NULL, expires_ms BIGINT NOT NULL,
            created_ms BIGINT NOT NULL, revoked_ms BIGINT NOT NULL, hash TEXT NOT NULL UNIQUE)""",
        f"""CREATE TABLE IF NOT EXISTS account_session (
            lock TEXT PRIMARY KEY, owner TEXT NOT NULL, client TEXT NOT NULL, amount BIGINT NOT NULL,
            committed BIGINT NOT NULL, places BIGINT NOT NULL, next_place BIGINT NOT NULL,
            deliver_by_ms BIGINT NOT NULL, claim_until_ms BIGINT NOT NULL, randomness {bytes_type} NOT NULL,
            state TEXT NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS account_session_open ON account_session (owner, deliver_by_ms)"
        " WHERE state = 'open'",
        """CREATE TABLE IF NOT EXISTS account_hold (
            job_id TEXT PRIMARY KEY, account TEXT NOT NULL, key_id TEXT NOT NULL, purse TEXT NOT NULL,
            lock TEXT NOT NULL, amount BIGINT NOT NULL, tokens BIGINT NOT NULL, route TEXT NOT NULL,
            state TEXT NOT NULL, created_ms BIGINT NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS account_hold_open ON account_hold (created_ms) WHERE state = 'held'",
        "CREATE TABLE IF NOT EXISTS account_event (name TEXT PRIMARY KEY, at_ms BIGINT NOT NULL)",
        f"""CREATE TABLE IF NOT EXISTS account_posting (
            id {serial}, event TEXT NOT NULL, account TEXT NOT NULL, amount BIGINT NOT NULL)""",
        "CREATE TABLE IF NOT EXISTS account_balance (account TEXT PRIMARY KEY, amount BIGINT NOT NULL)",
        """CREATE TABLE IF NOT EXISTS account_usage (
            at_ms BIGINT NOT NULL, job_id TEXT PRIMARY KEY, account TEXT NOT NULL, key_id TEXT NOT NULL,
            route TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL, state TEXT NOT NULL,
            units BIGINT NOT NULL, price BIGINT NOT NULL, receipt_id TEXT NOT NULL, duration_ms BIGINT NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS account_usage_of ON account_usage (account, at_ms)",
        """CREATE TABLE IF NOT EXISTS account_nonce (
            address TEXT NOT NULL, nonce TEXT NOT NULL, expires_ms BIGINT NOT NULL, PRIMARY KEY (address, nonce))""",
        "CREATE INDEX IF NOT EXISTS account_nonce_end ON account_nonce (expires_ms)",
        """CREATE TABLE IF NOT EXISTS account_idempotency (
            account TEXT NOT NULL, name TEXT NOT NULL, body_hash TEXT NOT NULL, jobs TEXT NOT NULL,
            expires_ms BIGINT NOT NULL, PRIMARY KEY (account, name))""",
        "CREATE INDEX IF NOT EXISTS account_idempotency_end ON account_idempotency (expires_ms)",
    )


def prepare(sql: Sql, serial: str, *, genesis_hash: str) -> None:
    """Make the tables that are missing; refuse those of another version or another chain."""
    sql.run("CREATE TABLE IF NOT EXISTS accounts_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    for name, value in (("version", VERSION), ("genesis_hash", genesis_hash)):
        sql.run("INSERT INTO accounts_meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))
    found: dict[str, str] = dict(sql.rows("SELECT name, value FROM accounts_meta"))
    if found["version"] != VERSION:
        raise StorageError(f"the accounts have schema {found['version']}; this version reads {VERSION} only")
    if found["genesis_hash"] != genesis_hash:
        raise StorageError("the accounts belong to another chain; use another data folder or database")
    for statement in _tables(serial, "BYTEA" if "SERIAL" in serial else "BLOB"):
        sql.run(statement)


def columns_of(kind: type[msgspec.Struct]) -> str:
    return ", ".join(kind.__struct_fields__)
