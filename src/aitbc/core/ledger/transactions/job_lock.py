"""JOB_LOCK: a client sets money aside for the work of one hub; the seed's `client_payment_tx`. docs/spec/escrow.md"""

from typing import Annotated

import msgspec

from aitbc.core.crypto.address import check_address
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.minting import is_jailed
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.transactions.interface import Event, TransactionType
from aitbc.core.types.amounts import Amount, Milliseconds, format_ait
from aitbc.core.types.reasons import Failed, Reason
from aitbc.core.types.receipts import MAX_TASKS, HashText, Label
from aitbc.core.types.records import Lock
from aitbc.core.types.transactions import VerifiedTransaction


class JobLock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    hub: str
    job_id: Label
    amount: Amount
    request_hash: HashText
    deliver_by_ms: Milliseconds
    claim_until_ms: Milliseconds
    tasks: Annotated[int, msgspec.Meta(ge=1, le=MAX_TASKS)] = 1
    session: bool = False
    """Its tasks are receipts of many jobs; `job_id` is then a label only."""


def check(payload: JobLock, _witness: None, _genesis_hash: bytes) -> None:
    check_address(payload.hub)


def apply(context: BlockContext, state: Overlay, tx: VerifiedTransaction) -> list[Event]:
    payload, client = tx.payload, tx.tx.sender
    assert isinstance(payload, JobLock)
    _check_hub(context, state, payload.hub)
    _check_deadlines(context, payload)
    balance = state.account(client).balance
    if balance < payload.amount:
        raise Failed(
            Reason.INSUFFICIENT_BALANCE,
            f"{format_ait(payload.amount)} to lock, {format_ait(balance)} left after the fee",
        )
    state.debit(client, payload.amount)
    state.put("locks", tx.id.hex(), _open_lock(payload, client, context.height))
    return [("locked", tx.id.hex(), payload.amount)]


def _check_hub(context: BlockContext, state: Overlay, hub: str) -> None:
    if hub not in context.params.hubs and state.registration("hub", hub) is None:
        raise Failed(Reason.UNKNOWN_HUB, f"{hub} is neither listed nor registered as a hub")
    if context.version >= 2 and is_jailed(context, state, "hub", hub):
        raise Failed(Reason.JAILED, f"{hub} signed two different things about one attempt and is jailed")


def _check_deadlines(context: BlockContext, payload: JobLock) -> None:
    now = context.timestamp_ms
    if not now < payload.deliver_by_ms <= payload.claim_until_ms:
        raise Failed(
            Reason.DEADLINE_PASSED,
            f"needed: block time {now} < deliver_by_ms {payload.deliver_by_ms}"
            f" <= claim_until_ms {payload.claim_until_ms}",
        )
    if payload.claim_until_ms > now + context.params.max_lock_ms:
        raise Failed(Reason.DEADLINE_TOO_FAR, f"a lock may end at most {context.params.max_lock_ms} ms ahead")


def _open_lock(payload: JobLock, client: str, height: int) -> Lock:
    return Lock(
        client=client,
        hub=payload.hub,
        job_id=payload.job_id,
        amount=payload.amount,
        paid=0,
        tasks=payload.tasks,
        paid_tasks="0",
        request_hash=payload.request_hash,
        deliver_by_ms=payload.deliver_by_ms,
        claim_until_ms=payload.claim_until_ms,
        height=height,
        status="open",
        session=payload.session,
    )


def spends(payload: JobLock) -> int:
    return payload.amount


def form_since(payload: JobLock, _witness: None) -> int:
    return 2 if payload.session else 1


JOB_LOCK = TransactionType("JOB_LOCK", JobLock, check, apply, spends=spends, form_since=form_since)
