"""Signature schemes: what is a key, what is a signature, and that strangers' bytes cause nothing but a refusal.

The corners of each scheme are data: tests/vectors/schemes.json and ed25519.json.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import (
    MULTISIG,
    RSA_PSS,
    SCHEMES,
    SECP256K1,
    assemble_multisig,
    ed25519_auth_key,
    multisig_auth_key,
    rsa_pss_auth_key,
    scheme_of,
    secp256k1_auth_key,
    sign_ed25519,
    sign_rsa_pss,
    sign_secp256k1,
    verifications,
    verify,
)
from aitbc.core.crypto.schemes.multisig import MAX_KEY_BYTES, MAX_MEMBERS
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import MAX_PUBKEY_BYTES, MAX_SIGNATURE_BYTES

DIGEST = sha256(b"what is signed").digest()
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "schemes.json").read_bytes())


class Owner(NamedTuple):
    key: bytes
    sign: Callable[[bytes], bytes]


def _seed(name: str) -> bytes:
    return sha256(name.encode()).digest()


def on_ed25519(name: str) -> Owner:
    seed = _seed(name)
    return Owner(ed25519_auth_key(seed), lambda digest: sign_ed25519(seed, digest))


def on_secp256k1(name: str) -> Owner:
    secret = _seed(name)
    return Owner(secp256k1_auth_key(secret), lambda digest: sign_secp256k1(secret, digest))


@cache
def rsa_der(bits: int) -> bytes:
    """The test key of the vectors as a wallet would hold it."""
    case = next(case for case in VECTORS["rsa-pss"]["keys"] if case["name"] == f"{bits} bits")
    p, q = int(case["test_only_p"], 16), int(case["test_only_q"], 16)
    d = pow(65537, -1, (p - 1) * (q - 1))
    private = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(65537, p * q)
    ).private_key()
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def on_rsa(bits: int) -> Owner:
    der = rsa_der(bits)
    return Owner(rsa_pss_auth_key(der), lambda digest: sign_rsa_pss(der, digest))


def together(threshold: int, owners: list[Owner]) -> Owner:
    """The first members in the key's order sign, as many as it takes."""
    key = multisig_auth_key(threshold, [owner.key for owner in owners])
    ordered = sorted(owners, key=lambda owner: owner.key)

    def sign(digest: bytes) -> bytes:
        return assemble_multisig(key, {place: ordered[place].sign(digest) for place in range(threshold)})

    return Owner(key, sign)


OWNERS = {
    "ed25519": on_ed25519("anna"),
    "secp256k1": on_secp256k1("bela"),
    "rsa-pss, 2,048 bits": on_rsa(2048),
    "rsa-pss, 4,096 bits": on_rsa(4096),
    "multisig, 3 of 3": together(3, [on_ed25519("anna"), on_secp256k1("bela"), on_rsa(2048)]),
    "multisig, 2 of 3": together(2, [on_ed25519("anna"), on_ed25519("bela"), on_secp256k1("carl")]),
    "multisig, 16 of 16": together(16, [on_ed25519(f"member {i}") for i in range(16)]),
}
owners = pytest.mark.parametrize("owner", OWNERS.values(), ids=OWNERS.keys())


def reason_of(auth_key: bytes) -> Reason | None:
    try:
        scheme_of(auth_key)
    except Rejected as rejection:
        return rejection.reason
    return None


def is_good(auth_key: bytes, digest: bytes, signature: bytes) -> bool:
    """`verify`, which may answer with these two and nothing else."""
    answer = verify(auth_key, digest, signature)
    assert answer is True or answer is False
    return answer


# What holds for every scheme


@owners
def test_an_owner_signs_and_nobody_else(owner: Owner) -> None:
    signature = owner.sign(DIGEST)
    assert is_good(owner.key, DIGEST, signature)
    assert not is_good(owner.key, _seed("something else"), signature)
    assert [name for name, other in OWNERS.items() if is_good(other.key, DIGEST, signature)] == [
        name for name, other in OWNERS.items() if other is owner
    ]


@owners
def test_every_byte_of_a_signature_counts(owner: Owner) -> None:
    signature = owner.sign(DIGEST)
    for at in range(len(signature)):
        for flip in (0x01, 0x80):
            changed = bytearray(signature)
            changed[at] ^= flip
            assert not is_good(owner.key, DIGEST, bytes(changed)), (at, flip)


