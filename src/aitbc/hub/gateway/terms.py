"""How an account pays this hub: what an answer 402 says. docs/spec/accounts.md"""

from typing import TYPE_CHECKING, Any

from aitbc.core.jobs.reasons import JobReason
from aitbc.core.types.receipts import MAX_TASKS

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

UNPAID = frozenset({JobReason.PAYMENT_REQUIRED, JobReason.BUDGET_EXCEEDED})


def payment_terms(hub: "Hub") -> dict[str, Any]:
    """Three ways, each complete: a deposit, a lock for many jobs, a lock for one job."""
    return {
        "hub": hub.signer.address,
        "chain_id": hub.chain_id,
        "genesis_hash": hub.genesis_hash.hex(),
        "unit": "base units; 1,000,000 are 1 AIT",
        "ways": [
            {
                "way": "deposit",
                "transaction": {"type": "TRANSFER", "payload": {"to": hub.signer.address, "amount": "…"}},
                "then": 'POST /v1/account/deposits {"tx": "<id>"}, signed by the sender',
            },
            {
                "way": "session",
                "transaction": {
                    "type": "JOB_LOCK",
                    "payload": {
                        "hub": hub.signer.address,
                        "job_id": "<any name>",
                        "amount": "…",
                        "request_hash": "sha256:" + "0" * 64,
                        "deliver_by_ms": "<end of the last job>",
                        "claim_until_ms": "<deliver_by_ms and at least 60,000 more>",
                        "tasks": MAX_TASKS,
                        "session": True,
                    },
                },
                "then": 'POST /v1/account/deposits {"tx": "<id>"}, signed by the sender',
            },
            {"way": "lock", "then": "POST /v1/quotes: a JOB_LOCK for this one job, no account needed"},
        ],
    }
