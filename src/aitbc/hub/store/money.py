"""The hub's own books: an append-only ledger of entries that sum to nothing, and holds that set money aside.

Every business event (a deposit, a settled job) has one id and happens once, however often it is told. A balance is the
sum of an account's entries, kept beside them by the same transaction. Money that is held stays its owner's and cannot
be spent twice. Accounts are texts: `client:<id>`, `provider:<address>`, `hub:<purpose>`; only `outside:…`, where money
comes from and goes to, may be below zero. `compute_market.md` §3.3, §6.6
"""

from collections.abc import Sequence
from typing import NamedTuple

from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.hub.store.base import durable
from aitbc.hub.store.database import Session
from aitbc.hub.store.receipts import Receipts

OUTSIDE = "outside:"
MAX_LINES = 64
"""Entries of one event: a job's parts are settled one by one."""


class Entry(NamedTuple):
    """One line of an event."""

    account: str
    kind: str
    amount: int
    """Base units; what the account gets, negative for what it gives."""


class Statement(NamedTuple):
    """A line as it stands in an account's history."""

    id: int
    business_id: str
    account: str
    kind: str
    amount: int
    at_ms: int


class Purse(NamedTuple):
    """What an account has, and how much of it is set aside."""

    balance: int
    held: int

    @property
    def free(self) -> int:
        return self.balance - self.held


