"""Chain parameters: set by genesis, kept in the state, the same for every node. docs/spec/params.md"""

from typing import Annotated

import msgspec

from aitbc.core.codec.canonical import convert
from aitbc.core.types.amounts import BASIS_POINTS, MAX_SIGNED, AmountOrZero

BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=BASIS_POINTS)]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every parameter with its default; the genesis templates differ only in what they name."""

    devnet: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    """1 on a devnet genesis: faucet and synthetic claims exist there and nowhere else."""
    base_fee: AmountOrZero = 2
    """Base units for any transaction; with `fee_per_kib` the seed's sample transfer costs its 10."""
    fee_per_kib: AmountOrZero = 64
    """Base units for each 1,024 bytes of payload, rounded up."""
    fee_burn_bp: BasisPoints = 5_000
    """Part of each fee that is burned; the rest goes to the proposer."""
    mint_per_unit: AmountOrZero = 1_000
    """Base units to the provider for each compute unit (seed 000: MINT_PER_UNIT)."""
    coordinator_ratio_bp: BasisPoints = 500
    """Minted to the hub, on top, as a part of the provider's mint (COORDINATOR_RATIO=0.05)."""
    treasury_ratio_bp: BasisPoints = 0
    treasury: str = ""
    mint_price_cap_bp: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)] = BASIS_POINTS
    """A receipt mints at most this part of its price to the provider; 0 turns the cap off (devnet)."""
    hubs: list[str] = []
    """Hubs that may attest for a mint."""
    faucet: str = ""
    faucet_limit: AmountOrZero = 0
    """Most base units one FAUCET transaction may create."""
    synthetic_attester: str = ""
    """Answers for job ids 1 … 1,000,000 on a devnet (seed 000 §14)."""
    max_lock_ms: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)] = 30 * 24 * 3600 * 1000
    """How far ahead of block time a lock may end: 30 days."""


def params_to_texts(params: Params) -> dict[str, str]:
    """Each parameter as its JSON text, as the params store keeps it."""
    return {
        name: msgspec.json.encode(value).decode() for name, value in msgspec.structs.asdict(params).items()
    }


def params_from_texts(texts: dict[str, str]) -> Params:
    """The inverse; keys that are not parameters (totals) are ignored."""
    names = Params.__struct_fields__
    return convert({name: msgspec.json.decode(texts[name]) for name in names if name in texts}, Params)
