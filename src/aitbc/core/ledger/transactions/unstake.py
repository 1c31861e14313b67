"""UNSTAKE: stake begins its way out; until WITHDRAW it can still be slashed. docs/spec/staking.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.elector import mode_of
from aitbc.core.ledger.escrow import longest_lock_ms
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.amounts import Amount, format_ait
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Role, Unbonding
from aitbc.core.types.transactions import VerifiedTransaction

MAX_UNBONDING = 16
"""Parts of one stake that may be on their way at once."""


class Unstake(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: Role
    amount: Amount


def check(_payload: Unstake, _witness: None, _genesis_hash: bytes) -> None:
    """The form says everything."""


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, sender = tx.payload, tx.tx.sender
    assert isinstance(payload, Unstake)
    bond = state.bond(payload.role, sender)
    if bond.amount < payload.amount:
        raise Failed(
            Reason.INSUFFICIENT_STAKE,
            f"{format_ait(payload.amount)} to unstake, {format_ait(bond.amount)} staked as {payload.role}",
        )
    if len(bond.unbonding) >= MAX_UNBONDING:
        raise Failed(
            Reason.TOO_MANY_UNBONDING, f"{MAX_UNBONDING} parts are on their way out; WITHDRAW what is free"
        )
    if payload.role == "validator":
        _check_pace(state, sender, payload.amount)
    left = bond.amount - payload.amount
    least = context.params.min_validator_stake
    if payload.role == "validator" and 0 < left < least:
        raise Failed(
            Reason.INSUFFICIENT_STAKE,
            f"{format_ait(left)} would be left; a validator has {format_ait(least)} or nothing",
        )
    part = Unbonding(amount=payload.amount, free_ms=context.after(_wait_ms(context, state, payload.role)))
    state.put_bond(
        payload.role,
        sender,
        msgspec.structs.replace(bond, amount=left, unbonding=[*bond.unbonding, part]),
    )
    return [("unstaked", sender, payload.amount)]


def _wait_ms(context: BlockContext, state: Overlay, role: Role) -> int:
    """A hub's stake stays as long as a lock can: evidence about its attestations counts until the lock ends."""
    wait_ms = context.params.unbonding_ms
    return max(wait_ms, longest_lock_ms(context, state)) if role == "hub" else wait_ms


def _check_pace(state: Overlay, validator: str, amount: int) -> None:
    """Under `hybrid` at most a third of the voting stake leaves in an epoch: light clients trust two sets that
    overlap."""
    if mode_of(state) != "hybrid":
        return
    members = {member.address: member.power for member in validators_of(state)}
    if validator not in members:
        return
    leaving = state.number("epoch.leaving") + amount
    bound = sum(members.values()) // 3
    if leaving > bound:
        raise Failed(
            Reason.LEAVING_TOO_FAST,
            f"{format_ait(leaving)} of voting stake would leave in this epoch, at most {format_ait(bound)} may:"
            " take less, or wait for the next epoch",
        )
    state.set_number("epoch.leaving", leaving)


UNSTAKE = TransactionType("UNSTAKE", Unstake, check, apply, since=2)
