"""The hub's memory on disk: SQLite in WAL mode. What it has confirmed survives `kill -9`.

Synchronous and single-threaded: the hub calls it on one worker thread, in order. An attestation is a debt, so its
transaction waits for the disk; the rest may lose its last moments when the power fails, never when the process dies.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from aitbc.core.jobs.draw import Candidate
from aitbc.core.jobs.lifecycle import FINAL_STATES, State
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Delivery, Offer
from aitbc.core.types.receipts import SignedAttestation
from aitbc.hub.records import AttemptRecord, JobRecord, Quote, ReceiptEntry
from aitbc.ports import StorageError

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE job (
    job_id TEXT PRIMARY KEY, quote BLOB NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
    message TEXT NOT NULL DEFAULT '', lock TEXT UNIQUE, randomness BLOB NOT NULL DEFAULT x'',
    attempts INTEGER NOT NULL DEFAULT 0, expires_ms INTEGER NOT NULL, ended_ms INTEGER
);
CREATE INDEX job_by_state ON job (state);
CREATE INDEX job_by_end ON job (ended_ms) WHERE ended_ms IS NOT NULL;
CREATE TABLE attempt (
    job_id TEXT NOT NULL, attempt INTEGER NOT NULL, provider TEXT NOT NULL, offer BLOB NOT NULL,
    candidates BLOB NOT NULL, randomness BLOB NOT NULL, reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, attempt)
) WITHOUT ROWID;
CREATE TABLE receipt (
    receipt_id TEXT PRIMARY KEY, job_id TEXT NOT NULL, provider TEXT NOT NULL, provider_pubkey TEXT NOT NULL,
    delivery BLOB NOT NULL, signed BLOB NOT NULL, data BLOB NOT NULL, claim_until_ms INTEGER NOT NULL,
    claim_tx TEXT NOT NULL DEFAULT '', state TEXT NOT NULL DEFAULT 'attested'
);
CREATE UNIQUE INDEX receipt_by_job ON receipt (job_id);
CREATE INDEX receipt_open ON receipt (provider) WHERE state = 'attested';
CREATE TABLE event (
    job_id TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (job_id, seq)
) WITHOUT ROWID;
"""

MOST_FORGOTTEN = 10_000
"""Jobs deleted at once: with a sweep every five seconds more than all quotes that can be open."""

_RECEIPT_COLUMNS = (
    "receipt_id, job_id, provider, provider_pubkey, delivery, signed, claim_until_ms, claim_tx, state"
)

