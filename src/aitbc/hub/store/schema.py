"""The hub's tables, once, for both databases: amounts and times are 64-bit integers, records are JSON in bytes.

Accounts, sessions and money have tables of their own (`hub.accounts.schema`); nothing here refers to them.
"""

from typing import NamedTuple

SCHEMA_VERSION = 2


class Dialect(NamedTuple):
    """Where SQLite and PostgreSQL spell the same thing differently."""

    serial: str
    blob: str
    skip_locked: bool


SQLITE = Dialect(serial="INTEGER PRIMARY KEY AUTOINCREMENT", blob="BLOB", skip_locked=False)
POSTGRES = Dialect(serial="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", blob="BYTEA", skip_locked=True)

TABLES = (
    "CREATE TABLE hub_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # A hub process that is alive; what belongs to one that is not is taken over.
    "CREATE TABLE process (id TEXT PRIMARY KEY, alive_until_ms BIGINT NOT NULL)",
    # Work that one process at a time does for all, such as sending transactions with the hub's nonce.
    "CREATE TABLE duty (name TEXT PRIMARY KEY, holder TEXT NOT NULL)",
    """CREATE TABLE job (
        job_id TEXT PRIMARY KEY, quote {blob} NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '', lock TEXT, first_task BIGINT NOT NULL DEFAULT 0, randomness {blob},
        attempts BIGINT NOT NULL DEFAULT 0, expires_ms BIGINT NOT NULL, ended_ms BIGINT)""",
    "CREATE UNIQUE INDEX job_by_lock ON job (lock, first_task) WHERE lock IS NOT NULL",
    "CREATE INDEX job_by_state ON job (state, expires_ms)",
    "CREATE INDEX job_by_end ON job (ended_ms) WHERE ended_ms IS NOT NULL",
    # A part of a job: what is queued, leased and done. `attempts` is the fencing token of the next attempt.
    """CREATE TABLE task (
        seq {serial}, job_id TEXT NOT NULL, task BIGINT NOT NULL, cap TEXT NOT NULL, class BIGINT NOT NULL,
        vfinish BIGINT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '', attempts BIGINT NOT NULL DEFAULT 0, owner TEXT NOT NULL DEFAULT '',
        deliver_by_ms BIGINT NOT NULL, units BIGINT NOT NULL, UNIQUE (job_id, task))""",
    "CREATE INDEX task_waiting ON task (cap, class, vfinish, seq) WHERE state = 'queued' AND owner = ''",
    "CREATE INDEX task_owned ON task (owner) WHERE owner <> ''",
    "CREATE INDEX task_deadline ON task (deliver_by_ms) WHERE state = 'queued' AND owner = ''",
    """CREATE TABLE attempt (
        job_id TEXT NOT NULL, task BIGINT NOT NULL, attempt BIGINT NOT NULL, provider TEXT NOT NULL,
        offer {blob} NOT NULL, candidates {blob} NOT NULL, randomness {blob} NOT NULL, started_ms BIGINT NOT NULL,
        ended_ms BIGINT, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (job_id, task, attempt))""",
    """CREATE TABLE receipt (
        receipt_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, task BIGINT NOT NULL, provider TEXT NOT NULL,
        provider_pubkey TEXT NOT NULL, delivery {blob} NOT NULL, signed {blob} NOT NULL, data {blob} NOT NULL,
        claim_until_ms BIGINT NOT NULL, claim_tx TEXT NOT NULL DEFAULT '', state TEXT NOT NULL,
        batch TEXT NOT NULL DEFAULT '', leaf BIGINT NOT NULL DEFAULT 0, UNIQUE (job_id, task))""",
    "CREATE INDEX receipt_open ON receipt (claim_until_ms) WHERE state = 'attested'",
    "CREATE INDEX receipt_owed ON receipt (provider) WHERE state = 'attested'",
    "CREATE INDEX receipt_in_batch ON receipt (batch, leaf) WHERE batch <> ''",
    "CREATE TABLE event (id {serial}, job_id TEXT NOT NULL, at_ms BIGINT NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX event_of_job ON event (job_id, id)",
    # What is known of a provider beyond its connection.
    """CREATE TABLE provider (
        address TEXT PRIMARY KEY, record {blob} NOT NULL)""",
    # Spot checks: what was decided and why.
    "CREATE TABLE audit (id {serial}, receipt_id TEXT NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX audit_of_receipt ON audit (receipt_id) WHERE receipt_id <> ''",
    # Clients' locks whose rest goes back when their time is over.
    "CREATE TABLE watched (lock TEXT PRIMARY KEY, refund_after_ms BIGINT NOT NULL)",
)


def statements(dialect: Dialect) -> list[str]:
    return [text.format(serial=dialect.serial, blob=dialect.blob) for text in TABLES]


TABLES_OF_1 = ("job", "attempt", "receipt", "event")

FROM_1 = (
    *[f"ALTER TABLE {table} RENAME TO {table}_1" for table in (*TABLES_OF_1, "meta")],
    *[f"DROP INDEX {index}" for index in ("job_by_state", "job_by_end", "receipt_by_job", "receipt_open")],
)
"""Before the new tables are made."""

COPY_FROM_1 = (
    "INSERT INTO hub_meta SELECT name, value FROM meta_1",
    "INSERT INTO job SELECT job_id, quote, state, reason, message, lock, 0, randomness, attempts, expires_ms, ended_ms"
    " FROM job_1",
    """INSERT INTO task (job_id, task, cap, class, vfinish, state, reason, message, attempts, deliver_by_ms, units)
        SELECT job_id, 0, json_extract(CAST(quote AS TEXT), '$.model'), 1, 0,
            CASE state WHEN 'reserved' THEN 'queued' ELSE state END, reason, message, attempts,
            json_extract(CAST(quote AS TEXT), '$.deliver_by_ms'), json_extract(CAST(quote AS TEXT), '$.units')
        FROM job_1 WHERE lock IS NOT NULL ORDER BY rowid""",
    "UPDATE task SET owner = 'version 1' WHERE state IN ('leased', 'running')",
    "INSERT INTO attempt SELECT job_id, 0, attempt, provider, offer, candidates, randomness, 0, NULL, reason FROM"
    " attempt_1",
    """INSERT INTO receipt SELECT receipt_id, job_id, 0, provider, provider_pubkey, delivery, signed, data,
        claim_until_ms, claim_tx, state, '', 0 FROM receipt_1""",
    "INSERT INTO event (job_id, at_ms, body) SELECT job_id, at_ms, body FROM event_1 ORDER BY job_id, seq",
    *[f"DROP TABLE {table}_1" for table in (*TABLES_OF_1, "meta")],
)
"""A hub of 0.1.0 or 0.2.0 owes what it owed: jobs, attempts, receipts and their stories move over."""
