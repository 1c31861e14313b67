"""Addresses: bech32 (BIP-173) with prefix `ait` over the first 20 bytes of SHA-256 of scheme tag and public key.

Seed 000 §10. Lower case only: one spelling per address.
"""

from functools import lru_cache
from hashlib import sha256

from aitbc.core.crypto.schemes import scheme_of
from aitbc.core.types.reasons import Reason, Rejected

PREFIX = "ait"
ADDRESS_LENGTH = 42
"""`ait1`, 32 characters for 20 bytes, 6 of checksum."""

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_PREFIX_VALUES = [ord(c) >> 5 for c in PREFIX] + [0] + [ord(c) & 31 for c in PREFIX]


def address_of(auth_key: bytes) -> str:
    """The address of an auth key."""
    scheme = scheme_of(auth_key)
    return encode_address(sha256(scheme.tag + auth_key[1:]).digest()[:20])


def encode_address(payload: bytes) -> str:
    """Text of a 20-byte payload."""
    assert len(payload) == 20, "an address has 20 bytes"
    number = int.from_bytes(payload, "big")
    values = [(number >> shift) & 31 for shift in range(155, -1, -5)]
    check = _polymod(_PREFIX_VALUES + values + [0] * 6) ^ 1
    values += [(check >> 5 * (5 - i)) & 31 for i in range(6)]
    return PREFIX + "1" + "".join([_ALPHABET[value] for value in values])


@lru_cache(65_536)
def decode_address(text: str) -> bytes:
    """The 20 bytes of an address; refuses every other prefix, length, case and checksum. Good ones are remembered for a
    while: the checksum takes 15 µs."""
    if len(text) != ADDRESS_LENGTH or not text.startswith(PREFIX + "1"):
        raise Rejected(
            Reason.BAD_ADDRESS, f"{text[:60]!r} is not an ait1… address of {ADDRESS_LENGTH} characters"
        )
    try:
        values = [_VALUES[character] for character in text[len(PREFIX) + 1 :]]
    except KeyError:
        raise Rejected(Reason.BAD_ADDRESS, f"{text!r} has characters no address has") from None
    if _polymod(_PREFIX_VALUES + values) != 1:
        raise Rejected(Reason.BAD_ADDRESS, f"the checksum of {text!r} is wrong: a typing mistake?")
    number = 0
    for value in values[:32]:
        number = number << 5 | value
    return number.to_bytes(20, "big")


def check_address(text: str) -> None:
    """Refuse what is not an address."""
    decode_address(text)


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(_GENERATOR):
            if (top >> i) & 1:
                check ^= generator
    return check