@owners
def test_a_signature_has_one_length(owner: Owner) -> None:
    signature = owner.sign(DIGEST)
    for other in (
        b"",
        signature[:-1],
        signature[1:],
        signature + b"\x00",
        b"\x00" + signature,
        signature * 2,
    ):
        assert not is_good(owner.key, DIGEST, other)


@pytest.mark.parametrize(
    "owner",
    [owner for name, owner in OWNERS.items() if name != "multisig, 2 of 3"],
    ids=[name for name in OWNERS if name != "multisig, 2 of 3"],
)
def test_every_byte_of_a_key_counts(owner: Owner) -> None:
    signature = owner.sign(DIGEST)
    for at in range(len(owner.key)):
        changed = bytearray(owner.key)
        changed[at] ^= 0x01
        assert not is_good(bytes(changed), DIGEST, signature), at


def test_a_member_who_did_not_sign_is_in_the_address_only() -> None:
    """A signature says nothing of the others: a record is checked against the account's key, never the reverse."""
    anna, bela, carl, dora = (on_ed25519(name) for name in ("anna", "bela", "carl", "dora"))
    members = sorted([anna, bela, carl, dora], key=lambda owner: owner.key)
    key, other = (multisig_auth_key(2, [m.key for m in (*members[:2], last)]) for last in members[2:])
    signature = assemble_multisig(key, {0: members[0].sign(DIGEST), 1: members[1].sign(DIGEST)})
    assert is_good(key, DIGEST, signature) and is_good(other, DIGEST, signature)
    assert address_of(key) != address_of(other)


@owners
def test_a_key_has_one_text(owner: Owner) -> None:
    text = key_to_text(owner.key)
    assert key_from_text(text) == owner.key
    name = scheme_of(owner.key).name
    assert text == owner.key[1:].hex() if name == "ed25519" else text == f"{name}:{owner.key[1:].hex()}"


def test_no_two_schemes_share_a_name_or_the_start_of_an_address() -> None:
    names = [scheme.name for scheme in SCHEMES.values()]
    assert len(set(names)) == len(names)
    tags = [scheme.tag for scheme in SCHEMES.values() if scheme.tag]
    assert not any(a.startswith(b) for a in tags for b in tags if a is not b)
    assert len(tags) == len(SCHEMES) - 1, "Ed25519 has none: its preimage alone has 32 bytes"


def test_the_limits_of_transactions_hold_every_key_and_signature() -> None:
    assert 1 + MAX_KEY_BYTES == MAX_PUBKEY_BYTES
    longest = max(len(owner.sign(DIGEST)) for owner in OWNERS.values())
    assert longest < 2 + MAX_MEMBERS * 2 + MAX_PUBKEY_BYTES + 16 * 32 < MAX_SIGNATURE_BYTES


# Which keys are keys

GOOD_SECP = on_secp256k1("bela").key[1:]
GOOD_RSA = on_rsa(2048).key[1:]
A, B, C = sorted(on_ed25519(name).key for name in ("anna", "bela", "carl"))


def joined(*members: bytes) -> bytes:
    return b"".join(len(member).to_bytes(2, "big") + member for member in members)


