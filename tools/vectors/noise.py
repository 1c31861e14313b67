"""X25519, ChaCha20-Poly1305 and Noise XX with the standard library alone: slow, and written from RFC 7748, RFC 8439 and
the Noise Protocol Framework, revision 34."""

from __future__ import annotations

import hmac
from hashlib import sha256

P = 2**255 - 19
MASK = 0xFFFFFFFF


def x25519(scalar: bytes, u_bytes: bytes) -> bytes:
    """RFC 7748 §5: the Montgomery ladder."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    u = int.from_bytes(u_bytes, "little") & ~(1 << 255)
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def public(private: bytes) -> bytes:
    return x25519(private, (9).to_bytes(32, "little"))


def _chacha_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    """RFC 8439 §2.3."""
    words = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    words += [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    words += [counter] + [int.from_bytes(nonce[i : i + 4], "little") for i in range(0, 12, 4)]
    s = list(words)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for x, y, z, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & MASK
            s[z] ^= s[x]
            s[z] = (s[z] << by | s[z] >> 32 - by) & MASK

    for _ in range(10):
        for column in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)):
            quarter(*column)
        for diagonal in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*diagonal)
    return b"".join((a + b & MASK).to_bytes(4, "little") for a, b in zip(s, words, strict=True))


def seal(key: bytes, nonce: bytes, bound: bytes, plaintext: bytes) -> bytes:
    """RFC 8439 §2.8: ciphertext and tag."""
    stream = b"".join(_chacha_block(key, 1 + i, nonce) for i in range(-(-len(plaintext) // 64)))
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream, strict=False))
    one_time = _chacha_block(key, 0, nonce)[:32]
    padded = b"".join(part + bytes(-len(part) % 16) for part in (bound, ciphertext))
    padded += len(bound).to_bytes(8, "little") + len(ciphertext).to_bytes(8, "little")
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for i in range(0, len(padded), 16):
        total = (total + int.from_bytes(padded[i : i + 16] + b"\x01", "little")) * r % (2**130 - 5)
    tag = (total + int.from_bytes(one_time[16:], "little")) % 2**128
    return ciphertext + tag.to_bytes(16, "little")


def nonce_of(count: int) -> bytes:
    return bytes(4) + count.to_bytes(8, "little")


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    secret = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(secret, b"\x01", "sha256")
    return first, hmac.digest(secret, first + b"\x02", "sha256")


class Talk:
    """A whole XX handshake seen from above: both sides' secrets are known, so it is one straight line."""

    def __init__(self, prologue: bytes, s_i: bytes, e_i: bytes, s_r: bytes, e_r: bytes) -> None:
        self.ck = self.h = b"Noise_XX_25519_ChaChaPoly_SHA256"
        self.key, self.count = b"", 0
        self.mix_hash(prologue)
        self.messages = [public(e_i)]
        self.mix_hash(public(e_i))
        self.mix_hash(b"")
        second = public(e_r)
        self.mix_hash(second)
        self.mix_key(x25519(e_r, public(e_i)))
        second += self.encrypt(public(s_r))
        self.mix_key(x25519(s_r, public(e_i)))
        self.messages.append(second + self.encrypt(b""))
        third = self.encrypt(public(s_i))
        self.mix_key(x25519(s_i, public(e_r)))
        self.messages.append(third + self.encrypt(b""))
        self.to_responder, self.to_initiator = _hkdf(self.ck, b"")

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.ck, self.key = _hkdf(self.ck, material)
        self.count = 0

    def encrypt(self, plaintext: bytes) -> bytes:
        sealed = seal(self.key, nonce_of(self.count), self.h, plaintext)
        self.count += 1
        self.mix_hash(sealed)
        return sealed
