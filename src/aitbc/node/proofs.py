"""Answers that carry their own proof: records of the state and ancestors of the head. docs/spec/rpc.md"""

from typing import Any

from aitbc.core.codec.views import certificate_to_plain, header_to_plain
from aitbc.core.crypto.indexed_tree import TreeProof
from aitbc.core.crypto.mountains import proof_places
from aitbc.core.executor import Executor
from aitbc.core.ledger.state import root_of_stores
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.ports import StorageError, Store, StoredHead

Json = dict[str, Any]
ATTEMPTS = 5
"""A block may become the head while a proof is made; more than a few in a row cannot."""


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
    raise Rejected(Reason.MEMPOOL_FULL, "the head moves faster than proofs are made: try again")


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
