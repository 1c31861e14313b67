"""SETTLE: anyone has a range of a batch's receipts paid, netted by provider. docs/spec/batches.md

A receipt that cannot be paid is skipped and stays claimable; the others are paid. (lock, task) pays once, whichever
way it is claimed.
"""

from typing import Annotated

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.leaves import LEAF, check_leaves, committed_leaves, leaf_bytes_of, unpack_leaves
from aitbc.core.crypto.address import check_address
from aitbc.core.crypto.merkle import range_root
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.escrow import check_open, check_price, check_task, pay
from aitbc.core.ledger.minting import (
    allowance,
    check_room,
    full_mint,
    is_jailed,
    may_attest,
    with_shares,
)
from aitbc.core.ledger.scores import count_units
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.receipts import HexHash
from aitbc.core.types.records import Batch, Lock, PaidReceipt
from aitbc.core.types.transactions import VerifiedTransaction

Start = Annotated[int, msgspec.Meta(ge=0, le=(1 << 20) - 1)]


class Settle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    batch: HexHash
    """Id of the RECEIPT_BATCH."""
    start: Start
    """Place of the first leaf in the batch."""
    locks: Annotated[list[HexHash], msgspec.Meta(min_length=1, max_length=256)]
    providers: Annotated[list[str], msgspec.Meta(min_length=1, max_length=256)]
    leaves: str
    """Receipts one after the other (docs/spec/batches.md)."""
    proof: Annotated[list[HexHash], msgspec.Meta(max_length=40)]
    """The nodes beside the range, level by level, left before right."""


def check(payload: Settle, _witness: None, _genesis_hash: bytes) -> None:
    for provider in payload.providers:
        check_address(provider)
    for table in (payload.locks, payload.providers):
        if sorted(set(table)) != table:
            raise Rejected(Reason.NOT_CANONICAL, "the tables of locks and providers ascend")
    check_leaves(leaf_bytes_of(payload.leaves), locks=len(payload.locks), providers=len(payload.providers))


class _LockLedger:
    """What one lock has paid so far in this SETTLE."""

    __slots__ = ("lock", "paid", "paid_tasks", "refusal")

    def __init__(self, context: BlockContext, lock: Lock | None, hub: str) -> None:
        self.lock = lock
        self.paid = lock.paid if lock else 0
        self.paid_tasks = int(lock.paid_tasks, 16) if lock else 0
        self.refusal: Reason | None = None
        """Why it pays nothing at all."""
        if lock is None:
            self.refusal = Reason.UNKNOWN_LOCK
            return
        try:
            check_open(context, lock, hub)
        except Failed as failure:
            self.refusal = failure.reason

    def take(self, task: int, price: int) -> None:
        """Count a payment; raises Failed when the lock cannot make it."""
        lock, bit = self.lock, 1 << task
        if self.refusal is not None or lock is None:
            raise Failed(self.refusal or Reason.UNKNOWN_LOCK, "the lock pays nothing")
        if task >= lock.tasks or self.paid_tasks & bit:
            check_task(lock, task, paid_tasks=self.paid_tasks)
        if price > lock.amount - self.paid:
            check_price(lock, price, paid=self.paid)
        self.paid_tasks |= bit
        self.paid += price


class _Payouts:
    """What one provider has earned in this SETTLE."""

    __slots__ = ("address", "full", "known", "mints", "paid", "units")

    def __init__(self, context: BlockContext, state: Overlay, provider: str) -> None:
        registration = state.registration("provider", provider)
        self.known = registration is not None
        self.address = registration.payout if registration else provider
        self.mints = not is_jailed(context, state, "provider", provider)
        self.paid = 0
        self.full = 0
        """Its part of the mint, before scale and bounds."""
        self.units = 0
        """Of receipts that count for its validator."""


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, Settle)
    batch = state.batch(payload.batch)
    if batch is None:
        raise Failed(Reason.UNKNOWN_BATCH, f"there is no batch {payload.batch}")
    if context.timestamp_ms > batch.expires_ms:
        raise Failed(Reason.BATCH_EXPIRED, f"the batch was settled until block time {batch.expires_ms}")
    raw = unpack_leaves(payload.leaves)
    _check_range(payload, batch, raw)
    return _Settlement(context, state, payload, batch).run(raw)


def _check_range(payload: Settle, batch: Batch, raw: bytes) -> None:
    leaves = committed_leaves(
        raw, [bytes.fromhex(lock) for lock in payload.locks], [name.encode() for name in payload.providers]
    )
    path = [bytes.fromhex(node) for node in payload.proof]
    if range_root(leaves, start=payload.start, count=batch.count, path=path) != unhex(batch.root):
        raise Failed(Reason.BAD_PROOF, f"these are not leaves {payload.start} … of the batch")


