"""Accounts on disk: each public method is one transaction. docs/spec/accounts.md

The rules of the money are in `ledger`; here an event is written once, its postings are added to running balances, and a
balance of a payer that would become negative stops it all.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from aitbc.adapters.storage.sql import Session as Sql
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.accounts import ledger
from aitbc.hub.accounts.database import Database
from aitbc.hub.accounts.records import Account, ApiKey, Hold, Seat, Session, Usage
from aitbc.hub.accounts.schema import columns_of, prepare

_KEY = columns_of(ApiKey)
_SESSION = columns_of(Session)
_HOLD = columns_of(Hold)
_USAGE = columns_of(Usage)


class AccountStore:
    def __init__(self, database: Database, *, genesis_hash: str) -> None:
        self._database = database
        with database.transaction() as sql:
            prepare(sql, database.serial, genesis_hash=genesis_hash)

    def close(self) -> None:
        self._database.close()

    # keys

    def add_key(self, key: ApiKey, *, key_hash: str) -> None:
        with self._database.transaction() as sql:
            marks = ", ".join("?" * (len(_KEY.split(", ")) + 1))
            sql.run(f"INSERT INTO account_key ({_KEY}, hash) VALUES ({marks})", (*_values(key), key_hash))  # noqa: S608

    def key_by_hash(self, key_hash: str) -> ApiKey | None:
        found = self._keys("hash = ?", (key_hash,))
        return found[0] if found else None

    def keys(self, account: str = "") -> list[ApiKey]:
        return self._keys("account = ? OR ? = '' ORDER BY created_ms, id", (account, account))

    def revoke_key(self, key_id: str, *, at_ms: int) -> bool:
        with self._database.transaction() as sql:
            gone = sql.rows(
                "UPDATE account_key SET revoked_ms = ? WHERE id = ? AND revoked_ms = 0 RETURNING id",
                (at_ms, key_id),
            )
        return bool(gone)

    # money in

    def post(self, event: ledger.Event, *, at_ms: int) -> bool:
        """Write an event; False: it is known already and nothing happens."""
        with self._database.transaction() as sql:
            return _post(sql, event, at_ms)

    def add_session(self, session: Session, *, at_ms: int) -> bool:
        """A lock that is final; False: it is known already."""
        with self._database.transaction() as sql:
            marks = ", ".join("?" * len(_SESSION.split(", ")))
            added = sql.rows(
                f"INSERT INTO account_session ({_SESSION}) VALUES ({marks}) ON CONFLICT DO NOTHING RETURNING lock",  # noqa: S608
                _values(session),
            )
            if added and session.owner:  # a lock of a client's is final before it is heard of
                _post(sql, ledger.session_opened(lock=session.lock, amount=session.amount), at_ms)
        return bool(added)

    def sessions(self, owner: str) -> list[Session]:
        """Those that are open; the hub's own have no owner."""
        return self._sessions("owner = ? AND state = 'open' ORDER BY deliver_by_ms", (owner,))

    def sessions_opening(self) -> list[Session]:
        """Locks of the hub's own that were sent and are not known to be final."""
        return self._sessions("state = 'opening'", ())

    def open_session(self, lock: str, *, randomness: bytes) -> None:
        """It is final."""
        with self._database.transaction() as sql:
            sql.run(
                "UPDATE account_session SET state = 'open', randomness = ? WHERE lock = ? AND state = 'opening'",
                (randomness, lock),
            )

    def drop_session(self, lock: str) -> None:
        """The lock never was in a block."""
        with self._database.transaction() as sql:
            sql.run("DELETE FROM account_session WHERE lock = ? AND state = 'opening'", (lock,))

    def sessions_over(self, now_ms: int) -> list[Session]:
        """Open ones whose claim time has passed."""
        return self._sessions("state = 'open' AND claim_until_ms < ?", (now_ms,))

    def end_session(self, session: Session, *, at_ms: int) -> None:
        with self._database.transaction() as sql:
            ended = sql.rows(
                "UPDATE account_session SET state = 'ended' WHERE lock = ? AND state = 'open' RETURNING lock",
                (session.lock,),
            )
            if ended and session.owner:
                rest = _balance(sql, ledger.free(session.lock))
                _post(sql, ledger.session_ended(lock=session.lock, rest=rest), at_ms)

    # one job

    def reserve(self, hold: Hold, *, deliver_by_ms: int) -> tuple[Seat, Hold]:
        """Set the money aside and give the job its place: in a session of the account's own, else in the hub's.

        Refuses with `payment_required` or `budget_exceeded`, and with `no_session` when only the hub's lock is missing.
        """
        with self._database.transaction() as sql:
            if hold.key_id:
                _charge_key(sql, hold.key_id, hold.amount)
            own = self._take_place(sql, hold.account, hold, deliver_by_ms)
            if own is not None:
                hold = msgspec.structs.replace(hold, purse=own.lock, lock=own.lock)
                _post(
                    sql,
                    ledger.reserved(job_id=hold.job_id, purse=own.lock, amount=hold.amount),
                    hold.created_ms,
                )
                _add_hold(sql, hold)
                return own, hold
            balance = _balance(sql, ledger.free(hold.account))
            if hold.account == ledger.CHECKS and balance < hold.amount:
                lacking = ledger.checks_paid(job_id=hold.job_id, amount=hold.amount - balance)
                _post(sql, lacking, hold.created_ms)
                balance = hold.amount
            if balance < hold.amount:
                raise Refused(
                    JobReason.PAYMENT_REQUIRED,
                    f"this costs up to {hold.amount} base units; the balance is {balance}",
                )
            seat = self._take_place(sql, "", hold, deliver_by_ms)
            if seat is None:
                raise Refused(
                    JobReason.NO_SESSION, "the hub has no lock that could pay for this now; try again soon"
                )
            hold = msgspec.structs.replace(hold, purse=hold.account, lock=seat.lock)
            _post(
                sql,
                ledger.reserved(job_id=hold.job_id, purse=hold.account, amount=hold.amount),
                hold.created_ms,
            )
            _add_hold(sql, hold)
            return seat, hold

    def _take_place(self, sql: Sql, owner: str, hold: Hold, deliver_by_ms: int) -> Seat | None:
        """The next place of the session that ends first and has room. Places are given in the order of arrival."""
        rows = sql.rows(
            "UPDATE account_session SET next_place = next_place + 1, committed = committed + ? WHERE lock = ("
            "SELECT lock FROM account_session WHERE owner = ? AND state = 'open' AND next_place < places"
            " AND committed + ? <= amount AND deliver_by_ms >= ? ORDER BY deliver_by_ms, lock LIMIT 1"
            ") AND next_place < places AND committed + ? <= amount"
            " RETURNING lock, next_place - 1, client, claim_until_ms, randomness",
            (hold.amount, owner, hold.amount, deliver_by_ms, hold.amount),
        )
        if not rows:
            return None
        lock, place, client, claim_until_ms, randomness = rows[0]
        return Seat(
            lock=lock, place=place, client=client, claim_until_ms=claim_until_ms, randomness=bytes(randomness)
        )

    def settle(self, hold: Hold, *, price: int, usage: Usage) -> bool:
        """What the job cost, 0 for nothing; the rest is free again. False: it was settled before."""
        with self._database.transaction() as sql:
            state = "settled" if price else "released"
            ended = sql.rows(
                "UPDATE account_hold SET state = ? WHERE job_id = ? AND state = 'held' RETURNING job_id",
                (state, hold.job_id),
            )
            if not ended:
                return False
            own_lock = hold.purse == hold.lock
            event = ledger.settled(
                job_id=hold.job_id, purse=hold.purse, reserved=hold.amount, price=price, own_lock=own_lock
            )
            _post(sql, event, usage.at_ms)
            sql.run(
                "UPDATE account_session SET committed = committed - ? WHERE lock = ?",
                (hold.amount - price, hold.lock),
            )
            if hold.key_id:
                sql.run(
                    "UPDATE account_key SET held = held - ?, spent = spent + ? WHERE id = ?",
                    (hold.amount, price, hold.key_id),
                )
            marks = ", ".join("?" * len(_USAGE.split(", ")))
            sql.run(f"INSERT INTO account_usage ({_USAGE}) VALUES ({marks})", _values(usage))  # noqa: S608
        return True

    def hold(self, job_id: str) -> Hold | None:
        with self._database.transaction() as sql:
            rows = sql.rows(f"SELECT {_HOLD} FROM account_hold WHERE job_id = ?", (job_id,))  # noqa: S608
        return _record(Hold, rows[0]) if rows else None

    def open_holds(self, *, before_ms: int) -> list[Hold]:
        """Older than a moment and not settled: their jobs are under way, or their end was lost."""
        with self._database.transaction() as sql:
            rows = sql.rows(
                f"SELECT {_HOLD} FROM account_hold WHERE state = 'held' AND created_ms < ?",  # noqa: S608
                (before_ms,),
            )
        return [_record(Hold, row) for row in rows]

    # what was said before

    def use_nonce(self, address: str, nonce: str, *, expires_ms: int, now_ms: int) -> bool:
        """False: this signed request has been here before."""
        with self._database.transaction() as sql:
            sql.run("DELETE FROM account_nonce WHERE expires_ms < ?", (now_ms,))
            added = sql.rows(
                "INSERT INTO account_nonce (address, nonce, expires_ms) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING RETURNING nonce",
                (address, nonce, expires_ms),
            )
        return bool(added)

    def remember(
        self, account: str, key: str, *, body_hash: str, jobs: Sequence[str], now_ms: int, expires_ms: int
    ) -> tuple[str, list[str]]:
        """Bind an Idempotency-Key to jobs; returns what it is bound to, which may be older."""
        with self._database.transaction() as sql:
            sql.run("DELETE FROM account_idempotency WHERE expires_ms < ?", (now_ms,))
            sql.run(
                "INSERT INTO account_idempotency (account, name, body_hash, jobs, expires_ms) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (account, key, body_hash, json.dumps(list(jobs)), expires_ms),
            )
            rows = sql.rows(
                "SELECT body_hash, jobs FROM account_idempotency WHERE account = ? AND name = ?",
                (account, key),
            )
        return rows[0][0], json.loads(rows[0][1])

    def forget_key(self, account: str, key: str) -> None:
        """The jobs never began: the same Idempotency-Key may be used again."""
        with self._database.transaction() as sql:
            sql.run("DELETE FROM account_idempotency WHERE account = ? AND name = ?", (account, key))

    # reading

    def account(self, account: str) -> Account:
        with self._database.transaction() as sql:
            free = _balance(sql, ledger.free(account))
            held = _balance(sql, ledger.held(account))
        return Account(account=account, free=free, held=held, sessions=self.sessions(account))

    def usage(self, *, account: str, from_ms: int, until_ms: int, limit: int) -> list[Usage]:
        """Oldest first; of all accounts when none is named."""
        with self._database.transaction() as sql:
            rows = sql.rows(
                f"SELECT {_USAGE} FROM account_usage WHERE (account = ? OR ? = '')"  # noqa: S608
                " AND at_ms >= ? AND at_ms < ? ORDER BY at_ms, job_id LIMIT ?",
                (account, account, from_ms, until_ms, limit),
            )
        return [_record(Usage, row) for row in rows]

    def balances(self) -> dict[str, int]:
        """The running balances."""
        with self._database.transaction() as sql:
            return dict(sql.rows("SELECT account, amount FROM account_balance"))

    def audit(self) -> list[str]:
        """What is wrong with the books; empty when every event adds up to nothing, every balance is the sum of its
        postings, no payer owes, and what is held is what open holds say."""
        checks = {
            "event {} does not add up to nothing": (
                "SELECT event FROM account_posting GROUP BY event HAVING SUM(amount) <> 0"
            ),
            "balance of {} is not the sum of its postings": (
                "SELECT b.account FROM account_balance b LEFT JOIN account_posting p ON p.account = b.account"
                " GROUP BY b.account, b.amount HAVING COALESCE(SUM(p.amount), 0) <> b.amount"
            ),
            "postings of {} have no balance": (
                "SELECT DISTINCT account FROM account_posting WHERE account NOT IN"
                " (SELECT account FROM account_balance)"
            ),
            "{} is below zero": (
                "SELECT account FROM account_balance WHERE amount < 0"
                " AND substr(account, 1, 5) IN ('free:', 'held:')"
            ),
            "what is held of {} is not what its jobs hold": (
                "SELECT b.account FROM account_balance b LEFT JOIN account_hold h ON h.state = 'held'"
                " AND b.account = 'held:' || h.purse WHERE substr(b.account, 1, 5) = 'held:'"
                " GROUP BY b.account, b.amount HAVING COALESCE(SUM(h.amount), 0) <> b.amount"
            ),
        }
        with self._database.transaction() as sql:
            return [text.format(name) for text, query in checks.items() for (name,) in sql.rows(query)]

    def _keys(self, where: str, values: tuple[Any, ...]) -> list[ApiKey]:
        with self._database.transaction() as sql:
            rows = sql.rows(f"SELECT {_KEY} FROM account_key WHERE {where}", values)  # noqa: S608
        return [_record(ApiKey, row) for row in rows]

    def _sessions(self, where: str, values: tuple[Any, ...]) -> list[Session]:
        with self._database.transaction() as sql:
            rows = sql.rows(f"SELECT {_SESSION} FROM account_session WHERE {where}", values)  # noqa: S608
        return [_record(Session, row) for row in rows]


