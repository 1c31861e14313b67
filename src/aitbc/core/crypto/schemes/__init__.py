"""Signature schemes behind one table. An auth key is a scheme byte and a public key. docs/spec/keys.md

A new scheme is one file and one entry. Everything that is signed is a 32-byte digest.
"""

from aitbc.core.crypto.schemes import ed25519
from aitbc.core.crypto.schemes.ed25519 import sign_ed25519
from aitbc.core.crypto.schemes.interface import Scheme
from aitbc.core.types.reasons import Reason, Rejected

__all__ = ["ED25519", "SCHEMES", "Scheme", "ed25519_auth_key", "scheme_of", "sign_ed25519", "verify"]

ED25519 = 0

SCHEMES: dict[int, Scheme] = {
    ED25519: ed25519.SCHEME,
}


def scheme_of(auth_key: bytes) -> Scheme:
    """The scheme of an auth key; refuses unknown schemes and what is no public key of the scheme."""
    scheme = SCHEMES.get(auth_key[0]) if auth_key else None
    if scheme is None:
        raise Rejected(Reason.UNKNOWN_SCHEME, "the key names no known signature scheme")
    scheme.check_key(auth_key[1:])
    return scheme


def verify(auth_key: bytes, message_digest: bytes, signature: bytes) -> bool:
    """Is `signature` good for a 32-byte digest under `auth_key`? False for every key that `scheme_of` refuses."""
    assert len(message_digest) == 32, "what is signed is a digest"
    try:
        scheme = scheme_of(auth_key)
    except Rejected:
        return False
    return scheme.verify(auth_key[1:], message_digest, signature)


def ed25519_auth_key(seed: bytes) -> bytes:
    """The auth key of a 32-byte Ed25519 seed."""
    return bytes([ED25519]) + ed25519.ed25519_public_key(seed)
