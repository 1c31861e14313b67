"""Vectors of the schemes beside Ed25519: keys, signatures good and bad, and bytes that are no key."""

from collections.abc import Callable
from functools import cache, partial
from hashlib import sha1, sha256, sha512
from typing import Any

import by_the_book as book
import curve25519
import rsa
import secp256k1 as ec
from fixtures import h, keys

Json = Any
Case = tuple[str, bytes, bytes, bytes, bool, str]
"""Name, auth key, digest, signature, is it good, why."""

MESSAGE = "message"
NAMES = {0: "ed25519", 1: "secp256k1", 2: "rsa-pss", 3: "multisig"}


def schemes() -> Json:
    return {
        "spec": "docs/spec/keys.md",
        "secp256k1": {
            "keys": [_secp_key(name, secret) for name, secret in _SECRETS.items()],
            "cases": _cases(_secp_cases()),
            "refused_keys": _refused(_secp_refused()),
        },
        "rsa-pss": {
            "keys": [_rsa_key(bits) for bits in (2048, 2056, 3072, 4096)],
            "cases": _cases(_rsa_cases()),
            "refused_keys": _refused(_rsa_refused()),
        },
        "multisig": {
            "keys": [_key(name, key) for name, key in multisigs().items()],
            "cases": _cases(_multisig_cases()),
            "refused_keys": _refused(_multisig_refused()),
        },
        "refused_key_texts": [
            {"name": name, "key_text": text, "reason": reason} for name, text, reason in _refused_texts()
        ],
    }


# keys.md a second time


def verify(auth_key: bytes, digest: bytes, signature: bytes) -> bool:
    key = auth_key[1:]
    match auth_key[0]:
        case 0:
            return curve25519.verify(key, digest, signature, cofactored=False)
        case 1:
            return ec.verify(key, digest, signature)
        case 2:
            return rsa.verify(key, digest, signature)
    return _verify_multisig(key, digest, signature)


def _verify_multisig(key: bytes, digest: bytes, signature: bytes) -> bool:
    k, members = key[0], _parts(key[2:])
    assert members is not None, "only good keys sign in the vectors"
    parts = _parts(signature[2:])
    bits = [i for i in range(16) if int.from_bytes(signature[:2], "big") >> i & 1]
    if len(signature) < 2 or parts is None or not len(bits) == len(parts) == k or bits[-1] >= len(members):
        return False
    return all(verify(members[i], digest, part) for i, part in zip(bits, parts, strict=True))


def _parts(data: bytes) -> list[bytes] | None:
    if not data:
        return []
    size = int.from_bytes(data[:2], "big")
    rest = _parts(data[2 + size :])
    return None if len(data) < 2 + size or rest is None else [data[2 : 2 + size], *rest]


