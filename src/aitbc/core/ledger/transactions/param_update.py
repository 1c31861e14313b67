"""PARAM_UPDATE: the authorities change parameters, from the next epoch on. docs/spec/params.md

Anyone may send it; the approvals of enough authorities are its witness. Updates are numbered, so none is applied
twice.
"""

from itertools import pairwise
from typing import Annotated, Any

import msgspec

from aitbc.core.codec.canonical import convert, jcs, unhex
from aitbc.core.codec.digests import param_update_digest
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.address import address_of, check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.elector import mode_of
from aitbc.core.ledger.params import UPDATE_BOUNDS, Activation, Params
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.ledger.validators import check_voting_key, member_key, members_of, validators_of
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import Validator
from aitbc.core.types.reasons import Failed, Reason, Rejected
from aitbc.core.types.records import Param
from aitbc.core.types.transactions import VerifiedTransaction

MAX_QUEUED = 16
"""Updates that may wait for a boundary."""
MAX_AUTHORITIES = 50
MAX_HUBS = 100
MAX_APPROVALS_BYTES = 8 * 1024
"""Fifty Ed25519 signatures in JSON are 6.7 KB: a threshold can never ask for more than fit."""


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An authority: its address, and its key while the chain knows none."""

    address: str
    pubkey: str = ""


class ParamUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    number: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]
    """One more than the last update's."""
    set: dict[str, Any] = {}
    """Parameter → new value."""
    authorities: list[Member] = []
    """The whole new list, in set order; empty: as it is."""


class Approvals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bitmap: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)]
    """Bit i: member i of the running epoch's set has signed."""
    sigs: Annotated[list[str], msgspec.Meta(max_length=MAX_AUTHORITIES)]
    """Hexadecimal, in set order, over `param_update_digest`."""


def check(payload: ParamUpdate, witness: Approvals | None, _genesis_hash: bytes) -> None:
    if not payload.set and not payload.authorities:
        raise Rejected(Reason.MISSING_FIELD, "an update sets a parameter or names the authorities")
    for name, value in payload.set.items():
        _check_value(name, value)
    addresses = [member.address for member in payload.authorities]
    if len(set(addresses)) != len(addresses) or len(addresses) > MAX_AUTHORITIES:
        raise Rejected(Reason.OUT_OF_RANGE, f"authorities: at most {MAX_AUTHORITIES}, each once")
    for member in payload.authorities:
        check_address(member.address)
        if member.pubkey and address_of(key_from_text(member.pubkey)) != member.address:
            raise Rejected(Reason.WRONG_KEY, f"pubkey of {member.address} makes another address")
    if witness is None:
        raise Rejected(Reason.NOT_ENOUGH_APPROVALS, "the witness holds the authorities' signatures")
    for sig in witness.sigs:
        unhex(sig)


def _check_value(name: str, value: Any) -> None:
    """The bounds of one parameter, whatever the state."""
    if name in UPDATE_BOUNDS:
        least, most = UPDATE_BOUNDS[name]
        if isinstance(value, float):
            raise Rejected(Reason.FLOAT, f"{name} is an integer")
        if type(value) is not int:
            raise Rejected(Reason.WRONG_TYPE, f"{name} is an integer")
        if not least <= value <= most:
            raise Rejected(Reason.OUT_OF_RANGE, f"{name} is an integer from {least} to {most}")
    elif name == "treasury":
        if isinstance(value, float):
            raise Rejected(Reason.FLOAT, "treasury is an address or empty")
        if not isinstance(value, str):
            raise Rejected(Reason.WRONG_TYPE, "treasury is an address or empty")
        if value:
            check_address(value)
    elif name == "hubs":
        hubs = convert(value, list[str])
        if len(set(hubs)) != len(hubs) or len(hubs) > MAX_HUBS:
            raise Rejected(Reason.OUT_OF_RANGE, f"hubs: at most {MAX_HUBS}, each once")
        for hub in hubs:
            check_address(hub)
    elif name == "activations":
        convert(value, list[Activation])
    else:
        raise Rejected(Reason.UNKNOWN_PARAM, f"{name[:60]!r} is no parameter that an update can set")


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload = tx.payload
    assert isinstance(payload, ParamUpdate)
    number = state.number("updates.count") + 1
    if payload.number != number:
        raise Failed(Reason.WRONG_UPDATE_NUMBER, f"update {payload.number}; the next one has number {number}")
    queued = queue_of(state)
    if len(queued) >= MAX_QUEUED:
        raise Failed(Reason.TOO_MANY_QUEUED, f"{MAX_QUEUED} updates wait for the boundary already")
    if "activations" in payload.set:
        if any("activations" in update.set for _, update in queued):
            raise Failed(Reason.BAD_UPDATE, "other activations wait for the boundary")
        _check_activations(context, convert(payload.set["activations"], list[Activation]))
    if payload.authorities:
        if any(update.authorities for _, update in queued):
            raise Failed(Reason.BAD_UPDATE, "another list of authorities waits for the boundary")
        _check_authorities(state, payload.authorities)
    state.set_number("updates.count", number)
    state.put("params", f"queued:{number:016}", Param(value=jcs(payload).decode()))
    return [("queued", f"update:{number}", 0)]


