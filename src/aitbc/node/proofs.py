"""Answers that carry their own proof: records of the state, ancestors of the head, and why a block is final.
docs/spec/rpc.md
"""

from http import HTTPStatus
from typing import Any

from aitbc.adapters.http.problems import Problem
from aitbc.core.codec.digests import validators_hash
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import certificate_to_plain, header_to_plain
from aitbc.core.crypto.indexed_tree import TreeProof
from aitbc.core.crypto.mountains import proof_places
from aitbc.core.executor import Executor
from aitbc.core.ledger.state import root_of_stores
from aitbc.core.types.blocks import Validator
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.ports import StorageError, Store, StoredHead

Json = dict[str, Any]
ATTEMPTS = 5
"""A block may become the head while a proof is made; more than a few in a row cannot."""
MAX_FINALITY_HEADERS = 64
NOBODY = validators_hash([])
"""A block is mostly final by its own certificate, sometimes by one a few blocks above it. Whoever checks an answer
bounds it by the same number (docs/spec/light.md)."""


def prove_record(executor: Executor, store: Store, name: str, key: str, height: int | None) -> Json:
    """A record, or its absence, in the state of a block; runs on the executor's thread."""
    for _ in range(ATTEMPTS):
        head = executor.head.block.header.height
        wanted = head if height is None else height
        if wanted > head:
            raise Rejected(Reason.OUT_OF_RANGE, f"height {wanted} is above the head at {head}")
        made = executor.prove(name, key, height=wanted)
        block = store.head_at(wanted)
        if block is None:
            raise StorageError(f"block {wanted} is not on disk")
        if root_of_stores(made.store_roots) == block.header.state_root:
            return {
                **_head(block),
                "store": name,
                "key": key,
                "storeRoots": {store: root.hex() for store, root in made.store_roots.items()},
                **_leaf(made.proof),
            }
    raise Rejected(Reason.TOO_BUSY, "the head moves faster than proofs are made: try again")


def prove_ancestor(executor: Executor, store: Store, height: int) -> Json:
    """That the block at a height is an ancestor of the head."""
    head = store.head_at(executor.head.block.header.height)
    old = store.head_at(height)
    if head is None or old is None or height >= head.header.height:
        raise Rejected(Reason.OUT_OF_RANGE, f"no block {height} below the head")
    places = proof_places(height, head.header.height)
    return {
        "header": header_to_plain(old.header, old.hash),
        "head": header_to_plain(head.header, head.hash),
        "certificate": certificate_to_plain(head.certificate) if head.certificate else None,
        "count": head.header.height,
        "nodes": [node.hex() for node in store.history_nodes(places)],
    }


def prove_final(executor: Executor, store: Store, height: int) -> Json:
    """Why the block at a height is final: the headers from it up to the first one that has a certificate, and the set
    that signed. A certificate covers the blocks of its own epoch only, so the headers do not leave it."""
    if executor.loaded.genesis.consensus.work is not None:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            "no_certificate",
            "blocks of this chain are final by depth, not by certificates",
            "see `final` and `confirmations` in /rpc/getBlock",
        )
    epoch_length = executor.loaded.genesis.consensus.epoch_length
    epoch = _decided_epoch(height, epoch_length)
    last = min(height + MAX_FINALITY_HEADERS - 1, (epoch + 1) * epoch_length)
    headers = []
    for at in range(height, last + 1):
        block = store.head_at(at)
        if block is None:
            break
        headers.append(header_to_plain(block.header, block.hash))
        if block.certificate is not None:
            return {
                "headers": headers,
                "certificate": certificate_to_plain(block.certificate),
                "validators": _members(_set_of_epoch(store, epoch, epoch_length)),
            }
    if not headers:
        raise unknown_block(executor, height)
    raise Problem(
        HTTPStatus.NOT_FOUND,
        "no_certificate",
        f"none of the {len(headers)} blocks from {height} on has a certificate",
        "ask for the finality of a later block, and for the way to this one at /rpc/proof/history",
    )


def validators_at(executor: Executor, store: Store, height: int | None) -> Json:
    """The set that decides the block at a height, by default the next one."""
    head, epoch_length = executor.head.block.header.height, executor.loaded.genesis.consensus.epoch_length
    wanted = head + 1 if height is None else height
    epoch, running = _decided_epoch(wanted, epoch_length), head // epoch_length
    if epoch > running:
        raise Rejected(
            Reason.OUT_OF_RANGE,
            f"who decides block {wanted} follows from block {epoch * epoch_length}; the head is at height {head}",
        )
    return {"epoch": epoch, "items": _members(_set_of_epoch(store, epoch, epoch_length))}


def unknown_block(executor: Executor, name: int | str) -> Problem:
    head = executor.head.block.header.height
    return Problem(
        HTTPStatus.NOT_FOUND,
        "unknown_block",
        f"no block {name}; the head is at height {head}",
        "check the id; it may not be final yet",
    )


def _decided_epoch(height: int, epoch_length: int) -> int:
    """docs/spec/epochs.md; nobody votes for block 0."""
    if height == 0:
        raise Rejected(Reason.OUT_OF_RANGE, "block 0 follows from genesis.json; no vote decides it")
    return (height - 1) // epoch_length


def _set_of_epoch(store: Store, epoch: int, epoch_length: int) -> list[Validator]:
    """The set that the epoch's base block names."""
    base = store.head_at(epoch * epoch_length)
    if base is not None and base.header.next_validators_hash == NOBODY:
        return []  # work agrees
    members = store.validators(base.header.next_validators_hash) if base else None
    if members is None:
        raise StorageError(f"the validators of epoch {epoch} are not on disk")
    return members


def _members(validators: list[Validator]) -> list[Json]:
    return [{"address": v.address, "pubkey": key_to_text(v.auth_key), "power": v.power} for v in validators]


def _head(block: StoredHead) -> Json:
    return {
        "header": header_to_plain(block.header, block.hash),
        "certificate": certificate_to_plain(block.certificate) if block.certificate else None,
    }


def _leaf(proof: TreeProof) -> Json:
    return {
        "leaf": {
            "index": proof.index,
            "count": proof.count,
            "key": proof.key.decode(),
            "value": proof.value.hex(),
            "next": proof.next_key.decode(),
        },
        "groups": [[node.hex() for node in group] for group in proof.groups],
    }
