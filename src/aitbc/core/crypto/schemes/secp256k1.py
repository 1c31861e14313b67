"""ECDSA on secp256k1 over a digest: compressed keys, compact signatures, low s only. docs/spec/keys.md

The form of a key and a signature is checked here, so that what is left to the library is the bare equation of SEC 1,
on which no two libraries differ. Why OpenSSL and not libsecp256k1: docs/adr/0007-signature-schemes.md. It is imported
when first used: a process that meets no such key does not load it.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

from aitbc.core.crypto.schemes.interface import Scheme
from aitbc.core.types.reasons import Reason, Rejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

KEY_BYTES = 33
SIGNATURE_BYTES = 64
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The group's order n."""


def sign_secp256k1(secret: bytes, message_digest: bytes) -> bytes:
    """Sign a digest with a 32-byte secret (RFC 6979 with SHA-256, deterministic; the lower of the two s)."""
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    private = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256K1())
    r, s = utils.decode_dss_signature(private.sign(message_digest, _ecdsa(deterministic=True)))
    return r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")


def secp256k1_public_key(secret: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256K1())
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise Rejected(Reason.OUT_OF_RANGE, f"{len(key)} bytes are no secp256k1 public key of {KEY_BYTES}")
    if key[0] not in (2, 3) or _point(key) is None:
        raise Rejected(Reason.BAD_KEY, f"{key.hex()} is no compressed point of secp256k1")


def _verify(key: bytes, message_digest: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (1 <= r < ORDER and 1 <= s <= ORDER // 2):
        return False
    point = _point(key)
    assert point is not None, "the key was checked"
    try:
        point.verify(encode_dss_signature(r, s), message_digest, _ecdsa())
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=1024)
def _point(key: bytes) -> "EllipticCurvePublicKey | None":
    """The point behind 33 bytes; None when there is none.

    Kept because one transaction asks for it three times (its form, its address, its signature), 30 µs each, and a key
    of 16 members as often for each.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key)
    except ValueError:
        return None


def _ecdsa(*, deterministic: bool = False) -> "ECDSA":
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    return ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=deterministic)


SCHEME = Scheme("secp256k1", b"secp256k1", _check_key, _verify, cost_rank=2)
