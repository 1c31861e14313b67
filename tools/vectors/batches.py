"""Vectors of batches: leaves, what a hub commits to, proofs of ranges, and what is no batch."""

import base64
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

import by_the_book as book
from fixtures import h, keys

Json = Any


class Receipt(NamedTuple):
    """What a batch says of one receipt."""

    receipt: bytes
    lock: bytes
    provider: str
    task: int
    attempt: int
    routed: int
    units: int
    price: int


# batches.md


def leaf(receipt: Receipt, locks: Sequence[bytes], providers: Sequence[str]) -> bytes:
    """The 56 bytes of a SETTLE with these tables."""
    return packed(
        receipt.receipt,
        locks.index(receipt.lock),
        providers.index(receipt.provider),
        receipt.task,
        receipt.attempt,
        receipt.routed,
        receipt.units,
        receipt.price,
    )


def packed(
    receipt: bytes, lock: int, provider: int, task: int, attempt: int, routed: int, units: int, price: int
) -> bytes:
    places = b"".join(number.to_bytes(2, "big") for number in (lock, provider, task))
    return receipt + places + bytes([attempt, routed]) + book.u64(units) + book.u64(price)


def committed(receipt: Receipt) -> bytes:
    """The 126 bytes that the batch's root is over."""
    end = receipt.task.to_bytes(2, "big") + bytes([receipt.attempt, receipt.routed])
    end += book.u64(receipt.units) + book.u64(receipt.price)
    return receipt.receipt + receipt.lock + receipt.provider.encode() + end


def leaves_text(leaves: Sequence[bytes]) -> str:
    return base64.urlsafe_b64encode(b"".join(leaves)).decode().rstrip("=")


def range_proof(leaves: Sequence[bytes], start: int, stop: int) -> list[bytes]:
    """The nodes beside [start, stop), each computed from all the leaves below it."""
    nodes, size, width = [], 1, len(leaves)
    while width > 1:
        if start % 2:
            nodes.append(book.list_top(leaves[(start - 1) * size : start * size]))
        if stop % 2 and stop < width:
            nodes.append(book.list_top(leaves[stop * size : (stop + 1) * size]))
        start, stop, width, size = start // 2, -(-stop // 2), -(-width // 2), 2 * size
    return nodes


