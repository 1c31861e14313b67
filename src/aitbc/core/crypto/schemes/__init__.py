"""Signature schemes behind one table. An auth key is a scheme byte and a public key. docs/spec/keys.md

A new scheme is one file and one entry. Everything that is signed is a 32-byte digest.
"""

from collections.abc import Mapping

from aitbc.core.crypto.schemes import ed25519, multisig, rsa_pss, secp256k1
from aitbc.core.crypto.schemes.ed25519 import sign_ed25519
from aitbc.core.crypto.schemes.interface import Scheme
from aitbc.core.crypto.schemes.rsa_pss import sign_rsa_pss
from aitbc.core.crypto.schemes.secp256k1 import sign_secp256k1
from aitbc.core.types.reasons import Reason, Rejected

__all__ = [
    "ED25519",
    "MULTISIG",
    "RSA_PSS",
    "SCHEMES",
    "SECP256K1",
    "Scheme",
    "assemble_multisig",
    "ed25519_auth_key",
    "multisig_auth_key",
    "multisig_members",
    "rsa_pss_auth_key",
    "scheme_of",
    "secp256k1_auth_key",
    "sign_ed25519",
    "sign_rsa_pss",
    "sign_secp256k1",
    "verifications",
    "verify",
]

ED25519, SECP256K1, RSA_PSS, MULTISIG = 0, 1, 2, 3

_SINGLE: dict[int, Scheme] = {
    ED25519: ed25519.SCHEME,
    SECP256K1: secp256k1.SCHEME,
    RSA_PSS: rsa_pss.SCHEME,
}
"""What a member of a multisig may be."""

SCHEMES: dict[int, Scheme] = {
    **_SINGLE,
    MULTISIG: multisig.multisig_over(_SINGLE),
}


def scheme_of(auth_key: bytes) -> Scheme:
    """The scheme of an auth key; refuses unknown schemes and what is no public key of the scheme."""
    scheme = SCHEMES.get(auth_key[0]) if auth_key else None
    if scheme is None:
        raise Rejected(Reason.UNKNOWN_SCHEME, "the key names no known signature scheme")
    scheme.check_key(auth_key[1:])
    return scheme


def is_key(auth_key: bytes) -> bool:
    """Would `scheme_of` take it?"""
    try:
        scheme_of(auth_key)
    except Rejected:
        return False
    return True


def verify(auth_key: bytes, message_digest: bytes, signature: bytes) -> bool:
    """Is `signature` good for a 32-byte digest under `auth_key`? False for every key that `scheme_of` refuses."""
    assert len(message_digest) == 32, "what is signed is a digest"
    try:
        scheme = scheme_of(auth_key)
    except Rejected:
        return False
    return scheme.verify(auth_key[1:], message_digest, signature)


def verifications(auth_key: bytes) -> tuple[str, ...]:
    """Names of the schemes whose verifications one signature under this key takes, at most: a multisig's k dearest
    members, so that a fee is known from the key alone."""
    scheme = scheme_of(auth_key)
    return scheme.verifications(auth_key[1:]) if scheme.verifications else (scheme.name,)


def ed25519_auth_key(seed: bytes) -> bytes:
    """The auth key of a 32-byte Ed25519 seed."""
    return bytes([ED25519]) + ed25519.ed25519_public_key(seed)


def secp256k1_auth_key(secret: bytes) -> bytes:
    """The auth key of a 32-byte secp256k1 secret."""
    return bytes([SECP256K1]) + secp256k1.secp256k1_public_key(secret)


def rsa_pss_auth_key(private_key: bytes) -> bytes:
    """The auth key of an RSA key in PKCS#8 DER; refuses one that the chain would."""
    return _checked(bytes([RSA_PSS]) + rsa_pss.rsa_pss_public_key(private_key))


def multisig_auth_key(threshold: int, members: list[bytes]) -> bytes:
    """The auth key for which `threshold` of some auth keys must sign; refuses one that the chain would."""
    return _checked(bytes([MULTISIG]) + multisig.join_members(threshold, members))


def multisig_members(auth_key: bytes) -> multisig.Members:
    """How many must sign, and the members' auth keys in the order of the bitmap; refuses what is no multisig."""
    if scheme_of(auth_key).name != "multisig":
        raise Rejected(Reason.UNKNOWN_SCHEME, "this key is one key, not a multisig")
    return multisig.take_apart(auth_key[1:])


def assemble_multisig(auth_key: bytes, signatures: Mapping[int, bytes]) -> bytes:
    """One signature of the members' own, by their place in the key, counted from 0."""
    assert auth_key[0] == MULTISIG, "only a multisig is assembled"
    return multisig.join_signatures(auth_key[1:], signatures)


def _checked(auth_key: bytes) -> bytes:
    scheme_of(auth_key)
    return auth_key
