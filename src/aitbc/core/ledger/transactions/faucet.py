"""FAUCET: coins out of nothing on a devnet genesis, and nowhere else (seed 000 §9.3)."""

import msgspec

from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.minting import check_room
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.amounts import Amount, format_ait
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.transactions import VerifiedTransaction


class Faucet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    to: str
    amount: Amount


def check(payload: Faucet, _witness: None, _genesis_hash: bytes) -> None:
    check_address(payload.to)


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, Faucet)
    params = context.params
    if not params.devnet:
        raise Failed(Reason.NOT_DEVNET, "this chain has no faucet; coins come from verified compute")
    if tx.tx.sender != params.faucet:
        raise Failed(Reason.NOT_FAUCET, f"only {params.faucet or 'nobody'} may sign FAUCET on this chain")
    if payload.amount > params.faucet_limit:
        raise Failed(Reason.FAUCET_LIMIT, f"one FAUCET creates at most {format_ait(params.faucet_limit)}")
    check_room(state, payload.amount)
    state.credit(payload.to, payload.amount)
    state.add_supply("faucet", payload.amount)
    return [("faucet", payload.to, payload.amount)]


def is_free(context: BlockContext, _state: Overlay, tx: VerifiedTransaction) -> bool:
    """The faucet owns nothing, so it pays nothing."""
    return bool(context.params.devnet) and tx.tx.sender == context.params.faucet


FAUCET = TransactionType("FAUCET", Faucet, check, apply, is_free=is_free)
