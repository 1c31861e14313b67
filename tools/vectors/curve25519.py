"""Ed25519 from RFC 8032 in plain integers: slow, obvious, and able to make the signatures that nobody should accept.

`verify` is the rule of docs/spec/keys.md: canonical encodings, no small order, cofactorless equation.
"""

from functools import cache
from hashlib import sha512

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
I = pow(2, (P - 1) // 4, P)  # noqa: E741, the curve's own name for a square root of -1

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(a: Point, b: Point) -> Point:
    """Affine addition; complete on this curve."""
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P) % P
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    """Double and add in extended coordinates (RFC 8032 §5.1.4), back to affine at the end."""
    total, step = (0, 1, 1, 0), (point[0], point[1], 1, point[0] * point[1] % P)
    while scalar:
        if scalar & 1:
            total = _add_extended(total, step)
        step = _add_extended(step, step)
        scalar >>= 1
    inverse = pow(total[2], -1, P)
    return total[0] * inverse % P, total[1] * inverse % P


Extended = tuple[int, int, int, int]


def _add_extended(p: Extended, q: Extended) -> Extended:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def negate(point: Point) -> Point:
    return -point[0] % P, point[1]


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def x_of(y: int, sign: int) -> int | None:
    """The x of a point; None when y belongs to none. RFC 8032 §5.1.3."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * I % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def decode(data: bytes) -> Point | None:
    """The point behind 32 bytes; None for a y of p or more and for what is not on the curve."""
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    x = x_of(y, sign) if y < P else None
    return None if x is None else (x, y)


BASE_Y = 4 * pow(5, -1, P) % P
_base_x = x_of(BASE_Y, 0)
assert _base_x is not None
BASE: Point = (_base_x, BASE_Y)


def _expand(seed: bytes) -> tuple[int, bytes]:
    digest = sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | 1 << 254
    return scalar, digest[32:]


def secret_scalar(seed: bytes) -> int:
    return _expand(seed)[0]


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + key + message).digest(), "little") % L


@cache
def public_key(seed: bytes) -> bytes:
    return encode(multiply(_expand(seed)[0], BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    scalar, prefix = _expand(seed)
    key = public_key(seed)
    nonce = int.from_bytes(sha512(prefix + message).digest(), "little") % L
    r = encode(multiply(nonce, BASE))
    s = (nonce + challenge(r, key, message) * scalar) % L
    return r + s.to_bytes(32, "little")


def has_small_order(point: Point) -> bool:
    return multiply(8, point) == IDENTITY


def small_order_points() -> list[Point]:
    """The eight points whose order divides the cofactor 8."""
    y = 2
    while True:
        x = x_of(y, 0)
        if x is not None:
            torsion = multiply(L, (x, y))
            if multiply(4, torsion) != IDENTITY:
                return [multiply(k, torsion) for k in range(8)]
        y += 1


def decode_loosely(data: bytes) -> Point | None:
    """As ZIP-215 does: y counts modulo p, and x = 0 may carry a sign."""
    number = int.from_bytes(data, "little")
    y, sign = (number & (1 << 255) - 1) % P, number >> 255
    x = x_of(y, 0)
    return None if x is None else (-x % P if sign else x, y)


def small_order_encodings() -> list[bytes]:
    """The 14 strings that a loose decoder takes for points of small order, 8 of them canonical."""
    ys = sorted({y for _, y in small_order_points()})
    spelled = [y + more for y in ys for more in (0, P) if y + more < 2**255]
    return [(y | sign << 255).to_bytes(32, "little") for y in spelled for sign in (0, 1)]


def broken_rules(key: bytes, message: bytes, signature: bytes) -> list[str]:
    """What speaks against a signature, by the numbers of docs/spec/keys.md; nothing: it is good."""
    if len(signature) != 64:
        return ["64 bytes"]
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    loose_key, loose_r = decode_loosely(key), decode_loosely(r)
    broken = []
    if s >= L:
        broken.append("1: S ≥ L")
    if loose_key is None:
        broken.append("2: A is not on the curve")
    elif decode(key) is None:
        broken.append("2: A is not canonical")
    if loose_key is not None and has_small_order(loose_key):
        broken.append("2: A has small order")
    if loose_r is not None and has_small_order(loose_r):
        broken.append("3: R has small order")
    if loose_key is not None:
        right = add(multiply(s, BASE), negate(multiply(challenge(r, key, message), loose_key)))
        if encode(right) != r:
            broken.append("4: R is not S·B - h·A")
    return broken


def order_of(point: Point) -> str:
    if has_small_order(point):
        return "small"
    return "L" if multiply(L, point) == IDENTITY else "mixed"


def verify(key: bytes, message: bytes, signature: bytes, *, cofactored: bool) -> bool:
    if len(key) != 32 or len(signature) != 64:
        return False
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    a, point = decode(key), decode(r)
    if s >= L or a is None or point is None or has_small_order(a) or has_small_order(point):
        return False
    difference = add(multiply(s, BASE), negate(add(point, multiply(challenge(r, key, message), a))))
    return has_small_order(difference) if cofactored else difference == IDENTITY
