"""Keys of the workshop network: NIST P-192, ECDSA over SHA-1, RFC 6979. docs/spec/workshop.md "Keys"

Curve and hash are weak by today's measure (96 bits; collisions of SHA-1 are bought for money). They are the network's;
nothing outside this folder may use them.
"""

from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP192R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aitbc.workshop.core.texts import Transaction

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFF99DEF836146BC9B1B4D22831
"""Of the curve's group."""
SCALAR_BYTES = 24
ADDRESS_BYTES = 25
"""A compressed public key."""
REMEMBERED = 8_192
"""Signatures that were checked when a transaction was pooled and are met again in its block; a check costs 0.2 ms."""
REMEMBERED_LENGTH = 512
"""Characters; a block's recipients may be long, and would make the memory large."""

_VERIFY = ECDSA(SHA1())  # noqa: S303 - the network's
_SIGN = ECDSA(SHA1(), deterministic_signing=True)  # noqa: S303 - the network's


class WorkshopKey:
    """A private key; the one place that signs."""

    def __init__(self, secret: bytes) -> None:
        """24 bytes, big-endian, 1 … ORDER − 1; raises ValueError for others."""
        if len(secret) != SCALAR_BYTES or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise ValueError("a private key has 24 bytes and lies between 1 and the curve's order")
        self.secret = secret
        self._key: EllipticCurvePrivateKey = derive_private_key(int.from_bytes(secret, "big"), SECP192R1())
        public = self._key.public_key()
        self.address = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    def sign(self, text: str) -> bytes:
        """r and s, 24 bytes each; the same text has the same signature. A high s stays, as the reference leaves it:
        every verifier takes both, so a low one would protect nobody."""
        r, s = decode_dss_signature(self._key.sign(text.encode(), _SIGN))
        return r.to_bytes(SCALAR_BYTES, "big") + s.to_bytes(SCALAR_BYTES, "big")

    def pay(self, *, recipient: bytes, nonce: int, amount: int) -> Transaction:
        unsigned = Transaction(self.address, recipient, nonce, amount, b"")
        return Transaction(self.address, recipient, nonce, amount, self.sign(unsigned.signed_text))


def key_from_seed(seed: bytes) -> WorkshopKey:
    """A key from any random bytes; of 2^192 candidates 2^-97 lie above the order, and the next hash is taken."""
    candidate = sha256(seed).digest()[:SCALAR_BYTES]
    while not 0 < int.from_bytes(candidate, "big") < ORDER:
        candidate = sha256(candidate).digest()[:SCALAR_BYTES]
    return WorkshopKey(candidate)


def is_signed(transaction: Transaction) -> bool:
    """By the chain's rule, which is the reference verifier's: any spelling of the key, low s or high."""
    parts = (transaction.sender, transaction.signature, transaction.signed_text)
    return _verifies(*parts) if len(parts[2]) <= REMEMBERED_LENGTH else _verifies.__wrapped__(*parts)


def is_address(account: bytes) -> bool:
    """A compressed key of a point on the curve: the only kind of account that this node pays and signs for."""
    return len(account) == ADDRESS_BYTES and account[0] in (2, 3) and _public_key(account) is not None


@lru_cache(REMEMBERED)
def _verifies(sender: bytes, signature: bytes, signed_text: str) -> bool:
    if len(signature) != 2 * SCALAR_BYTES:
        return False
    public = _public_key(sender)
    if public is None:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:SCALAR_BYTES], signature[SCALAR_BYTES:]))
    try:
        public.verify(encode_dss_signature(r, s), signed_text.encode(), _VERIFY)
    except (InvalidSignature, ValueError):
        return False
    return True


def _public_key(spelling: bytes) -> EllipticCurvePublicKey | None:
    """Compressed, uncompressed, raw x ‖ y, or hybrid, whose first byte must tell y's parity; None for anything else."""
    match len(spelling):
        case 25 if spelling[0] in (2, 3):
            point = spelling
        case 48:
            point = b"\4" + spelling
        case 49 if spelling[0] == 4:
            point = spelling
        case 49 if spelling[0] in (6, 7) and spelling[0] & 1 == spelling[-1] & 1:
            point = b"\4" + spelling[1:]
        case _:
            return None
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP192R1(), point)
    except ValueError:
        return None
