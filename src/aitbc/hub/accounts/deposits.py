"""Money that comes to an account by the chain: a TRANSFER to the hub, or a session lock of the account's own."""

from typing import TYPE_CHECKING, Any

from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.accounts import ledger
from aitbc.hub.accounts.records import Session
from aitbc.hub.chain import FinalTransaction, final_transaction

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

LEAST_CLAIM_MS = 60_000
"""Between a session's last delivery and its claim time: a claim, or a batch and its settlement, need some blocks."""


async def take_deposit(hub: "Hub", tx_id: str, *, account: str) -> tuple[int, bool]:
    """(amount, was it new). Refuses what is not final, not for this hub, or not sent by the account's address."""
    tx = await final_transaction(hub.chain, tx_id, wait_s=hub.config.lock_wait_s)
    if tx.sender != account:
        raise Refused(JobReason.DEPOSIT_MISMATCH, f"{tx_id} was sent by {tx.sender}, not by {account}")
    match tx.type:
        case "TRANSFER":
            return await _take_transfer(hub, tx)
        case "JOB_LOCK":
            return await _take_session(hub, tx)
        case _:
            raise Refused(JobReason.DEPOSIT_MISMATCH, f"{tx_id} is a {tx.type}, no TRANSFER and no JOB_LOCK")


async def _take_transfer(hub: "Hub", tx: FinalTransaction) -> tuple[int, bool]:
    amount = int(tx.payload["amount"])
    _check(tx, "to", hub.signer.address)
    event = ledger.deposited(tx_id=tx.id, account=tx.sender, amount=amount)
    new = await hub.accounts.db(hub.accounts.store.post, event, at_ms=hub.now_ms())
    hub.accounts.keeper.needed = True
    return amount, new


async def _take_session(hub: "Hub", tx: FinalTransaction) -> tuple[int, bool]:
    """Its places and its money serve this account's jobs only; nobody but the chain ever has the money."""
    payload = tx.payload
    _check(tx, "hub", hub.signer.address)
    _check(tx, "session", True)
    if payload["claim_until_ms"] - payload["deliver_by_ms"] < LEAST_CLAIM_MS:
        raise Refused(
            JobReason.DEPOSIT_MISMATCH,
            f"claim_until_ms must be at least {LEAST_CLAIM_MS} ms after deliver_by_ms",
        )
    session = Session(
        lock=tx.id,
        owner=tx.sender,
        client=tx.sender,
        amount=int(payload["amount"]),
        committed=0,
        places=int(payload.get("tasks", 1)),
        next_place=0,
        deliver_by_ms=int(payload["deliver_by_ms"]),
        claim_until_ms=int(payload["claim_until_ms"]),
        randomness=tx.block_hash,
        state="open",
    )
    new = await hub.accounts.db(hub.accounts.store.add_session, session, at_ms=hub.now_ms())
    return session.amount, new


def _check(tx: FinalTransaction, name: str, wanted: Any) -> None:
    if tx.payload.get(name) != wanted:
        raise Refused(
            JobReason.DEPOSIT_MISMATCH, f"{name} of {tx.id} is {tx.payload.get(name)!r}, not {wanted!r}"[:300]
        )
