"""Locks whose rest may have to be sent back one day, because their owners do not fetch it."""

from aitbc.hub.store.base import BaseStore


class Locks(BaseStore):
    def watch_lock(self, lock: str, *, refund_after_ms: int) -> None:
        """Money that was not earned goes back at this time, if its owner has not fetched it."""
        with self._transaction() as transaction:
            transaction.run(
                "INSERT INTO watched (lock, refund_after_ms) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (lock, refund_after_ms),
            )

    def locks_to_refund(self, *, now_ms: int, limit: int = 100) -> list[str]:
        with self._transaction() as transaction:
            rows = transaction.rows(
                "SELECT lock FROM watched WHERE refund_after_ms < ? ORDER BY refund_after_ms LIMIT ?",
                (now_ms, limit),
            )
        return [lock for (lock,) in rows]

    def unwatch_lock(self, lock: str) -> None:
        with self._transaction() as transaction:
            transaction.run("DELETE FROM watched WHERE lock = ?", (lock,))
