"""Vectors of single signatures at the edges of Ed25519, and of finality certificates."""

from hashlib import sha256
from typing import Any

import by_the_book as book
import curve25519 as curve
import speccheck
from fixtures import genesis_hash, h, keys

Json = Any
Point = curve.Point


def _answer(key: bytes, scalar: int, r: bytes, nonce: int, message: bytes) -> bytes:
    """The signature that satisfies s·B = nonce·B + challenge·scalar·B for a freely chosen R."""
    s = (nonce + curve.challenge(r, key, message) * scalar) % curve.L
    return r + s.to_bytes(32, "little")


def _message_with_challenge(key: bytes, r: bytes, residue: int, *, equal: bool) -> bytes:
    """A message whose challenge is, or is not, `residue` modulo 8."""
    number = 0
    while (curve.challenge(r, key, number.to_bytes(32, "big")) % 8 == residue) != equal:
        number += 1
    return number.to_bytes(32, "big")


def ed25519() -> Json:
    owner = keys()["alice"]
    scalar, message = curve.secret_scalar(owner.seed), h("message")
    good = owner.sign(message)
    s = int.from_bytes(good[32:], "little")
    torsion = curve.small_order_points()
    nonce = 20_251_009
    r = curve.encode(curve.multiply(nonce, curve.BASE))
    base = curve.multiply(scalar, curve.BASE)
    cases: list[tuple[str, bytes, bytes, bytes]] = [
        ("good", owner.public, message, good),
        ("good, of 32 zero bytes", owner.public, bytes(32), owner.sign(bytes(32))),
        ("another message", owner.public, h("other"), good),
        ("another key", keys()["bob"].public, message, good),
        ("S + L", owner.public, message, good[:32] + (s + curve.L).to_bytes(32, "little")),
        ("S = L", owner.public, message, good[:32] + curve.L.to_bytes(32, "little")),
        ("highest bit of S set", owner.public, message, good[:63] + bytes([good[63] | 0x80])),
        ("sign of R flipped", owner.public, message, good[:31] + bytes([good[31] ^ 0x80]) + good[32:]),
        ("all zero signature", owner.public, message, bytes(64)),
        ("63 bytes", owner.public, message, good[:63]),
        ("65 bytes", owner.public, message, good + b"\x00"),
        ("empty signature", owner.public, message, b""),
        ("key is not on the curve", (2).to_bytes(32, "little"), message, good),
        ("key y = p + 3", (curve.P + 3).to_bytes(32, "little"), message, good),
        ("key all ones", b"\xff" * 32, message, good),
    ]
    for i, point in enumerate(torsion):
        key = curve.encode(point)
        quiet = _message_with_challenge(key, r, 0, equal=True)
        cases.append((f"key of small order {i}", key, quiet, r + nonce.to_bytes(32, "little")))
        small_r = curve.encode(point)
        cases.append((f"R of small order {i}", owner.public, message,
                      _answer(owner.public, scalar, small_r, 0, message)))  # fmt: skip
    for name, key_bytes in {
        "y = 1 with the sign bit": (1 | 1 << 255).to_bytes(32, "little"),
        "y = p": curve.P.to_bytes(32, "little"),
        "y = p + 1": (curve.P + 1).to_bytes(32, "little"),
    }.items():
        quiet = _message_with_challenge(key_bytes, r, 0, equal=True)
        cases.append((f"key not canonical, {name}", key_bytes, quiet, r + nonce.to_bytes(32, "little")))
        cases.append((f"R not canonical, {name}", owner.public, message,
                      _answer(owner.public, scalar, key_bytes, 0, message)))  # fmt: skip
    cases += _mixed_order(base, scalar, torsion, nonce, message, owner.public)
    return {
        "spec": "docs/spec/keys.md",
        "cases": [
            {
                "name": name,
                "public_key": key.hex(),
                "message": text.hex(),
                "signature": signature.hex(),
                "valid": curve.verify(key, text, signature, cofactored=False),
                "cofactored_would_say": curve.verify(key, text, signature, cofactored=True),
                "why": _why(key, text, signature),
            }
            for name, key, text, signature in cases
        ],
        "speccheck": [_speccheck(number, case) for number, case in enumerate(speccheck.CASES)],
        "small_order": _small_order(),
    }


