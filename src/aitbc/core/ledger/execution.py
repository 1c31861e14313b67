"""Executing transactions and blocks: one story, invalid or failed or done. docs/spec/execution.md

*Invalid* raises Rejected and leaves no trace. *Failed* spends nonce and fee and nothing else.
"""

from collections.abc import Iterable

import msgspec

from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import ED25519
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.epochs import close_epoch
from aitbc.core.ledger.fees import required_fee, signature_fee, split_fee
from aitbc.core.ledger.minting import pay_author
from aitbc.core.ledger.retention import retire
from aitbc.core.ledger.state import Base, Overlay, check_supply
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.blocks import PROTOCOL_VERSION
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import Outcome, VerifiedTransaction


def check_sender(account: Account, tx: VerifiedTransaction) -> None:
    """Refuse a key that is not the account's; an account without a key takes the one its address is made of."""
    expected = account.auth == tx.tx.pubkey if account.auth else address_of(tx.tx.pubkey) == tx.tx.sender
    if not expected:
        raise Rejected(Reason.WRONG_KEY, f"the public key is not {tx.tx.sender}'s")


def check_fee(context: BlockContext, state: Overlay, tx: VerifiedTransaction, kind: TransactionType) -> bool:
    """Refuse too low a fee; returns whether the transaction is one of those that may pay less."""
    needed = required_fee(context.params, len(tx.tx.payload), tx.tx.pubkey)
    if kind.asks is not None and context.version >= 2:
        needed += sum(signature_fee(context.params, key) for key in kind.asks(context, state, tx) if key)
    if tx.tx.fee >= needed:
        return False
    if not kind.is_free(context, state, tx):
        raise Rejected(Reason.FEE_TOO_LOW, f"fee {tx.tx.fee}; this transaction needs {needed} base units")
    return True


def check_active(context: BlockContext, tx: VerifiedTransaction) -> None:
    """Refuse what came with a later protocol version than the block's."""
    if context.version == PROTOCOL_VERSION:
        return  # this release knows nothing later
    kind = TYPES[tx.tx.type]
    needed = max(kind.since, kind.form_since(tx.payload, tx.witness), 1 if tx.tx.pubkey[0] == ED25519 else 2)
    if needed > context.version:
        raise Rejected(
            Reason.NOT_ACTIVE,
            f"this {tx.tx.type} needs protocol version {needed}; this chain has {context.version} at height"
            f" {context.height}",
        )


def execute(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> Outcome:
    """Apply one transaction; raises Rejected, with nothing changed, when it may not be in a block."""
    start = state.mark()
    try:
        return _execute(context, state, tx)
    except Rejected:
        state.rollback(start)
        raise


def _execute(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> Outcome:
    """The seven steps of the specification; whoever calls takes back what a Rejected leaves."""
    sender, fee = tx.tx.sender, tx.tx.fee
    kind = TYPES[tx.tx.type]
    check_active(context, tx)
    account = state.account(sender)
    if tx.tx.nonce != account.nonce + 1:
        raise Rejected(
            Reason.BAD_NONCE, f"nonce {tx.tx.nonce}; the next one of {sender} is {account.nonce + 1}"
        )
    check_sender(account, tx)
    if context.version >= 2 and not account.auth:
        state.put("accounts", sender, Account(account.balance, account.nonce, tx.tx.pubkey))
    free = check_fee(context, state, tx, kind)
    if context.version >= 2:
        check_witness(context, state, tx)
    prepaid = account.balance >= fee
    if not prepaid and kind.fee_source is None:
        raise Rejected(
            Reason.FEE_NOT_COVERED,
            f"fee {format_ait(fee)}, balance of {sender} {format_ait(account.balance)}",
        )
    left = account.balance - fee if prepaid else account.balance
    state.put("accounts", sender, Account(left, tx.tx.nonce, tx.tx.pubkey))
    charged = state.mark()
    try:
        events = kind.apply(context, state, tx)
    except Failed as failure:
        if not prepaid or (free and context.version >= 2):
            raise Rejected(failure.reason, failure.message) from None
        state.rollback(charged)
        return Outcome(tx.id, False, failure.reason, failure.message, fee, [])
    if not prepaid:
        _charge_from_proceeds(state, tx)
    return Outcome(tx.id, True, "", "", fee, events)


def _charge_from_proceeds(state: Overlay, tx: VerifiedTransaction) -> None:
    """No premint must work: the fee comes out of what the transaction has just paid its sender."""
    balance = state.account(tx.tx.sender).balance
    if balance < tx.tx.fee:
        raise Rejected(
            Reason.FEE_NOT_COVERED, f"fee {format_ait(tx.tx.fee)}, {format_ait(balance)} after what it pays"
        )
    state.debit(tx.tx.sender, tx.tx.fee)


class Execution(msgspec.Struct, frozen=True):
    """A block's transactions executed on a state that has not changed."""

    overlay: Overlay
    included: list[VerifiedTransaction]
    outcomes: list[Outcome]
    refused: list[tuple[VerifiedTransaction, Rejected]]


def execute_all(context: BlockContext, base: Base, txs: Iterable[VerifiedTransaction]) -> Execution:
    """Execute transactions in order, then pay fees and reward out and check that no coin was made or lost.

    Invalid ones are collected in `refused`; a block that contains one is itself invalid.
    """
    overlay = Overlay(base)
    included: list[VerifiedTransaction] = []
    outcomes: list[Outcome] = []
    refused: list[tuple[VerifiedTransaction, Rejected]] = []
    for tx in txs:
        overlay.position = len(included)
        try:
            outcomes.append(execute(context, overlay, tx))
            included.append(tx)
        except Rejected as rejection:
            refused.append((tx, rejection))
    _distribute_fees(context, overlay, outcomes)
    pay_author(context, overlay)
    if context.version >= 2:
        retire(context, overlay)
        if context.closes_epoch:
            close_epoch(context, overlay)
    check_supply(overlay)
    return Execution(overlay, included, outcomes, refused)


def _distribute_fees(context: BlockContext, overlay: Overlay, outcomes: list[Outcome]) -> None:
    shares = [split_fee(context.params, outcome.fee) for outcome in outcomes]
    burned, earned = sum(share[0] for share in shares), sum(share[1] for share in shares)
    if burned:
        overlay.add_supply("burned", burned)
    if earned:
        overlay.credit(context.proposer, earned)


def dry_run(context: BlockContext, state: Base, tx: VerifiedTransaction) -> list[Event]:
    """What would happen at the head; raises Rejected with the reason for what is invalid or would fail."""
    outcome = execute(context, Overlay(state), tx)
    if not outcome.ok:
        raise Rejected(Reason(outcome.reason), outcome.message)
    return outcome.events


def check_witness(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> None:
    """Raise Rejected for a witness that does not prove itself, whether or not it is the transaction's turn."""
    check = TYPES[tx.tx.type].check_witness
    if check is None:
        return
    try:
        check(context, state, tx)
    except Failed as failure:
        raise Rejected(failure.reason, failure.message) from None
