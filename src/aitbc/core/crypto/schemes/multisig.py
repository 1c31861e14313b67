"""k of n keys as one: members in one order, signatures in theirs, every byte accounted for. docs/spec/keys.md

Members are auth keys of single schemes, never multisigs again, so that the cost of a key is bounded and seen.
"""

from collections.abc import Mapping
from typing import NamedTuple

from aitbc.core.crypto.schemes.interface import Scheme
from aitbc.core.types.reasons import Reason, Rejected

MAX_MEMBERS = 16
"""The bitmap's bits; 16 verifications are the most that one signature may ask for."""
MAX_KEY_BYTES = 1023
"""With its scheme byte the key fits MAX_PUBKEY_BYTES."""
MAX_SIGNATURE_BYTES = 4096
"""Of the chain's own limit; whoever else verifies is spared a walk through megabytes."""


class Members(NamedTuple):
    """A key taken apart; the members' own keys are not checked yet."""

    threshold: int
    keys: list[bytes]
    """Auth keys, ascending."""


def multisig_over(single: Mapping[int, Scheme]) -> Scheme:
    """The scheme whose members may be of the schemes given."""

    def check_key(key: bytes) -> None:
        for number, member in enumerate(take_apart(key).keys):
            scheme = single.get(member[0]) if member else None
            if scheme is None:
                raise Rejected(
                    Reason.UNKNOWN_SCHEME, f"member {number} names no scheme that a member may have"
                )
            scheme.check_key(member[1:])

    def verify(key: bytes, message_digest: bytes, signature: bytes) -> bool:
        pairs = _signers(take_apart(key), signature)
        return pairs is not None and all(
            single[member[0]].verify(member[1:], message_digest, signed) for member, signed in pairs
        )

    def verifications(key: bytes) -> tuple[str, ...]:
        threshold, keys = take_apart(key)
        schemes = [single[member[0]] for member in keys]
        dearest = sorted(schemes, key=lambda scheme: scheme.cost_rank, reverse=True)
        return tuple(scheme.name for scheme in dearest[:threshold])

    rank = max(scheme.cost_rank for scheme in single.values()) + 1
    return Scheme("multisig", b"multisig", check_key, verify, rank, verifications)


def join_members(threshold: int, members: list[bytes]) -> bytes:
    """The public key of some auth keys, in whatever order they come."""
    return bytes([threshold, len(members)]) + _join(sorted(members))


def join_signatures(key: bytes, signatures: Mapping[int, bytes]) -> bytes:
    """One signature of the members' own, by the members' place in the key; there must be exactly as many as needed."""
    threshold, members = take_apart(key)
    if len(signatures) != threshold or not all(0 <= place < len(members) for place in signatures):
        raise ValueError(f"{threshold} of {len(members)} must sign; signed: {sorted(signatures)}")
    bitmap = sum(1 << place for place in signatures)
    return bitmap.to_bytes(2, "big") + _join([signatures[place] for place in sorted(signatures)])


def take_apart(key: bytes) -> Members:
    """Everything about a key but its members' own keys; refuses what has another spelling."""
    if not 2 <= len(key) <= MAX_KEY_BYTES:
        raise Rejected(Reason.OUT_OF_RANGE, f"{len(key)} bytes are no multisig key of 2 to {MAX_KEY_BYTES}")
    threshold, count = key[0], key[1]
    if not 1 <= threshold <= count <= MAX_MEMBERS:
        raise Rejected(
            Reason.OUT_OF_RANGE, f"{threshold} of {count} is no multisig of 1 to {MAX_MEMBERS} members"
        )
    members = _split(key[2:])
    if members is None or len(members) != count:
        raise Rejected(Reason.BAD_KEY, f"the bytes of the multisig key are not {count} members")
    if any(members[i] >= members[i + 1] for i in range(count - 1)):
        raise Rejected(
            Reason.BAD_KEY, "the members of a multisig key must be different and in ascending order"
        )
    return Members(threshold, members)


def _signers(members: Members, signature: bytes) -> list[tuple[bytes, bytes]] | None:
    """Who signed, with what; None when the bytes are no signature of just as many members as it takes."""
    if len(signature) > MAX_SIGNATURE_BYTES:
        return None
    bitmap, count = int.from_bytes(signature[:2], "big"), len(members.keys)
    signed = [member for place, member in enumerate(members.keys) if bitmap >> place & 1]
    parts = _split(signature[2:])
    if bitmap >> count or parts is None or not len(signed) == len(parts) == members.threshold:
        return None
    return list(zip(signed, parts, strict=True))


def _join(parts: list[bytes]) -> bytes:
    return b"".join([len(part).to_bytes(2, "big") + part for part in parts])


def _split(data: bytes) -> list[bytes] | None:
    """The parts, each behind its length, u16 big-endian; None when the last one ends too early."""
    parts, at = [], 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        parts.append(data[start:at])
        if at > len(data):
            return None
    return parts