class Money(Receipts):
    @durable
    def post(self, business_id: str, entries: Sequence[Entry], *, at_ms: int) -> bool:
        """Move money. False: this event has been told before. Refuses what an account has not free."""
        with self._transaction(durable=True) as session:
            return self._post(session, business_id, entries, at_ms)

    def purse(self, account: str) -> Purse:
        with self._transaction() as session:
            return self._purse(session, account)

    @durable
    def hold(self, business_id: str, payer: str, amount: int, *, expires_ms: int) -> bool:
        """Set an amount aside. False: it is already. Refuses more than is free."""
        assert 0 <= amount <= MAX_SIGNED, "the quote bounds the amount"
        with self._transaction(durable=True) as session:
            self._lock_account(session, payer)
            if session.rows("SELECT 1 FROM hold WHERE business_id = ?", (business_id,)):
                return False
            free = self._purse(session, payer).free
            if amount > free:
                raise Refused(JobReason.BUDGET_EXCEEDED, f"{amount} base units are needed, {free} are free")
            session.run(
                "INSERT INTO hold VALUES (?, ?, ?, 'open', ?)", (business_id, payer, amount, expires_ms)
            )
            return True

    @durable
    def settle_hold(self, business_id: str, entries: Sequence[Entry], *, at_ms: int) -> bool:
        """Pay what was earned, at most what is held, and free the rest. False: this hold is not open (any more)."""
        with self._transaction(durable=True) as session:
            rows = session.rows(
                "UPDATE hold SET state = 'settled' WHERE business_id = ? AND state = 'open' RETURNING payer, amount",
                (business_id,),
            )
            if not rows:
                return False
            payer, amount = rows[0]
            spent = -sum([entry.amount for entry in entries if entry.account == payer])
            assert 0 <= spent <= amount, "actual is never above reserved"
            if entries:
                self._post(session, business_id, entries, at_ms)
            return True

    @durable
    def release_hold(self, business_id: str) -> bool:
        """Nothing was delivered: the whole amount is free again. False: it is not held (any more)."""
        with self._transaction(durable=True) as session:
            changed = session.run(
                "UPDATE hold SET state = 'released' WHERE business_id = ? AND state = 'open'", (business_id,)
            )
        return changed == 1

    @durable
    def release_expired(self, *, now_ms: int, limit: int = 10_000) -> list[str]:
        """Free holds whose time is over: nothing is reserved for ever, whoever has forgotten it."""
        with self._transaction(durable=True) as session:
            rows = session.rows(
                "UPDATE hold SET state = 'released' WHERE business_id IN (SELECT business_id FROM hold WHERE"
                " state = 'open' AND expires_ms < ? LIMIT ?) RETURNING business_id",
                (now_ms, limit),
            )
        return sorted([business_id for (business_id,) in rows])

    def statement(self, account: str, *, before: int | None = None, limit: int = 100) -> list[Statement]:
        """An account's entries, the newest first; `before` is the id of the last one of the page before."""
        with self._transaction() as session:
            rows = session.rows(
                "SELECT id, business_id, account, kind, amount, at_ms FROM ledger WHERE account = ?"
                " AND id < ? ORDER BY id DESC LIMIT ?",
                (account, before if before is not None else MAX_SIGNED, limit),
            )
        return [Statement(*row) for row in rows]

    def audit_money(self) -> list[str]:
        """What is wrong with the books; empty when every event sums to nothing, every balance is the sum of its
        entries, nobody but the outside owes, and nothing is held that is not there."""
        checks = {
            "event {} does not sum to nothing": (
                "SELECT business_id FROM ledger GROUP BY business_id HAVING SUM(amount) <> 0"
            ),
            "balance of {} is not the sum of its entries": (
                "SELECT balance.account FROM balance LEFT JOIN ledger ON ledger.account = balance.account"
                " GROUP BY balance.account, balance.amount HAVING COALESCE(SUM(ledger.amount), 0) <> balance.amount"
            ),
            "entries of {} have no balance": (
                "SELECT DISTINCT account FROM ledger WHERE account NOT IN (SELECT account FROM balance)"
            ),
            "{} is below zero": (
                "SELECT account FROM balance WHERE amount < 0 AND substr(account, 1, 8) <> 'outside:'"
            ),
            "more is held of {} than it has": (
                "SELECT payer FROM hold WHERE state = 'open' GROUP BY payer HAVING SUM(hold.amount) >"
                " COALESCE((SELECT amount FROM balance WHERE account = payer), 0)"
            ),
        }
        with self._transaction() as session:
            return [text.format(name) for text, query in checks.items() for (name,) in session.rows(query)]

    # helpers

    def _post(self, session: Session, business_id: str, entries: Sequence[Entry], at_ms: int) -> bool:
        assert 0 < len(entries) <= MAX_LINES, "an event has a few lines"
        assert sum([entry.amount for entry in entries]) == 0, "money is moved, never made"
        assert all(abs(entry.amount) <= MAX_SIGNED for entry in entries), "amounts fit"
        for account in sorted({entry.account for entry in entries}):
            self._lock_account(session, account)
        if session.rows("SELECT 1 FROM ledger WHERE business_id = ? LIMIT 1", (business_id,)):
            return False
        session.run_many(
            "INSERT INTO ledger (business_id, line, account, kind, amount, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
            [
                (business_id, line, entry.account, entry.kind, entry.amount, at_ms)
                for line, entry in enumerate(entries)
            ],
        )
        session.run_many(
            "UPDATE balance SET amount = amount + ? WHERE account = ?",
            [(entry.amount, entry.account) for entry in entries],
        )
        for account in sorted({entry.account for entry in entries if entry.amount < 0}):
            free = self._purse(session, account).free
            if free < 0 and not account.startswith(OUTSIDE):
                raise Refused(JobReason.BUDGET_EXCEEDED, f"{-free} base units more are needed than are free")
        return True

    def _purse(self, session: Session, account: str) -> Purse:
        ((balance, held),) = session.rows(
            "SELECT COALESCE((SELECT amount FROM balance WHERE account = ?), 0),"
            " CAST(COALESCE((SELECT SUM(amount) FROM hold WHERE payer = ? AND state = 'open'), 0) AS BIGINT)",
            (account, account),
        )
        return Purse(balance, held)

    def _lock_account(self, session: Session, account: str) -> None:
        """The account's row, there and locked until the transaction ends: two processes never spend the same."""
        session.run("INSERT INTO balance VALUES (?, 0) ON CONFLICT DO NOTHING", (account,))
        if self.database.dialect.skip_locked:
            session.rows("SELECT 1 FROM balance WHERE account = ? FOR UPDATE", (account,))