def _post(sql: Sql, event: ledger.Event, at_ms: int) -> bool:
    new = sql.rows(
        "INSERT INTO account_event (name, at_ms) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING name",
        (event.name, at_ms),
    )
    if not new:
        return False
    for account, amount in event.postings:
        if not amount:
            continue
        sql.run(
            "INSERT INTO account_posting (event, account, amount) VALUES (?, ?, ?)",
            (event.name, account, amount),
        )
        rows = sql.rows(
            "INSERT INTO account_balance (account, amount) VALUES (?, ?)"
            " ON CONFLICT (account) DO UPDATE SET amount = account_balance.amount + excluded.amount RETURNING amount",
            (account, amount),
        )
        if rows[0][0] < 0 and not ledger.may_be_negative(account):
            raise Refused(
                JobReason.PAYMENT_REQUIRED,
                f"this costs {-amount} base units; the balance is {rows[0][0] - amount}",
            )
    return True


def _balance(sql: Sql, account: str) -> int:
    rows = sql.rows("SELECT amount FROM account_balance WHERE account = ?", (account,))
    return rows[0][0] if rows else 0


def _charge_key(sql: Sql, key_id: str, amount: int) -> None:
    rows = sql.rows(
        "UPDATE account_key SET held = held + ? WHERE id = ? AND (budget IS NULL OR spent + held + ? <= budget)"
        " RETURNING id",
        (amount, key_id, amount),
    )
    if not rows:
        (budget, spent, held) = sql.rows(
            "SELECT budget, spent, held FROM account_key WHERE id = ?", (key_id,)
        )[0]
        left = (budget or 0) - spent - held
        raise Refused(
            JobReason.BUDGET_EXCEEDED,
            f"this costs up to {amount} base units; {left} of the key's budget are left",
        )


def _add_hold(sql: Sql, hold: Hold) -> None:
    marks = ", ".join("?" * len(_HOLD.split(", ")))
    sql.run(f"INSERT INTO account_hold ({_HOLD}) VALUES ({marks})", _values(hold))  # noqa: S608


def _values(record: msgspec.Struct) -> tuple[Any, ...]:
    """A list is kept as JSON."""
    values = [getattr(record, name) for name in record.__struct_fields__]
    return tuple([json.dumps(value) if isinstance(value, list) else value for value in values])


def _record(kind: type[Any], row: Sequence[Any]) -> Any:
    fields = dict(zip(kind.__struct_fields__, row, strict=True))
    if "models" in fields:
        fields["models"] = json.loads(fields["models"])
    if "randomness" in fields:
        fields["randomness"] = bytes(fields["randomness"])
    return kind(**fields)
