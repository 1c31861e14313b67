"""Transactions that wait for a block: one lane of consecutive nonces per sender, bounded in every direction.

Seed 000 §11 with its gaps closed: many per sender, replacement at a higher fee, cheapest evicted first.
"""

from collections.abc import Callable

import msgspec

from aitbc.core.types.amounts import format_ait
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import VerifiedTransaction

MAX_PER_SENDER = 64
"""geth's figure for executable plus queued transactions that one account may hold."""
MAX_TXS = 50_000
MAX_BYTES = 64 * 1024 * 1024
REPLACEMENT_PERCENT = 110
"""A replacement pays at least a tenth more, so that replacing is not free gossip."""


class Lane(msgspec.Struct):
    """One sender's waiting transactions by nonce."""

    txs: dict[int, VerifiedTransaction]


class Mempool:
    """`accounts(address)` is the sender's account at the head."""

    def __init__(self, accounts: Callable[[str], Account]) -> None:
        self._accounts = accounts
        self._lanes: dict[str, Lane] = {}
        self._by_id: dict[bytes, VerifiedTransaction] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, tx_id: bytes) -> VerifiedTransaction | None:
        return self._by_id.get(tx_id)

    def pending(self, address: str) -> int:
        """How many transactions of a sender wait."""
        lane = self._lanes.get(address)
        return len(lane.txs) if lane else 0

    def next_nonce(self, address: str) -> int:
        """The first nonce that neither the chain nor a waiting transaction of the sender has used."""
        nonce, lane = self._accounts(address).nonce + 1, self._lanes.get(address)
        while lane is not None and nonce in lane.txs:
            nonce += 1
        return nonce

    def add(self, tx: VerifiedTransaction, *, pays_sender: bool) -> list[VerifiedTransaction]:
        """Take a verified transaction in; returns those it pushed out. Raises Rejected with the reason."""
        sender, nonce = tx.tx.sender, tx.tx.nonce
        lane = self._lanes.get(sender)
        waiting = lane.txs if lane else {}
        replaced = waiting.get(nonce)
        self._check_place(tx, waiting, replaced)
        self._check_balance(tx, waiting, pays_sender=pays_sender)
        evicted = self._make_room(tx)
        if replaced is not None and replaced.id in self._by_id:
            self._drop(replaced)
            evicted.append(replaced)
        self._lanes.setdefault(sender, Lane({})).txs[nonce] = tx
        self._by_id[tx.id] = tx
        self._bytes += tx.size
        return evicted

    def _check_place(
        self,
        tx: VerifiedTransaction,
        waiting: dict[int, VerifiedTransaction],
        replaced: VerifiedTransaction | None,
    ) -> None:
        nonce, following = tx.tx.nonce, self._accounts(tx.tx.sender).nonce + 1
        if tx.id in self._by_id:
            raise Rejected(Reason.ALREADY_KNOWN, "the transaction waits in the mempool already")
        if nonce < following:
            raise Rejected(Reason.BAD_NONCE, f"nonce {nonce} has been used; the next one is {following}")
        if replaced is not None:
            needed = (replaced.tx.fee * REPLACEMENT_PERCENT + 99) // 100
            if tx.tx.fee < max(needed, replaced.tx.fee + 1):
                raise Rejected(
                    Reason.REPLACEMENT_FEE_TOO_LOW,
                    f"replacing nonce {nonce} needs a fee of {needed} base units",
                )
            return
        if len(waiting) >= MAX_PER_SENDER:
            raise Rejected(
                Reason.TOO_MANY_PENDING, f"{MAX_PER_SENDER} transactions of this sender wait already"
            )
        if nonce >= following + MAX_PER_SENDER:
            raise Rejected(Reason.NONCE_GAP, f"nonce {nonce} is too far ahead; the next one is {following}")

    def _check_balance(
        self, tx: VerifiedTransaction, waiting: dict[int, VerifiedTransaction], *, pays_sender: bool
    ) -> None:
        """The sender must cover the fees of its whole lane; what the payloads spend is for execution to say."""
        if pays_sender:
            return
        others = sum(other.tx.fee for nonce, other in waiting.items() if nonce != tx.tx.nonce)
        balance = self._accounts(tx.tx.sender).balance
        if others + tx.tx.fee > balance:
            raise Rejected(
                Reason.FEE_NOT_COVERED,
                f"fees of {format_ait(others + tx.tx.fee)} wait for {format_ait(balance)} of balance",
            )

    def _make_room(self, tx: VerifiedTransaction) -> list[VerifiedTransaction]:
        """Evict the cheapest by fee per byte until the newcomer fits, or refuse the newcomer."""
        if len(self._by_id) < MAX_TXS and self._bytes + tx.size <= MAX_BYTES:
            return []
        cheapest = min(self._by_id.values(), key=lambda other: (other.tx.fee * tx.size, other.wid))
        if cheapest.tx.fee * tx.size >= tx.tx.fee * cheapest.size:
            raise Rejected(
                Reason.MEMPOOL_FULL, "the mempool is full of transactions that pay as much: try later"
            )
        lane = self._lanes[cheapest.tx.sender]
        evicted = [other for nonce, other in lane.txs.items() if nonce >= cheapest.tx.nonce]
        for other in evicted:
            self._drop(other)
        return evicted

    def remove(self, tx: VerifiedTransaction) -> None:
        """Forget a transaction, and whatever else waits at its nonce."""
        lane = self._lanes.get(tx.tx.sender)
        waiting = lane.txs.get(tx.tx.nonce) if lane else None
        if waiting is not None:
            self._drop(waiting)

    def _drop(self, tx: VerifiedTransaction) -> None:
        del self._by_id[tx.id]
        self._bytes -= tx.size
        lane = self._lanes[tx.tx.sender]
        del lane.txs[tx.tx.nonce]
        if not lane.txs:
            del self._lanes[tx.tx.sender]

    def has_ready(self) -> bool:
        """Is there a transaction that the next block could hold?"""
        return any(self._accounts(sender).nonce + 1 in lane.txs for sender, lane in self._lanes.items())

    def select(self, *, max_txs: int, max_bytes: int) -> list[VerifiedTransaction]:
        """Transactions for a block: best-paying lanes first, each lane in nonce order."""
        heads = []
        for sender, lane in self._lanes.items():
            first = lane.txs.get(self._accounts(sender).nonce + 1)
            if first is not None:
                heads.append((-first.tx.fee, first.wid, sender))
        chosen: list[VerifiedTransaction] = []
        room = max_bytes
        for _, _, sender in sorted(heads):
            nonce, lane = self._accounts(sender).nonce + 1, self._lanes[sender]
            while len(chosen) < max_txs and nonce in lane.txs and lane.txs[nonce].size <= room:
                chosen.append(lane.txs[nonce])
                room -= lane.txs[nonce].size
                nonce += 1
        return chosen
