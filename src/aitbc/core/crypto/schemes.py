"""Signature schemes behind one table. An auth key is a scheme byte and a public key. docs/spec/keys.md

Ed25519 is verified by libsodium only: it refuses small-order and non-canonical keys and S ≥ L, and two libraries
that disagree on such a signature would split the chain.
"""

from collections.abc import Callable
from typing import NamedTuple

from nacl.bindings import (
    crypto_sign,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from aitbc.core.types.reasons import Reason, Rejected


class Scheme(NamedTuple):
    name: str
    tag: bytes
    """In front of the public key when an address is derived; empty for Ed25519 (the seed's formula)."""
    key_sizes: tuple[int, ...]
    signature_sizes: tuple[int, ...]
    verify: Callable[[bytes, bytes, bytes], bool]
    """(public key, digest, signature) → is it good."""


def _verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


ED25519 = 0

SCHEMES: dict[int, Scheme] = {
    ED25519: Scheme("ed25519", b"", (32,), (64,), _verify_ed25519),
}


def scheme_of(auth_key: bytes) -> Scheme:
    """The scheme of an auth key; refuses unknown schemes and keys of the wrong size."""
    scheme = SCHEMES.get(auth_key[0]) if auth_key else None
    if scheme is None:
        raise Rejected(Reason.UNKNOWN_SCHEME, "the key names no known signature scheme")
    if len(auth_key) - 1 not in scheme.key_sizes:
        raise Rejected(Reason.OUT_OF_RANGE, f"{len(auth_key) - 1} bytes are no {scheme.name} public key")
    return scheme


def verify(auth_key: bytes, message_digest: bytes, signature: bytes) -> bool:
    """Is `signature` good for a 32-byte digest under `auth_key`? False for anything of the wrong size."""
    try:
        scheme = scheme_of(auth_key)
    except Rejected:
        return False
    if len(signature) not in scheme.signature_sizes:
        return False
    return scheme.verify(auth_key[1:], message_digest, signature)


def verifications(auth_key: bytes) -> tuple[str, ...]:
    return (scheme_of(auth_key).name,)


def sign_ed25519(seed: bytes, message_digest: bytes) -> bytes:
    """Sign a digest with a 32-byte Ed25519 seed (RFC 8032; deterministic)."""
    _, secret = crypto_sign_seed_keypair(seed)
    return crypto_sign(message_digest, secret)[:64]


def ed25519_auth_key(seed: bytes) -> bytes:
    """The auth key of a 32-byte Ed25519 seed."""
    public, _ = crypto_sign_seed_keypair(seed)
    return bytes([ED25519]) + public
