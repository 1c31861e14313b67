"""Blocks and transactions that are searched by hash, here for others and elsewhere for this node. docs/spec/p2p.md"""

from collections.abc import Callable, Sequence
from typing import Protocol

from aitbc.core.chain.builder import has_its_body
from aitbc.core.codec.digests import wid_of
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.peer.kinds import SEARCH_BLOCK, SEARCH_TRANSACTION
from aitbc.core.peer.network import Examine, Found, LookUp
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.talk.transactions import Transactions
from aitbc.node.talk.wires import MAX_ENVELOPE_BYTES, Wires, hash_of


class Keeper(Protocol):
    """Who has blocks and transactions."""

    @property
    def genesis_hash(self) -> bytes: ...

    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]:
        """The block and its ancestors above a height, newest first; empty when it is not here. Raises `too_busy` and
        `node_stopped`."""
        ...

    def transaction(self, wid: bytes) -> bytes | None: ...


class Searches:
    def __init__(
        self,
        wires: Wires,
        host: Keeper,
        *,
        transactions: Transactions,
        blocks_came: Callable[[Sequence[tuple[bytes, Block]]], None],
    ) -> None:
        self._wires, self._host = wires, host
        self._transactions = transactions
        self._blocks_came = blocks_came

    def begin(self, block_hash: bytes) -> None:
        """Search a block among the peers of peers."""
        wires = self._wires
        wires.perform(wires.network.search(wires.now(), SEARCH_BLOCK, block_hash))

    async def look_up(self, effect: LookUp) -> None:
        content: bytes | None
        if effect.kind is SEARCH_TRANSACTION:
            content = self._host.transaction(effect.hash)
        else:
            content = await self._packed_block(effect.hash)
        self._wires.perform(self._wires.network.looked(self._wires.now(), effect.id, content))

    async def _packed_block(self, block_hash: bytes) -> bytes | None:
        blocks = await self._wires.read(self._host.read_blocks(block_hash, 0, most=1))
        if not blocks:
            return None
        genesis_hash = self._host.genesis_hash
        # A fetched body that was not executed yet may be another's: who passes that on is blamed.
        whole = await self._wires.beside_much(lambda: has_its_body(blocks[0], genesis_hash))
        return pack(blocks[0]) if whole else None

    async def examine(self, effect: Examine) -> None:
        """Both a block's header and its transactions, so that who passes it on can vouch for it."""

        def is_good() -> bool:
            try:
                if effect.kind is SEARCH_TRANSACTION:
                    tx = unpack(effect.content, Transaction, limit=MAX_ENVELOPE_BYTES)
                    return wid_of(tx, self._host.genesis_hash) == effect.hash
                block = unpack(effect.content, Block, limit=MAX_BLOCK_BYTES)
                return hash_of(block) == effect.hash and has_its_body(block, self._host.genesis_hash)
            except Rejected:
                return False

        good = await self._wires.beside_much(is_good)
        self._wires.perform(self._wires.network.examined(self._wires.now(), effect.ticket, good=good))

    async def take(self, effect: Found) -> None:
        """Examined before."""
        if effect.kind is SEARCH_TRANSACTION:
            await self._transactions.offer([(effect.hash, effect.content)])
            return
        block = await self._wires.beside_much(lambda: unpack(effect.content, Block, limit=MAX_BLOCK_BYTES))
        self._blocks_came([(effect.hash, block)])
