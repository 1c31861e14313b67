"""What the hub asks of the chain, and the check of a client's lock. Nothing is dispatched on less than a final lock."""

import asyncio
import time
from typing import Any, NamedTuple, Protocol, TypeVar

from aitbc.client.errors import ApiError, ClientError
from aitbc.client.http import Call
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.transactions import Transaction

Json = dict[str, Any]
T = TypeVar("T")

UNKNOWN_TX_PAUSE_S = 0.1
"""A client may announce its lock before its node has told ours."""


class Chain(Protocol):
    """The part of `aitbc.client.node.AsyncNodeClient` that a hub uses."""

    async def genesis(self) -> Json: ...

    async def head(self) -> Json: ...

    async def lock(self, lock_id: str) -> Json | None: ...

    async def account(self, address: str) -> Json: ...

    async def send(self, tx: Transaction) -> str: ...

    async def transaction(
        self, tx_id: str, wait: str | None = None, timeout: float = 10, proof: bool = False
    ) -> Json: ...

    async def receipt(self, receipt_id: str) -> Json | None: ...

    async def registration(self, role: str, address: str) -> Json | None: ...

    async def estimate_fee(self, type: str, payload: Json) -> int: ...

    async def perform(self, call: Call[T]) -> T: ...

    async def close(self) -> None: ...


class FinalTransaction(NamedTuple):
    """A transaction that is in a final block, and did what it says."""

    id: str
    type: str
    sender: str
    payload: Json
    block_hash: bytes
    """Randomness of the draw."""


async def final_lock(chain: Chain, lock_id: str, *, wait_s: float) -> FinalTransaction:
    """The lock, as soon as it is final; refuses one that failed or is not final in time."""
    tx = await final_transaction(chain, lock_id, wait_s=wait_s)
    if tx.type != "JOB_LOCK":
        raise Refused(JobReason.LOCK_MISMATCH, f"transaction {lock_id} is a {tx.type}, not a JOB_LOCK"[:300])
    return tx


async def final_transaction(chain: Chain, lock_id: str, *, wait_s: float) -> FinalTransaction:
    """The same for any transaction that moves money to this hub."""
    deadline = time.monotonic() + wait_s
    while True:
        left = deadline - time.monotonic()
        answer = await _transaction(chain, lock_id, max(0.0, left))
        status = answer["status"] if answer else "unknown"
        if answer and status in ("final", "failed") and answer.get("final", True):
            return _transaction_of(lock_id, answer)
        if left <= UNKNOWN_TX_PAUSE_S:
            raise Refused(
                JobReason.LOCK_NOT_FINAL, f"lock {lock_id} is {status}; nothing starts before it is final"
            )
        if answer is None:
            await asyncio.sleep(UNKNOWN_TX_PAUSE_S)


async def _transaction(chain: Chain, tx_id: str, wait_s: float) -> Json | None:
    try:
        return await chain.transaction(tx_id, wait="final", timeout=wait_s, proof=True)
    except ApiError as error:
        if error.code == "unknown_transaction":
            return None
        raise unreachable(error) from error
    except ClientError as error:
        raise unreachable(error) from error


def unreachable(error: ClientError) -> Refused:
    """The node cannot help at the moment; the client may ask again."""
    return Refused(JobReason.CHAIN_UNREACHABLE, f"the hub's node gave no answer: {error.message}"[:300])


def _transaction_of(lock_id: str, answer: Json) -> FinalTransaction:
    outcome = answer.get("receipt") or {}
    if answer["status"] == "failed" or outcome.get("status") == "failed":
        why = outcome.get("message") or outcome.get("reason") or "the chain refused it"
        raise Refused(JobReason.LOCK_FAILED, f"lock {lock_id} has failed: {why}"[:300])
    tx = answer["tx"]
    block_hash = bytes.fromhex(answer["proof"]["header"]["hash"])
    return FinalTransaction(lock_id, tx["type"], tx["sender"], tx["payload"], block_hash)


def check_lock(lock: FinalTransaction, *, client: str, terms: Json) -> None:
    """Refuse a lock that is not what the quote asked for. More money than asked is the client's own affair."""
    if lock.sender != client:
        raise Refused(JobReason.LOCK_MISMATCH, f"sender is {lock.sender}, the quote is for {client}")
    for name in ("hub", "job_id", "request_hash", "deliver_by_ms", "claim_until_ms"):
        if lock.payload.get(name) != terms[name]:
            raise Refused(
                JobReason.LOCK_MISMATCH,
                f"{name} is {lock.payload.get(name)!r}, the quote says {terms[name]!r}"[:300],
            )
    if lock.payload.get("session", False):
        raise Refused(JobReason.LOCK_MISMATCH, "a session pays for an account's jobs, not for a quote")
    if lock.payload.get("amount", 0) < terms["amount"]:
        raise Refused(
            JobReason.LOCK_MISMATCH,
            f"amount: the lock holds {format_ait(lock.payload.get('amount', 0))},"
            f" the quote asks {format_ait(terms['amount'])}",
        )
