"""Jobs of account holders are paid out of the hub's own session lock: one transaction for thousands of them.

The receipt names the hub as client and (lock, number) as what pays; what the account owes is in the hub's books.
Whatever a session does not pay returns to the hub. DESIGN §3 "Escrow"
"""

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from aitbc.client.errors import ClientError
from aitbc.client.transactions import job_lock_payload, refund_payload
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.receipts import MAX_TASKS
from aitbc.hub.chain import final_lock
from aitbc.hub.records import Quote
from aitbc.hub.store.sessions import Draft, Session

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

HEAD_POLL_S = 0.05
HEAD_WAIT_S = 30.0
"""No block for so long: the chain stands still, and so do draws."""
REFUNDS_EVERY_S = 30.0
GRACE_MS = 60_000
"""The owner of a lock may fetch what is left first; whoever comes second pays a fee for nothing."""


class Opened(NamedTuple):
    """What pays a job that begins now."""

    quote: Quote
    """As given, with the session's deadlines."""
    draft: Draft
    randomness: bytes


class SessionLocks:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._opening = asyncio.Lock()

    async def start(self, quote: Quote) -> None:
        """Queue a job that an account pays for; the caller holds the money in the hub's books before.

        The quote's client is the hub and its `account` whoever pays. The draw's randomness is the first block after the
        job has its number, so neither side could have known it.
        """
        hub = self._hub
        assert quote.client == hub.signer.address, "the session's client is the hub"
        draft = await self._draft(quote)
        randomness = await self._next_block()
        taken = msgspec.structs.replace(quote, claim_until_ms=draft.claim_until_ms)
        await hub.db(hub.store.replace_quote, taken)
        await hub.jobs.enqueue(taken, lock=draft.lock, first_task=draft.first_task, randomness=randomness)
        hub.quote_taken(quote.job_id)

    async def _draft(self, quote: Quote) -> Draft:
        hub, tasks = self._hub, len(quote.requests)
        while True:
            draft = await hub.db(
                hub.store.draw_on_session,
                amount=quote.price,
                tasks=tasks,
                deliver_by_ms=quote.deliver_by_ms,
            )
            if draft is not None:
                return draft
            async with self._opening:  # who waited for another's session asks again first
                draft = await hub.db(
                    hub.store.draw_on_session,
                    amount=quote.price,
                    tasks=tasks,
                    deliver_by_ms=quote.deliver_by_ms,
                )
                if draft is not None:
                    return draft
                await self._open(quote)

    async def _open(self, quote: Quote) -> None:
        """Lock the hub's own money; refuses when it has too little."""
        hub, config = self._hub, self._hub.config
        deliver_by_ms = max(hub.now_ms() + config.audit_session_s * 1000, quote.deliver_by_ms)
        payload = job_lock_payload(
            hub=hub.signer.address,
            job_id=f"session:{secrets.token_hex(8)}",
            amount=min(max(config.session_amount, quote.price, 1), MAX_SIGNED),
            request_hash=hash_text(b""),
            deliver_by_ms=deliver_by_ms,
            claim_until_ms=deliver_by_ms + config.claim_s * 1000,
            tasks=MAX_TASKS,
        )

        async def remember(lock: str) -> None:
            await hub.db(hub.store.watch_lock, lock, refund_after_ms=payload["claim_until_ms"] + GRACE_MS)

        try:
            lock_id = await hub.sender.send("JOB_LOCK", {**payload, "session": True}, remember=remember)
        except ClientError as error:
            raise Refused(
                JobReason.CHAIN_UNREACHABLE, f"the hub could not open a session: {error.message}"[:300]
            ) from error
        await final_lock(hub.chain, lock_id, wait_s=config.lock_wait_s)
        session = Session(
            lock=lock_id,
            amount=payload["amount"],
            tasks=MAX_TASKS,
            deliver_by_ms=deliver_by_ms,
            claim_until_ms=payload["claim_until_ms"],
        )
        await hub.db(hub.store.add_session, session)

    async def _next_block(self) -> bytes:
        """The hash of the first block that comes after now."""
        chain = self._hub.chain
        try:
            before = int((await chain.head())["height"])
            async with asyncio.timeout(HEAD_WAIT_S):
                while True:
                    head = await chain.head()
                    if int(head["height"]) > before:
                        return bytes.fromhex(head["hash"])
                    await asyncio.sleep(HEAD_POLL_S)
        except TimeoutError:
            raise Refused(JobReason.CHAIN_UNREACHABLE, f"no block for {HEAD_WAIT_S} s") from None
        except ClientError as error:
            raise Refused(JobReason.CHAIN_UNREACHABLE, error.message[:300]) from error

    # what was not earned

    async def refund_for_ever(self) -> None:
        """Send back what is left in locks whose time is over; without a word from their owners."""
        while True:
            await asyncio.sleep(REFUNDS_EVERY_S)
            hub = self._hub
            if await hub.db(hub.store.has_duty, "refunds", hub.process, now_ms=hub.now_ms()):
                await self.refund_once()

    async def refund_once(self) -> int:
        hub = self._hub
        count = 0
        for lock_id in await hub.db(hub.store.locks_to_refund, now_ms=hub.now_ms()):
            try:
                lock = await hub.chain.lock(lock_id)
                if lock is not None and lock.get("status") == "open":
                    await hub.sender.send("REFUND", refund_payload(lock=lock_id), remember=_forget)
                    count += 1
                await hub.db(hub.store.unwatch_lock, lock_id)
            except ClientError as error:
                log.warning("refund of %s: %s", lock_id, error.message)
        await hub.db(hub.store.forget_sessions, now_ms=hub.now_ms())
        return count


async def _forget(_tx: str) -> None:
    """Sent twice, the second one is refused: the lock is closed."""
