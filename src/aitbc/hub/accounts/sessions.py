"""The hub's own session locks: one lock on the chain pays the receipts of many prepaid jobs. docs/spec/accounts.md

A session is opened before the last one is full or over; its money comes back by REFUND after its claim time.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aitbc.client.errors import ApiError, ClientError
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.receipts import MAX_TASKS
from aitbc.hub.accounts.records import Session
from aitbc.hub.chain import FinalTransaction, final_lock

if TYPE_CHECKING:
    from aitbc.hub.accounts.service import Accounts
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

LOOK_S = 5.0
"""How often sessions are looked at when nobody asks."""
PLACES_LEFT = MAX_TASKS // 4
"""With fewer free places the next session is opened."""
MONEY_LEFT = 2
"""With less than one part in so many of its money free, too."""
FEE_RESERVE = 1_000_000
"""1 AIT of the hub's balance is never locked: claims and refunds cost fees."""


class SessionKeeper:
    """Looks after the sessions of one hub; opens one at a time."""

    def __init__(self, hub: "Hub", accounts: "Accounts") -> None:
        self._hub = hub
        self._accounts = accounts
        self._opening: asyncio.Task[None] | None = None
        self.needed = False
        """Somebody may ask for prepaid work: a session is kept open."""

    async def run(self) -> None:
        """For ever; what goes wrong with the chain is tried again."""
        while True:
            try:
                await self._resume()
                await self._close_those_over()
                if self.needed and await self._is_low():
                    await self.open_one()
            except (ClientError, Refused) as error:
                log.warning("sessions: %s", error)
            await asyncio.sleep(LOOK_S)

    async def open_one(self) -> None:
        """Open a session, or wait for the one that is being opened. Raises Refused when there is none in time."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)

    async def stop(self) -> None:
        """A lock that is on its way is taken up by the next run."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)

    def _opened(self, task: "asyncio.Task[None]") -> None:
        self._opening = None
        if not task.cancelled() and task.exception() is not None:
            log.warning("no session could be opened: %s", task.exception())

    async def _is_low(self) -> bool:
        db, store = self._accounts.db, self._accounts.store
        deliver_by_ms = self._hub.now_ms() + 2 * self._hub.config.deliver_s * 1000
        for session in await db(store.sessions, ""):
            enough = session.places - session.next_place >= PLACES_LEFT
            free = session.amount - session.committed
            if enough and free * MONEY_LEFT >= session.amount and session.deliver_by_ms >= deliver_by_ms:
                return False
        return True

    async def _open(self) -> None:
        hub, db, store = self._hub, self._accounts.db, self._accounts.store
        terms = await self._terms()

        async def note(tx_id: str) -> None:
            """On disk before it is sent, so that no lock is forgotten."""
            await db(store.add_session, self._session(tx_id, terms, b"", "opening"), at_ms=hub.now_ms())

        try:
            lock_id = await hub.sender.send("JOB_LOCK", terms, remember=note)
            lock = await final_lock(hub.chain, lock_id, wait_s=hub.config.lock_wait_s)
        except ClientError as error:
            raise Refused(
                JobReason.NO_SESSION, f"the hub's lock could not be sent: {error.message}"[:300]
            ) from error
        await db(store.open_session, lock_id, randomness=lock.block_hash)
        log.info("session %s: %s for %d jobs", lock_id, format_ait(terms["amount"]), terms["tasks"])

    async def _terms(self) -> dict[str, Any]:
        hub, config = self._hub, self._hub.config
        account = await hub.chain.account(hub.signer.address)
        amount = min(config.session_amount, int(account["balance"]) - FEE_RESERVE)
        if amount <= 0:
            raise Refused(JobReason.NO_SESSION, "the hub has no money that it could lock for prepaid jobs")
        deliver_by_ms = hub.now_ms() + config.session_s * 1000
        return {
            "hub": hub.signer.address,
            "job_id": f"session_{hub.now_ms()}",
            "amount": amount,
            "request_hash": hash_text(b""),
            "deliver_by_ms": deliver_by_ms,
            "claim_until_ms": deliver_by_ms + config.session_claim_s * 1000,
            "tasks": MAX_TASKS,
            "session": True,
        }

    def _session(self, lock_id: str, terms: dict[str, Any], randomness: bytes, state: str) -> Session:
        return Session(
            lock=lock_id,
            owner="",
            client=self._hub.signer.address,
            amount=terms["amount"],
            committed=0,
            places=terms["tasks"],
            next_place=0,
            deliver_by_ms=terms["deliver_by_ms"],
            claim_until_ms=terms["claim_until_ms"],
            randomness=randomness,
            state=state,
        )

    async def _resume(self) -> None:
        """Locks that an earlier run has sent: open, or never made."""
        db, store = self._accounts.db, self._accounts.store
        if self._opening is not None:
            return
        for session in await db(store.sessions_opening):
            try:
                lock: FinalTransaction = await final_lock(self._hub.chain, session.lock, wait_s=0)
            except Refused as refused:
                if refused.reason == JobReason.LOCK_FAILED or self._hub.now_ms() > session.deliver_by_ms:
                    await db(store.drop_session, session.lock)
                continue
            await db(store.open_session, session.lock, randomness=lock.block_hash)

    async def _close_those_over(self) -> None:
        """What was not earned goes back: to the hub by its own REFUND, to a client by its."""
        hub, db, store = self._hub, self._accounts.db, self._accounts.store
        for session in await db(store.sessions_over, hub.now_ms()):
            if not session.owner:
                try:
                    await hub.sender.send("REFUND", {"lock": session.lock}, remember=_nothing)
                except ApiError as error:
                    if error.code not in ("lock_closed", "unknown_lock"):  # returned by itself meanwhile
                        raise
            await db(store.end_session, session, at_ms=hub.now_ms())


async def _nothing(_tx_id: str) -> None:
    """A second REFUND is refused: there is nothing to remember."""
