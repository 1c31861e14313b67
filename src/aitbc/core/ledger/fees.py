"""fee = base_fee + k × payload size (seed 000 §8). docs/spec/fees.md"""

from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import BASIS_POINTS


def required_fee(params: Params, payload_bytes: int) -> int:
    """Least fee, in base units, for a payload of so many canonical bytes."""
    return params.base_fee + (params.fee_per_kib * payload_bytes + 1023) // 1024


def split_fee(params: Params, fee: int) -> tuple[int, int]:
    """(burned, to the proposer)."""
    burned = fee * params.fee_burn_bp // BASIS_POINTS
    return burned, fee - burned
