"""Calibration receipts: the first coins of a chain without premint. DESIGN §3 "Minting". docs/spec/minting.md

In each epoch every registered provider may do one job that nobody could choose: its nonce follows from the chain's
own randomness. A listed hub attests it; no lock pays for it; a budget with an end mints for it.
"""

import msgspec

from aitbc.core.crypto.hashing import tagged, u64
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.minting import NOTHING, Mint, check_room, is_jailed, with_shares
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.records import Param


def calibration_nonce(genesis_hash: bytes, epoch: int, seed: str, provider: str) -> str:
    """The nonce of the job that a provider may do in an epoch, hexadecimal; `seed`: the parameter `epoch.seed`."""
    ticket = tagged("aitbc/calibration/1", genesis_hash, u64(epoch), seed.encode(), provider.encode())
    return ticket.hex()


def calibration_job(epoch: int, provider: str) -> str:
    """The label of that job."""
    return f"calibration:{epoch}:{provider}"


def grant_calibration(
    context: BlockContext,
    state: Overlay,
    *,
    provider: str,
    hub: str,
    units: int,
    price: int,
    job_id: str,
    nonce: str,
) -> Mint:
    """What a calibration receipt mints, counted against the budget; Failed when it is none that the chain drew."""
    params = context.params
    left = params.calibration_budget - state.number("calibration.minted")
    if left <= 0 or 0 < params.calibration_until_ms < context.timestamp_ms:
        raise Failed(Reason.CALIBRATION_OVER, "the budget for calibration is spent or its time is over")
    if hub not in params.hubs or is_jailed(context, state, "hub", hub):
        raise Failed(Reason.WRONG_HUB, f"{hub} is no listed hub in good standing")
    registration = state.registration("provider", provider)
    if registration is None or is_jailed(context, state, "provider", provider):
        raise Failed(Reason.UNKNOWN_PROVIDER, f"{provider} is not registered as a provider in good standing")
    if registration.height > context.epoch * context.epoch_length:
        raise Failed(
            Reason.WRONG_CALIBRATION, "a provider that registered in this epoch is drawn from the next one on"
        )
    if registration.calibrated_epoch == context.epoch:
        raise Failed(Reason.ALREADY_CALIBRATED, f"{provider} has had its receipt of epoch {context.epoch}")
    seed = state.get("params", "epoch.seed")
    drawn = calibration_nonce(
        context.genesis_hash, context.epoch, seed.value if isinstance(seed, Param) else "", provider
    )
    if nonce != drawn or job_id != calibration_job(context.epoch, provider) or price:
        raise Failed(
            Reason.WRONG_CALIBRATION,
            f"epoch {context.epoch} drew job {calibration_job(context.epoch, provider)!r} with nonce {drawn}, for"
            " nothing",
        )
    state.put(
        "registry",
        f"provider:{provider}",
        msgspec.structs.replace(registration, calibrated_epoch=context.epoch),
    )
    return _take(context, state, min(units, params.calibration_units), left)


def _take(context: BlockContext, state: Overlay, units: int, left: int) -> Mint:
    full = with_shares(context.params, min(units * context.params.mint_per_unit, MAX_SIGNED))
    if not full.total:
        return NOTHING
    mint = full if full.total <= left else Mint(*[part * left // full.total for part in full])
    if not mint.total:
        return NOTHING
    check_room(state, mint.total)
    state.set_number("calibration.minted", state.number("calibration.minted") + mint.total)
    return mint