def _why(key: bytes, message: bytes, signature: bytes) -> str:
    """Which rules of the chapter are broken; both ways of saying so agree."""
    broken = curve.broken_rules(key, message, signature)
    assert (not broken) == curve.verify(key, message, signature, cofactored=False)
    return "; ".join(broken) or "all rules hold"


def _speccheck(number: int, case: speccheck.Case) -> Json:
    speccheck.check(number, case)
    message, key, signature = (bytes.fromhex(text) for text in case[:3])
    return {
        "name": f"{number}: {case.says}",
        "public_key": case.key,
        "message": case.message,
        "signature": case.signature,
        "a_order": case.a_order,
        "r_order": case.r_order,
        "valid": curve.verify(key, message, signature, cofactored=False),
        "why": _why(key, message, signature),
    }


def _small_order() -> Json:
    """ZIP-215's table: every R with every A of 14 encodings, S = 0, over "Zcash": good there, and never here."""
    encodings = curve.small_order_encodings()
    points = [curve.decode_loosely(encoding) for encoding in encodings]
    assert len(encodings) == 14 and len(set(points)) == 8
    message = b"Zcash"
    for r in encodings:
        for key in encodings:
            broken = curve.broken_rules(key, message, r + bytes(32))
            assert {"2: A has small order", "3: R has small order"} <= set(broken)
    return {
        "encodings": [
            {"bytes": encoding.hex(), "canonical": curve.decode(encoding) is not None}
            for encoding in encodings
        ],
        "s": bytes(32).hex(),
        "message": message.hex(),
        "digest": sha256(message).hexdigest(),
        "valid": False,
        "zip215_would_say": True,
        "why": "2: A has small order; 3: R has small order",
    }


def _mixed_order(
    base: Point, scalar: int, torsion: list[Point], nonce: int, message: bytes, public: bytes
) -> list[tuple[str, bytes, bytes, bytes]]:
    """Where verifiers of different libraries part: components of small order in the key or in R."""
    mixed = curve.encode(curve.add(base, torsion[1]))
    r = curve.encode(curve.multiply(nonce, curve.BASE))
    vanishes = _message_with_challenge(mixed, r, 0, equal=True)
    remains = _message_with_challenge(mixed, r, 0, equal=False)
    r_mixed = curve.encode(curve.add(curve.multiply(nonce, curve.BASE), torsion[1]))
    cancels = _message_with_challenge(mixed, r_mixed, 7, equal=True)
    return [
        ("mixed key, torsion vanishes", mixed, vanishes, _answer(mixed, scalar, r, nonce, vanishes)),
        ("mixed key, torsion remains", mixed, remains, _answer(mixed, scalar, r, nonce, remains)),
        ("mixed R", public, message, _answer(public, scalar, r_mixed, nonce, message)),
        ("mixed key and R that cancel", mixed, cancels, _answer(mixed, scalar, r_mixed, nonce, cancels)),
    ]


CHAIN_ID = "ait-devnet"
KINDS = ("candidate", "notar", "skip", "final")