KEYS: list[tuple[str, bytes, Reason | None]] = [
    ("nothing", b"", Reason.UNKNOWN_SCHEME),
    ("a scheme to come", b"\x04" + bytes(32), Reason.UNKNOWN_SCHEME),
    ("the last byte", b"\xff", Reason.UNKNOWN_SCHEME),
    ("Ed25519, looked at when it is used", b"\x00" + b"\xff" * 32, None),
    ("Ed25519, too short", b"\x00" + bytes(31), Reason.OUT_OF_RANGE),
    ("secp256k1", b"\x01" + GOOD_SECP, None),
    ("secp256k1, its negative", b"\x01" + bytes([GOOD_SECP[0] ^ 1]) + GOOD_SECP[1:], None),
    ("secp256k1, another prefix", b"\x01\x04" + GOOD_SECP[1:], Reason.BAD_KEY),
    ("secp256k1, x = 5 is off the curve", b"\x01\x02" + (5).to_bytes(32, "big"), Reason.BAD_KEY),
    ("secp256k1, too long", b"\x01" + GOOD_SECP + b"\x00", Reason.OUT_OF_RANGE),
    ("RSA", b"\x02" + GOOD_RSA, None),
    ("RSA that nobody made", b"\x02\x80" + bytes(254) + b"\x01", None),
    ("RSA, even", b"\x02" + GOOD_RSA[:-1] + b"\x00", Reason.BAD_KEY),
    ("RSA, its first bit not set", b"\x02\x7f" + GOOD_RSA[1:], Reason.BAD_KEY),
    ("RSA, 2,040 bits", b"\x02" + GOOD_RSA[1:], Reason.OUT_OF_RANGE),
    ("RSA, 4,096 bits", b"\x02" + b"\xff" * 512, None),
    ("RSA, 4,104 bits", b"\x02" + b"\xff" * 513, Reason.OUT_OF_RANGE),
    ("2 of 3", b"\x03\x02\x03" + joined(A, B, C), None),
    ("1 of 1", b"\x03\x01\x01" + joined(A), None),
    ("0 of 1", b"\x03\x00\x01" + joined(A), Reason.OUT_OF_RANGE),
    ("2 of 1", b"\x03\x02\x01" + joined(A), Reason.OUT_OF_RANGE),
    ("1 of 2, out of order", b"\x03\x01\x02" + joined(B, A), Reason.BAD_KEY),
    ("1 of 2, one twice", b"\x03\x01\x02" + joined(A, A), Reason.BAD_KEY),
    ("1 of 2, a byte too many", b"\x03\x01\x02" + joined(A, B) + b"\x00", Reason.BAD_KEY),
    ("1 of 2, a multisig in it", b"\x03\x01\x02" + joined(A, b"\x03\x01\x01" + joined(B)), Reason.UNKNOWN_SCHEME),
    ("1 of 2, a bad member", b"\x03\x01\x02" + joined(A, b"\x01\x04" + GOOD_SECP[1:]), Reason.BAD_KEY),
    ("1 of 2, a member too short", b"\x03\x01\x02" + joined(A[:-1], B), Reason.OUT_OF_RANGE),
]  # fmt: skip


@pytest.mark.parametrize(("key", "reason"), [case[1:] for case in KEYS], ids=[case[0] for case in KEYS])
def test_what_is_a_key(key: bytes, reason: Reason | None) -> None:
    assert reason_of(key) == reason
    assert not is_good(key, DIGEST, bytes(64))


# Multisig


def test_any_k_members_sign_for_all() -> None:
    members = sorted((on_ed25519(f"member {i}") for i in range(5)), key=lambda owner: owner.key)
    key = multisig_auth_key(3, [owner.key for owner in members])
    for count in range(1, 6):
        for places in combinations(range(5), count):
            bitmap = sum(1 << place for place in places)
            signature = bitmap.to_bytes(2, "big") + joined(*[members[i].sign(DIGEST) for i in places])
            assert is_good(key, DIGEST, signature) == (count == 3)


VERIFICATIONS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("ed25519", A, ("ed25519",)),
    ("secp256k1", b"\x01" + GOOD_SECP, ("secp256k1",)),
    ("rsa-pss", b"\x02" + GOOD_RSA, ("rsa-pss",)),
    ("2 of 3 alike", multisig_auth_key(2, [A, B, C]), ("ed25519", "ed25519")),
    ("1 of 3", multisig_auth_key(1, [A, b"\x01" + GOOD_SECP, b"\x02" + GOOD_RSA]), ("secp256k1",)),
    ("2 of 3", multisig_auth_key(2, [A, b"\x01" + GOOD_SECP, b"\x02" + GOOD_RSA]), ("secp256k1", "rsa-pss")),
    (
        "3 of 3",
        multisig_auth_key(3, [A, b"\x01" + GOOD_SECP, b"\x02" + GOOD_RSA]),
        ("secp256k1", "rsa-pss", "ed25519"),
    ),
]


@pytest.mark.parametrize(
    ("key", "names"), [case[1:] for case in VERIFICATIONS], ids=[case[0] for case in VERIFICATIONS]
)
def test_a_key_says_what_its_signatures_cost_at_most(key: bytes, names: tuple[str, ...]) -> None:
    assert verifications(key) == names


def test_keys_that_the_chain_would_refuse_are_not_made() -> None:
    small = rsa.generate_private_key(65537, 1024).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    odd_exponent = rsa.generate_private_key(3, 2048).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(Rejected, match="out_of_range"):
        rsa_pss_auth_key(small)
    with pytest.raises(ValueError, match="no RSA key"):
        rsa_pss_auth_key(other)
    with pytest.raises(ValueError, match="the exponent is 3"):
        rsa_pss_auth_key(odd_exponent)
    with pytest.raises(Rejected, match="bad_key"):
        multisig_auth_key(1, [A, A])
    with pytest.raises(Rejected, match="out_of_range"):
        multisig_auth_key(3, [A, B])
    with pytest.raises(ValueError, match="2 of 3 must sign"):
        assemble_multisig(multisig_auth_key(2, [A, B, C]), {0: bytes(64)})
    with pytest.raises(ValueError, match="2 of 3 must sign"):
        assemble_multisig(multisig_auth_key(2, [A, B, C]), {0: bytes(64), 3: bytes(64)})


