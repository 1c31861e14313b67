"""Complete a receipt file from a node: the claim that somebody else has sent, or how its block became final.
docs/spec/receipts.md
"""

from time import monotonic
from typing import Any

from aitbc.client.errors import ApiError
from aitbc.client.jobs import final_claim, finality_from_genesis
from aitbc.client.node import NodeClient
from aitbc.client.verify import verify_bundle

Json = dict[str, Any]


def find_claim(node: NodeClient, bundle: Json, *, timeout: float) -> Json:
    """The claim with its proofs, checked against the receipt file it is for; raises ApiError."""
    deadline = monotonic() + timeout
    receipt_id = bundle["receipt_id"]
    claim_tx = (node.receipt(receipt_id) or {}).get("txHash")
    if not isinstance(claim_tx, str) or not _claims(node.transaction(claim_tx), receipt_id):
        raise ApiError(
            "proof_missing",
            f"the node names nothing that paid {receipt_id}",
            "ask another with --rpc",
        )
    left = max(0.0, deadline - monotonic())
    claim = final_claim(node, claim_tx, left, genesis=bundle["genesis"])
    for check in verify_bundle({**bundle, "claim": claim}):
        if not check.ok:
            raise ApiError(
                "proof_missing", f"the node's proof does not hold: {check.message}", "ask another with --rpc"
            )
    return claim


def with_finality(node: NodeClient, bundle: Json) -> Json:
    """A receipt file of right form, with the way from its genesis to the certificate of its claim's block."""
    claim = {name: value for name, value in bundle["claim"].items() if name != "certificate"}
    proof = finality_from_genesis(node, bundle["genesis"], claim["header"]["height"])
    return {**bundle, "claim": {**claim, "finality": proof["finality"], "epochs": proof["epochs"]}}


def _claims(answer: Json, receipt_id: str) -> bool:
    """Does this pay the receipt, by its word? Which leaf of a SETTLE it is is looked at with the proofs."""
    tx = answer.get("tx") or {}
    claims = tx.get("type") == "RECEIPT_CLAIM" and tx.get("payload", {}).get("receipt_id") == receipt_id
    return answer.get("status") == "final" and (claims or tx.get("type") == "SETTLE")