_PLACE = ":"
"""Between a session's lock and the job's place in it, so that the column `lock` stays unique."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


def _decode(raw: bytes, kind: type[T]) -> T:
    """Our own bytes back; damage is a bug or a broken disk, so it may travel."""
    return msgspec.json.decode(raw, type=kind)


class JobStore:
    """Jobs, attempts, receipts and the append-only log of what happened to each job."""

    def __init__(self, path: Path, *, genesis_hash: str) -> None:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # prompts are in it: for its owner only
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._open(path, genesis_hash)
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"{path} cannot be used ({error}): is another hub using this folder?"
            ) from None
        except sqlite3.DatabaseError as error:
            raise StorageError(f"{path} cannot be used ({error}); move it away and start again") from None

    def _open(self, path: Path, genesis_hash: str) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # one hub per folder; the lock dies with it
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
            self._db.execute("INSERT INTO meta VALUES ('genesis_hash', ?)", (genesis_hash,))
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StorageError(f"{path} has schema {version}; this version reads {SCHEMA_VERSION} only")
        row = self._db.execute("SELECT value FROM meta WHERE name = 'genesis_hash'").fetchone()
        if row is None or row[0] != genesis_hash:
            raise StorageError(f"{path} belongs to another chain; use another data folder or move it away")

    def close(self) -> None:
        self._db.close()

    # Statements below are put together from constants of this file; values are always parameters.

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All or nothing. `durable`: on disk, not only in the system's cache, when it ends."""
        if durable:
            self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous = NORMAL")

    # jobs

    def add_quote(self, quote: Quote) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT INTO job (job_id, quote, state, expires_ms) VALUES (?, ?, ?, ?)",
                (quote.job_id, _encode(quote), State.QUOTED, quote.expires_ms),
            )
            self._append_event(quote.job_id, quote.created_ms, {"state": State.QUOTED})

    def job(self, job_id: str) -> JobRecord | None:
        rows = self._jobs("job_id = ?", (job_id,))
        return rows[0] if rows else None

    def unfinished_jobs(self) -> list[JobRecord]:
        """Everything that has a timer, quotes included."""
        ends = ", ".join([f"'{state}'" for state in sorted(FINAL_STATES)])
        return self._jobs(f"state NOT IN ({ends})", ())

    def reserve(self, job_id: str, *, lock: str, randomness: bytes, at_ms: int) -> None:
        """The lock is final and right; a lock serves one job."""
        with self._transaction():
            changed = self._db.execute(
                "UPDATE job SET state = ?, lock = ?, randomness = ? WHERE job_id = ? AND state = ?",
                (State.RESERVED, lock, randomness, job_id, State.QUOTED),
            ).rowcount
            if not changed:
                raise Refused(JobReason.JOB_OVER, "this quote has ended; its lock can be refunded")
            self._append_event(job_id, at_ms, {"state": State.RESERVED})

    def add_session_job(self, quote: Quote, *, lock: str, randomness: bytes, at_ms: int) -> None:
        """A job that a session pays: reserved from the start; each place of a session serves one job."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO job (job_id, quote, state, lock, randomness, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    quote.job_id,
                    _encode(quote),
                    State.RESERVED,
                    f"{lock}{_PLACE}{quote.first_task}",
                    randomness,
                    quote.expires_ms,
                ),
            )
            self._append_event(quote.job_id, at_ms, {"state": State.RESERVED})

    def set_state(self, job_id: str, state: State, *, reason: str, message: str, at_ms: int) -> None:
        with self._transaction():
            self._set_state(job_id, state, reason=reason, message=message, at_ms=at_ms)

    def begin_attempt(self, record: AttemptRecord, *, at_ms: int) -> None:
        """The draw is on record before the provider hears of it."""
        offer = record.offer
        with self._transaction():
            self._db.execute(
                "INSERT INTO attempt (job_id, attempt, provider, offer, candidates, randomness)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    offer.job_id,
                    offer.attempt,
                    offer.provider,
                    _encode(offer),
                    _encode(record.table),
                    record.randomness,
                ),
            )
            self._db.execute(
                "UPDATE job SET attempts = ? WHERE job_id = ?", (offer.attempt + 1, offer.job_id)
            )
            self._set_state(offer.job_id, State.LEASED, reason="", message="", at_ms=at_ms)

    def end_attempt(
        self, job_id: str, attempt: int, *, state: State, reason: str, message: str, at_ms: int
    ) -> None:
        """An attempt failed; `state` is where that leaves the job."""
        with self._transaction():
            self._db.execute(
                "UPDATE attempt SET reason = ? WHERE job_id = ? AND attempt = ?", (reason, job_id, attempt)
            )
            self._set_state(job_id, state, reason=reason, message=message, at_ms=at_ms)

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        rows = self._db.execute(
            "SELECT offer, candidates, randomness, reason FROM attempt WHERE job_id = ? ORDER BY attempt",
            (job_id,),
        )
        return [
            AttemptRecord(
                offer=_decode(offer, Offer),
                table=_decode(table, list[Candidate]),
                randomness=randomness,
                reason=reason,
            )
            for offer, table, randomness, reason in rows
        ]

    # receipts

    def save_delivery(self, entry: ReceiptEntry, data: bytes, *, at_ms: int) -> None:
        """The attestation, the result and the new state, on disk together: after this the hub owes the provider."""
        with self._transaction(durable=True):
            self._db.execute(
                f"INSERT INTO receipt ({_RECEIPT_COLUMNS}, data)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    entry.receipt_id,
                    entry.job_id,
                    entry.provider,
                    entry.provider_pubkey,
                    _encode(entry.delivery),
                    _encode(entry.signed),
                    entry.claim_until_ms,
                    entry.claim_tx,
                    entry.state,
                    data,
                ),
            )
            self._set_state(entry.job_id, State.DELIVERED, reason="", message="", at_ms=at_ms)

    def receipt_of_job(self, job_id: str) -> ReceiptEntry | None:
        rows = self._receipts("job_id = ?", (job_id,))
        return rows[0] if rows else None

    def result_data(self, job_id: str) -> bytes | None:
        row = self._db.execute("SELECT data FROM receipt WHERE job_id = ?", (job_id,)).fetchone()
        return row[0] if row else None

    def receipt(self, receipt_id: str) -> ReceiptEntry | None:
        rows = self._receipts("receipt_id = ?", (receipt_id,))
        return rows[0] if rows else None

    def open_receipts(self, *, provider: str | None = None, limit: int = 100_000) -> list[ReceiptEntry]:
        """Attested and not yet paid, soonest to lapse first."""
        if provider is None:
            return self._receipts("state = 'attested' ORDER BY claim_until_ms LIMIT ?", (limit,))
        return self._receipts(
            "state = 'attested' AND provider = ? ORDER BY claim_until_ms LIMIT ?", (provider, limit)
        )

    def set_claim_tx(self, receipt_id: str, claim_tx: str) -> None:
        with self._transaction():
            self._db.execute("UPDATE receipt SET claim_tx = ? WHERE receipt_id = ?", (claim_tx, receipt_id))

    def close_receipt(
        self,
        receipt_id: str,
        *,
        receipt_state: str,
        job_state: State,
        claim_tx: str,
        reason: str,
        message: str,
        at_ms: int,
    ) -> None:
        """The chain has paid (`claimed`) or the time for it is over (`lapsed`)."""
        with self._transaction():
            row = self._db.execute(
                "UPDATE receipt SET state = ?, claim_tx = ? WHERE receipt_id = ? RETURNING job_id",
                (receipt_state, claim_tx, receipt_id),
            ).fetchone()
            self._set_state(row[0], job_state, reason=reason, message=message, at_ms=at_ms)

    # log and cleaning

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to the job, in order."""
        rows = self._db.execute("SELECT body FROM event WHERE job_id = ? ORDER BY seq", (job_id,))
        return [msgspec.json.decode(body) for (body,) in rows]

    def expire_quotes(self, now_ms: int, *, spare: set[str], reason: str, message: str) -> list[str]:
        """End quotes whose time is over, but for those whose lock is being waited for."""
        rows = self._db.execute(
            "SELECT job_id FROM job WHERE state = ? AND expires_ms < ?", (State.QUOTED, now_ms)
        ).fetchall()
        gone = [job_id for (job_id,) in rows if job_id not in spare]
        if not gone:
            return gone
        with self._transaction():
            for job_id in gone:
                self._set_state(job_id, State.EXPIRED, reason=reason, message=message, at_ms=now_ms)
        return gone

    def forget(self, *, ended_before_ms: int, unused_before_ms: int, limit: int = MOST_FORGOTTEN) -> int:
        """Delete jobs that ended long ago, with their results, and sooner those without a lock; returns how many."""
        rows = self._db.execute(
            "SELECT job_id FROM job WHERE ended_ms < ? OR (ended_ms < ? AND lock IS NULL) LIMIT ?",
            (ended_before_ms, unused_before_ms, limit),
        ).fetchall()
        if rows:
            with self._transaction():
                for table in ("event", "receipt", "attempt", "job"):
                    self._db.executemany(f"DELETE FROM {table} WHERE job_id = ?", rows)  # noqa: S608
        return len(rows)

    # helpers

    def _set_state(self, job_id: str, state: State, *, reason: str, message: str, at_ms: int) -> None:
        ended_ms = at_ms if state in FINAL_STATES else None
        self._db.execute(
            "UPDATE job SET state = ?, reason = ?, message = ?, ended_ms = ? WHERE job_id = ?",
            (state, reason, message, ended_ms, job_id),
        )
        event = {"state": state, "reason": reason, "message": message} if reason else {"state": state}
        self._append_event(job_id, at_ms, event)

    def _append_event(self, job_id: str, at_ms: int, event: dict[str, Any]) -> None:
        """State changes only: a life has fewer than twenty of them."""
        self._db.execute(
            "INSERT INTO event SELECT ?, COALESCE(MAX(seq), -1) + 1, ?, ? FROM event WHERE job_id = ?",
            (job_id, at_ms, _encode(event).decode(), job_id),
        )

    def _jobs(self, where: str, parameters: tuple[Any, ...]) -> list[JobRecord]:
        rows = self._db.execute(
            f"SELECT quote, state, reason, message, lock, randomness, attempts FROM job WHERE {where}",  # noqa: S608
            parameters,
        )
        return [
            JobRecord(
                quote=_decode(quote, Quote),
                state=State(state),
                reason=reason,
                message=message,
                lock=(lock or "").partition(_PLACE)[0],
                randomness=randomness,
                attempts=attempts,
            )
            for quote, state, reason, message, lock, randomness, attempts in rows
        ]

    def _receipts(self, where: str, parameters: tuple[Any, ...]) -> list[ReceiptEntry]:
        rows = self._db.execute(
            f"SELECT {_RECEIPT_COLUMNS} FROM receipt WHERE {where}",  # noqa: S608
            parameters,
        )
        return [
            ReceiptEntry(
                receipt_id=receipt_id,
                job_id=job_id,
                provider=provider,
                provider_pubkey=pubkey,
                delivery=_decode(delivery, Delivery),
                signed=_decode(signed, SignedAttestation),
                claim_until_ms=claim_until_ms,
                claim_tx=claim_tx,
                state=state,
            )
            for receipt_id, job_id, provider, pubkey, delivery, signed, claim_until_ms, claim_tx, state in rows
        ]
