"""Statements about what was delivered and is owed."""

from collections.abc import Sequence

from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.receipts import Delivery
from aitbc.core.types.receipts import SignedAttestation
from aitbc.hub.records import NewDelivery, ReceiptEntry
from aitbc.hub.store.base import decode, durable, encode
from aitbc.hub.store.database import Row
from aitbc.hub.store.queue import Queue

RECEIPT_COLUMNS = (
    "receipt_id, job_id, task, provider, provider_pubkey, delivery, signed, claim_until_ms, claim_tx, state,"
    " batch, leaf"
)

MOST_SUMMED = 100
"""Open receipts that count as money withheld: more do not change a rate that is at its floor by then."""


class Receipts(Queue):
    @durable
    def save_deliveries(self, deliveries: Sequence[NewDelivery]) -> list[bool]:
        """The attestation, the result and the new state, on disk together: after this the hub owes the provider.
        False: the part has been delivered by another attempt or taken over by another process."""
        with self._transaction(durable=True) as session:
            taken = session.changed_many(
                "UPDATE task SET state = 'delivered', reason = '', message = '' WHERE job_id = ? AND task = ?"
                " AND owner = ? AND (state IN ('leased', 'running', 'auditing') OR (state = 'delivered' AND EXISTS"
                " (SELECT 1 FROM receipt WHERE receipt_id = ?))) RETURNING 1",
                [(d.entry.job_id, d.entry.part, d.owner, d.entry.receipt_id) for d in deliveries],
            )
            new = [delivery for delivery, ours in zip(deliveries, taken, strict=True) if ours]
            session.run_many(
                f"INSERT INTO receipt ({RECEIPT_COLUMNS}, data)"  # noqa: S608
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(*_row_of(delivery.entry), delivery.data) for delivery in new],
            )
            session.run_many(
                "UPDATE attempt SET ended_ms = ? WHERE job_id = ? AND task = ? AND attempt = ?",
                [(d.at_ms, d.entry.job_id, d.entry.part, d.attempt) for d in new],
            )
            self._move_jobs(session, [(d.entry.job_id, d.job_state, "", "", d.at_ms) for d in new])
        return taken

    def receipt_of_job(self, job_id: str) -> ReceiptEntry | None:
        """The receipt of a job's first part."""
        rows = self._receipts("job_id = ? AND task = 0", (job_id,))
        return rows[0] if rows else None

    def receipts_of_job(self, job_id: str) -> list[ReceiptEntry]:
        """Of all its parts that were delivered, in their order."""
        return self._receipts("job_id = ? ORDER BY task", (job_id,))

    def receipt(self, receipt_id: str) -> ReceiptEntry | None:
        rows = self._receipts("receipt_id = ?", (receipt_id,))
        return rows[0] if rows else None

    def result_data(self, job_id: str, part: int = 0) -> bytes | None:
        with self._transaction() as session:
            rows = session.rows("SELECT data FROM receipt WHERE job_id = ? AND task = ?", (job_id, part))
        return bytes(rows[0][0]) if rows else None

    def open_receipts(self, *, provider: str | None = None, limit: int = 100_000) -> list[ReceiptEntry]:
        """Attested and not yet paid, soonest to lapse first."""
        if provider is None:
            return self._receipts("state = 'attested' ORDER BY claim_until_ms LIMIT ?", (limit,))
        return self._receipts(
            "state = 'attested' AND provider = ? ORDER BY claim_until_ms LIMIT ?", (provider, limit)
        )

    def unmatured_of(self, provider: str) -> int:
        """What a provider has earned and not yet been paid: it can still be withheld."""
        entries = self.open_receipts(provider=provider, limit=MOST_SUMMED)
        return sum([entry.signed.attestation.price for entry in entries])

    def receipts_of_batch(self, batch: str) -> list[ReceiptEntry]:
        """In the order of their leaves."""
        return self._receipts("batch = ? ORDER BY leaf", (batch,))

    def set_claim_tx(self, receipt_id: str, claim_tx: str) -> None:
        with self._transaction() as session:
            session.run("UPDATE receipt SET claim_tx = ? WHERE receipt_id = ?", (claim_tx, receipt_id))

    @durable
    def set_batch(self, batch: str, receipt_ids: Sequence[str]) -> None:
        """These receipts are the leaves of a RECEIPT_BATCH that is about to be sent, in this order; none: take back."""
        with self._transaction(durable=True) as session:
            session.run("UPDATE receipt SET batch = '' WHERE batch = ? AND state = 'attested'", (batch,))
            session.run_many(
                "UPDATE receipt SET batch = ?, leaf = ? WHERE receipt_id = ?",
                [(batch, leaf, receipt_id) for leaf, receipt_id in enumerate(receipt_ids)],
            )

    def close_receipt(
        self,
        receipt_id: str,
        *,
        receipt_state: str,
        task_state: State,
        claim_tx: str,
        reason: str,
        message: str,
        at_ms: int,
    ) -> None:
        """The chain has paid (`claimed`) or the time for it is over (`lapsed`)."""
        with self._transaction() as session:
            rows = session.rows(
                "UPDATE receipt SET state = ?, claim_tx = ? WHERE receipt_id = ? AND state = 'attested'"
                " RETURNING job_id, task",
                (receipt_state, claim_tx, receipt_id),
            )
            for job_id, part in rows:
                session.run(
                    "UPDATE task SET state = ?, reason = ?, message = ?, owner = '' WHERE job_id = ? AND task = ?",
                    (task_state, reason, message, job_id, part),
                )
                self._follow_tasks(session, job_id, reason, message, at_ms)

    def _receipts(self, where: str, values: tuple[object, ...]) -> list[ReceiptEntry]:
        with self._transaction() as session:
            rows = session.rows(
                f"SELECT {RECEIPT_COLUMNS} FROM receipt WHERE {where}",  # noqa: S608
                values,
            )
        return [_entry_of(row) for row in rows]


def _row_of(entry: ReceiptEntry) -> Row:
    return (
        entry.receipt_id,
        entry.job_id,
        entry.part,
        entry.provider,
        entry.provider_pubkey,
        encode(entry.delivery),
        encode(entry.signed),
        entry.claim_until_ms,
        entry.claim_tx,
        entry.state,
        entry.batch,
        entry.leaf,
    )


def _entry_of(row: Row) -> ReceiptEntry:
    (
        receipt_id,
        job_id,
        part,
        provider,
        pubkey,
        delivery,
        signed,
        claim_until_ms,
        claim_tx,
        state,
        batch,
        leaf,
    ) = row
    return ReceiptEntry(
        receipt_id=receipt_id,
        job_id=job_id,
        part=part,
        provider=provider,
        provider_pubkey=pubkey,
        delivery=decode(delivery, Delivery),
        signed=decode(signed, SignedAttestation),
        claim_until_ms=claim_until_ms,
        claim_tx=claim_tx,
        state=state,
        batch=batch,
        leaf=leaf,
    )
