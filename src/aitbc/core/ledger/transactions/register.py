"""REGISTER: a provider or a hub says what it serves, for how much and where it is paid. docs/spec/registry.md"""

from typing import Annotated, Literal

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import countersignature_digest
from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.records import ModelOffer, Registration
from aitbc.core.types.transactions import VerifiedTransaction


class Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    role: Literal["provider", "hub"]
    models: Annotated[list[ModelOffer], msgspec.Meta(max_length=64)]
    endpoint: Annotated[str, msgspec.Meta(max_length=256)] = ""
    payout: str = ""
    validator: str = ""


class Countersignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A listed hub's word for a provider without money: the first REGISTER is then free."""

    hub: str
    sig: str


def check(payload: Register, witness: Countersignature | None, _genesis_hash: bytes) -> None:
    for address in (payload.payout, payload.validator):
        if address:
            check_address(address)
    names = [offer.model for offer in payload.models]
    if len(set(names)) != len(names):
        raise Rejected(Reason.DUPLICATE_KEY, "a model is listed twice")
    if witness is not None:
        check_address(witness.hub)
        unhex(witness.sig)


def is_free(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> bool:
    """A provider's first registration, countersigned by a listed hub."""
    payload, witness = tx.payload, tx.witness
    assert isinstance(payload, Register)
    return (
        payload.role == "provider"
        and isinstance(witness, Countersignature)
        and state.registration("provider", tx.tx.sender) is None
        and _is_countersigned(context, state, tx.tx.sender, witness)
    )


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, sender = tx.payload, tx.tx.sender
    assert isinstance(payload, Register)
    check_witness(context, state, tx)
    registration = Registration(
        role=payload.role,
        models=payload.models,
        endpoint=payload.endpoint,
        payout=payload.payout or sender,
        validator=payload.validator,
        height=context.height,
    )
    state.put("registry", f"{payload.role}:{sender}", registration)
    return [("registered", f"{payload.role}:{sender}", 0)]


def check_witness(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> None:
    sender, witness = tx.tx.sender, tx.witness
    if isinstance(witness, Countersignature) and not _is_countersigned(context, state, sender, witness):
        raise Failed(Reason.BAD_COUNTERSIGNATURE, f"not signed for {sender} by the listed hub {witness.hub}")


def _is_countersigned(
    context: BlockContext, state: Overlay, provider: str, witness: Countersignature
) -> bool:
    digest = countersignature_digest(provider, witness.hub, context.genesis_hash)
    key = state.account(witness.hub).auth
    return witness.hub in context.params.hubs and context.verify(key, digest, unhex(witness.sig))


REGISTER = TransactionType(
    "REGISTER",
    Register,
    check,
    apply,
    witness=Countersignature,
    check_witness=check_witness,
    is_free=is_free,
)
