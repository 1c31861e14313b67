"""The 12 cases of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko; IACR eprint 2020/1244), as the
authors published them in cases.json of github.com/novifinancial/ed25519-speccheck.

Written from memory and not copied, but each is proven to be what the paper says of it: `check` recomputes the orders
of both points and both equations, and a wrong digit of a key or signature would break them. The messages of 0, 1, 10
and 11 enter their equations through three bits at most: of these four the digits are as sure as memory is.
"""

from hashlib import sha512
from typing import NamedTuple

import curve25519 as curve


class Case(NamedTuple):
    message: str
    key: str
    signature: str
    a_order: str
    r_order: str
    says: str


CASES = [
    Case(
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
        "0000000000000000000000000000000000000000000000000000000000000000",
        "small",
        "small",
        "S = 0, both points of small order",
    ),
    Case(
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        "small",
        "mixed",
        "key of small order",
    ),
    Case(
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
        "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        "mixed",
        "small",
        "R of small order",
    ),
    Case(
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        "mixed",
        "mixed",
        "mixed orders, and the torsions cancel",
    ),
    Case(
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        "mixed",
        "mixed",
        "only a cofactored verifier accepts",
    ),
    Case(
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7"
        "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        "mixed",
        "L",
        "only a cofactored verifier accepts; R has no torsion",
    ),
    Case(
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        "L",
        "L",
        "S + L",
    ),
    Case(
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942"
        "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        "L",
        "L",
        "S far above L",
    ),
    Case(
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        "mixed",
        "small",
        "R not canonical; holds when R is hashed as re-encoded",
    ),
    Case(
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        "mixed",
        "small",
        "R not canonical; holds when R is hashed as it came",
    ),
    Case(
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        "small",
        "mixed",
        "key not canonical; holds when the key is hashed as re-encoded",
    ),
    Case(
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        "small",
        "mixed",
        "key not canonical; holds when the key is hashed as it came",
    ),
]


def check(number: int, case: Case) -> None:
    """The case has the properties that the paper gives it."""
    message, key, signature = (bytes.fromhex(text) for text in case[:3])
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    a_point, r_point = curve.decode_loosely(key), curve.decode_loosely(r)
    assert a_point is not None and r_point is not None
    assert (curve.order_of(a_point), curve.order_of(r_point)) == (case.a_order, case.r_order)
    assert (s >= curve.L) == (number in (6, 7)) and (s == 0) == (number == 0)
    assert (curve.encode(a_point) == key) == (number < 10)
    assert (curve.encode(r_point) == r) == (number not in (8, 9))

    def difference(hashed_r: bytes, hashed_key: bytes) -> curve.Point:
        challenge = int.from_bytes(sha512(hashed_r + hashed_key + message).digest(), "little") % curve.L
        right = curve.add(r_point, curve.multiply(challenge, a_point))
        return curve.add(curve.multiply(s, curve.BASE), curve.negate(right))

    as_it_came, re_encoded = difference(r, key), difference(curve.encode(r_point), curve.encode(a_point))
    meant = re_encoded if number in (8, 10) else as_it_came
    other = as_it_came if number in (8, 10) else re_encoded
    assert curve.has_small_order(meant) and (meant == curve.IDENTITY) == (number not in (4, 5))
    assert (other == curve.IDENTITY) == (number in (0, 1, 2, 3, 6, 7))
