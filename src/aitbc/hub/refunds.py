"""Sends back what is left in clients' locks whose time is over, when their owners have not. DESIGN §3 "Escrow"

The hub's own session locks are `hub.accounts.sessions`' to close.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from aitbc.client.errors import ClientError
from aitbc.client.transactions import refund_payload

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

REFUNDS_EVERY_S = 30.0
GRACE_MS = 60_000
"""The owner of a lock may fetch what is left first; whoever comes second pays a fee for nothing."""


class Refunds:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    async def run(self) -> None:
        """For ever; one process of those on a database does it for all."""
        while True:
            await asyncio.sleep(REFUNDS_EVERY_S)
            hub = self._hub
            if await hub.db(hub.store.has_duty, "refunds", hub.process, now_ms=hub.now_ms()):
                await self.once()

    async def once(self) -> int:
        """How many were sent."""
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
        return count


async def _forget(_tx: str) -> None:
    """Sent twice, the second one is refused: the lock is closed."""
