"""Receipts of a batch in fixed bytes: what its root covers, and how a SETTLE carries them. docs/spec/batches.md"""

import base64
import binascii
import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

from aitbc.core.types.amounts import MAX_SIGNED, MAX_UNITS
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import MAX_TASKS

LEAF = struct.Struct(">32sHHHBBQQ")
"""Receipt id, place of the lock and of the provider in the tables, task, attempt, routed, units, price: 56 bytes."""
TAIL = 36
"""Where a leaf's own fields begin, after the two places."""
ROUTED = ("chosen", "random")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*\Z")
_TO_BASE64 = str.maketrans("-_", "+/")


class Leaf(NamedTuple):
    """One receipt of a batch; `lock` and `provider` are places in the tables of the SETTLE."""

    receipt: bytes
    lock: int
    provider: int
    task: int
    attempt: int
    routed: int
    units: int
    price: int


def pack_leaves(leaves: Sequence[Leaf]) -> str:
    """As a SETTLE carries them: base64url without padding."""
    raw = b"".join([LEAF.pack(*leaf) for leaf in leaves])
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def leaf_bytes_of(text: str) -> bytes:
    """The bytes of packed leaves; refuses every second spelling."""
    if text.endswith("="):
        raise Rejected(Reason.NOT_CANONICAL, "leaves are base64url without padding")
    if not _BASE64URL.match(text) or len(text) % 4 == 1:
        raise Rejected(Reason.MALFORMED, "leaves are not base64url without padding")
    raw = unpack_leaves(text)
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise Rejected(Reason.NOT_CANONICAL, "leaves are base64url in its one spelling: spare bits are 0")
    if not raw or len(raw) % LEAF.size:
        raise Rejected(Reason.MALFORMED, f"{len(raw)} bytes of leaves; each has {LEAF.size}")
    return raw


def unpack_leaves(text: str) -> bytes:
    """The bytes of packed leaves that `leaf_bytes_of` has accepted."""
    return binascii.a2b_base64(text.translate(_TO_BASE64) + "=" * (-len(text) % 4))


def check_leaves(raw: bytes, *, locks: int, providers: int) -> None:
    """Refuse numbers out of range and tables that are not used up."""
    columns = zip(*LEAF.iter_unpack(raw), strict=True)
    _, lock, provider, task, _, routed, units, price = columns
    if max(lock) >= locks or max(provider) >= providers or max(task) >= MAX_TASKS:
        raise Rejected(Reason.OUT_OF_RANGE, "a leaf names a place or a task that does not exist")
    if max(routed) >= len(ROUTED) or min(units) < 1 or max(units) > MAX_UNITS or max(price) > MAX_SIGNED:
        raise Rejected(Reason.OUT_OF_RANGE, "route, units or price of a leaf are out of range")
    if len(set(lock)) != locks or len(set(provider)) != providers:
        raise Rejected(Reason.NOT_CANONICAL, "every lock and provider in the tables is some leaf's")


def committed_leaves(raw: bytes, locks: Sequence[bytes], providers: Sequence[bytes]) -> list[bytes]:
    """What the batch's root covers of each: receipt ‖ lock ‖ provider's address ‖ the leaf's own fields."""
    result = []
    for start in range(0, len(raw), LEAF.size):
        lock = raw[start + 32] << 8 | raw[start + 33]
        provider = raw[start + 34] << 8 | raw[start + 35]
        result.append(
            b"".join(
                (
                    raw[start : start + 32],
                    locks[lock],
                    providers[provider],
                    raw[start + TAIL : start + LEAF.size],
                )
            )
        )
    return result
