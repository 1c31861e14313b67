"""Carries attested receipts to the chain: many under one root when many came together, else one by one, with retry and
back-off, until paid or until it is too late.

The provider holds the same papers and may claim first; that is as good. docs/spec/receipts.md, docs/spec/batches.md
"""

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

from aitbc.client.errors import ApiError, ClientError
from aitbc.client.transactions import claim_witness, receipt_claim_payload
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.leaves import ROUTED
from aitbc.core.crypto.address import address_of
from aitbc.core.jobs.lifecycle import Event
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.types.reasons import Reason
from aitbc.hub.batches import Batcher
from aitbc.hub.records import ReceiptEntry
from aitbc.hub.sender import Sender

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

FINAL_WAIT_S = 30
"""A claim that is not final after so long is looked at again."""
TOO_CLOSE_MS = 30_000
"""A receipt that lapses sooner is claimed alone at once: a batch takes two transactions, one after the other."""

_HOPELESS = frozenset(
    {
        Reason.CLAIM_TOO_LATE,
        Reason.LOCK_CLOSED,
        Reason.TASK_ALREADY_PAID,
        Reason.CALIBRATION_OVER,
        Reason.WRONG_CALIBRATION,
        Reason.ALREADY_CALIBRATED,
    }
)
"""No later claim of this receipt can succeed."""


