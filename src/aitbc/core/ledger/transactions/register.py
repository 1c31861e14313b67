"""REGISTER: a provider or a hub says what it serves, for how much and where it is paid. docs/spec/registry.md"""

from typing import Annotated, Literal

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import compute_for_digest, countersignature_digest
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.keys import check_offered, key_or_offered
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.records import ModelOffer, Registration, ValidatorRecord
from aitbc.core.types.transactions import VerifiedTransaction


class Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    role: Literal["provider", "hub"]
    models: Annotated[list[ModelOffer], msgspec.Meta(max_length=64)]
    endpoint: Annotated[str, msgspec.Meta(max_length=256)] = ""
    payout: str = ""
    validator: str = ""


class Countersignature(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Who stands behind a registration: a listed hub, whose word makes the first REGISTER free, and the validator
    that the provider's compute shall count for."""

    hub: str = ""
    sig: str = ""
    """Hexadecimal, the hub's over `countersignature_digest`."""
    pubkey: str = ""
    """The hub's key, needed while the chain does not know it."""
    validator_sig: str = ""
    """Hexadecimal, the validator's over `compute_for_digest`."""


def check(payload: Register, witness: Countersignature | None, _genesis_hash: bytes) -> None:
    for address in (payload.payout, payload.validator):
        if address:
            check_address(address)
    names = [offer.model for offer in payload.models]
    if len(set(names)) != len(names):
        raise Rejected(Reason.DUPLICATE_KEY, "a model is listed twice")
    if witness is None:
        return
    if bool(witness.hub) != bool(witness.sig) or (witness.pubkey and not witness.hub):
        raise Rejected(Reason.MISSING_FIELD, "hub and sig come together, pubkey with them")
    if not witness.hub and not witness.validator_sig:
        raise Rejected(Reason.MISSING_FIELD, "the witness is empty: leave it out")
    if witness.validator_sig and not payload.validator:
        raise Rejected(Reason.UNEXPECTED_WITNESS, "validator_sig belongs to a registration with a validator")
    if witness.hub:
        check_address(witness.hub)
    check_offered(witness.pubkey, witness.hub)
    unhex(witness.sig)
    unhex(witness.validator_sig)


def is_free(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> bool:
    """A provider's first registration, countersigned by a listed hub."""
    payload, witness = tx.payload, tx.witness
    assert isinstance(payload, Register)
    return (
        payload.role == "provider"
        and isinstance(witness, Countersignature)
        and witness.hub != ""
        and state.registration("provider", tx.tx.sender) is None
        and _is_countersigned(context, state, tx.tx.sender, witness)
    )


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, sender = tx.payload, tx.tx.sender
    assert isinstance(payload, Register)
    known = state.registration(payload.role, sender)
    if context.version < 2:
        check_witness(context, state, tx)
    elif _is_new_validator(payload, known) and not _validator_key(context, state, payload.validator):
        raise Failed(Reason.UNKNOWN_VALIDATOR, f"{payload.validator} is no validator, nor staked to be one")
    registration = Registration(
        role=payload.role,
        models=payload.models,
        endpoint=payload.endpoint,
        payout=payload.payout or sender,
        validator=payload.validator,
        height=known.height if known and context.version >= 2 else context.height,
        epoch=known.epoch if known else 0,
        epoch_units=known.epoch_units if known else 0,
        calibrated_epoch=known.calibrated_epoch if known else 0,
    )
    state.put("registry", f"{payload.role}:{sender}", registration)
    return [("registered", f"{payload.role}:{sender}", 0)]


def check_witness(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> None:
    payload, witness, sender = tx.payload, tx.witness, tx.tx.sender
    assert isinstance(payload, Register)
    assert witness is None or isinstance(witness, Countersignature)
    if witness is not None and witness.hub and not _is_countersigned(context, state, sender, witness):
        raise Failed(Reason.BAD_COUNTERSIGNATURE, f"not signed for {sender} by the listed hub {witness.hub}")
    if context.version >= 2 and payload.validator:
        _check_validator(context, state, payload, witness, sender)


def _is_countersigned(
    context: BlockContext, state: Overlay, provider: str, witness: Countersignature
) -> bool:
    digest = countersignature_digest(provider, witness.hub, context.genesis_hash)
    key = key_or_offered(state, witness.hub, None, witness.pubkey)
    return witness.hub in context.params.hubs and context.verify(key, digest, unhex(witness.sig))


def _check_validator(
    context: BlockContext,
    state: Overlay,
    payload: Register,
    witness: Countersignature | None,
    sender: str,
) -> None:
    """A provider's compute counts only for a validator that says so; once said it holds for later registrations."""
    sig = unhex(witness.validator_sig) if witness else b""
    if not sig and not _is_new_validator(payload, state.registration(payload.role, sender)):
        return
    key = _validator_key(context, state, payload.validator)
    digest = compute_for_digest(sender, payload.validator, context.genesis_hash)
    if key and not context.verify(key, digest, sig):
        raise Failed(
            Reason.BAD_COUNTERSIGNATURE, f"validator_sig is not {payload.validator}'s over this registration"
        )


def _is_new_validator(payload: Register, known: Registration | None) -> bool:
    return payload.validator not in ("", known.validator if known else "")


def _validator_key(context: BlockContext, state: Overlay, validator: str) -> bytes:
    """The key of who is, or is staked to be, a validator; empty for others."""
    record = state.get("validators", validator)
    key = state.account(validator).auth
    if isinstance(record, ValidatorRecord):
        return key or key_from_text(record.auth_key)
    staked = state.bond("validator", validator).amount >= context.params.min_validator_stake
    return key if staked else b""


def asks(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[bytes]:
    witness = tx.witness
    if not isinstance(witness, Countersignature) or not witness.hub:
        return []
    return [key_or_offered(state, witness.hub, None, witness.pubkey)]


def form_since(_payload: Register, witness: Countersignature | None) -> int:
    return 2 if witness is not None and (not witness.hub or witness.pubkey or witness.validator_sig) else 1


REGISTER = TransactionType(
    "REGISTER",
    Register,
    check,
    apply,
    witness=Countersignature,
    check_witness=check_witness,
    asks=asks,
    is_free=is_free,
    form_since=form_since,
)
