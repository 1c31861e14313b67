"""WITHDRAW: stake whose unbonding time is over goes back to the balance. docs/spec/staking.md"""

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Bond, Role
from aitbc.core.types.transactions import VerifiedTransaction


class Withdraw(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: Role


def check(_payload: Withdraw, _witness: None, _genesis_hash: bytes) -> None:
    """The form says everything."""


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, sender = tx.payload, tx.tx.sender
    assert isinstance(payload, Withdraw)
    bond = state.bond(payload.role, sender)
    waiting = [part for part in bond.unbonding if part.free_ms > context.timestamp_ms]
    amount = sum(part.amount for part in bond.unbonding) - sum(part.amount for part in waiting)
    if not amount:
        soonest = min((part.free_ms for part in waiting), default=None)
        when = f"the next part is free at block time {soonest}" if soonest else "nothing is on its way out"
        raise Failed(Reason.NOTHING_TO_WITHDRAW, when)
    if bond.amount == 0 and not waiting and not _is_remembered(context, bond):
        state.remove("registry", f"bond:{payload.role}:{sender}")
    else:
        state.put_bond(payload.role, sender, msgspec.structs.replace(bond, unbonding=waiting))
    state.credit(sender, amount)
    return [("withdrawn", sender, amount)]


def _is_remembered(context: BlockContext, bond: Bond) -> bool:
    """Whoever is or was jailed stays known as such, and what a hub has minted in this epoch counts, with another stake
    too."""
    return bond.offences > 0 or (bond.minted > 0 and bond.epoch == context.epoch)


WITHDRAW = TransactionType("WITHDRAW", Withdraw, check, apply, since=2)