class _Settlement:
    """One SETTLE while it is executed: first every leaf is judged, then everybody is paid once."""

    def __init__(self, context: BlockContext, state: Overlay, payload: Settle, batch: Batch) -> None:
        self.context, self.state, self.payload, self.hub = context, state, payload, batch.hub
        self.locks = [_LockLedger(context, state.lock(lock), batch.hub) for lock in payload.locks]
        self.payouts = [_Payouts(context, state, provider) for provider in payload.providers]
        self.hub_mints = may_attest(context, state, batch.hub)
        self.events: list[Event] = []
        self.paid: list[tuple[int, int, int, int, int, int, bytes, int]] = []
        """(lock, provider, task, attempt, units, price, receipt, full mint) of the leaves that are paid."""

    def run(self, raw: bytes) -> list[Event]:
        for number, leaf in enumerate(LEAF.iter_unpack(raw), start=self.payload.start):
            try:
                self._judge(leaf)
            except Failed as failure:
                self.events.append(("skipped", f"{number}:{failure.reason}", 0))
        if not self.paid:
            raise Failed(Reason.NOTHING_TO_SETTLE, f"no leaf can be paid: {self.events[0][1]}, …")
        self._pay_locks()
        self._pay_providers()
        self._mint()
        for provider, payout in zip(self.payload.providers, self.payouts, strict=True):
            if payout.units:
                count_units(self.context, self.state, provider, payout.units)
        return self.events

    def _judge(self, leaf: tuple[bytes, int, int, int, int, int, int, int]) -> None:
        receipt, lock, provider, task, attempt, routed, units, price = leaf
        payout = self.payouts[provider]
        if not payout.known:
            raise Failed(Reason.UNKNOWN_PROVIDER, "the provider is not registered")
        self.locks[lock].take(task, price)
        payout.paid += price
        full = 0
        if routed and self.hub_mints and payout.mints:
            full = full_mint(self.context.params, units=units, price=price)
            payout.full += full
            payout.units += units if price else 0
        self.paid.append((lock, provider, task, attempt, units, price, receipt, full))

    def _pay_locks(self) -> None:
        for key, ledger in zip(self.payload.locks, self.locks, strict=True):
            lock = ledger.lock
            if lock is None or ledger.paid_tasks == int(lock.paid_tasks, 16):
                continue
            rest = pay(self.context, self.state, key, lock, paid=ledger.paid, paid_tasks=ledger.paid_tasks)
            if rest:
                self.events.append(("returned", lock.client, rest))

    def _pay_providers(self) -> None:
        for payout in self.payouts:
            if payout.paid:
                self.state.credit(payout.address, payout.paid)
                self.events.append(("paid", payout.address, payout.paid))

    def _mint(self) -> None:
        """Shares are rounded down once for each provider, not once for each receipt; so are the scale's."""
        params, state = self.context.params, self.state
        full = with_shares(params, sum([payout.full for payout in self.payouts]))
        allowed = allowance(self.context, state, hub=self.hub, full=full.total) if full.total else 0
        if allowed:
            check_room(state, allowed)
            minted = 0
            shares = [(payout.address, payout.full * allowed // full.total) for payout in self.payouts]
            shares += [
                (self.hub, full.hub * allowed // full.total),
                (params.treasury, full.treasury * allowed // full.total),
            ]
            for address, amount in shares:
                if amount:
                    state.credit(address, amount)
                    self.events.append(("minted", address, amount))
                    minted += amount
            if minted:
                state.add_supply("minted", minted)
        self._note(allowed, full.total)

    def _note(self, allowed: int, full: int) -> None:
        """The receipts for the history; each one's mint is its part of the whole, rounded down."""
        locks, providers, position = self.payload.locks, self.payload.providers, self.state.position
        for lock, provider, task, attempt, units, price, receipt, entry_full in self.paid:
            record = self.locks[lock].lock
            assert record is not None
            self.state.receipts.append(
                PaidReceipt(
                    receipt_id="rcpt_" + receipt.hex(),
                    tx_position=position,
                    job_id=record.job_id,
                    client=record.client,
                    provider=providers[provider],
                    hub=self.hub,
                    units=units,
                    price=price,
                    minted=entry_full * allowed // full if allowed else 0,
                    output_hash="",
                    provider_sig="",
                    lock=locks[lock],
                    task=task,
                    attempt=attempt,
                )
            )


def fee_source(payload: Settle) -> str:
    return f"batch {payload.batch}:{payload.start}"


SETTLE = TransactionType("SETTLE", Settle, check, apply, fee_source=fee_source, since=2)
