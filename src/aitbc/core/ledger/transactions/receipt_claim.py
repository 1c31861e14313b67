"""RECEIPT_CLAIM: a receipt with its attestation is paid from its lock and minted for (seed 000 §2.2, §18.2).

Checks run in the order written here, so every node gives the same reason. The attestation is a witness inside the
transaction: no node asks anybody while it validates. docs/spec/receipts.md
"""

import re
from typing import Annotated

import msgspec

from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import attestation_digest, receipt_core_digest
from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.calibration import grant_calibration
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.escrow import check_open, check_price, check_task, pay
from aitbc.core.ledger.keys import check_offered, key_or_offered
from aitbc.core.ledger.minting import (
    NOTHING,
    Mint,
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
from aitbc.core.types.receipts import Attestation, ReceiptCore, SignedAttestation
from aitbc.core.types.records import Lock, PaidReceipt, ReceiptRecord
from aitbc.core.types.transactions import VerifiedTransaction

SYNTHETIC_JOBS = 1_000_000
_SYNTHETIC_JOB = re.compile(r"(?:job_)?([1-9][0-9]{0,6})\Z")


def synthetic_job_number(job_id: str) -> int | None:
    """The number of a synthetic devnet job, `7` or `job_7`; None for every other label."""
    match = _SYNTHETIC_JOB.match(job_id)
    return int(match.group(1)) if match and int(match.group(1)) <= SYNTHETIC_JOBS else None


class ReceiptClaim(ReceiptCore, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The seed's claim payload: the receipt's core, its id and the provider's signature."""

    receipt_id: Annotated[str, msgspec.Meta(pattern=r"\Arcpt_[0-9a-f]{64}\Z")]
    miner_sig: Annotated[str, msgspec.Meta(max_length=8192)]


def core_of(claim: ReceiptClaim) -> ReceiptCore:
    """What the provider signed."""
    return ReceiptCore(**{name: getattr(claim, name) for name in ReceiptCore.__struct_fields__})


def check(claim: ReceiptClaim, witness: SignedAttestation | None, genesis_hash: bytes) -> None:
    check_address(claim.client_addr)
    check_address(claim.miner_addr)
    unhex(claim.miner_sig)
    if claim.receipt_id != "rcpt_" + receipt_core_digest(core_of(claim), genesis_hash).hex():
        raise Rejected(
            Reason.RECEIPT_ID_MISMATCH, "receipt_id is not the hash of the receipt's core on this chain"
        )
    if witness is None:
        raise Rejected(
            Reason.ATTESTATION_MISSING, "a claim carries the hub's signed attestation as its witness"
        )
    unhex(witness.sig)
    check_offered(witness.pubkey, witness.attestation.hub)
    _check_attested(claim, witness.attestation)


def _check_attested(claim: ReceiptClaim, attestation: Attestation) -> None:
    """The attestation must name exactly this receipt."""
    if claim.compute_units > attestation.units:
        raise Rejected(
            Reason.UNITS_ABOVE_ATTESTED, f"{claim.compute_units} units claimed, {attestation.units} attested"
        )
    pairs = {
        "receipt_id": (claim.receipt_id, attestation.receipt_id),
        "lock": (claim.lock, attestation.lock),
        "job_id": (claim.job_id, attestation.job_id),
        "client": (claim.client_addr, attestation.client),
        "provider": (claim.miner_addr, attestation.provider),
        "task": (claim.task, attestation.task),
        "attempt": (claim.attempt, attestation.attempt),
        "units": (claim.compute_units, attestation.units),
        "price": (claim.price, attestation.price),
        "output_hash": (claim.output_hash, attestation.output_hash),
    }
    for name, (claimed, attested) in pairs.items():
        if claimed != attested:
            raise Rejected(Reason.ATTESTATION_MISMATCH, f"{name}: {claimed!r} claimed, {attested!r} attested")
    if (attestation.routed in ("synthetic", "calibration")) != (claim.lock == ""):
        raise Rejected(
            Reason.ATTESTATION_MISMATCH, "a claim without a lock is synthetic or calibration, and only such"
        )


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    claim, witness = tx.payload, tx.witness
    assert isinstance(claim, ReceiptClaim) and isinstance(witness, SignedAttestation)
    if state.receipt(claim.receipt_id) is not None:
        raise Failed(Reason.RECEIPT_ALREADY_CLAIMED, f"{claim.receipt_id} has been paid")
    match witness.attestation.routed:
        case "synthetic":
            events = _check_synthetic(context, state, claim, witness)
            mint = _mint(context, state, claim, witness.attestation.hub, counts=True)
        case "calibration":
            events = []
            mint = grant_calibration(
                context,
                state,
                provider=claim.miner_addr,
                hub=witness.attestation.hub,
                units=claim.compute_units,
                price=claim.price,
                job_id=claim.job_id,
                nonce=claim.nonce,
            )
        case "random" | "chosen" as routed:
            events = _pay_from_lock(context, state, claim, witness)
            hub, provider = witness.attestation.hub, claim.miner_addr
            counts = routed == "random" and may_attest(context, state, hub)
            if context.version >= 2:
                counts = counts and not is_jailed(context, state, "provider", provider)
                if counts and claim.price:
                    count_units(context, state, provider, claim.compute_units)
            mint = _mint(context, state, claim, hub, counts=counts)
    state.put("receipts", claim.receipt_id, _record(context, claim, witness.attestation, mint))
    state.receipts.append(_paid(state, claim, witness.attestation, mint))
    return events + _credit_mint(context, state, claim, witness.attestation.hub, mint)


def _pay_from_lock(
    context: BlockContext, state: Overlay, claim: ReceiptClaim, witness: SignedAttestation
) -> list[Event]:
    """Price from the escrow to the provider; the last task returns the rest to the client."""
    lock = state.lock(claim.lock)
    if lock is None:
        raise Failed(Reason.UNKNOWN_LOCK, f"there is no lock {claim.lock}")
    if state.registration("provider", claim.miner_addr) is None:
        raise Failed(Reason.UNKNOWN_PROVIDER, f"{claim.miner_addr} is not registered as a provider")
    _check_lock(context, lock, claim, witness.attestation.hub)
    if context.version < 2:
        _check_signatures(context, state, claim, witness)
    paid_tasks = int(lock.paid_tasks, 16) | 1 << claim.task
    rest = pay(context, state, claim.lock, lock, paid=lock.paid + claim.price, paid_tasks=paid_tasks)
    payout = payout_of(state, claim.miner_addr)
    state.credit(payout, claim.price)
    events: list[Event] = [("paid", payout, claim.price)]
    return [*events, ("returned", lock.client, rest)] if rest else events


def _check_lock(context: BlockContext, lock: Lock, claim: ReceiptClaim, hub: str) -> None:
    """Fail unless the lock can pay this claim."""
    if lock.job_id != claim.job_id and not lock.session:
        raise Failed(Reason.WRONG_JOB, f"the lock is for job {lock.job_id!r}, not {claim.job_id!r}")
    if lock.client != claim.client_addr:
        raise Failed(Reason.WRONG_CLIENT, f"the lock is {lock.client}'s")
    if lock.hub != hub:
        raise Failed(Reason.WRONG_HUB, f"the lock names {lock.hub}, the attestation is by {hub}")
    check_task(lock, claim.task, paid_tasks=int(lock.paid_tasks, 16))
    check_open(context, lock, hub)
    check_price(lock, claim.price, paid=lock.paid)


def _check_synthetic(
    context: BlockContext, state: Overlay, claim: ReceiptClaim, witness: SignedAttestation
) -> list[Event]:
    """Seed 000 §14: on a devnet a labelled attester answers for jobs 1 … 1,000,000; mint only, once per job."""
    params = context.params
    if not params.devnet or not params.synthetic_attester:
        raise Failed(Reason.SYNTHETIC_NOT_ALLOWED, "claims without a lock exist on a devnet genesis only")
    if witness.attestation.hub != params.synthetic_attester:
        raise Failed(Reason.WRONG_HUB, f"synthetic jobs are attested by {params.synthetic_attester} only")
    number = synthetic_job_number(claim.job_id)
    if number is None:
        raise Failed(Reason.UNKNOWN_SYNTHETIC_JOB, f"{claim.job_id!r} is not in 1 to {SYNTHETIC_JOBS}")
    key = f"synthetic:{number}"
    if state.lock(key) is not None:
        raise Failed(Reason.TASK_ALREADY_PAID, f"synthetic job {number} has been paid")
    if context.version < 2:
        _check_signatures(context, state, claim, witness)
    state.put("locks", key, _synthetic_lock(claim, witness.attestation.hub, context.height))
    return []


def _check_signatures(
    context: BlockContext, state: Overlay, claim: ReceiptClaim, witness: SignedAttestation
) -> None:
    """Both signatures, under the keys of the lock's height: a rotation leaves finished work payable."""
    provider_key, hub_key = _keys(state, claim, witness)
    digest = receipt_core_digest(core_of(claim), context.genesis_hash)
    if not context.verify(provider_key, digest, unhex(claim.miner_sig)):
        raise Failed(
            Reason.BAD_PROVIDER_SIGNATURE, f"miner_sig is not {claim.miner_addr}'s over this receipt"
        )
    hub = witness.attestation.hub
    digest = attestation_digest(witness.attestation, context.genesis_hash)
    if not context.verify(hub_key, digest, unhex(witness.sig)):
        raise Failed(Reason.BAD_ATTESTATION_SIGNATURE, f"the attestation is not signed by {hub}")


def _keys(state: Overlay, claim: ReceiptClaim, witness: SignedAttestation) -> tuple[bytes, bytes]:
    """The provider's and the hub's, of the lock's height; of now when there is no such lock."""
    lock = state.lock(claim.lock) if claim.lock else None
    height = lock.height if lock else None
    provider_key = key_or_offered(state, claim.miner_addr, height, "")
    return provider_key, key_or_offered(state, witness.attestation.hub, height, witness.pubkey)


def check_witness(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> None:
    assert isinstance(tx.payload, ReceiptClaim) and isinstance(tx.witness, SignedAttestation)
    _check_signatures(context, state, tx.payload, tx.witness)


def asks(_context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[bytes]:
    claim, witness = tx.payload, tx.witness
    assert isinstance(claim, ReceiptClaim) and isinstance(witness, SignedAttestation)
    return list(_keys(state, claim, witness))


def _mint(context: BlockContext, state: Overlay, claim: ReceiptClaim, hub: str, *, counts: bool) -> Mint:
    """What this receipt brings into being, when it counts."""
    if not counts:
        return NOTHING
    full = with_shares(
        context.params, full_mint(context.params, units=claim.compute_units, price=claim.price)
    )
    if not full.total:
        return NOTHING
    allowed = allowance(context, state, hub=hub, full=full.total)
    mint = full if allowed == full.total else Mint(*[part * allowed // full.total for part in full])
    if mint != NOTHING:
        check_room(state, mint.total)
    return mint


def _credit_mint(
    context: BlockContext, state: Overlay, claim: ReceiptClaim, hub: str, mint: Mint
) -> list[Event]:
    if mint == NOTHING:
        return []
    shares = [(payout_of(state, claim.miner_addr), mint.provider), (hub, mint.hub)]
    if mint.treasury:
        shares.append((context.params.treasury, mint.treasury))
    for address, amount in shares:
        state.credit(address, amount)
    state.add_supply("minted", mint.total)
    return [("minted", address, amount) for address, amount in shares]


def payout_of(state: Overlay, provider: str) -> str:
    """Where a provider is paid."""
    registration = state.registration("provider", provider)
    return registration.payout if registration else provider


def _record(
    context: BlockContext, claim: ReceiptClaim, attestation: Attestation, mint: Mint
) -> ReceiptRecord:
    return ReceiptRecord(
        job_id=claim.job_id,
        client=claim.client_addr,
        provider=claim.miner_addr,
        hub=attestation.hub,
        units=claim.compute_units,
        price=claim.price,
        output_hash=claim.output_hash,
        details_hash=claim.details_hash,
        lock=claim.lock,
        task=claim.task,
        attempt=claim.attempt,
        minted=mint.provider,
        height=context.height,
        claimed_ms=context.timestamp_ms if context.version >= 2 else 0,
    )


def _paid(state: Overlay, claim: ReceiptClaim, attestation: Attestation, mint: Mint) -> PaidReceipt:
    return PaidReceipt(
        receipt_id=claim.receipt_id,
        tx_position=state.position,
        job_id=claim.job_id,
        client=claim.client_addr,
        provider=claim.miner_addr,
        hub=attestation.hub,
        units=claim.compute_units,
        price=claim.price,
        minted=mint.provider,
        output_hash=claim.output_hash,
        provider_sig=claim.miner_sig,
        lock=claim.lock,
        task=claim.task,
        attempt=claim.attempt,
    )


def _synthetic_lock(claim: ReceiptClaim, hub: str, height: int) -> Lock:
    return Lock(
        client=claim.client_addr,
        hub=hub,
        job_id=claim.job_id,
        amount=0,
        paid=0,
        tasks=1,
        paid_tasks="1",
        request_hash="",
        deliver_by_ms=0,
        claim_until_ms=0,
        height=height,
        status="synthetic",
    )


def fee_source(claim: ReceiptClaim) -> str:
    if claim.lock:
        return f"lock {claim.lock}"
    number = synthetic_job_number(claim.job_id)
    return f"synthetic job {number}" if number else f"calibration of {claim.miner_addr}"


def form_since(_claim: ReceiptClaim, witness: SignedAttestation) -> int:
    return 2 if witness.pubkey or witness.attestation.routed == "calibration" else 1


RECEIPT_CLAIM = TransactionType(
    "RECEIPT_CLAIM",
    ReceiptClaim,
    check,
    apply,
    witness=SignedAttestation,
    check_witness=check_witness,
    asks=asks,
    fee_source=fee_source,
    form_since=form_since,
)