def certificates() -> Json:
    owners = keys()
    four = [owners[name] for name in ("validator", "alice", "bob", "carol")]
    first = _candidate(epoch=0, slot=1, parent_slot=0, parent_id=h("genesis block"), block_hash=h("block 1"))
    later = _candidate(
        epoch=3, slot=17, parent_slot=15, parent_id=h("candidate 15"), block_hash=h("block 1810")
    )
    return {
        "spec": "docs/spec/finality.md",
        "chain_id": CHAIN_ID,
        "genesis_hash": genesis_hash().hex(),
        "sets": [
            _set("one", [owners["validator"]], first, [1]),
            _set("four", four, later, [1] * 4),
            _set("weighted", four, later, [5, 3, 1, 1]),
        ],
        "refused": _bad_certificates(four, later),
        "powers": [
            {"powers": powers, "quorum": 2 * sum(powers) // 3 + 1}
            for powers in ([1], [1] * 2, [1] * 3, [1] * 4, [1] * 7, [5, 3, 1], [2**52, 1])
        ],
    }


def _candidate(**values: Any) -> dict[str, Any]:
    return values


def _plain(kind: str, candidate: dict[str, Any], bitmap: int, signatures: list[bytes]) -> Json:
    return {
        "kind": kind,
        "epoch": candidate["epoch"],
        "slot": candidate["slot"],
        "parentSlot": candidate["parent_slot"],
        "parentId": candidate["parent_id"].hex(),
        "blockHash": candidate["block_hash"].hex(),
        "bitmap": bitmap,
        "signatures": [signature.hex() for signature in signatures],
    }


def _wire(kind: str, candidate: dict[str, Any], bitmap: int, signatures: list[bytes]) -> bytes:
    return book.msgpack([kind, list(candidate.values()), bitmap, signatures])


def _votes(
    kind: str, candidate: dict[str, Any], owners: list[book.Key], chain: str = CHAIN_ID
) -> list[bytes]:
    digest = book.vote_digest(kind, candidate, chain, genesis_hash())
    return [owner.sign(digest) for owner in owners]


def _set(name: str, owners: list[book.Key], candidate: dict[str, Any], powers: list[int]) -> Json:
    members = [(owner.address, owner.auth, power) for owner, power in zip(owners, powers, strict=True)]
    quorum = 2 * sum(powers) // 3 + 1
    good = []
    for bitmap in range(1, 1 << len(owners)):
        signers = [owner for i, owner in enumerate(owners) if bitmap >> i & 1]
        if sum(power for i, power in enumerate(powers) if bitmap >> i & 1) < quorum:
            continue
        for kind in ("notar", "final"):
            signatures = _votes(kind, candidate, signers)
            plain = _plain(kind, candidate, bitmap, signatures)
            good.append({"json": plain, "wire": _wire(kind, candidate, bitmap, signatures).hex()})
    return {
        "name": name,
        "members": [{"address": address, "auth_key": auth.hex(), "power": p} for address, auth, p in members],
        "validators_hash": book.validators_hash(members).hex(),
        "quorum": quorum,
        "candidate_id": book.candidate_id(candidate, CHAIN_ID, genesis_hash()).hex(),
        "vote_digests": {k: book.vote_digest(k, candidate, CHAIN_ID, genesis_hash()).hex() for k in KINDS},
        "certificates": good,
    }


def _bad_certificates(owners: list[book.Key], candidate: dict[str, Any]) -> list[Json]:
    """Against the set of four."""
    three = _votes("final", candidate, owners[:3])
    flipped = bytes([three[2][0] ^ 1]) + three[2][1:]
    other_slot = candidate | {"slot": candidate["slot"] + 1}
    other_block = candidate | {"block_hash": h("another block")}
    skip, notar = _votes("skip", candidate, owners[:3]), _votes("notar", candidate, owners[:3])
    elsewhere = _votes("final", candidate, owners[:3], chain="ait-othernet")
    cases: list[tuple[str, Json]] = [
        ("two of four", _plain("final", candidate, 0b11, three[:2])),
        ("no vote at all", _plain("final", candidate, 0, [])),
        ("a bit beyond the set", _plain("final", candidate, 0b10111, [*three, three[0]])),
        ("fewer signatures than bits", _plain("final", candidate, 0b1111, three)),
        ("more signatures than bits", _plain("final", candidate, 0b111, [*three, three[0]])),
        ("one voter three times", _plain("final", candidate, 0b111, [three[0]] * 3)),
        ("signatures in another order", _plain("final", candidate, 0b111, three[::-1])),
        ("one signature flipped", _plain("final", candidate, 0b111, [*three[:2], flipped])),
        ("bits of others", _plain("final", candidate, 0b1110, three)),
        ("votes for notar sold as final", _plain("final", candidate, 0b111, notar)),
        ("votes for final sold as notar", _plain("notar", candidate, 0b111, three)),
        ("a skip certifies no candidate", _plain("skip", candidate, 0b111, skip)),
        ("unknown kind", _plain("finalize", candidate, 0b111, three)),
        ("another slot", _plain("final", other_slot, 0b111, three)),
        ("another block", _plain("final", other_block, 0b111, three)),
        ("votes of another chain", _plain("final", candidate, 0b111, elsewhere)),
        ("negative bitmap", _plain("final", candidate, -1, three)),
        ("negative epoch", _plain("final", candidate | {"epoch": -1}, 0b111, three)),
    ]
    return [{"name": name, "json": plain, "reason": "bad_certificate"} for name, plain in cases]
