"""How many coins verified receipts bring into being. DESIGN §3 "Minting", seed 000 §8. docs/spec/minting.md

What a receipt may mint follows from its units and price alone (`full_mint`); what it does mint is that, scaled and
bounded by the budget and the hub's bond (`allowance`). The price is paid in full whatever the mint.
"""

from typing import NamedTuple

import msgspec

from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.params import DAY_MS, Params
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import BASIS_POINTS, MAX_SIGNED, MAX_TOTAL
from aitbc.core.types.reasons import Failed, Reason

SCALE = 10**9
"""A mint scale of 1."""


class Mint(NamedTuple):
    """Base units for each."""

    provider: int
    hub: int
    treasury: int

    @property
    def total(self) -> int:
        return self.provider + self.hub + self.treasury


NOTHING = Mint(0, 0, 0)


def full_mint(params: Params, *, units: int, price: int) -> int:
    """The provider's part of a paid receipt's mint, before scale and bounds; 0 for free work."""
    if price == 0:
        return 0
    provider = min(units * params.mint_per_unit, MAX_SIGNED)
    if params.mint_price_cap_bp:
        provider = min(provider, price * params.mint_price_cap_bp // BASIS_POINTS)
    return provider


def with_shares(params: Params, provider: int) -> Mint:
    """The provider's part with the hub's and the treasury's on top."""
    hub = provider * params.coordinator_ratio_bp // BASIS_POINTS
    treasury = provider * params.treasury_ratio_bp // BASIS_POINTS if params.treasury else 0
    return Mint(provider, hub, treasury)


def may_attest(context: BlockContext, state: Overlay, hub: str) -> bool:
    """Do this hub's receipts mint: is it listed, behind its bond and not jailed?"""
    if hub not in context.params.hubs:
        return False
    bond = state.bond("hub", hub)
    return bond.amount >= context.params.hub_bond and bond.jailed_until_ms <= context.timestamp_ms


def is_jailed(context: BlockContext, state: Overlay, role: str, address: str) -> bool:
    assert role in ("hub", "provider", "validator")
    return state.bond(role, address).jailed_until_ms > context.timestamp_ms  # type: ignore[arg-type]


def allowance(context: BlockContext, state: Overlay, *, hub: str, full: int) -> int:
    """How much of a full mint comes into being; counts it against the budget and the hub's bond.

    The scale was fixed when the epoch began; what is left of the budget is a hard stop.
    """
    if context.block_reward is not None:
        return 0
    params, allowed = context.params, full
    if context.version < 2:
        return full
    bond = state.bond("hub", hub)
    bounded = params.hub_mint_per_bond_bp > 0 and hub in params.hubs
    minted = bond.minted if bond.epoch == context.epoch else 0
    if bounded:
        bound = bond.amount * params.hub_mint_per_bond_bp // BASIS_POINTS
        allowed = max(0, min(full, bound - minted))
    if params.mint_budget_per_day and allowed:
        # what the bond does not let through presses nobody's scale
        state.set_number("mint.claimed", state.number("mint.claimed") + allowed)
        allowed = min(allowed * state.number("mint.scale") // SCALE, state.number("mint.budget"))
    if bounded and allowed:
        state.put_bond(
            "hub", hub, msgspec.structs.replace(bond, epoch=context.epoch, minted=minted + allowed)
        )
    if params.mint_budget_per_day and allowed:
        state.set_number("mint.budget", state.number("mint.budget") - allowed)
    return allowed


def check_room(state: Overlay, amount: int) -> None:
    """Fail when so many new coins would pass the supply's bound."""
    if state.total_supply() + amount > MAX_TOTAL:
        raise Failed(Reason.SUPPLY_EXHAUSTED, "the supply would pass 2^63 - 1 base units")


def pay_author(context: BlockContext, state: Overlay) -> None:
    """The block's reward, or what the supply's bound leaves of it; nobody reads it from a block."""
    if not context.block_reward:
        return
    reward = min(context.block_reward, MAX_TOTAL - state.total_supply())
    if reward > 0:
        state.credit(context.proposer, reward)
        state.add_supply("rewards", reward)


def refill_budget(context: BlockContext, state: Overlay) -> None:
    """At a boundary: what has accrued since the last one, and the scale of the next epoch,
    min(1, budget ÷ claims of the epoch that ends)."""
    rate = context.params.mint_budget_per_day
    since = state.number("mint.accrued_ms")
    state.set_number("mint.accrued_ms", context.timestamp_ms)
    if not rate:
        return
    accrued = rate * (context.timestamp_ms - since) // DAY_MS if since else 0
    budget = min(state.number("mint.budget") + accrued, MAX_TOTAL)
    claimed = state.number("mint.claimed")
    scale = SCALE if claimed <= budget else budget * SCALE // claimed
    for name, value in (("mint.budget", budget), ("mint.scale", scale), ("mint.claimed", 0)):
        state.set_number(name, value)
