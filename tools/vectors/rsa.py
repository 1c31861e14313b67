"""RSA-PSS from RFC 8017 in plain integers, with every choice open, so that each wrong one can be signed too.

`verify` is the rule of docs/spec/keys.md: SHA-256 twice, a salt of 32 bytes, e = 65537, one length. The keys are TEST
KEYS: their primes follow from their names.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any

Hash = Callable[[bytes], Any]
EXPONENT = 65537

_PRIMES = {2048: (474, 458), 2056: (230, 164), 3072: (918, 1038), 4096: (238, 42)}
"""Bits of the modulus → how far the primes p and q lie above the numbers that their names hash to."""


class Key:
    """A test key of so many bits."""

    def __init__(self, bits: int, exponent: int = EXPONENT) -> None:
        p_above, q_above = _PRIMES[bits]
        self.p = _named_number(f"aitbc test rsa {bits} p", bits // 2) + p_above
        self.q = _named_number(f"aitbc test rsa {bits} q", bits // 2) + q_above
        assert all(pow(2, prime - 1, prime) == 1 for prime in (self.p, self.q)), "both are prime"
        self.n = self.p * self.q
        self.size = bits // 8
        self.public = self.n.to_bytes(self.size, "big")
        self.d = pow(exponent, -1, (self.p - 1) * (self.q - 1))

    def power(self, message: bytes) -> bytes:
        """The bare private operation on an encoded message."""
        number = int.from_bytes(message, "big")
        assert number < self.n, "the encoded message fits"
        m_p, m_q = pow(number, self.d % (self.p - 1), self.p), pow(number, self.d % (self.q - 1), self.q)
        result = m_q + self.q * ((m_p - m_q) * pow(self.q, -1, self.p) % self.p)
        return result.to_bytes(self.size, "big")

    def sign(self, digest: bytes, salt: bytes = bytes(range(32)), **choices: Any) -> bytes:
        return self.power(pss_encode(digest, 8 * self.size - 1, salt, **choices))


@cache
def test_key(bits: int) -> Key:
    return Key(bits)


def _named_number(name: str, bits: int) -> int:
    """So many bits from SHA-256 of a name and a counter, the two highest and the lowest set."""
    blocks = -(-bits // 256)
    data = b"".join(sha256(f"{name} {i}".encode()).digest() for i in range(blocks))[: -(-bits // 8)]
    return int.from_bytes(data, "big") >> 8 * len(data) - bits | 3 << bits - 2 | 1


def mgf1(seed: bytes, size: int, hashed: Hash = sha256) -> bytes:
    mask, counter = b"", 0
    while len(mask) < size:
        mask += hashed(seed + counter.to_bytes(4, "big")).digest()
        counter += 1
    return mask[:size]


def pss_encode(
    digest: bytes,
    bits: int,
    salt: bytes,
    *,
    hashed: Hash = sha256,
    masked: Hash = sha256,
    trailer: int = 0xBC,
    one: int = 1,
    padding: int = 0,
    top_bit: bool = False,
) -> bytes:
    """EMSA-PSS (RFC 8017 §9.1.1) of a digest into so many bits; the choices after `salt` break it."""
    size = -(-bits // 8)
    m_hash = hashed(bytes(8) + digest + salt).digest()
    zeros = size - len(salt) - len(m_hash) - 2
    block = bytes([0] * (zeros - 1) + [padding] * (zeros > 0) + [one]) + salt
    masking = mgf1(m_hash, len(block), masked)
    encoded = bytearray(a ^ b for a, b in zip(block, masking, strict=True))
    encoded[0] &= 0xFF >> 8 * size - bits
    if top_bit:
        encoded[0] |= 0x80
    return bytes(encoded) + m_hash + bytes([trailer])


def pss_holds(digest: bytes, encoded: bytes, bits: int) -> bool:
    """EMSA-PSS-VERIFY (§9.1.2) with our choices."""
    block, m_hash, trailer = encoded[:-33], encoded[-33:-1], encoded[-1]
    unused = 8 * len(encoded) - bits
    if trailer != 0xBC or block[0] >> 8 - unused:
        return False
    plain = bytearray(a ^ b for a, b in zip(block, mgf1(m_hash, len(block)), strict=True))
    plain[0] &= 0xFF >> unused
    padding, salt = plain[:-32], plain[-32:]
    if any(padding[:-1]) or padding[-1] != 1:
        return False
    return sha256(bytes(8) + digest + salt).digest() == m_hash


def verify(modulus: bytes, digest: bytes, signature: bytes) -> bool:
    if not 256 <= len(modulus) <= 512 or modulus[0] < 0x80 or modulus[-1] % 2 == 0:
        return False
    n, s = int.from_bytes(modulus, "big"), int.from_bytes(signature, "big")
    if len(signature) != len(modulus) or s >= n:
        return False
    return pss_holds(digest, pow(s, EXPONENT, n).to_bytes(len(modulus), "big"), 8 * len(modulus) - 1)
