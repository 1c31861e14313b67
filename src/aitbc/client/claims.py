"""Find the claim of a receipt that somebody else has claimed, so that a receipt file can be completed.

A node knows that a receipt was claimed but not where, so its blocks are read from the escrow's on: the claim
cannot be earlier. docs/spec/receipts.md
"""

from time import monotonic
from typing import Any

from aitbc.client.errors import ApiError, TimedOut
from aitbc.client.jobs import final_claim
from aitbc.client.node import NodeClient
from aitbc.client.verify import verify_bundle

Json = dict[str, Any]


def find_claim(node: NodeClient, bundle: Json, *, timeout: float) -> Json:
    """The claim with its proofs, checked against the receipt file it is for."""
    deadline = monotonic() + timeout
    claim_tx = _find(
        node, bundle["receipt_id"], _height_of_lock(node, bundle["core"].get("lock", "")), deadline
    )
    claim = final_claim(node, claim_tx, max(0.0, deadline - monotonic()))
    for check in verify_bundle({**bundle, "claim": claim}):
        if not check.ok:
            raise ApiError(
                "proof_missing", f"the node's proof does not hold: {check.message}", "ask another with --rpc"
            )
    return claim


def _height_of_lock(node: NodeClient, lock: str) -> int:
    """Where to begin; a receipt without a lock is synthetic and can be anywhere."""
    if not lock:
        return 1
    height = node.transaction(lock).get("height")
    if not isinstance(height, int):
        raise ApiError("proof_missing", f"the node does not know escrow {lock}", "ask another with --rpc")
    return height


def _find(node: NodeClient, receipt_id: str, first: int, deadline: float) -> str:
    last = node.head()["height"]
    for height in range(first, last + 1):
        for tx_id in node.block(height)["txs"]:
            if _claims(node.transaction(tx_id), receipt_id):
                return str(tx_id)
            if monotonic() > deadline:
                raise TimedOut(
                    f"the claim is not in the blocks {first} to {height} of {last}",
                    "allow more with --timeout",
                )
    raise ApiError("proof_missing", f"the node has no claim of {receipt_id}", "ask another with --rpc")


def _claims(answer: Json, receipt_id: str) -> bool:
    """Is this the good claim of the receipt? Failed ones may be there too."""
    tx = answer.get("tx") or {}
    return (
        answer.get("status") == "final"
        and tx.get("type") == "RECEIPT_CLAIM"
        and tx.get("payload", {}).get("receipt_id") == receipt_id
    )
