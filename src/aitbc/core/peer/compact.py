"""A block told by its header and short names of its transactions: whoever holds them puts it together again.
docs/spec/p2p.md "Compact blocks", docs/adr/0016-compact-candidates.md

A short name is six bytes under a key that is the block's hash, so nobody but the block's leader can prepare two
transactions that share one. Whatever a list says, a block counts only when its transactions give its `txs_root`: a
wrong list, a collision or a wrong answer costs the way to the whole block, nothing else.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from aitbc.core.codec.digests import wid_of
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.merkle import list_root
from aitbc.core.peer.kinds import MAX_FILLED
from aitbc.core.types.blocks import MAX_BLOCK_TXS, Block, Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction, VerifiedTransaction

SHORT = 6
"""Bytes of a short name, as in BIP-152: 20,000 names against 70,000 known transactions meet by chance once in
200,000 blocks."""
MAX_GIVEN = 4_096
MAX_GIVEN_BYTES = 1024 * 1024
"""Transactions in full that go with the names: everybody is sent them by several peers, the rest is asked for once."""

Position = Annotated[int, msgspec.Meta(ge=0, lt=MAX_BLOCK_TXS)]


class Given(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A transaction in full, because nobody else can have it yet."""

    position: Position
    tx: Transaction


class CompactBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    header: Header
    names: bytes
    """Short names of the transactions that are not given, in block order, joined."""
    given: Annotated[list[Given], msgspec.Meta(max_length=MAX_GIVEN)]
    """In block order."""

    @property
    def count(self) -> int:
        """Transactions of the block."""
        return len(self.names) // SHORT + len(self.given)


class Puzzle(msgspec.Struct, frozen=True):
    """A block of which some transactions may be missing."""

    header: Header
    txs: list[Transaction | None]
    wids: list[bytes]
    """Of the transactions that are here."""
    missing: list[int]
    """Positions, ascending."""


def compacted(
    block: Block, block_hash: bytes, *, wids: Sequence[bytes], fresh: Collection[bytes]
) -> CompactBlock:
    """A block for peers that hold its transactions but for the `fresh` ones, which go along as far as there is room."""
    assert len(wids) == len(block.txs), "one for each transaction"
    given: list[Given] = []
    room = MAX_GIVEN_BYTES
    for position, (tx, wid) in enumerate(zip(block.txs, wids, strict=True)):
        if wid in fresh and len(given) < MAX_GIVEN:
            room -= len(pack(tx))
            if room < 0:
                break
            given.append(Given(position, tx))
    in_full = {one.position for one in given}
    named = [wid for position, wid in enumerate(wids) if position not in in_full]
    return CompactBlock(block.header, b"".join(_short_names(block_hash, named)), given)


def check_compact(compact: CompactBlock) -> None:
    """Is it a list that somebody honest can have made? Raises Rejected; no transaction is looked at before."""
    if len(compact.names) % SHORT:
        raise Rejected(Reason.MALFORMED, f"{len(compact.names)} bytes of names of {SHORT} bytes each")
    if compact.count > MAX_BLOCK_TXS:
        raise Rejected(Reason.TOO_LARGE, f"{compact.count} transactions; at most {MAX_BLOCK_TXS}")
    last = -1
    for one in compact.given:
        if not last < one.position < compact.count:
            raise Rejected(Reason.MALFORMED, f"position {one.position} of {compact.count} after {last}")
        last = one.position


def pieced_together(
    compact: CompactBlock, block_hash: bytes, *, known: Sequence[VerifiedTransaction], genesis_hash: bytes
) -> Puzzle:
    """What of a checked list is here. A name that two known transactions share, or two places of the list, is asked
    for. Raises Rejected when a given transaction has no bytes."""
    txs: list[Transaction | None] = [None] * compact.count
    wids = [b""] * compact.count
    for one in compact.given:
        txs[one.position] = one.tx
        wids[one.position] = wid_of(one.tx, genesis_hash)
    open_places = [position for position, tx in enumerate(txs) if tx is None]
    names = [compact.names[at : at + SHORT] for at in range(0, len(compact.names), SHORT)]
    place_of = dict(zip(names, open_places, strict=True))
    if len(place_of) < len(names):
        often = Counter(names)
        place_of = {name: place for name, place in place_of.items() if often[name] == 1}
    shared: set[int] = set()
    for tx, name in zip(known, _short_names(block_hash, [tx.wid for tx in known]), strict=True):
        place = place_of.get(name)
        if place is None or wids[place] == tx.wid:
            continue
        if wids[place]:
            shared.add(place)
        txs[place], wids[place] = tx.tx, tx.wid
    for place in shared:
        txs[place], wids[place] = None, b""
    missing = [position for position, tx in enumerate(txs) if tx is None]
    return Puzzle(compact.header, txs, wids, missing)


def filled(puzzle: Puzzle, txs: Sequence[Transaction], *, genesis_hash: bytes) -> Puzzle:
    """The puzzle with its missing transactions, as somebody sent them, in order. Raises Rejected for one that has no
    bytes."""
    assert len(txs) == len(puzzle.missing), "one for each place"
    whole, wids = list(puzzle.txs), list(puzzle.wids)
    for position, tx in zip(puzzle.missing, txs, strict=True):
        whole[position], wids[position] = tx, wid_of(tx, genesis_hash)
    return Puzzle(puzzle.header, whole, wids, [])


def block_of(puzzle: Puzzle) -> Block | None:
    """The block, when nothing is missing and these are the transactions that its header names; else None."""
    txs = [tx for tx in puzzle.txs if tx is not None]
    if len(txs) < len(puzzle.txs) or list_root(puzzle.wids) != puzzle.header.txs_root:
        return None
    return Block(puzzle.header, txs)


def can_be_asked(puzzle: Puzzle) -> bool:
    """Is asking for what is missing less than asking for the whole block?"""
    return 0 < len(puzzle.missing) <= MAX_FILLED


def ascending(positions: Sequence[int]) -> bool:
    """As `Puzzle.missing` is: each place once, in order."""
    return all(left < right for left, right in pairwise(positions))


def _short_names(block_hash: bytes, wids: Sequence[bytes]) -> list[bytes]:
    """AES is a keyed function of sixteen bytes that costs nothing here: each wid's first half is encrypted on its own,
    all in one call, so that equal halves have equal names."""
    cipher = Cipher(algorithms.AES(block_hash[:16]), modes.ECB())  # noqa: S305 - not to hide anything
    mixed = cipher.encryptor().update(b"".join(wids))
    return [mixed[at : at + SHORT] for at in range(0, len(mixed), 32)]