def queue_of(state: Overlay) -> list[tuple[str, ParamUpdate]]:
    """Updates that wait for the boundary, by number."""
    found = []
    for key, record in state.items("params", "queued:"):
        assert isinstance(record, Param)
        found.append((key, msgspec.json.decode(record.value, type=ParamUpdate)))
    return found


def _check_activations(context: BlockContext, wanted: list[Activation]) -> None:
    """What is active stays, and what becomes so before this update counts; what comes later may be taken back."""
    known = context.params.activations
    first = (context.epoch + 2) * context.epoch_length + 1
    settled = [activation for activation in known if activation.height < first]
    in_order = all(a.version < b.version and a.height < b.height for a, b in pairwise(wanted))
    begins = all(
        a.height >= first and (a.height - 1) % context.epoch_length == 0 for a in wanted[len(settled) :]
    )
    if wanted[: len(settled)] != settled or wanted == known or not in_order or not begins:
        raise Failed(
            Reason.BAD_UPDATE,
            f"activations: those before height {first} as they are, then versions in ascending order, each at the"
            " first height of an epoch from there on",
        )


def _check_authorities(state: Overlay, wanted: list[Member]) -> None:
    if mode_of(state) == "hybrid":
        raise Failed(Reason.BAD_UPDATE, "under `hybrid` stake makes the validator set")
    for member in wanted:
        known = state.account(member.address).auth or member_key(state, member.address)
        if not known and not member.pubkey:
            raise Failed(Reason.PUBKEY_REQUIRED, f"the chain does not know {member.address}'s key yet")
        check_voting_key(known or key_from_text(member.pubkey))
    now = {address for address, _ in members_of(state)}
    leaving = now - {member.address for member in wanted}
    most = max(1, len(now) // 3)
    if len(leaving) > most:
        raise Failed(
            Reason.BAD_UPDATE, f"{len(leaving)} authorities would leave at once; at most {most} of {len(now)}"
        )


def approvals_needed(params: Params, members: int) -> int:
    """How many of the set must sign: the threshold, or more than half; never more than there are."""
    return min(params.governance_threshold or members // 2 + 1, members)


def power_of(members: list[Validator]) -> int:
    return sum(member.power for member in members)


def check_witness(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> None:
    payload, witness = tx.payload, tx.witness
    assert isinstance(payload, ParamUpdate) and isinstance(witness, Approvals)
    members = validators_of(state)
    signers = [member for i, member in enumerate(members) if witness.bitmap >> i & 1]
    if witness.bitmap >> len(members) or len(signers) != len(witness.sigs):
        raise Failed(Reason.BAD_APPROVAL, "bitmap and signatures do not fit the validator set")
    needed = approvals_needed(context.params, len(members))
    if len(signers) < needed:
        raise Failed(Reason.NOT_ENOUGH_APPROVALS, f"{len(signers)} approvals; {needed} are needed")
    if mode_of(state) == "hybrid" and 2 * power_of(signers) <= power_of(members):
        raise Failed(
            Reason.NOT_ENOUGH_APPROVALS, "under `hybrid` more than half of the power must approve, too"
        )
    digest = param_update_digest(jcs(payload), context.genesis_hash)
    for member, sig in zip(signers, witness.sigs, strict=True):
        if not context.verify(member.auth_key, digest, unhex(sig)):
            raise Failed(Reason.BAD_APPROVAL, f"the approval of {member.address} is not good")


PARAM_UPDATE = TransactionType(
    "PARAM_UPDATE",
    ParamUpdate,
    check,
    apply,
    witness=Approvals,
    check_witness=check_witness,
    max_witness=MAX_APPROVALS_BYTES,
    since=2,
)
