"""RSA-PSS over a digest, with every choice fixed, and the modulus as the key. docs/spec/keys.md

A key and a signature have one spelling, and a verification costs at most that of 4,096 bits. Whether a modulus is
the product of two primes nobody can see; one that is not harms its owner alone. OpenSSL is imported when first used.
"""

from typing import TYPE_CHECKING

from aitbc.core.crypto.schemes.interface import Scheme
from aitbc.core.types.reasons import Reason, Rejected

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import PSS
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

MIN_MODULUS_BYTES = 256
"""2,048 bits: less is within reach of who has money."""
MAX_MODULUS_BYTES = 512
"""4,096 bits: three times the work of 2,048, and a key that still fits MAX_PUBKEY_BYTES."""
EXPONENT = 65537
SALT_BYTES = 32


def sign_rsa_pss(private_key: bytes, message_digest: bytes) -> bytes:
    """Sign a digest with a key in PKCS#8 DER. OpenSSL draws the salt: no two signatures are equal, and no rule of the
    chain may call this."""
    return _load_private_key(private_key).sign(message_digest, *_padding_and_hash())


def rsa_pss_public_key(private_key: bytes) -> bytes:
    """The modulus of a key in PKCS#8 DER."""
    numbers = _load_private_key(private_key).public_key().public_numbers()
    if numbers.e != EXPONENT:
        raise ValueError(f"the exponent is {numbers.e} and must be {EXPONENT}")
    return numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")


def _check_key(key: bytes) -> None:
    if not MIN_MODULUS_BYTES <= len(key) <= MAX_MODULUS_BYTES:
        raise Rejected(
            Reason.OUT_OF_RANGE,
            f"{len(key)} bytes are no rsa-pss modulus of {MIN_MODULUS_BYTES} to {MAX_MODULUS_BYTES}",
        )
    if key[0] < 0x80:
        raise Rejected(Reason.BAD_KEY, "the first bit of an rsa-pss modulus must be set")
    if key[-1] % 2 == 0:
        raise Rejected(Reason.BAD_KEY, "an rsa-pss modulus must be odd")


def _verify(key: bytes, message_digest: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

    if len(signature) != len(key) or signature >= key:
        return False
    public = RSAPublicNumbers(EXPONENT, int.from_bytes(key, "big")).public_key()
    try:
        public.verify(signature, message_digest, *_padding_and_hash())
    except InvalidSignature:
        return False
    return True


def _padding_and_hash() -> "tuple[PSS, Prehashed]":
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, utils

    pss = padding.PSS(padding.MGF1(hashes.SHA256()), SALT_BYTES)
    return pss, utils.Prehashed(hashes.SHA256())


def _load_private_key(private_key: bytes) -> "RSAPrivateKey":
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    loaded = load_der_private_key(private_key, password=None)
    if not isinstance(loaded, RSAPrivateKey):
        raise ValueError("the private key is no RSA key")
    return loaded


SCHEME = Scheme("rsa-pss", b"rsa-pss", _check_key, _verify, cost_rank=1)