class ClaimWorker:
    """Gathers open receipts into batches; one task for each that is claimed alone, a bounded number at a time."""

    def __init__(self, hub: "Hub", sender: Sender) -> None:
        self._hub = hub
        self._sender = sender
        self._batcher = Batcher(hub, self, sender)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending = asyncio.Semaphore(hub.config.claims_in_flight)
        self._newest: dict[str, str] = {}
        """The newest claim of each open receipt, by receipt; written down before it is sent."""
        self._waiting: list[ReceiptEntry] = []
        """For a batch."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> int:
        return len(self._tasks) + len(self._waiting) + self._batcher.open

    def add(self, entry: ReceiptEntry) -> None:
        config = self._hub.config
        no_lock = entry.signed.attestation.routed not in ROUTED  # calibration
        rotated = (
            address_of(key_from_text(entry.provider_pubkey)) != entry.provider
        )  # a batch proves no such key
        if (
            no_lock
            or rotated
            or entry.claim_tx
            or entry.claim_until_ms < self._hub.now_ms() + TOO_CLOSE_MS + config.batch_s * 1000
        ):
            self.claim_alone(entry)
            return
        self._waiting.append(entry)
        if len(self._waiting) >= config.batch_most:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(config.batch_s, self._flush)

    def resume(self, entries: list[ReceiptEntry]) -> None:
        """What an earlier run owes; batches that it had begun go on."""
        batches: set[str] = set()
        for entry in entries:
            if entry.batch:
                batches.add(entry.batch)
            else:
                self.add(entry)
        for batch in sorted(batches):
            self._start(self._batcher.resume(batch), batch)

    def _flush(self) -> None:
        """Few are claimed one by one: a batch costs a transaction more, and the hub pays for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        entries, self._waiting = self._waiting, []
        if len(entries) < self._hub.config.batch_least:
            for entry in entries:
                self.claim_alone(entry)
        else:
            self._start(self._batcher.carry(entries), f"a batch of {len(entries)}")

    def claim_alone(self, entry: ReceiptEntry) -> None:
        self._start(self._settle(entry), entry.receipt_id)

    def _start(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("claim of %s rests until the next start", task.get_name(), exc_info=task.exception())

    async def stop(self) -> None:
        """What is not settled is on disk and goes on with the next run."""
        if self._timer is not None:
            self._timer.cancel()
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
                    claim_tx = self._newest.pop(entry.receipt_id)
                    await self.close(entry, *end, claim_tx=claim_tx or await self.payer_of(entry))
                    return
            except ClientError as error:
                log.warning("claim of %s: %s", entry.receipt_id, error.message)
            if self._hub.now_ms() > entry.claim_until_ms + FINAL_WAIT_S * 1000:
                message = "the chain did not take the claim in time"
                await self.close(entry, "lapsed", message, claim_tx=self._newest.pop(entry.receipt_id))
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311  (jitter, not a secret)
            pause_s = min(2 * pause_s, config.claim_retry_most_s)

    async def _try_once(self, entry: ReceiptEntry) -> tuple[str, str] | None:
        """How it ended, or None to try again. A claim that failed since another paid is no claim."""
        claim_tx = self._newest[entry.receipt_id]
        if not claim_tx or not await self.is_known(claim_tx):
            if claim_tx and await self._is_paid(entry):
                return self._paid_by_another(entry)
            claim_tx = await self._send(entry)
        answer = await self._hub.chain.transaction(claim_tx, wait="final", timeout=FINAL_WAIT_S)
        outcome: dict[str, Any] = answer.get("receipt") or {}
        if answer["status"] == "final" and outcome.get("status") != "failed":
            return ("claimed", "")
        if answer["status"] == "pending":
            self._sender.doubt()
            return None
        reason = outcome.get("reason", "")
        settled = entry.batch and reason == Reason.TASK_ALREADY_PAID
        if settled or reason == Reason.RECEIPT_ALREADY_CLAIMED or await self._is_paid(entry):
            return self._paid_by_another(entry)
        if reason in _HOPELESS:
            return ("lapsed", f"{reason}: {outcome.get('message', '')}"[:500])
        log.warning("claim of %s has failed: %s", entry.receipt_id, reason)
        self._newest[entry.receipt_id] = ""
        return None

    def _paid_by_another(self, entry: ReceiptEntry) -> tuple[str, str]:
        self._newest[entry.receipt_id] = ""
        return ("claimed", "")

    async def is_known(self, claim_tx: str) -> bool:
        """Has the node heard of a transaction that was sent earlier, perhaps by an earlier run?"""
        try:
            await self._hub.chain.transaction(claim_tx)
        except ApiError as error:
            if error.code != "unknown_transaction":
                raise
            return False
        return True

    async def _is_paid(self, entry: ReceiptEntry) -> bool:
        return await self._hub.chain.receipt(entry.receipt_id) is not None

    async def payer_of(self, entry: ReceiptEntry) -> str:
        """The transaction that paid a receipt, when it is not ours; empty when the node does not say."""
        try:
            record = await self._hub.chain.receipt(entry.receipt_id)
        except ClientError as error:
            log.info("what paid %s is not known: %s", entry.receipt_id, error.message)
            return ""
        return str((record or {}).get("txHash", ""))

    async def _send(self, entry: ReceiptEntry) -> str:
        payload = receipt_claim_payload(
            core=entry.delivery.core, receipt_id=entry.receipt_id, provider_sig=entry.delivery.sig
        )

        async def remember(claim_tx: str) -> None:
            """When the node's answer is lost, this claim is looked for before another is made."""
            self._newest[entry.receipt_id] = claim_tx
            await self._hub.db(self._hub.store.set_claim_tx, entry.receipt_id, claim_tx)

        return await self._sender.send(
            "RECEIPT_CLAIM", payload, remember=remember, witness=claim_witness(entry.signed)
        )

    async def close(self, entry: ReceiptEntry, how: str, message: str, *, claim_tx: str) -> None:
        """The chain has paid (`claimed`), or never will (`lapsed`)."""
        paid = how == "claimed"
        reason = "" if paid else JobReason.CLAIM_LAPSED
        event = Event.CLAIMED if paid else Event.TIMER_FIRED
        if not paid:
            log.error("receipt %s was not paid: %s", entry.receipt_id, message)
        hub = self._hub
        state = hub.jobs.settled(entry.job_id, entry.part, event=event, reason=reason, message=message)
        await hub.db(
            hub.store.close_receipt,
            entry.receipt_id,
            receipt_state=how,
            task_state=state,
            claim_tx=claim_tx,
            reason=reason,
            message=message,
            at_ms=hub.now_ms(),
        )
