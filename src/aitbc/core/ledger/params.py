"""Chain parameters: set by genesis, kept in the state, changed by the authorities. docs/spec/params.md"""

from typing import Annotated

import msgspec

from aitbc.core.codec.canonical import convert, jcs
from aitbc.core.types.amounts import AIT, BASIS_POINTS, MAX_SIGNED, AmountOrZero, Milliseconds

BasisPoints = Annotated[int, msgspec.Meta(ge=0, le=BASIS_POINTS)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIGNED)]

MINUTE_MS = 60_000
DAY_MS = 24 * 3600 * 1000


class Activation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From this height on, headers have this version and blocks follow its rules."""

    version: Annotated[int, msgspec.Meta(ge=2, le=MAX_SIGNED)]
    height: Count


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
    mint_price_cap_bp: Count = BASIS_POINTS
    """A receipt mints at most this part of its price to the provider; 0 turns the cap off (devnet)."""
    hubs: list[str] = []
    """Hubs that may attest for a mint."""
    faucet: str = ""
    faucet_limit: AmountOrZero = 0
    """Most base units one FAUCET transaction may create."""
    synthetic_attester: str = ""
    """Answers for job ids 1 … 1,000,000 on a devnet (seed 000 §14)."""
    max_lock_ms: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIGNED)] = 30 * DAY_MS
    """How far ahead of block time a lock may end: 30 days."""

    # Since version 2.

    activations: list[Activation] = []
    """Protocol versions by height, ascending; empty: version 1 for ever."""
    fee_ed25519: AmountOrZero = 1
    """Base units for each Ed25519 signature after the first, which `base_fee` covers (k-of-n accounts)."""
    fee_secp256k1: AmountOrZero = 6
    fee_rsa_pss: AmountOrZero = 2
    hub_bond: AmountOrZero = 0
    """Stake that a listed hub must have for its receipts to mint."""
    hub_mint_per_bond_bp: Count = BASIS_POINTS
    """A hub's receipts mint at most this part of its stake in one epoch; 0: no bound."""
    mint_budget_per_day: AmountOrZero = 0
    """Base units that receipts may mint in 24 hours of block time; 0: no budget."""
    calibration_budget: AmountOrZero = 0
    """Base units that calibration receipts may mint in all."""
    calibration_until_ms: Milliseconds = 0
    """Block time after which they mint nothing; 0: until the budget is spent."""
    calibration_units: Count = 10_000
    """Most compute units that one calibration receipt is minted for."""
    lock_retention_ms: Milliseconds = 7 * DAY_MS
    """How long a closed lock stays in the state; an open one is returned so long after its claim time."""
    receipt_retention_ms: Milliseconds = 7 * DAY_MS
    unbonding_ms: Milliseconds = 14 * DAY_MS
    """From UNSTAKE to WITHDRAW; what is on its way can still be slashed."""
    governance_threshold: Count = 0
    """Authorities that must sign a PARAM_UPDATE; 0: more than half of them."""
    slash_bp: BasisPoints = 500
    """Part of the stake that a proven double signature costs (Cosmos x/slashing: 5 %)."""
    jail_ms: Milliseconds = DAY_MS
    evidence_epochs: Count = 100
    """How many epochs back conflicting votes are punished."""
    min_validator_stake: AmountOrZero = 1_000 * AIT
    """Least stake of a validator under `hybrid`."""
    max_validators: Annotated[int, msgspec.Meta(ge=1, le=50)] = 50
    score_decay_bp: BasisPoints = 8_750
    """What is left of a compute score after an epoch: 7/8."""
    score_units_per_provider: Count = 0
    """Most units of one provider that count for its validator in an epoch; 0: no bound."""


VERSION_1_NAMES = Params.__struct_fields__[: Params.__struct_fields__.index("activations")]
"""What a chain without activations knows."""

UPDATE_BOUNDS: dict[str, tuple[int, int]] = {
    "base_fee": (0, AIT),
    "fee_per_kib": (0, AIT),
    "fee_burn_bp": (0, BASIS_POINTS),
    "mint_per_unit": (0, 1_000 * AIT),
    "coordinator_ratio_bp": (0, 5_000),
    "treasury_ratio_bp": (0, 5_000),
    "mint_price_cap_bp": (1, 10 * BASIS_POINTS),
    "max_lock_ms": (MINUTE_MS, 365 * DAY_MS),
    "fee_ed25519": (0, AIT),
    "fee_secp256k1": (0, AIT),
    "fee_rsa_pss": (0, AIT),
    "hub_bond": (0, MAX_SIGNED),
    "hub_mint_per_bond_bp": (0, 1_000 * BASIS_POINTS),
    "mint_budget_per_day": (0, MAX_SIGNED),
    "calibration_budget": (0, MAX_SIGNED),
    "calibration_until_ms": (0, MAX_SIGNED),
    "calibration_units": (0, 1_000_000),
    "lock_retention_ms": (MINUTE_MS, 365 * DAY_MS),
    "receipt_retention_ms": (MINUTE_MS, 365 * DAY_MS),
    "unbonding_ms": (MINUTE_MS, 365 * DAY_MS),
    "governance_threshold": (0, 50),
    "slash_bp": (0, BASIS_POINTS),
    "jail_ms": (0, 365 * DAY_MS),
    "evidence_epochs": (1, 1_000_000),
    "min_validator_stake": (1, MAX_SIGNED),
    "max_validators": (1, 50),
    "score_decay_bp": (0, BASIS_POINTS),
    "score_units_per_provider": (0, MAX_SIGNED),
}
"""What a PARAM_UPDATE may set, and to what; `treasury`, `hubs` and `activations` have rules of their own, everything
else is as genesis made it."""


def version_at(params: Params, height: int) -> int:
    """The protocol version of the block at a height."""
    return max([a.version for a in params.activations if a.height <= height], default=1)


def names_of(params: Params) -> tuple[str, ...]:
    """The parameters that the chain has: a chain of version 1 has never heard of the later ones."""
    return Params.__struct_fields__ if params.activations else VERSION_1_NAMES


def params_to_texts(params: Params) -> dict[str, str]:
    """Each parameter as its JSON text, as the params store keeps it."""
    return {name: jcs(getattr(params, name)).decode() for name in names_of(params)}


def params_from_texts(texts: dict[str, str]) -> Params:
    """The inverse; keys that are not parameters (totals) are ignored."""
    names = Params.__struct_fields__
    return convert({name: msgspec.json.decode(texts[name]) for name in names if name in texts}, Params)
