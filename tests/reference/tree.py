"""The state root, computed from nothing but records and their slots. docs/spec/state.md"""

from hashlib import sha256

from aitbc.core.crypto.hashing import fields, tagged, u64

STORES = ("accounts", "receipts", "locks", "validators", "registry", "params")
FREE = bytes(32)
"""A slot that nobody has, and a missing child."""


def move_slots(slots: dict[str, int], keys: set[str]) -> dict[str, int]:
    """Who has which slot after a block, given who had which before it and the keys that are there now.

    Keys that went leave their slots first; then each new key, in order, takes the lowest free one.
    """
    after = {key: slot for key, slot in slots.items() if key in keys}
    for key in sorted(keys - set(slots), key=str.encode):
        taken = set(after.values())
        slot = 1
        while slot in taken:
            slot += 1
        after[key] = slot
    return after


def store_root(name: str, records: dict[str, bytes], slots: dict[str, int]) -> bytes:
    """Root of one store; its width ends with the last slot that somebody has."""
    keys = sorted(records, key=str.encode)
    following = dict(zip(["", *keys], [*keys, ""], strict=True))
    width = max(slots.values(), default=0) + 1
    row = [FREE] * width
    row[0] = _leaf("", b"", following[""])
    for key in keys:
        row[slots[key]] = _leaf(key, records[key], following[key])
    while len(row) > 1:
        row += [FREE] * (-len(row) % 4)
        row = [sha256(b"\x01" + b"".join(row[i : i + 4])).digest() for i in range(0, len(row), 4)]
    return tagged("aitbc/store/1", name.encode(), u64(width), row[0])


def state_root(stores: dict[str, dict[str, bytes]], slots: dict[str, dict[str, int]]) -> bytes:
    return tagged("aitbc/state/1", *[store_root(name, stores[name], slots[name]) for name in STORES])


def _leaf(key: str, value: bytes, following: str) -> bytes:
    return sha256(b"\x00" + fields(key.encode(), value, following.encode())).digest()
