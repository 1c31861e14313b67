"""Statements about jobs, their parts and attempts. Every change of a part is a compare-and-set on its owner and
state, so a process that lost its part changes nothing and is told so. Performed twice, each changes once."""

from collections.abc import Sequence
from typing import Any

from aitbc.core.jobs.draw import Candidate
from aitbc.core.jobs.lifecycle import FINAL_STATES, State, job_state
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Offer
from aitbc.hub.records import (
    AttemptRecord,
    JobRecord,
    NewAttempt,
    NewReservation,
    Quote,
    TaskChange,
    TaskRecord,
)
from aitbc.hub.store.base import BaseStore, decode, encode
from aitbc.hub.store.database import Row, Session

MOST_FORGOTTEN = 10_000
"""Jobs deleted at once: with a sweep every five seconds more than all quotes that can be open."""

ENDS = ", ".join([f"'{state}'" for state in sorted(FINAL_STATES)])

JOB_COLUMNS = "quote, state, reason, message, lock, first_task, randomness, attempts"
TASK_COLUMNS = "seq, job_id, task, cap, class, vfinish, state, reason, message, attempts, units"


class Jobs(BaseStore):
    def add_quote(self, quote: Quote) -> None:
        with self._transaction() as session:
            session.run(
                "INSERT INTO job (job_id, quote, state, expires_ms) VALUES (?, ?, ?, ?)",
                (quote.job_id, encode(quote), State.QUOTED, quote.expires_ms),
            )
            self._tell(session, [(quote.job_id, quote.created_ms, {"state": State.QUOTED})])

    def job(self, job_id: str) -> JobRecord | None:
        with self._transaction() as session:
            rows = session.rows(f"SELECT {JOB_COLUMNS} FROM job WHERE job_id = ?", (job_id,))  # noqa: S608
        return job_of(rows[0]) if rows else None

    def tasks(self, job_id: str) -> list[TaskRecord]:
        """The parts of a job, in order; none while it is a quote."""
        with self._transaction() as session:
            rows = session.rows(
                f"SELECT {TASK_COLUMNS} FROM task WHERE job_id = ? ORDER BY task",  # noqa: S608
                (job_id,),
            )
        return [task_of(row) for row in rows]

    def open_quotes(self) -> list[str]:
        with self._transaction() as session:
            rows = session.rows("SELECT job_id FROM job WHERE state = ?", (State.QUOTED,))
        return [job_id for (job_id,) in rows]

    def reserve(self, reservations: Sequence[NewReservation]) -> list[bool]:
        """The lock is final and right; a lock pays a job once. False: this quote has ended, another process was
        first, or the lock is taken."""
        with self._transaction() as session:
            taken = session.changed_many(
                "UPDATE job SET state = ?, lock = ?, first_task = ?, randomness = ? WHERE job_id = ?"
                " AND (state = ? OR (state = ? AND lock = ? AND first_task = ? AND EXISTS (SELECT 1 FROM task"
                " WHERE task.job_id = job.job_id AND task.owner = ? AND task.state = 'queued')))"
                " AND NOT EXISTS (SELECT 1 FROM job AS other WHERE other.lock = ? AND other.first_task = ?"
                " AND other.job_id <> job.job_id) RETURNING 1",
                [
                    (
                        *(State.QUEUED, r.lock, r.first_task, r.randomness, r.job_id),
                        *(State.QUOTED, State.QUEUED, r.lock, r.first_task, r.owner),
                        *(r.lock, r.first_task),
                    )
                    for r in reservations
                ],
            )
            new = [r for r, fresh in zip(reservations, taken, strict=True) if fresh]
            session.run_many(
                "INSERT INTO task (job_id, task, cap, class, vfinish, state, owner, deliver_by_ms, units)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job_id, task) DO NOTHING",
                [
                    (
                        r.job_id,
                        t.part,
                        t.cap,
                        t.job_class,
                        t.vfinish,
                        State.QUEUED,
                        r.owner,
                        r.deliver_by_ms,
                        t.units,
                    )
                    for r in new
                    for t in r.tasks
                ],
            )
            stories = [
                (r.job_id, r.at_ms, {"state": state}) for r in new for state in (State.RESERVED, State.QUEUED)
            ]
            self._tell(session, stories)
            if any(not r.owner for r in new):
                self.database.notify()
        return taken

    def cancel_quote(self, job_id: str, *, at_ms: int) -> None:
        """A quote that nobody paid for; refuses one that has been taken meanwhile."""
        with self._transaction() as session:
            changed = session.run(
                "UPDATE job SET state = ?, reason = ?, message = ?, ended_ms = ? WHERE job_id = ? AND state = ?",
                (
                    State.CANCELED,
                    JobReason.CANCELED,
                    "the client has canceled it",
                    at_ms,
                    job_id,
                    State.QUOTED,
                ),
            )
            if not changed:
                raise Refused(JobReason.JOB_OVER, "the quote has been taken or has ended")
            event = {
                "state": State.CANCELED,
                "reason": JobReason.CANCELED,
                "message": "the client has canceled it",
            }
            self._tell(session, [(job_id, at_ms, event)])

    def begin_attempts(self, attempts: Sequence[NewAttempt]) -> list[bool]:
        """Lease parts: the draw is on record before the provider hears of it. False: the part is not ours any more."""
        with self._transaction() as session:
            offers = [(new, new.record.offer) for new in attempts]
            leased = session.changed_many(
                "UPDATE task SET state = CASE WHEN state = 'queued' THEN 'leased' ELSE state END, attempts = ?,"
                " reason = '', message = '' WHERE job_id = ? AND task = ? AND owner = ?"
                " AND ((state = 'queued' AND attempts = ?) OR (state IN ('leased', 'running') AND attempts = ?))"
                " RETURNING 1",
                [
                    (
                        offer.attempt + 1,
                        offer.job_id,
                        new.record.part,
                        new.owner,
                        offer.attempt,
                        offer.attempt if new.hedge else offer.attempt + 1,  # the latter: performed before
                    )
                    for new, offer in offers
                ],
            )
            fresh = [pair for pair, ours in zip(offers, leased, strict=True) if ours]
            session.run_many(
                "INSERT INTO attempt (job_id, task, attempt, provider, offer, candidates, randomness, started_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (
                        offer.job_id,
                        new.record.part,
                        offer.attempt,
                        offer.provider,
                        encode(offer),
                        encode(new.record.table),
                        new.record.randomness,
                        new.at_ms,
                    )
                    for new, offer in fresh
                ],
            )
            session.run_many(
                "UPDATE job SET state = CASE WHEN state = 'queued' THEN 'leased' ELSE state END, reason = '',"
                " message = '', attempts = CASE WHEN attempts < ? THEN ? ELSE attempts END WHERE job_id = ?",
                [(offer.attempt + 1, offer.attempt + 1, offer.job_id) for _, offer in fresh],
            )
            self._tell(
                session,
                [(offer.job_id, new.at_ms, {"state": State.LEASED}) for new, offer in fresh if not new.hedge],
            )
        return leased

    def change_tasks(self, changes: Sequence[TaskChange]) -> list[bool]:
        """Write down where parts have come to, and end the attempts that failed. False: not ours any more."""
        with self._transaction() as session:
            changed = session.changed_many(
                "UPDATE task SET state = ?, reason = ?, message = ? WHERE job_id = ? AND task = ?"  # noqa: S608
                f" AND owner = ? AND state NOT IN ({ENDS}, 'delivered') RETURNING 1",
                [(c.state, c.reason, c.message, c.job_id, c.part, c.owner) for c in changes],
            )
            session.run_many(
                "UPDATE attempt SET reason = ?, ended_ms = ? WHERE job_id = ? AND task = ? AND attempt = ?",
                [
                    (c.reason, c.at_ms, c.job_id, c.part, c.ended_attempt)
                    for c in changes
                    if c.ended_attempt >= 0
                ],
            )
            ours = [c for c, ok in zip(changes, changed, strict=True) if ok]
            self._move_jobs(session, [(c.job_id, c.job_state, c.reason, c.message, c.at_ms) for c in ours])
        return changed

    def end_attempt(self, job_id: str, part: int, attempt: int, *, reason: str, at_ms: int) -> None:
        """An attempt failed while another one at the same part goes on."""
        with self._transaction() as session:
            session.run(
                "UPDATE attempt SET reason = ?, ended_ms = ? WHERE job_id = ? AND task = ? AND attempt = ?",
                (reason, at_ms, job_id, part, attempt),
            )

    def attempts(self, job_id: str) -> list[AttemptRecord]:
        with self._transaction() as session:
            rows = session.rows(
                "SELECT offer, task, candidates, randomness, reason FROM attempt WHERE job_id = ?"
                " ORDER BY task, attempt",
                (job_id,),
            )
        return [
            AttemptRecord(
                offer=decode(offer, Offer),
                part=part,
                table=decode(table, list[Candidate]),
                randomness=bytes(randomness),
                reason=reason,
            )
            for offer, part, table, randomness, reason in rows
        ]

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """What happened to the job, in order."""
        with self._transaction() as session:
            rows = session.rows("SELECT body FROM event WHERE job_id = ? ORDER BY id", (job_id,))
        return [decode(body.encode(), dict[str, Any]) for (body,) in rows]

    def expire_quotes(self, now_ms: int, *, spare: set[str], reason: str, message: str) -> list[str]:
        """End quotes whose time is over, but for those whose lock is being waited for."""
        with self._transaction() as session:
            rows = session.rows(
                "SELECT job_id FROM job WHERE state = ? AND expires_ms < ?", (State.QUOTED, now_ms)
            )
            gone = [job_id for (job_id,) in rows if job_id not in spare]
            ended = session.changed_many(
                "UPDATE job SET state = ?, reason = ?, message = ?, ended_ms = ? WHERE job_id = ? AND state = ?"
                " RETURNING 1",
                [(State.EXPIRED, reason, message, now_ms, job_id, State.QUOTED) for job_id in gone],
            )
            gone = [job_id for job_id, ours in zip(gone, ended, strict=True) if ours]
            event = {"state": State.EXPIRED, "reason": reason, "message": message}
            self._tell(session, [(job_id, now_ms, event) for job_id in gone])
        return gone

    def forget(self, *, ended_before_ms: int, unused_before_ms: int, limit: int = MOST_FORGOTTEN) -> int:
        """Delete jobs that ended long ago, with their results, and sooner those without a lock; returns how many."""
        with self._transaction() as session:
            rows = session.rows(
                "SELECT job_id FROM job WHERE ended_ms < ? OR (ended_ms < ? AND lock IS NULL) LIMIT ?",
                (ended_before_ms, unused_before_ms, limit),
            )
            for table in ("event", "receipt", "attempt", "task", "job"):
                session.run_many(f"DELETE FROM {table} WHERE job_id = ?", rows)  # noqa: S608
        return len(rows)

    def cancel_waiting(self, job_id: str, *, at_ms: int) -> int:
        """End the waiting parts of a job that no process has in its index; returns how many."""
        message = "the client has canceled it"
        with self._transaction() as session:
            count = session.run(
                "UPDATE task SET state = ?, reason = ?, message = ? WHERE job_id = ? AND state = 'queued'"
                " AND owner = ''",
                (State.CANCELED, JobReason.CANCELED, message, job_id),
            )
            if count:
                self._follow_tasks(session, job_id, JobReason.CANCELED, message, at_ms)
        return count

    # helpers

    def _move_jobs(
        self, session: Session, changes: Sequence[tuple[str, State | None, str, str, int]]
    ) -> None:
        """A job of one part is where its part is; of several, where they leave it together."""
        self._set_jobs(
            session,
            [
                (job_id, state, reason, message, at_ms)
                for job_id, state, reason, message, at_ms in changes
                if state is not None
            ],
        )
        for job_id, state, reason, message, at_ms in changes:
            if state is None:
                self._follow_tasks(session, job_id, reason, message, at_ms)

    def _set_jobs(self, session: Session, changes: Sequence[tuple[str, State, str, str, int]]) -> None:
        """(job, state, reason, message, when) of jobs that are not over; the story grows with each."""
        session.run_many(
            "UPDATE job SET state = ?, reason = ?, message = ?, ended_ms = ? WHERE job_id = ?"  # noqa: S608
            f" AND state NOT IN ({ENDS})",
            [
                (state, reason, message, at_ms if state in FINAL_STATES else None, job_id)
                for job_id, state, reason, message, at_ms in changes
            ],
        )
        stories = []
        for job_id, state, reason, message, at_ms in changes:
            event = {"state": state, "reason": reason, "message": message} if reason else {"state": state}
            stories.append((job_id, at_ms, event))
        self._tell(session, stories)

    def _follow_tasks(self, session: Session, job_id: str, reason: str, message: str, at_ms: int) -> None:
        """A part has moved without anybody having the job in memory: the job's state is what its parts make of it."""
        rows = session.rows("SELECT state FROM task WHERE job_id = ? ORDER BY task", (job_id,))
        state = job_state([State(state) for (state,) in rows])
        if session.rows("SELECT 1 FROM job WHERE job_id = ? AND state <> ?", (job_id, state)):
            self._set_jobs(session, [(job_id, state, reason, message, at_ms)])

    def _tell(self, session: Session, stories: Sequence[tuple[str, int, dict[str, Any]]]) -> None:
        """State changes only: a part's life has fewer than twenty of them."""
        session.run_many(
            "INSERT INTO event (job_id, at_ms, body) VALUES (?, ?, ?)",
            [(job_id, at_ms, encode(event).decode()) for job_id, at_ms, event in stories],
        )


def job_of(row: Row) -> JobRecord:
    quote, state, reason, message, lock, first_task, randomness, attempts = row
    return JobRecord(
        quote=decode(quote, Quote),
        state=State(state),
        reason=reason,
        message=message,
        lock=lock or "",
        first_task=first_task,
        randomness=bytes(randomness or b""),
        attempts=attempts,
    )


def task_of(row: Row) -> TaskRecord:
    seq, job_id, part, cap, job_class, vfinish, state, reason, message, attempts, units = row
    return TaskRecord(
        seq=seq,
        job_id=job_id,
        part=part,
        cap=cap,
        job_class=job_class,
        vfinish=vfinish,
        state=State(state),
        reason=reason,
        message=message,
        attempts=attempts,
        units=units,
    )
