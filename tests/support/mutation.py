"""Bytes that are nearly right: changed where a structure is, or where only bytes are. Everything from one seed."""

import json
import random
from collections.abc import Callable
from typing import Any

import msgspec

HUGE = [2**53, 2**53 - 1, -(2**53), 2**63, 2**64, -(2**63) - 1, 10**30, -1, 0, 1, 10**400]
TEXTS = [
    "",
    "\0",
    "\ud800",
    "é",
    "\u2028",
    "a" * 5_000,
    "sha256:" + "AB" * 32,
    "ait1" + "q" * 38,
    "00",
    "0x00",
]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], {"": ""}, 1.0, -0.0, 1e400, float("nan"), 0.1]


MOST_BYTES = 20_000
"""Larger than any payload; the limits of places that take more are looked at before anything is decoded."""


def mutate_json(rng: random.Random, raw: bytes) -> bytes:
    """JSON with one to three nodes replaced, and now and then another spelling or other bytes."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return mutate_bytes(rng, raw)
    for _ in range(rng.randint(1, 3)):
        value = _with_other_node(rng, value)
    data = _spelled(rng, value)[:MOST_BYTES]
    return mutate_bytes(rng, data) if rng.random() < 0.1 else data


def mutate_msgpack(rng: random.Random, raw: bytes) -> bytes:
    """The same for msgpack."""
    try:
        value = msgspec.msgpack.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return mutate_bytes(rng, raw)
    for _ in range(rng.randint(1, 2)):
        value = _with_other_node(rng, value)
    try:
        data = msgspec.msgpack.encode(value)[:MOST_BYTES]
    except (OverflowError, UnicodeEncodeError, RecursionError, TypeError):
        return mutate_bytes(rng, raw)
    return mutate_bytes(rng, data) if rng.random() < 0.2 else data


def mutate_bytes(rng: random.Random, raw: bytes) -> bytes:
    """Truncated, doubled, cut, flipped, filled."""
    data = bytearray(raw or b"\0")
    for _ in range(rng.randint(1, 3)):
        at, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        stop = min(stop, at + 64)
        match rng.randrange(7):
            case 0:
                del data[at:]
            case 1:
                del data[at:stop]
            case 2:
                data[at:at] = data[at:stop]
            case 3:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 4:
                data[at:at] = bytes([rng.choice(b'[{"\xc1\xd9\xdd\xdf\xff\x00\x80')]) * rng.choice(
                    [1, 3, 2_000]
                )
            case 5:
                data[at:stop] = bytes(stop - at)
            case _:
                if data:
                    data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        data = data[:MOST_BYTES] or bytearray(b"\0")
    return bytes(data)


def _with_other_node(rng: random.Random, value: Any) -> Any:
    """The value with a node somewhere inside it replaced."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {other: value[other] for other in value if other != name}
            case 1:
                return {**value, rng.choice(["extra", "", "\u00e9", name + "x"]): 1}
            case 2:
                return {**value, rng.choice(list(value)): value[name]}
            case _:
                return {**value, name: _with_other_node(rng, value[name])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, value[at]]
            case 2:
                return value * rng.choice([2, 100])
            case 3:
                return value[::-1]
            case _:
                return [*value[:at], _with_other_node(rng, value[at]), *value[at + 1 :]]
    return _other(rng, value)


def _other(rng: random.Random, value: Any) -> Any:
    match rng.randrange(6):
        case 0:
            return rng.choice(HUGE)
        case 1:
            return rng.choice(TEXTS)
        case 2:
            return rng.choice(OTHERS)
        case 3:
            return _nested(value, rng.choice([1, 3, 50, 990, 3_000]))
        case 4 if isinstance(value, int):
            return value + rng.choice([-1, 1])
        case _ if isinstance(value, str) and value:
            at = rng.randrange(len(value))
            return value[:at] + rng.choice("0fF-_=Z\u212a ") + value[at + rng.randint(0, 1) :]
        case _ if isinstance(value, bytes) and value:
            return mutate_bytes(rng, value)
        case _:
            return [value]


def _nested(value: Any, depth: int) -> Any:
    for _ in range(min(depth, 200)):
        value = [value]
    return value


def _spelled(rng: random.Random, value: Any) -> bytes:
    """As canonical JSON mostly; sometimes in another order, with spaces, escapes or a key twice."""
    try:
        text = json.dumps(
            value,
            sort_keys=rng.random() < 0.9,
            separators=rng.choice([(",", ":"), (",", ":"), (",", ":"), (", ", ": ")]),
            ensure_ascii=rng.random() < 0.5,
        )
    except (RecursionError, ValueError):
        text = "[" * 3_000
    if rng.random() < 0.05 and text.startswith("{") and len(text) > 2:
        text = "{" + text[1:-1].split(",")[0] + "," + text[1:]
    if rng.random() < 0.05:
        text = "[" * rng.choice([10, 990, 20_000]) + text
    return text.encode("utf-8", "surrogatepass")


Mutator = Callable[[random.Random, bytes], bytes]


def mutators_for(name: str) -> list[Mutator]:
    """What suits a decoder."""
    if name.startswith(("wire", "verify-wire", "apply-wire")):
        return [mutate_bytes, mutate_msgpack]
    if name.startswith(("text", "sig", "key")) or name == "record-accounts-other":
        return [mutate_bytes]
    return [mutate_bytes, mutate_json, mutate_json, mutate_json]
