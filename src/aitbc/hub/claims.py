"""Carries attested receipts to the chain: RECEIPT_CLAIM with retry and back-off, until paid or until it is too late.

The provider holds the same papers and may claim first; that is as good. docs/spec/receipts.md
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aitbc.client.errors import ApiError, ClientError
from aitbc.client.transactions import build_transaction, checked_fee, claim_witness, receipt_claim_payload
from aitbc.core.codec.digests import transaction_id
from aitbc.core.jobs.lifecycle import Event
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.types.reasons import Reason
from aitbc.hub.records import ReceiptEntry

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

FINAL_WAIT_S = 30
"""A claim that is not final after so long is looked at again."""

_STALE_NONCE = frozenset({Reason.BAD_NONCE, Reason.NONCE_GAP, Reason.REPLACEMENT_FEE_TOO_LOW})
"""Another transaction of this account was there first: ask the chain for the nonce."""
_HOPELESS = frozenset({Reason.CLAIM_TOO_LATE, Reason.LOCK_CLOSED, Reason.TASK_ALREADY_PAID})
"""No later claim of this receipt can succeed."""


class ClaimWorker:
    """One task per open receipt, a bounded number of them sending at a time."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Semaphore(hub.config.claims_in_flight)
        self._nonce_lock = asyncio.Lock()
        self._next_nonce: int | None = None
        self._newest: dict[str, str] = {}
        """The newest claim of each open receipt, by receipt; written down before it is sent."""

    @property
    def open(self) -> int:
        return len(self._tasks)

    def add(self, entry: ReceiptEntry) -> None:
        task = asyncio.create_task(self._settle(entry), name=entry.receipt_id)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("claim of %s rests until the next start", task.get_name(), exc_info=task.exception())

    async def stop(self) -> None:
        """What is not settled is on disk and goes on with the next run."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _settle(self, entry: ReceiptEntry) -> None:
        """Try until the chain has paid or refuses for good. Every pause is twice the last, with jitter."""
        config = self._hub.config
        pause_s = config.claim_retry_least_s
        self._newest[entry.receipt_id] = entry.claim_tx
        while True:
            try:
                async with self._sending:
                    end = await self._try_once(entry)
                if end is not None:
                    await self._close(entry, *end)
                    return
            except ClientError as error:
                log.warning("claim of %s: %s", entry.receipt_id, error.message)
            if self._hub.now_ms() > entry.claim_until_ms + FINAL_WAIT_S * 1000:
                await self._close(entry, "lapsed", "the chain did not take the claim in time")
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311  (jitter, not a secret)
            pause_s = min(2 * pause_s, config.claim_retry_most_s)

    async def _try_once(self, entry: ReceiptEntry) -> tuple[str, str] | None:
        """How it ended, or None to try again. A claim that failed since another paid is no claim."""
        claim_tx = self._newest[entry.receipt_id]
        if not claim_tx or not await self._is_known(claim_tx):
            if claim_tx and await self._is_paid(entry):
                return self._paid_by_another(entry)
            claim_tx = await self._send(entry)
        answer = await self._hub.chain.transaction(claim_tx, wait="final", timeout=FINAL_WAIT_S)
        outcome: dict[str, Any] = answer.get("receipt") or {}
        if answer["status"] == "final" and outcome.get("status") != "failed":
            return ("claimed", "")
        if answer["status"] == "pending":
            self._next_nonce = None  # perhaps it waits for a nonce that was lost
            return None
        reason = outcome.get("reason", "")
        if reason == Reason.RECEIPT_ALREADY_CLAIMED or await self._is_paid(entry):
            return self._paid_by_another(entry)
        if reason in _HOPELESS:
            return ("lapsed", f"{reason}: {outcome.get('message', '')}"[:500])
        log.warning("claim of %s has failed: %s", entry.receipt_id, reason)
        self._newest[entry.receipt_id] = ""
        return None

    def _paid_by_another(self, entry: ReceiptEntry) -> tuple[str, str]:
        self._newest[entry.receipt_id] = ""
        return ("claimed", "")

    async def _is_known(self, claim_tx: str) -> bool:
        """Has the node heard of a claim that was sent earlier, perhaps by an earlier run?"""
        try:
            await self._hub.chain.transaction(claim_tx)
        except ApiError as error:
            if error.code != "unknown_transaction":
                raise
            return False
        return True

    async def _is_paid(self, entry: ReceiptEntry) -> bool:
        return await self._hub.chain.receipt(entry.receipt_id) is not None

    async def _send(self, entry: ReceiptEntry) -> str:
        """One claim at a time gets a nonce."""
        payload = receipt_claim_payload(
            core=entry.delivery.core, receipt_id=entry.receipt_id, provider_sig=entry.delivery.sig
        )
        fee = await self._fee(payload)
        async with self._nonce_lock:
            try:
                await self._send_with_nonce(entry, payload, fee)
            except ClientError as error:
                self._next_nonce = None
                if error.code not in _STALE_NONCE:
                    raise
                await self._send_with_nonce(entry, payload, fee)
        return self._newest[entry.receipt_id]

    async def _fee(self, payload: dict[str, Any]) -> int:
        """What the node asks for a claim; a node that asks too much is not believed."""
        asked = await self._hub.chain.estimate_fee("RECEIPT_CLAIM", payload)
        return checked_fee(asked, "RECEIPT_CLAIM", self._hub.config.max_fee)

    async def _send_with_nonce(self, entry: ReceiptEntry, payload: dict[str, Any], fee: int) -> None:
        """The id is on disk first: when the node's answer is lost, this claim is looked for before another is made."""
        hub = self._hub
        if self._next_nonce is None:
            account = await hub.chain.account(hub.signer.address)
            self._next_nonce = int(account["nextNonce"])
        tx = build_transaction(
            "RECEIPT_CLAIM",
            payload,
            signer=hub.signer,
            nonce=self._next_nonce,
            fee=fee,
            genesis_hash=hub.genesis_hash,
            witness=claim_witness(entry.signed),
        )
        claim_tx = transaction_id(tx, hub.genesis_hash).hex()
        self._newest[entry.receipt_id] = claim_tx
        await hub.db(hub.store.set_claim_tx, entry.receipt_id, claim_tx)
        await hub.chain.send(tx)
        self._used(tx.nonce)

    def _used(self, nonce: int) -> None:
        """The next one follows, unless somebody has asked for a look at the chain meanwhile."""
        if self._next_nonce == nonce:
            self._next_nonce = nonce + 1

    async def send_own(
        self,
        type: str,
        payload: dict[str, Any],
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> str:
        """Another transaction of the hub's, with the nonce that comes next; its id. `before` hears the id first."""
        hub = self._hub
        asked = await hub.chain.estimate_fee(type, payload)
        fee = checked_fee(asked, type, hub.config.max_fee)
        async with self._nonce_lock:
            if self._next_nonce is None:
                account = await hub.chain.account(hub.signer.address)
                self._next_nonce = int(account["nextNonce"])
            tx = build_transaction(
                type,
                payload,
                signer=hub.signer,
                nonce=self._next_nonce,
                fee=fee,
                genesis_hash=hub.genesis_hash,
            )
            tx_id = transaction_id(tx, hub.genesis_hash).hex()
            if before is not None:
                await before(tx_id)
            try:
                await hub.chain.send(tx)
            except ClientError:
                self._next_nonce = None
                raise
            self._used(tx.nonce)
        return tx_id

    async def _close(self, entry: ReceiptEntry, how: str, message: str) -> None:
        paid = how == "claimed"
        reason = "" if paid else JobReason.CLAIM_LAPSED
        event = Event.CLAIMED if paid else Event.TIMER_FIRED
        if not paid:
            log.error("receipt %s was not paid: %s", entry.receipt_id, message)
        hub = self._hub
        state = hub.jobs.settled(entry.job_id, event=event, reason=reason, message=message)
        await hub.db(
            hub.store.close_receipt,
            entry.receipt_id,
            receipt_state=how,
            job_state=state,
            claim_tx=self._newest.pop(entry.receipt_id),
            reason=reason,
            message=message,
            at_ms=hub.now_ms(),
        )
