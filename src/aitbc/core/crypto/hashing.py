"""SHA-256 over length-prefixed fields with a domain tag in front, so that no two kinds of object share a hash.

docs/spec/encoding.md
"""

from functools import cache
from hashlib import sha256

_LENGTHS = [length.to_bytes(4, "big") for length in range(256)]
"""Of short parts, which nearly all are: every transaction is hashed field by field."""


def fields(*parts: bytes) -> bytes:
    """Join parts so that no two different lists give the same bytes: each with its length, u32 big-endian."""
    return b"".join(
        [(_LENGTHS[len(part)] if len(part) < 256 else len(part).to_bytes(4, "big")) + part for part in parts]
    )


MAX_COUNT = 2**64
"""Counts are hashed as eight bytes: they stay below this."""


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return value.to_bytes(8, "big")


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


def tagged(tag: str, *parts: bytes) -> bytes:
    """SHA-256 of the length-prefixed tag and parts."""
    return sha256(_tag_field(tag) + fields(*parts)).digest()


@cache
def _tag_field(tag: str) -> bytes:
    """Tags are ours, so they are few."""
    return fields(tag.encode())


def hash_text(data: bytes) -> str:
    """`sha256:<hex>` of some bytes, as receipts write hashes."""
    return "sha256:" + sha256(data).hexdigest()
