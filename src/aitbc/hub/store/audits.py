"""The audit log: appended to, read in order, never changed."""

from aitbc.core.jobs.audits import AuditEntry
from aitbc.hub.store.base import BaseStore, decode, durable, encode


class AuditLog(BaseStore):
    @durable
    def write_audit(self, entry: AuditEntry) -> None:
        with self._transaction(durable=True) as session:
            session.run(
                "INSERT INTO audit (receipt_id, body) VALUES (?, ?)",
                (entry.receipt_id, encode(entry).decode()),
            )

    def audit_log(self, *, after: int = 0, limit: int = 10_000) -> list[tuple[int, AuditEntry]]:
        """Entries with their numbers, the oldest first."""
        with self._transaction() as session:
            rows = session.rows("SELECT id, body FROM audit WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [(number, decode(body.encode(), AuditEntry)) for number, body in rows]
