"""Who has which waiting part in its index: claims in batches, fairest first, and what a dead process leaves behind.

The queue itself is the table `task`; a process takes from it as much as it can soon place. DESIGN §6
"""

from collections.abc import Sequence
from typing import NamedTuple

from aitbc.core.jobs.lifecycle import MAX_ATTEMPTS, State
from aitbc.core.jobs.reasons import JobReason
from aitbc.hub.records import JobRecord, TaskRecord
from aitbc.hub.store.database import Row, Session
from aitbc.hub.store.jobs import ENDS, JOB_COLUMNS, TASK_COLUMNS, Jobs, job_of, task_of

MOST_RECLAIMED = 10_000
"""Parts of dead processes that one sweep takes over; the next one takes the rest."""

_PREFIXED = ", ".join([f"task.{name.strip()}" for name in TASK_COLUMNS.split(",")])


class Appetite(NamedTuple):
    """How many waiting parts of one class a process has room for."""

    cap: str
    job_class: int
    limit: int


class Claimed(NamedTuple):
    job: JobRecord
    tasks: list[TaskRecord]
    """Those of its parts that were claimed."""


class Waiting(NamedTuple):
    """What waits for one kind of provider."""

    cap: str
    job_class: int
    parts: int
    units: int


class Queue(Jobs):
    def alive(self, process: str, *, until_ms: int) -> None:
        """This process is there until then; said again in time, what it owns stays its own."""
        with self._transaction() as session:
            session.run(
                "INSERT INTO process (id, alive_until_ms) VALUES (?, ?)"
                " ON CONFLICT (id) DO UPDATE SET alive_until_ms = excluded.alive_until_ms",
                (process, until_ms),
            )

    def bury(self) -> None:
        """Nobody else can be on this database: every process that it names is dead."""
        with self._transaction() as session:
            session.run("DELETE FROM process")

    def has_duty(self, name: str, process: str, *, now_ms: int) -> bool:
        """Is it this process that does this for all? The holder keeps it for as long as it is alive."""
        with self._transaction() as session:
            rows = session.rows(
                "INSERT INTO duty (name, holder) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET holder ="
                " CASE WHEN EXISTS (SELECT 1 FROM process WHERE id = duty.holder AND alive_until_ms >= ?)"
                " THEN duty.holder ELSE excluded.holder END RETURNING holder",
                (name, process, now_ms),
            )
        return rows == [(process,)]

    def leave(self, process: str) -> None:
        """An orderly end: what waits is for others at once. What runs is taken over as of a dead process."""
        with self._transaction() as session:
            session.run("UPDATE task SET owner = '' WHERE owner = ? AND state = ?", (process, State.QUEUED))
            session.run("DELETE FROM duty WHERE holder = ?", (process,))
            session.run("UPDATE process SET alive_until_ms = 0 WHERE id = ?", (process,))
            self.database.notify()

    def claim(self, process: str, appetites: Sequence[Appetite]) -> list[Claimed]:
        """Take waiting parts, in their order within each class; no two processes get the same."""
        with self._transaction() as session:
            if self.database.dialect.skip_locked:
                rows = self._claim_skipping(session, process, appetites)
            else:
                rows = [row for appetite in appetites for row in self._claim_one(session, process, appetite)]
            tasks: dict[str, list[TaskRecord]] = {}
            for row in sorted(rows):
                task = task_of(row)
                tasks.setdefault(task.job_id, []).append(task)
            jobs = [row for job_id in tasks for row in self._job_rows(session, job_id)]
        records = [job_of(row) for row in jobs]
        return [Claimed(record, tasks[record.quote.job_id]) for record in records]

    def _claim_one(self, session: Session, process: str, appetite: Appetite) -> list[Row]:
        return session.rows(
            "UPDATE task SET owner = ? WHERE seq IN (SELECT seq FROM task WHERE cap = ? AND class = ?"  # noqa: S608
            " AND state = 'queued' AND owner = '' ORDER BY vfinish, seq LIMIT ?)"
            f" RETURNING {TASK_COLUMNS}",
            (process, appetite.cap, appetite.job_class, appetite.limit),
        )

    def _claim_skipping(self, session: Session, process: str, appetites: Sequence[Appetite]) -> list[Row]:
        """One statement for all: LATERAL lets each class use the index, SKIP LOCKED lets processes pass each other."""
        columns = list(zip(*appetites, strict=True)) or [(), (), ()]
        return session.rows(
            "WITH picked AS (SELECT found.seq FROM"  # noqa: S608
            " unnest(?::text[], ?::bigint[], ?::bigint[]) AS want(cap, class, most) CROSS JOIN LATERAL"
            " (SELECT seq FROM task WHERE task.cap = want.cap AND task.class = want.class AND state = 'queued'"
            " AND owner = '' ORDER BY vfinish, seq LIMIT want.most FOR UPDATE SKIP LOCKED) AS found)"
            f" UPDATE task SET owner = ? FROM picked WHERE task.seq = picked.seq RETURNING {_PREFIXED}",
            (*[list(column) for column in columns], process),
        )

    def _job_rows(self, session: Session, job_id: str) -> list[Row]:
        return session.rows(f"SELECT {JOB_COLUMNS} FROM job WHERE job_id = ?", (job_id,))  # noqa: S608

    def let_go(self, process: str, parts: Sequence[tuple[str, int]]) -> None:
        """Put waiting parts back for whoever asks next."""
        with self._transaction() as session:
            session.run_many(
                "UPDATE task SET owner = '' WHERE job_id = ? AND task = ? AND owner = ? AND state = 'queued'",
                [(job_id, part, process) for job_id, part in parts],
            )
            self.database.notify()

    def owned(self, process: str) -> list[tuple[str, int]]:
        """The waiting parts that a process should have in its index."""
        with self._transaction() as session:
            rows = session.rows(
                "SELECT job_id, task FROM task WHERE owner = ? AND state = 'queued'", (process,)
            )
        return [(job_id, part) for job_id, part in rows]

    def waiting(self) -> list[Waiting]:
        """How much waits, by capability and class."""
        with self._transaction() as session:
            rows = session.rows(
                "SELECT cap, class, COUNT(*), CAST(SUM(units) AS BIGINT) FROM task WHERE state = 'queued'"
                " GROUP BY cap, class ORDER BY cap, class"
            )
        return [Waiting(*row) for row in rows]

    def ahead_of(self, job_id: str) -> list[Waiting]:
        """For each kind of provider that a waiting job wants: what is before its first waiting part in its class."""
        with self._transaction() as session:
            rows = session.rows(
                "SELECT mine.cap, mine.class, COUNT(other.seq), CAST(COALESCE(SUM(other.units), 0) AS BIGINT)"
                " FROM task AS mine LEFT JOIN task AS other ON other.cap = mine.cap AND other.state = 'queued'"
                " AND other.class = mine.class AND (other.vfinish < mine.vfinish OR (other.vfinish = mine.vfinish"
                " AND other.seq < mine.seq)) WHERE mine.seq = (SELECT MIN(seq) FROM task WHERE job_id = ? AND state ="
                " 'queued') GROUP BY mine.cap, mine.class",
                (job_id,),
            )
        return [Waiting(*row) for row in rows]

    def reclaim(self, *, now_ms: int) -> int:
        """Take over what belongs to processes that are no more: waiting parts wait for anybody, running ones have
        failed with `hub_restarted` and wait again or have had their last attempt. Returns how many."""
        dead = "owner <> '' AND owner NOT IN (SELECT id FROM process WHERE alive_until_ms >= ?)"
        with self._transaction() as session:
            count = session.run(f"UPDATE task SET owner = '' WHERE state = 'queued' AND {dead}", (now_ms,))  # noqa: S608
            skip = " FOR UPDATE SKIP LOCKED" if self.database.dialect.skip_locked else ""
            rows = session.rows(
                f"SELECT job_id, task, attempts FROM task WHERE state IN ('leased', 'running', 'auditing') AND {dead}"  # noqa: S608
                f" LIMIT {MOST_RECLAIMED}{skip}",
                (now_ms,),
            )
            self._fail_lost(session, rows, now_ms)
            session.run(
                "DELETE FROM process WHERE alive_until_ms < ? AND NOT EXISTS"
                " (SELECT 1 FROM task WHERE owner = process.id)",
                (now_ms,),
            )
            if count or rows:
                self.database.notify()
        return count + len(rows)

    def _fail_lost(self, session: Session, rows: Sequence[Row], now_ms: int) -> None:
        reason, message = JobReason.HUB_RESTARTED, "the hub was restarted while this ran"
        ends = [(*row, State.QUEUED if row[2] < MAX_ATTEMPTS else State.FAILED) for row in rows]
        session.run_many(
            "UPDATE task SET owner = '', state = ?, reason = ?, message = ? WHERE job_id = ? AND task = ?",
            [(state, reason, message, job_id, part) for job_id, part, _, state in ends],
        )
        session.run_many(
            "UPDATE attempt SET reason = ?, ended_ms = ? WHERE job_id = ? AND task = ? AND ended_ms IS NULL"
            " AND reason = ''",
            [(reason, now_ms, job_id, part) for job_id, part, _, _ in ends],
        )
        for job_id in sorted({job_id for job_id, *_ in ends}):
            self._follow_tasks(session, job_id, reason, message, now_ms)

    def expire_waiting(self, *, now_ms: int, margin_ms: int, limit: int = MOST_RECLAIMED) -> int:
        """End waiting parts that nobody has in its index and that can no longer be delivered in time."""
        reason = JobReason.DEADLINE_MISSED
        message = "no provider was free before the deadline"
        with self._transaction() as session:
            rows = session.rows(
                "UPDATE task SET state = ?, reason = ?, message = ? WHERE seq IN (SELECT seq FROM task WHERE"
                " state = 'queued' AND owner = '' AND deliver_by_ms < ? LIMIT ?) RETURNING job_id",
                (State.EXPIRED, reason, message, now_ms + margin_ms, limit),
            )
            for job_id in sorted({job_id for (job_id,) in rows}):
                self._follow_tasks(session, job_id, reason, message, now_ms)
        return len(rows)

    def unfinished(self) -> int:
        """Jobs that hold money: anything between a lock and an end, delivered ones left out."""
        with self._transaction() as session:
            rows = session.rows(
                f"SELECT COUNT(*) FROM job WHERE state NOT IN ({ENDS}, 'quoted', 'delivered')"  # noqa: S608
            )
        return int(rows[0][0])
