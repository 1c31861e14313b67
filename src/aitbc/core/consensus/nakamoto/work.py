"""Proof of work: what is searched, when it is enough, and how hard the next block is. docs/spec/nakamoto.md "Work"

HashCash with SHA-256. A search hashes 40 bytes, one round of SHA-256, of which only the nonce changes.
"""

from hashlib import sha256

from aitbc.core.codec.digests import fields_without_seal
from aitbc.core.crypto.hashing import tagged, u64
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected

NONCE_BYTES = 8
SIGNATURE_BYTES = 64
"""Ed25519, with which authorities sign."""
MAX_TARGET = 2**256 - 1
"""Any hash will do: difficulty 1."""
MAX_SOLVE_BLOCKS = 6
"""A block counts as at most so many block times late. Who switches all miners off for a night finds the difficulty of
the evening, not one that fell through the floor; LWMA has the same bound."""


def seal_of(nonce: int, signature: bytes) -> bytes:
    """A header's seal: the nonce, then in mode poa-pow the miner's signature."""
    return u64(nonce) + signature


def open_seal(seal: bytes, *, is_signed: bool) -> tuple[int, bytes]:
    """Nonce and signature; raises Rejected for another length."""
    expected = NONCE_BYTES + SIGNATURE_BYTES * is_signed
    if len(seal) != expected:
        raise Rejected(Reason.MALFORMED, f"a seal of {len(seal)} bytes, not {expected}")
    return int.from_bytes(seal[:NONCE_BYTES], "big"), seal[NONCE_BYTES:]


def template_digest(header: Header) -> bytes:
    """What the miner signs: everything but the seal."""
    return tagged("aitbc/template/1", *fields_without_seal(header))


def search_digest(template: bytes, signature: bytes) -> bytes:
    """What a nonce is searched for. It covers the signature, of which a miner can make many: each piece of work belongs
    to one block hash, and a lower hash costs work."""
    return tagged("aitbc/work/1", template, signature)


def work_hash(search: bytes, nonce: int) -> bytes:
    return sha256(search + u64(nonce)).digest()


def is_enough(hash_: bytes, target: int) -> bool:
    return int.from_bytes(hash_, "big") <= target


def target_of(difficulty: int) -> int:
    """The greatest hash that is enough when a block shall take so many hashes on average."""
    return 2**256 // difficulty - 1


def work_of(target: int) -> int:
    """How many hashes such a block takes on average: what it adds to the weight of its branch."""
    return 2**256 // (target + 1)


def first_target(settings: NakamotoSettings) -> int:
    return target_of(settings.difficulty)


def next_target(settings: NakamotoSettings, *, target: int, solve_ms: int) -> int:
    """The target of the block after one with `target` that came `solve_ms` after its own parent.

    ASERT (aserti3-2d, the rule of Bitcoin Cash since 2020) in its relative form: target · 2^((solve − T) ÷ half life),
    2^x by the cubic of that specification, exact in integers.
    """
    if settings.difficulty_rule == "fixed":
        return target
    block_time = settings.block_time_ms
    solve = min(solve_ms, MAX_SOLVE_BLOCKS * block_time)
    exponent = (solve - block_time) * 65_536 // settings.half_life_ms
    shifts, fraction = exponent >> 16, exponent & 0xFFFF
    cubic = 195_766_423_245_049 * fraction + 971_821_376 * fraction**2 + 5_127 * fraction**3
    factor = 65_536 + ((cubic + 2**47) >> 48)
    moved = target * factor
    moved = moved << shifts >> 16 if shifts >= 0 else moved >> (16 - shifts)
    return max(1, min(moved, target_of(settings.least_difficulty)))
