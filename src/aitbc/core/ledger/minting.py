"""How many coins a verified receipt brings into being. DESIGN §3 "Minting", seed 000 §8. docs/spec/minting.md"""

from typing import NamedTuple

from aitbc.core.ledger.params import Params
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import BASIS_POINTS, MAX_SIGNED, MAX_TOTAL
from aitbc.core.types.reasons import Failed, Reason


class Mint(NamedTuple):
    """Base units for each."""

    provider: int
    hub: int
    treasury: int

    @property
    def total(self) -> int:
        return self.provider + self.hub + self.treasury


NOTHING = Mint(0, 0, 0)


def mint_for(params: Params, *, units: int, price: int, routed: str, hub_listed: bool) -> Mint:
    """The mint of one receipt: per compute unit, with the hub's and the treasury's cut on top.

    Free work, work whose provider the client chose, and work of unlisted hubs mint nothing: re-execution cannot
    catch a provider that pays itself for real work.
    """
    if price == 0 or routed == "chosen" or not hub_listed:
        return NOTHING
    provider = min(units * params.mint_per_unit, MAX_SIGNED)
    if params.mint_price_cap_bp:
        provider = min(provider, price * params.mint_price_cap_bp // BASIS_POINTS)
    hub = provider * params.coordinator_ratio_bp // BASIS_POINTS
    treasury = provider * params.treasury_ratio_bp // BASIS_POINTS if params.treasury else 0
    return Mint(provider, hub, treasury)


def check_room(state: Overlay, amount: int) -> None:
    """Fail when so many new coins would pass the supply's bound."""
    if state.total_supply() + amount > MAX_TOTAL:
        raise Failed(Reason.SUPPLY_EXHAUSTED, "the supply would pass 2^63 - 1 base units")
