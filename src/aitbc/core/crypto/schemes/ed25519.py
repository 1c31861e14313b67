"""Ed25519, verified by libsodium only. docs/spec/keys.md

It refuses small-order and non-canonical keys and S ≥ L, and two libraries that disagree on such a signature would
split the chain. A key is not looked at before it is used: under a bad one no signature is good.
"""

from nacl.bindings import (
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from aitbc.core.crypto.schemes.interface import Scheme
from aitbc.core.types.reasons import Reason, Rejected

KEY_BYTES = 32
SIGNATURE_BYTES = 64


def sign_ed25519(seed: bytes, message_digest: bytes) -> bytes:
    """Sign a digest with a 32-byte Ed25519 seed (RFC 8032; deterministic)."""
    _, secret = crypto_sign_seed_keypair(seed)
    return crypto_sign(message_digest, secret)[:SIGNATURE_BYTES]


def ed25519_public_key(seed: bytes) -> bytes:
    public, _ = crypto_sign_seed_keypair(seed)
    return public


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise Rejected(Reason.OUT_OF_RANGE, f"{len(key)} bytes are no ed25519 public key of {KEY_BYTES}")


def _verify(key: bytes, message_digest: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message_digest, key)
    except BadSignatureError:
        return False
    return True


SCHEME = Scheme("ed25519", b"", _check_key, _verify, cost_rank=0)
