"""Session locks: the hub's own escrow, out of which the jobs of its account holders are paid, and locks that may
have to be refunded one day."""

from typing import NamedTuple

import msgspec

from aitbc.hub.store.base import BaseStore


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A JOB_LOCK of the hub's own that pays many jobs; in the store while it may."""

    lock: str
    amount: int
    tasks: int
    deliver_by_ms: int
    claim_until_ms: int


class Draft(NamedTuple):
    """A job's part of a session."""

    lock: str
    first_task: int
    claim_until_ms: int


class Sessions(BaseStore):
    def add_session(self, session: Session) -> None:
        with self._transaction(durable=True) as transaction:
            transaction.run(
                "INSERT INTO session (lock, amount, tasks, deliver_by_ms, claim_until_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (
                    session.lock,
                    session.amount,
                    session.tasks,
                    session.deliver_by_ms,
                    session.claim_until_ms,
                ),
            )

    def draw_on_session(self, *, amount: int, tasks: int, deliver_by_ms: int) -> Draft | None:
        """So many task numbers and so much money of a session, for one job only; None when no session has it."""
        skip = " FOR UPDATE" if self.database.dialect.skip_locked else ""
        with self._transaction(durable=True) as transaction:
            rows = transaction.rows(
                "UPDATE session SET next_task = next_task + ?, reserved = reserved + ? WHERE lock = (SELECT lock FROM"  # noqa: S608
                " session WHERE amount - reserved >= ? AND tasks - next_task >= ? AND deliver_by_ms >= ?"
                f" ORDER BY deliver_by_ms LIMIT 1{skip}) RETURNING lock, next_task - ?, claim_until_ms",
                (tasks, amount, amount, tasks, deliver_by_ms, tasks),
            )
        return Draft(*rows[0]) if rows else None

    def forget_sessions(self, *, now_ms: int) -> None:
        with self._transaction() as transaction:
            transaction.run("DELETE FROM session WHERE claim_until_ms < ?", (now_ms,))

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
