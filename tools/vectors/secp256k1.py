"""ECDSA on secp256k1 from SEC 1 and RFC 6979 in plain integers, over a digest; affine, slow and obvious.

`verify` is the rule of docs/spec/keys.md: compressed keys, r and s in their ranges, low s only.
"""

import hmac

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

Point = tuple[int, int] | None
"""None is the point at infinity."""

BASE: Point = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    rise, run = (3 * a[0] * a[0], 2 * a[1]) if a == b else (b[1] - a[1], b[0] - a[0])
    slope = rise * pow(run, -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(scalar: int, point: Point) -> Point:
    total: Point = None
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def y_of(x: int, *, odd: bool) -> int | None:
    """The y of a point; None when x belongs to none."""
    square = (x**3 + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return y if y % 2 == odd else P - y


def encode(point: Point) -> bytes:
    """Compressed."""
    assert point is not None
    return bytes([2 + point[1] % 2]) + point[0].to_bytes(32, "big")


def decode(key: bytes) -> Point:
    """The point behind 33 bytes; None when there is none."""
    x = int.from_bytes(key[1:], "big")
    if len(key) != 33 or key[0] not in (2, 3) or x >= P:
        return None
    y = y_of(x, odd=key[0] == 3)
    return None if y is None else (x, y)


def public_key(secret: int) -> bytes:
    return encode(multiply(secret, BASE))


def compact(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def nonce(secret: int, digest: bytes) -> int:
    """RFC 6979 §3.2 with SHA-256."""
    seed = secret.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    key, value = bytes(32), b"\x01" * 32
    for mark in (b"\x00", b"\x01"):
        key = hmac.digest(key, value + mark + seed, "sha256")
        value = hmac.digest(key, value, "sha256")
    while True:
        value = hmac.digest(key, value, "sha256")
        if 1 <= int.from_bytes(value, "big") < N:
            return int.from_bytes(value, "big")
        key = hmac.digest(key, value + b"\x00", "sha256")
        value = hmac.digest(key, value, "sha256")


def sign_any(secret: int, digest: bytes, k: int) -> tuple[int, int]:
    """r and whatever s comes out, for a chosen nonce."""
    point = multiply(k, BASE)
    assert point is not None
    r = point[0] % N
    return r, pow(k, -1, N) * (int.from_bytes(digest, "big") + r * secret) % N


def sign(secret: int, digest: bytes) -> bytes:
    r, s = sign_any(secret, digest, nonce(secret, digest))
    return compact(r, min(s, N - s))


def equation_holds(key: bytes, digest: bytes, r: int, s: int) -> bool:
    """The equation alone, for r and s from 1 to n - 1."""
    inverse = pow(s, -1, N)
    point = add(
        multiply(int.from_bytes(digest, "big") * inverse % N, BASE),
        multiply(r * inverse % N, decode(key)),
    )
    return point is not None and point[0] % N == r


def verify(key: bytes, digest: bytes, signature: bytes) -> bool:
    if len(signature) != 64 or decode(key) is None:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return 1 <= r < N and 1 <= s <= N // 2 and equation_holds(key, digest, r, s)