# secp256k1 against SEC 1 written out

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
Point = tuple[int, int] | None


def plus(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    rise, run = (3 * a[0] * a[0], 2 * a[1]) if a == b else (b[1] - a[1], b[0] - a[0])
    slope = rise * pow(run, -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(scalar: int, point: Point) -> Point:
    total: Point = None
    for bit in bin(scalar)[2:]:
        total = plus(total, total)
        total = plus(total, point) if bit == "1" else total
    return total


def model_says(secret: int, digest: bytes, signature: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if not (1 <= r < N and 1 <= s <= (N - 1) // 2):
        return False
    inverse, e = pow(s, -1, N), int.from_bytes(digest, "big")
    point = plus(times(e * inverse % N, G), times(r * inverse % N, times(secret, G)))
    return point is not None and point[0] % N == r


secrets = st.integers(1, N - 1) | st.sampled_from([1, 2, N - 2, N - 1])
digests = st.binary(min_size=32, max_size=32) | st.sampled_from(
    [bytes(32), b"\xff" * 32, N.to_bytes(32, "big")]
)


@settings(max_examples=60, deadline=None)
@given(secret=secrets, digest=digests, change=st.integers(0, 2**512 - 1) | st.just(0))
def test_secp256k1_is_what_the_equation_says(secret: int, digest: bytes, change: int) -> None:
    raw = secret.to_bytes(32, "big")
    key, signature = secp256k1_auth_key(raw), sign_secp256k1(raw, digest)
    point = times(secret, G)
    assert point is not None
    assert key == b"\x01" + bytes([2 + point[1] % 2]) + point[0].to_bytes(32, "big")
    assert sign_secp256k1(raw, digest) == signature, "signing is deterministic"
    assert is_good(key, digest, signature) and model_says(secret, digest, signature)
    changed = (int.from_bytes(signature, "big") ^ change).to_bytes(64, "big")
    assert is_good(key, digest, changed) == model_says(secret, digest, changed)


@settings(max_examples=60, deadline=None)
@given(
    secret=secrets, nonce=secrets, s=st.integers(1, N - 1) | st.sampled_from([1, N // 2, N // 2 + 1, N - 1])
)
def test_secp256k1_with_any_s(secret: int, nonce: int, s: int) -> None:
    """The digest is chosen so that the equation holds: then the height of s alone decides."""
    point = times(nonce, G)
    assert point is not None
    r = point[0] % N
    digest = ((s * nonce - r * secret) % N).to_bytes(32, "big")
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert is_good(secp256k1_auth_key(secret.to_bytes(32, "big")), digest, signature) == (s <= N // 2)


@settings(max_examples=100, deadline=None)
@given(
    key=st.binary(min_size=33, max_size=33) | st.binary(min_size=32, max_size=32).map(lambda x: b"\x02" + x)
)
@example(key=b"\x02" + (P + 1).to_bytes(32, "big"))
@example(key=b"\x03" + (P - 1).to_bytes(32, "big"))
def test_a_point_is_a_key_and_nothing_else(key: bytes) -> None:
    x = int.from_bytes(key[1:], "big")
    square = (x**3 + 7) % P
    on_curve = key[0] in (2, 3) and x < P and pow(square, (P - 1) // 2, P) == 1
    assert reason_of(b"\x01" + key) == (None if on_curve else Reason.BAD_KEY)


# Bytes of strangers


def answers_to(auth_key: bytes, signature: bytes) -> None:
    """Whatever the bytes: a reason or none, a text that leads back, and two answers that fit."""
    reason = reason_of(auth_key)
    good = is_good(auth_key, DIGEST, signature)
    assert not (good and reason)
    if reason is None:
        assert key_from_text(key_to_text(auth_key)) == auth_key
        assert 1 <= len(verifications(auth_key)) <= MAX_MEMBERS


signatures = (
    st.binary(max_size=600) | st.binary(min_size=64, max_size=64) | st.binary(min_size=256, max_size=256)
)


@settings(max_examples=300, deadline=None)
@given(auth_key=st.binary(max_size=1100), signature=signatures)
def test_any_bytes(auth_key: bytes, signature: bytes) -> None:
    answers_to(auth_key, signature)


@settings(max_examples=300, deadline=None)
@given(scheme=st.sampled_from(sorted(SCHEMES)), key=st.binary(max_size=1100), signature=signatures)
def test_any_bytes_under_a_known_scheme(scheme: int, key: bytes, signature: bytes) -> None:
    answers_to(bytes([scheme]) + key, signature)


@settings(max_examples=300, deadline=None)
@given(inner=st.binary(min_size=254, max_size=254) | st.binary(min_size=510, max_size=510), data=st.data())
def test_any_modulus(inner: bytes, data: st.DataObject) -> None:
    """Products of small primes, squares, primes: a library that minds must not make nodes differ."""
    key = b"\x80" + inner + b"\x01"
    signature = data.draw(st.binary(min_size=len(key), max_size=len(key)))
    answers_to(bytes([RSA_PSS]) + key, signature)
    answers_to(bytes([RSA_PSS]) + key, b"\x00" + signature[1:])


SPECIAL_MODULI: list[tuple[str, Callable[[int], int]]] = [
    ("all ones", lambda bits: 2**bits - 1),
    ("two ones", lambda bits: 2 ** (bits - 1) + 1),
    ("ones and a gap", lambda bits: 2**bits - 2**17 + 1),
    ("a multiple of a power of three", lambda bits: 3 ** (bits // 2) * (2**bits // 3 ** (bits // 2) - 1 | 1)),
    ("a square", lambda bits: (2 ** (bits // 2) - 1) ** 2),
    ("a multiple of e", lambda bits: 65537 * (2**bits // 65537 - 1 | 1)),
]


@pytest.mark.parametrize("bits", [2048, 4096])
@pytest.mark.parametrize(
    "make", [case[1] for case in SPECIAL_MODULI], ids=[case[0] for case in SPECIAL_MODULI]
)
def test_a_modulus_of_a_special_form(make: Callable[[int], int], bits: int) -> None:
    modulus = make(bits)
    assert modulus.bit_length() == bits and modulus % 2
    key = bytes([RSA_PSS]) + modulus.to_bytes(bits // 8, "big")
    for number in (0, 1, 2, 3**200, modulus // 2, modulus // 3, modulus - 1, modulus):
        answers_to(key, number.to_bytes(bits // 8, "big"))


some_members = st.lists(
    st.sampled_from(
        [A, B, C, b"\x01" + GOOD_SECP, b"\x02" + GOOD_RSA, b"", b"\x00", b"\x03\x01\x01" + joined(A)]
    )
    | st.binary(max_size=40),
    max_size=18,
)


@settings(max_examples=300, deadline=None)
@given(
    k=st.integers(0, 18), members=some_members, sort=st.booleans(), tail=st.binary(max_size=3),
    bitmap=st.binary(max_size=2), parts=st.lists(signatures, max_size=4),
)  # fmt: skip
def test_anything_like_a_multisig(
    k: int, members: list[bytes], sort: bool, tail: bytes, bitmap: bytes, parts: list[bytes]
) -> None:
    chosen = sorted(set(members)) if sort else members
    auth_key = bytes([MULTISIG, k, len(chosen)]) + joined(*chosen) + tail
    answers_to(auth_key, bitmap + joined(*parts))
    answers_to(auth_key, joined(*parts))


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=200)
    | st.builds(
        lambda name, digits: f"{name}:{digits}",
        st.sampled_from([scheme.name for scheme in SCHEMES.values()]),
        st.text("0123456789abcdefABCDEF :", max_size=80) | st.binary(max_size=600).map(bytes.hex),
    )
)
def test_any_key_text(text: str) -> None:
    try:
        auth_key = key_from_text(text)
    except Rejected:
        return
    assert key_to_text(auth_key) == text


# What it costs to have them


def test_openssl_is_loaded_when_a_key_needs_it() -> None:
    code = (
        "import sys; from aitbc.core.crypto.schemes import *; from aitbc.core.crypto.address import address_of;"
        "key = ed25519_auth_key(bytes(32)); address_of(key);"
        "assert verify(key, bytes(32), sign_ed25519(bytes(32), bytes(32)));"
        "assert not verify(b'\\x02', bytes(32), b'');"
        "print('cryptography' in sys.modules);"
        "verify(secp256k1_auth_key(bytes(31) + b'1'), bytes(32), bytes(64));"
        "print('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


assert (SECP256K1, RSA_PSS, MULTISIG) == (1, 2, 3)
