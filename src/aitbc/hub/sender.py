"""Sends the hub's transactions: one at a time gets a nonce, and its id is on disk before it leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aitbc.client.errors import ClientError
from aitbc.client.transactions import build_transaction, checked_fee
from aitbc.core.codec.digests import transaction_id
from aitbc.core.types.reasons import Reason

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

_STALE_NONCE = frozenset({Reason.BAD_NONCE, Reason.NONCE_GAP, Reason.REPLACEMENT_FEE_TOO_LOW})
"""Another transaction of this account was there first: ask the chain for the nonce."""

Remember = Callable[[str], Awaitable[None]]


class Sender:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._turn = asyncio.Lock()
        self._next_nonce: int | None = None

    def doubt(self) -> None:
        """A transaction waits, perhaps for a nonce that was lost: ask the chain before the next one."""
        self._next_nonce = None

    async def send(
        self, type: str, payload: dict[str, Any], *, remember: Remember, witness: dict[str, Any] | None = None
    ) -> str:
        """The id of the transaction that was sent. `remember` is told it before; perhaps twice, with another id."""
        asked = await self._hub.chain.estimate_fee(type, payload)
        fee = checked_fee(asked, type, self._hub.config.max_fee)
        async with self._turn:
            try:
                return await self._send(type, payload, fee, witness, remember)
            except ClientError as error:
                self._next_nonce = None
                if error.code not in _STALE_NONCE:
                    raise
                return await self._send(type, payload, fee, witness, remember)

    async def _send(
        self, type: str, payload: dict[str, Any], fee: int, witness: dict[str, Any] | None, remember: Remember
    ) -> str:
        hub = self._hub
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
            witness=witness,
        )
        tx_id = transaction_id(tx, hub.genesis_hash).hex()
        await remember(tx_id)
        await hub.chain.send(tx)
        self._next_nonce += 1
        return tx_id