def _joined(parts: list[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def verifications(auth_key: bytes) -> list[str]:
    if auth_key[0] != 3:
        return [NAMES[auth_key[0]]]
    members = _parts(auth_key[3:])
    assert members is not None
    dear = ["secp256k1", "rsa-pss", "ed25519"]
    return sorted((NAMES[member[0]] for member in members), key=dear.index)[: auth_key[1]]


def key_text(auth_key: bytes) -> str:
    return (f"{NAMES[auth_key[0]]}:" if auth_key[0] else "") + auth_key[1:].hex()


def address_of(auth_key: bytes) -> str:
    tag = NAMES[auth_key[0]].encode() if auth_key[0] else b""
    return book.bech32(sha256(tag + auth_key[1:]).digest()[:20])


def _key(name: str, auth_key: bytes) -> Json:
    return {
        "name": name,
        "auth_key": auth_key.hex(),
        "key_text": key_text(auth_key),
        "address": address_of(auth_key),
        "verifications": verifications(auth_key),
    }


class Owner:
    """Somebody with a test key of any scheme; a `book.Key` looks the same from outside."""

    def __init__(self, auth_key: bytes, sign: Callable[[bytes], bytes]) -> None:
        self.auth, self.sign = auth_key, sign
        self.text, self.address = key_text(auth_key), address_of(auth_key)


@cache
def owners() -> dict[str, Owner]:
    """One of each scheme, and a key of every kind in one."""
    named = {
        "secp256k1": _secp(_SECRETS["a secret"]),
        "rsa-pss": _rsa(2048),
        "2 of 3": multisigs()["2 of 3"],
        "3 of 4, of every scheme": multisigs()["3 of 4, of every scheme"],
    }
    return {name: Owner(auth_key, partial(_signed, auth_key)) for name, auth_key in named.items()}


def _cases(cases: list[Case]) -> list[Json]:
    for name, auth_key, digest, signature, valid, _ in cases:
        assert verify(auth_key, digest, signature) is valid, name
    return [
        {
            "name": name,
            "auth_key": auth_key.hex(),
            "digest": digest.hex(),
            "signature": signature.hex(),
            "valid": valid,
            "why": why,
        }
        for name, auth_key, digest, signature, valid, why in cases
    ]


def _refused(cases: list[tuple[str, bytes, str]]) -> list[Json]:
    return [{"name": name, "auth_key": key.hex(), "reason": reason} for name, key, reason in cases]


# secp256k1

_SECRETS = {
    "secret 1": 1,
    "secret n - 1": ec.N - 1,
    "a secret": int.from_bytes(h("aitbc test secp256k1"), "big"),
}


def _secp(secret: int) -> bytes:
    return b"\x01" + ec.public_key(secret)


def _secp_key(name: str, secret: int) -> Json:
    return _key(name, _secp(secret)) | {"secret": secret.to_bytes(32, "big").hex()}


def _as_digest(number: int) -> bytes:
    return (number % ec.N).to_bytes(32, "big")


def _secp_cases() -> list[Case]:
    d, digest, n = _SECRETS["a secret"], h(MESSAGE), ec.N
    key, good = _secp(d), ec.sign(d, digest)
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    k = 20_251_009
    r_k, _ = ec.sign_any(d, digest, k)
    half = n // 2
    satoshi = sha256(b"Satoshi Nakamoto").digest()
    published = bytes.fromhex(
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )
    assert ec.sign(1, satoshi) == published, "the signature that RFC 6979 libraries publish"
    der = b"\x30\x44\x02\x20" + good[:32] + b"\x02\x20" + good[32:]
    cases: list[Case] = [
        ("good", key, digest, good, True, "RFC 6979, low s"),
        ("good, published", _secp(1), satoshi, published, True, "secret 1 over SHA-256 of 'Satoshi Nakamoto'"),
        ("good, secret n - 1", _secp(n - 1), digest, ec.sign(n - 1, digest), True, "the last secret"),
        ("good, digest of zeros", key, bytes(32), ec.sign(d, bytes(32)), True, "a digest may be 0"),
        ("good, digest n", key, n.to_bytes(32, "big"), ec.sign(d, bytes(32)), True, "a digest counts modulo n"),
        ("good, digest of ones", key, b"\xff" * 32, ec.sign(d, b"\xff" * 32), True, "a digest may exceed n"),
        ("s as high as may be", key, _as_digest(half * k - r_k * d), ec.compact(r_k, half), True, "s = (n - 1)/2"),
        ("s one higher", key, _as_digest((half + 1) * k - r_k * d), ec.compact(r_k, half + 1), False, "s = (n + 1)/2"),
        ("high s", key, digest, ec.compact(r, n - s), False, "s > n/2: the other spelling of a good one"),
        ("s = 1", key, _as_digest(k - r_k * d), ec.compact(r_k, 1), True, "the lowest s"),
        ("s = n - 1", key, _as_digest(-k - r_k * d), ec.compact(r_k, n - 1), False, "s > n/2"),
        ("s = 0", key, digest, ec.compact(r, 0), False, "s < 1"),
        ("s = n", key, digest, ec.compact(r, n), False, "s > n/2"),
        ("r = 0", key, digest, ec.compact(0, s), False, "r < 1"),
        ("r = n", key, digest, ec.compact(n, s), False, "r ≥ n"),
        ("r of ones", key, digest, b"\xff" * 32 + good[32:], False, "r ≥ n"),
        ("all zero", key, digest, bytes(64), False, "r < 1"),
        ("r and s swapped", key, digest, ec.compact(s, r) if r <= half else ec.compact(s, n - r), False, "the equation"),
        ("little-endian", key, digest, good[31::-1] + good[:31:-1], False, "r and s are big-endian"),
        ("another digest", key, h("other"), good, False, "the equation"),
        ("hashed once more", key, digest, ec.sign(d, sha256(digest).digest()), False, "a digest is not hashed again"),
        ("another key", _secp(d + 1), digest, good, False, "the equation"),
        ("the negative key", bytes([1, key[1] ^ 1]) + key[2:], digest, good, False, "the equation"),
        ("63 bytes", key, digest, good[:63], False, "64 bytes"),
        ("65 bytes, with a recovery id", key, digest, good + b"\x00", False, "64 bytes"),
        ("DER", key, digest, der, False, "64 bytes"),
        ("empty", key, digest, b"", False, "64 bytes"),
    ]  # fmt: skip
    return cases + _secp_corners(d, key)


def _secp_corners(d: int, key: bytes) -> list[Case]:
    """Where the arithmetic has cases: r above n before it is reduced, a doubling, the point at infinity."""
    n, r = ec.N, 1
    while (y := ec.y_of(n + r, odd=False)) is None:
        r += 1
    digest, s = h(MESSAGE), 7
    minus = (-int.from_bytes(digest, "big")) % n
    point = ec.multiply(pow(r, -1, n), ec.add(ec.multiply(s, (n + r, y)), ec.multiply(minus, ec.BASE)))
    wrapped = b"\x01" + ec.encode(point)
    u = 4_711
    doubled, _ = ec.sign_any(d, digest, 2 * u)
    s_doubled = doubled * d * pow(u, -1, n) % n
    if s_doubled > n // 2:
        u, s_doubled = n - u, n - s_doubled
    return [
        ("x of R above n", wrapped, digest, ec.compact(r, s), True, "R's x is n + r; r is x modulo n"),
        ("x of R not reduced", wrapped, digest, ec.compact(n + r, s), False, "r ≥ n"),
        ("a doubling", key, _as_digest(doubled * d), ec.compact(doubled, s_doubled), True, "u1·G = u2·Q"),
        ("R at infinity", key, _as_digest(-5 * d), ec.compact(5, 9), False, "u1·G = -u2·Q: R has no x"),
    ]


def _secp_refused() -> list[tuple[str, bytes, str]]:
    key = _secp(_SECRETS["a secret"])
    point = ec.decode(key[1:])
    assert point is not None and ec.y_of(5, odd=False) is None and ec.y_of(1, odd=False) is not None
    whole = key[2:] + point[1].to_bytes(32, "big")
    return [
        ("no bytes", b"\x01", "out_of_range"),
        ("32 bytes", key[:-1], "out_of_range"),
        ("34 bytes", key + b"\x00", "out_of_range"),
        ("uncompressed", b"\x01\x04" + whole, "out_of_range"),
        ("hybrid", bytes([1, 6 + point[1] % 2]) + whole, "out_of_range"),
        ("x only", b"\x01" + key[2:], "out_of_range"),
        *[
            (f"prefix {prefix}", bytes([1, prefix]) + key[2:], "bad_key")
            for prefix in (0, 1, 4, 5, 6, 7, 255)
        ],
        ("x = 5 has no y", b"\x01\x02" + (5).to_bytes(32, "big"), "bad_key"),
        ("x = 0 has no y", b"\x01\x02" + bytes(32), "bad_key"),
        ("x = p", b"\x01\x02" + ec.P.to_bytes(32, "big"), "bad_key"),
        ("x = p + 1, a second spelling", b"\x01\x02" + (ec.P + 1).to_bytes(32, "big"), "bad_key"),
        ("x of ones", b"\x01\x03" + b"\xff" * 32, "bad_key"),
    ]


# rsa-pss


def _rsa(bits: int) -> bytes:
    return b"\x02" + rsa.test_key(bits).public


def _odd(size: int) -> bytes:
    """An auth key of the right form whose modulus nobody made."""
    return b"\x02\x80" + bytes(size - 2) + b"\x01"


def _rsa_key(bits: int) -> Json:
    key = rsa.test_key(bits)
    primes = {"test_only_p": f"{key.p:x}", "test_only_q": f"{key.q:x}"}
    return _key(f"{bits} bits", _rsa(bits)) | primes


def _rsa_cases() -> list[Case]:
    owner, digest, key = rsa.test_key(2048), h(MESSAGE), _rsa(2048)
    good = owner.sign(digest)
    number = int.from_bytes(good, "big")
    short = _short_signature(owner, digest)
    pkcs = (
        b"\x00\x01"
        + b"\xff" * 202
        + b"\x00"
        + bytes.fromhex("3031300d060960864801650304020105000420")
        + digest
    )
    assert len(pkcs) == 256
    modulus = owner.n.to_bytes(256, "big")
    return [
        *[(f"good, {bits} bits", _rsa(bits), digest, rsa.test_key(bits).sign(digest), True, "all rules hold")
          for bits in (2048, 2056, 3072, 4096)],
        ("good, salt of zeros", key, digest, owner.sign(digest, bytes(32)), True, "any salt of 32 bytes"),
        ("good, first byte zero", key, digest, short, True, "as many bytes as the modulus"),
        ("first byte zero left out", key, digest, short[1:], False, "as many bytes as the modulus"),
        ("a zero byte in front", key, digest, b"\x00" + good, False, "as many bytes as the modulus"),
        ("plus the modulus", key, digest, _above_modulus(owner, digest), False, "not below the modulus"),
        ("the modulus itself", key, digest, modulus, False, "not below the modulus"),
        ("0", key, digest, bytes(256), False, "the padding"),
        ("1", key, digest, bytes(255) + b"\x01", False, "the padding"),
        ("n - 1", key, digest, (owner.n - 1).to_bytes(256, "big"), False, "the padding"),
        ("n - s", key, digest, (owner.n - number).to_bytes(256, "big"), False, "the padding"),
        ("all ones", key, digest, b"\xff" * 256, False, "not below the modulus"),
        ("empty", key, digest, b"", False, "as many bytes as the modulus"),
        ("another digest", key, h("other"), good, False, "the hash"),
        ("another key", _rsa(2056), digest, b"\x00" + good, False, "the padding"),
        ("hashed once more", key, digest, owner.sign(sha256(digest).digest()), False, "a digest is not hashed again"),
        *[(f"salt of {size} bytes", key, digest, owner.sign(digest, bytes(size)), False, "a salt of 32 bytes")
          for size in (0, 20, 31, 33, 64, 222)],
        ("SHA-512", key, digest, owner.sign(digest, hashed=sha512), False, "SHA-256"),
        ("MGF1 of SHA-1", key, digest, owner.sign(digest, masked=sha1), False, "MGF1 of SHA-256"),
        ("another trailer", key, digest, owner.sign(digest, trailer=0xCC), False, "the last byte is bc"),
        ("no 01 before the salt", key, digest, owner.sign(digest, one=2), False, "01 before the salt"),
        ("padding not zero", key, digest, owner.sign(digest, padding=1), False, "zeros before the 01"),
        ("highest bit set", key, digest, _top_bit(owner, digest), False, "8·size - 1 bits"),
        ("e = 5", key, digest, rsa.Key(2048, 5).sign(digest), False, "e = 65537"),
        ("PKCS #1 v1.5", key, digest, owner.power(pkcs), False, "PSS"),
        ("the digest bare", key, digest, owner.power(digest.rjust(256, b"\x00")), False, "PSS"),
    ]  # fmt: skip


def _salted(owner: rsa.Key, digest: bytes, number: int, **choices: Any) -> bytes:
    return rsa.pss_encode(digest, 8 * owner.size - 1, number.to_bytes(32, "big"), **choices)


def _short_signature(owner: rsa.Key, digest: bytes) -> bytes:
    """One whose first byte happens to be zero."""
    number = 0
    while (signature := owner.power(_salted(owner, digest, number)))[0]:
        number += 1
    return signature


def _above_modulus(owner: rsa.Key, digest: bytes) -> bytes:
    """A good signature plus the modulus, in as many bytes."""
    number = 0
    while (
        int.from_bytes(signature := owner.power(_salted(owner, digest, number)), "big") + owner.n >= 2**2048
    ):
        number += 1
    return (int.from_bytes(signature, "big") + owner.n).to_bytes(256, "big")


def _top_bit(owner: rsa.Key, digest: bytes) -> bytes:
    number = 0
    while int.from_bytes(encoded := _salted(owner, digest, number, top_bit=True), "big") >= owner.n:
        number += 1
    return owner.power(encoded)


def _rsa_refused() -> list[tuple[str, bytes, str]]:
    key = _rsa(2048)
    return [
        ("no bytes", b"\x02", "out_of_range"),
        ("2,040 bits", key[:-1], "out_of_range"),
        ("4,104 bits", b"\x02\x81" + _rsa(4096)[1:], "out_of_range"),
        ("1,024 bits", b"\x02" + rsa.test_key(2048).p.to_bytes(128, "big"), "out_of_range"),
        ("a zero byte in front", b"\x02\x00" + key[1:], "bad_key"),
        ("2,049 bits", b"\x02\x01" + key[1:], "bad_key"),
        ("2,047 bits", b"\x02" + (rsa.test_key(2048).n >> 1 | 1).to_bytes(256, "big"), "bad_key"),
        ("even", key[:-1] + bytes([key[-1] ^ 1]), "bad_key"),
        ("zeros", b"\x02" + bytes(256), "bad_key"),
    ]


# multisig

_ED = [owner.auth for owner in keys().values()]


def _multisig(k: int, members: list[bytes], *, n: int | None = None) -> bytes:
    return bytes([3, k, len(members) if n is None else n]) + _joined(members)


@cache
def multisigs() -> dict[str, bytes]:
    three = sorted(_ED[:3])
    mixed = sorted([_ED[0], _ED[1], _secp(1), _rsa(2048)])
    sixteen = sorted(curve25519.public_key(h(f"member {i}")) for i in range(16))
    return {
        "1 of 1": _multisig(1, [_ED[0]]),
        "2 of 3": _multisig(2, three),
        "3 of 4, of every scheme": _multisig(3, mixed),
        "16 of 16": _multisig(16, [b"\x00" + key for key in sixteen]),
        "2 of 3, of 2,048 bits and two curves": _multisig(2, sorted([_ED[0], _secp(1), _rsa(2048)])),
        "1 of 16 on secp256k1": _multisig(1, sorted(_secp(i) for i in range(1, 17))),
        "1 of 2, 1,023 bytes": _multisig(1, sorted([_rsa(4096), _odd(503)])),
    }


def _signed(member: bytes, digest: bytes) -> bytes:
    """By whoever of the test keys it is; for k of n by the first k."""
    if member[0] == 3:
        return _assembled(member, digest, list(range(member[1])))
    known: dict[bytes, Callable[[bytes], bytes]] = {owner.auth: owner.sign for owner in keys().values()}
    known |= {_rsa(2048): rsa.test_key(2048).sign}
    known |= {_secp(secret): partial(ec.sign, secret) for secret in _SECRETS.values()}
    for i in range(16):
        seed = h(f"member {i}")
        known[b"\x00" + curve25519.public_key(seed)] = book.Key(seed).sign
    return known[member](digest)


def _assembled(auth_key: bytes, digest: bytes, places: list[int], *, bitmap: int | None = None) -> bytes:
    members = _parts(auth_key[3:])
    assert members is not None
    bits = sum(1 << place for place in places) if bitmap is None else bitmap
    return bits.to_bytes(2, "big") + _joined([_signed(members[place], digest) for place in places])


def _multisig_cases() -> list[Case]:
    digest, all_keys = h(MESSAGE), multisigs()
    one, three, mixed = all_keys["1 of 1"], all_keys["2 of 3"], all_keys["3 of 4, of every scheme"]
    sixteen = all_keys["16 of 16"]
    good = _assembled(three, digest, [0, 2])
    first, last = _parts(good[2:]) or []
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    other = _assembled(three, h("other"), [0, 2])
    return [
        ("good, 1 of 1", one, digest, _assembled(one, digest, [0]), True, "all rules hold"),
        *[(f"good, members {a} and {b} of 3", three, digest, _assembled(three, digest, [a, b]), True, "any two")
          for a, b in ((0, 1), (0, 2), (1, 2))],
        *[(f"good, of every scheme, without {out}", mixed, digest,
           _assembled(mixed, digest, [i for i in range(4) if i != out]), True, "any three") for out in range(4)],
        ("good, 16 of 16", sixteen, digest, _assembled(sixteen, digest, list(range(16))), True, "every bit"),
        ("another digest", three, digest, other, False, "the members' signatures"),
        ("one member over another digest", three, digest, good[:68] + other[68:], False, "every signature counts"),
        ("one signature flipped", three, digest, flipped, False, "every signature counts"),
        ("one of two", three, digest, _assembled(three, digest, [0]), False, "exactly k bits"),
        ("three of two", three, digest, _assembled(three, digest, [0, 1, 2]), False, "exactly k bits"),
        ("two bits, one signature", three, digest, b"\x00\x05" + _joined([first]), False, "a signature for each bit"),
        ("one bit, two signatures", three, digest, b"\x00\x01" + good[2:], False, "exactly k bits"),
        ("no bit", three, digest, b"\x00\x00" + good[2:], False, "exactly k bits"),
        ("bits of others", three, digest, b"\x00\x06" + good[2:], False, "the signatures of members 1 and 2"),
        ("a bit above n", three, digest, b"\x00\x09" + good[2:], False, "no bit above n"),
        ("the highest bit besides", three, digest, b"\x80\x05" + good[2:], False, "no bit above n"),
        ("bitmap little-endian", three, digest, b"\x05\x00" + good[2:], False, "u16 is big-endian"),
        ("signatures in another order", three, digest, good[:2] + _joined([last, first]), False, "ascending"),
        ("one member twice", three, digest, good[:2] + _joined([first, first]), False, "each by its member"),
        ("a byte after the end", three, digest, good + b"\x00", False, "no trailing bytes"),
        ("an empty signature after the end", three, digest, good + b"\x00\x00", False, "no trailing bytes"),
        ("a byte short", three, digest, good[:-1], False, "the last signature ends early"),
        ("a length of half", three, digest, good[:68] + b"\x00", False, "the last length ends early"),
        ("a signature of 63 bytes", three, digest, good[:2] + _joined([first, last[:-1]]), False, "64 bytes"),
        ("an empty signature", three, digest, good[:2] + _joined([first, b""]), False, "64 bytes"),
        ("one member's bare signature", one, digest, _signed(_ED[0], digest), False, "bitmap and length are missing"),
        ("bitmap only", three, digest, b"\x00\x05", False, "a signature for each bit"),
        ("one byte", three, digest, b"\x05", False, "a bitmap has two"),
        ("empty", three, digest, b"", False, "a bitmap has two"),
    ]  # fmt: skip


def _multisig_refused() -> list[tuple[str, bytes, str]]:
    a, b, c = sorted(_ED[:3])
    key = _multisig(2, [a, b, c])
    seventeen = sorted(b"\x00" + curve25519.public_key(h(f"member {i}")) for i in range(17))
    long = _multisig(1, sorted([_rsa(4096), _odd(504)]))
    assert len(long) == 1 + 1_024
    return [
        ("no bytes", b"\x03", "out_of_range"),
        ("k alone", b"\x03\x01", "out_of_range"),
        ("1,024 bytes", long, "out_of_range"),
        ("0 of 0", b"\x03\x00\x00", "out_of_range"),
        ("0 of 3", _multisig(0, [a, b, c]), "out_of_range"),
        ("4 of 3", _multisig(4, [a, b, c]), "out_of_range"),
        ("1 of 17", _multisig(1, seventeen), "out_of_range"),
        ("one member fewer than n", _multisig(2, [a, b, c], n=4), "bad_key"),
        ("one member more than n", _multisig(2, [a, b, c], n=2), "bad_key"),
        ("a byte after the end", key + b"\x00", "bad_key"),
        ("a byte short", key[:-1], "bad_key"),
        ("a length of half", key[:3] + _joined([a, b]) + b"\x00", "bad_key"),
        ("a member twice", _multisig(2, [a, b, b]), "bad_key"),
        ("members out of order", _multisig(2, [a, c, b]), "bad_key"),
        ("an empty member", _multisig(1, [b"", a]), "unknown_scheme"),
        ("a member of no scheme", _multisig(1, [a, b"\x7f" + a]), "unknown_scheme"),
        ("a multisig as member", _multisig(1, [a, _multisig(1, [b])]), "unknown_scheme"),
        ("an Ed25519 member of 31 bytes", _multisig(1, [a[:-1], b]), "out_of_range"),
        ("an RSA member that is even", _multisig(1, [a, _rsa(2048)[:-1] + b"\x00"]), "bad_key"),
        ("a member off the curve", _multisig(1, [a, b"\x01\x02" + (5).to_bytes(32, "big")]), "bad_key"),
    ]


def _refused_texts() -> list[tuple[str, str, str]]:
    key, text = _secp(1)[1:].hex(), keys()["alice"].text
    return [
        ("Ed25519 by name", "ed25519:" + text, "unknown_scheme"),
        ("a scheme by its number", "1:" + key, "unknown_scheme"),
        ("no name", ":" + key, "unknown_scheme"),
        ("a name in capitals", "SECP256K1:" + key, "unknown_scheme"),
        ("another name", "p256:" + key, "unknown_scheme"),
        ("a space in front", " secp256k1:" + key, "unknown_scheme"),
        ("no scheme named", key, "bad_hex"),
        ("digits in capitals", "secp256k1:" + key.upper(), "bad_hex"),
        ("0x", "secp256k1:0x" + key, "bad_hex"),
        ("an odd digit", "secp256k1:" + key[:-1], "bad_hex"),
        ("a line break", "secp256k1:" + key + "\n", "bad_hex"),
        ("the name twice", "secp256k1:secp256k1:" + key, "bad_hex"),
        ("with the scheme byte", "secp256k1:01" + key, "out_of_range"),
        ("no digits", "secp256k1:", "out_of_range"),
        ("a bad key", "secp256k1:05" + key[2:], "bad_key"),
    ]
