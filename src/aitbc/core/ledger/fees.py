"""fee = base_fee + k × payload size + the cost of the signature (seed 000 §8). docs/spec/fees.md"""

from aitbc.core.crypto.schemes import ED25519, verifications
from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import BASIS_POINTS


def required_fee(params: Params, payload_bytes: int, pubkey: bytes) -> int:
    """Least fee, in base units, for a payload of so many canonical bytes signed under a key."""
    size = (params.fee_per_kib * payload_bytes + 1023) // 1024
    return params.base_fee + size + signature_fee(params, pubkey)


def signature_fee(params: Params, pubkey: bytes) -> int:
    """What verifying one signature costs above one Ed25519 verification, which `base_fee` covers."""
    if pubkey[0] == ED25519:
        return 0
    prices = {
        "ed25519": params.fee_ed25519,
        "secp256k1": params.fee_secp256k1,
        "rsa-pss": params.fee_rsa_pss,
    }
    return max(0, sum(prices[name] for name in verifications(pubkey)) - params.fee_ed25519)


def split_fee(params: Params, fee: int) -> tuple[int, int]:
    """(burned, to the proposer)."""
    burned = fee * params.fee_burn_bp // BASIS_POINTS
    return burned, fee - burned