def range_holds(root: bytes, count: int, start: int, leaves: Sequence[bytes], proof: Sequence[bytes]) -> bool:
    """The check as the chapter words it."""
    nodes = [sha256(b"\x00" + content).digest() for content in leaves]
    beside, width, stop = list(proof), count, start + len(nodes)
    if not 0 <= start < stop <= count or any(len(node) != 32 for node in beside):
        return False
    while width > 1:
        left = start % 2 == 1
        if len(beside) < left + (stop % 2 == 1 and stop < width):
            return False
        if left:
            nodes.insert(0, beside.pop(0))
            start -= 1
        if stop % 2 and stop < width:
            nodes.append(beside.pop(0))
        pairs = [nodes[i : i + 2] for i in range(0, len(nodes), 2)]
        nodes = [sha256(b"\x01" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
        start, stop, width = start // 2, -(-stop // 2), -(-width // 2)
    return not beside and book.tagged("aitbc/list/1", book.u64(count), nodes[0]) == root


# What the vectors are about


@cache
def tables() -> tuple[list[bytes], list[str]]:
    """Eight locks and five providers, as a SETTLE lists them."""
    locks = sorted(h(f"lock {i}") for i in range(8))
    return locks, sorted(keys()[name].address for name in ("provider", "alice", "bob", "carol", "treasury"))


@cache
def receipts(count: int) -> list[Receipt]:
    locks, providers = tables()
    return [
        Receipt(
            receipt=h(f"receipt {i} of {count}"),
            lock=locks[i % 8],
            provider=providers[i * i % 5],
            task=i // 8,
            attempt=i % 3,
            routed=0 if i % 4 == 3 else 1,
            units=1_000 + i,
            price=1_000_000 + 1_000 * i,
        )
        for i in range(count)
    ]


@cache
def root_of(count: int) -> bytes:
    return book.list_root([committed(receipt) for receipt in receipts(count)])


def settle(count: int, start: int, stop: int, batch: str, listed: list[Receipt] | None = None) -> Json:
    """The payload of a SETTLE of [start, stop)."""
    everything = receipts(count) if listed is None else listed
    chosen = everything[start:stop]
    locks = sorted({receipt.lock for receipt in chosen})
    providers = sorted({receipt.provider for receipt in chosen})
    proof = range_proof([committed(receipt) for receipt in everything], start, stop)
    return {
        "batch": batch,
        "start": start,
        "locks": [lock.hex() for lock in locks],
        "providers": providers,
        "leaves": leaves_text([leaf(receipt, locks, providers) for receipt in chosen]),
        "proof": [node.hex() for node in proof],
    }


def batches() -> Json:
    edges = [
        Receipt(h("least"), h("lock"), keys()["provider"].address, 0, 0, 0, 1, 0),
        Receipt(h("most"), h("lock"), keys()["provider"].address, 4_095, 255, 1, 10**12, 2**53 - 1),
    ]
    return {
        "spec": "docs/spec/batches.md",
        "batches": [
            _batch("all of a batch of 3", receipts(3), 0, 3),
            _batch("the middle of a batch of 1,000", receipts(1_000), 483, 507),
            _batch("the first of a batch of 1,000", receipts(1_000), 0, 1),
            _batch("the last of a batch of 1,000", receipts(1_000), 999, 1_000),
            _batch("numbers at their bounds", edges, 0, 2),
        ],
        "refused_leaves": [
            {"name": name, "locks": locks, "providers": providers, "leaves": text, "reason": reason}
            for name, locks, providers, text, reason in _refused_leaves()
        ],
        "ranges": [_ranges(count) for count in range(1, 10)]
        + [_ranges(count, _SOME[count]) for count in sorted(_SOME)],
        "refused_ranges": _refused_ranges(),
    }


_SOME = {
    1_000: ((0, 1), (0, 1_000), (1, 999), (999, 1_000), (483, 507), (511, 513), (512, 1_000), (992, 999)),
    1_025: ((0, 1_024), (1_023, 1_025), (1_024, 1_025), (1_000, 1_024)),
}


def _batch(name: str, listed: list[Receipt], start: int, stop: int) -> Json:
    root = book.list_root([committed(receipt) for receipt in listed])
    payload = settle(len(listed), start, stop, "", listed)
    del payload["batch"]
    locks = [bytes.fromhex(lock) for lock in payload["locks"]]
    proof = [bytes.fromhex(node) for node in payload["proof"]]
    chosen = listed[start:stop]
    assert range_holds(root, len(listed), start, [committed(receipt) for receipt in chosen], proof), name
    return {
        "name": name,
        "root": root.hex(),
        "count": len(listed),
        **payload,
        "receipts": [
            {
                **receipt._asdict(),
                "receipt": receipt.receipt.hex(),
                "lock": receipt.lock.hex(),
                "routed": "random" if receipt.routed else "chosen",
                "leaf": leaf(receipt, locks, payload["providers"]).hex(),
                "committed": committed(receipt).hex(),
            }
            for receipt in chosen
        ],
    }


def _refused_leaves() -> list[tuple[str, list[str], list[str], str, str]]:
    """(name, locks, providers, leaves, reason): the checks of SETTLE in their order, each and two at once."""
    locks, people = tables()
    two, names = [lock.hex() for lock in locks[:2]], people[:2]
    three = [*two, locks[2].hex()]

    def one(**more: Any) -> bytes:
        base = {"receipt": h("receipt"), "lock": 0, "provider": 0, "task": 0, "attempt": 0, "routed": 1}
        return packed(**(base | {"units": 1, "price": 0} | more))

    def text(*leaves: bytes) -> str:
        return leaves_text(leaves)

    good = [one(), one(lock=1, provider=1)]
    alone, both = text(one()), text(*good)
    assert len(alone) == 75 and len(both) == 150, "the last characters of both have bits to spare"
    spare = _next_character(alone)
    no_name = [names[0], names[1][:-1] + ("q" if names[1][-1] != "q" else "p")]
    ids = [f"{i:064x}" for i in range(257)]
    crowd = sorted(book.bech32(i.to_bytes(20, "big")) for i in range(257))
    whole = text(*good, one())
    assert len(whole) == 224, "and those of three leaves have none"
    return [
        ("257 locks", ids, names, both, "out_of_range"),
        ("257 providers", two, crowd, both, "out_of_range"),
        ("a provider that is no address", two, no_name, both, "bad_address"),
        ("a provider that is no address, and locks out of order", two[::-1], no_name, both, "bad_address"),
        ("locks out of order", two[::-1], names, both, "not_canonical"),
        ("a lock twice", [two[0], two[0]], names, both, "not_canonical"),
        ("locks out of order, and leaves that are no base64url", two[::-1], names, "!" + both, "not_canonical"),
        ("providers out of order", two, names[::-1], both, "not_canonical"),
        ("a provider twice", two, [names[0], names[0]], both, "not_canonical"),
        ("providers out of order, and no leaf", two, names[::-1], "", "not_canonical"),
        ("no leaf", two, names, "", "malformed"),
        ("a character outside of base64url", two, names, both[:9] + "!" + both[10:], "malformed"),
        ("a character of plain base64", two, names, both[:9] + "+" + both[10:], "malformed"),
        ("another character of plain base64", two, names, both[:9] + "/" + both[10:], "malformed"),
        ("a character beyond ASCII", two, names, both[:9] + "é" + both[10:], "malformed"),
        ("a line break at the end", two, names, both + "\n", "malformed"),
        ("a space inside", two, names, both[:75] + " " + both[75:], "malformed"),
        ("padding", two[:1], names[:1], alone + "=", "not_canonical"),
        ("one character more than whole bytes", two, names, whole + "A", "malformed"),
        ("bits to spare that are not 0", two[:1], names[:1], spare, "not_canonical"),
        ("bits to spare that are not 0, and no whole leaf", two, names, _next_character(text(one()[:-1])), "not_canonical"),
        ("55 bytes", two[:1], names[:1], text(one()[:-1]), "malformed"),
        ("57 bytes", two[:1], names[:1], text(one() + b"\x00"), "malformed"),
        ("57 bytes, and a task of 4,096", two[:1], names[:1], text(one(task=4_096) + b"\x00"), "malformed"),
        ("a lock's place at the end of the table", two, names, text(*good, one(lock=2)), "out_of_range"),
        ("a lock's place of 65,535", two, names, text(*good, one(lock=65_535)), "out_of_range"),
        ("a provider's place at the end of the table", two, names, text(*good, one(provider=2)), "out_of_range"),
        ("a task of 4,096", two, names, text(*good, one(task=4_096)), "out_of_range"),
        ("routed 2", two, names, text(*good, one(routed=2)), "out_of_range"),
        ("routed 255", two, names, text(*good, one(routed=255)), "out_of_range"),
        ("0 units", two, names, text(*good, one(units=0)), "out_of_range"),
        ("10^12 + 1 units", two, names, text(*good, one(units=10**12 + 1)), "out_of_range"),
        ("2^63 units", two, names, text(*good, one(units=2**63)), "out_of_range"),
        ("a price of 2^53", two, names, text(*good, one(price=2**53)), "out_of_range"),
        ("a price of 2^64 - 1", two, names, text(*good, one(price=2**64 - 1)), "out_of_range"),
        ("0 units, and a lock that no leaf names", three, names, text(*good, one(units=0)), "out_of_range"),
        ("a lock that no leaf names", three, names, both, "not_canonical"),
        ("a provider that no leaf names", two, people[:3], both, "not_canonical"),
        ("one leaf, two locks", two, names[:1], alone, "not_canonical"),
    ]  # fmt: skip


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def _next_character(text: str) -> str:
    """The same bytes with the last spare bit set."""
    place = _ALPHABET.index(text[-1])
    assert len(text) % 4 and place % 2 == 0
    return text[:-1] + _ALPHABET[place + 1]


def _leaves(count: int) -> list[bytes]:
    return [f"leaf {i}".encode() for i in range(count)]


def _ranges(count: int, chosen: Sequence[tuple[int, int]] = ()) -> Json:
    leaves = _leaves(count)
    root = book.list_root(leaves)
    every = [(start, stop) for start in range(count) for stop in range(start + 1, count + 1)]
    proofs = []
    for start, stop in chosen or every:
        proof = range_proof(leaves, start, stop)
        assert range_holds(root, count, start, leaves[start:stop], proof)
        proofs.append({"start": start, "stop": stop, "proof": [node.hex() for node in proof]})
    return {"leaves": f"leaf 0 … leaf {count - 1}", "count": count, "root": root.hex(), "proofs": proofs}


def _refused_ranges() -> Json:
    """Around leaves 3, 4 and 5 of seven, and the last two."""
    leaves = _leaves(7)
    root = book.list_root(leaves)
    chosen, proof = leaves[3:6], range_proof(leaves, 3, 6)
    tail, tail_proof = leaves[5:], range_proof(leaves, 5, 7)
    whole = range_proof(leaves, 0, 7)
    assert len(proof) == 3 and not whole
    pair = [sha256(b"\x00" + content).digest() for content in leaves[4:6]]
    cases: dict[str, tuple[int, int, list[bytes], list[bytes]]] = {
        "another leaf": (7, 3, [leaves[3], leaves[5], leaves[5]], proof),
        "leaves in another order": (7, 3, [leaves[4], leaves[3], leaves[5]], proof),
        "a leaf fewer": (7, 3, chosen[:-1], proof),
        "a leaf more": (7, 3, leaves[3:7], proof),
        "another start": (7, 2, chosen, proof),
        "a start one later": (7, 4, chosen, proof),
        "a negative start": (7, -1, chosen, proof),
        "a start at the count": (7, 7, chosen, proof),
        "beyond the count": (5, 3, chosen, proof),
        "another count": (6, 3, chosen, proof),
        "another count of the same shape": (8, 3, chosen, proof),
        "no leaf": (7, 3, [], proof),
        "no leaf and no node": (7, 3, [], []),
        "a node too few": (7, 3, chosen, proof[:-1]),
        "a node too many": (7, 3, chosen, [*proof, proof[-1]]),
        "nodes in another order": (7, 3, chosen, [proof[1], proof[0], proof[2]]),
        "a node changed": (7, 3, chosen, [proof[0], proof[1], bytes(32)]),
        "a node of 31 bytes": (7, 3, chosen, [proof[0][:-1], *proof[1:]]),
        "a node of 33 bytes": (7, 3, chosen, [proof[0] + b"\x00", *proof[1:]]),
        "the tail, with a node for what is not there": (7, 5, tail, [tail_proof[0], bytes(32), *tail_proof[1:]]),
        "the tail, short of a leaf": (7, 5, tail[:1], tail_proof),
        "all of it, with a node": (7, 0, leaves, [bytes(32)]),
        "all of it, one leaf twice": (8, 0, [*leaves, leaves[6]], []),
        "an inner node sold as a leaf": (4, 2, [pair[0] + pair[1]], [book.list_top(leaves[6:]), proof[2]]),
    }  # fmt: skip
    listed = []
    for name, (count, start, given, nodes) in cases.items():
        assert not range_holds(root, count, start, given, nodes), name
        listed.append(
            {
                "name": name,
                "count": count,
                "start": start,
                "leaves": [content.hex() for content in given],
                "proof": [node.hex() for node in nodes],
            }
        )
    return {"root": root.hex(), "cases": listed}
