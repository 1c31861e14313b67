"""Transactions that peers tell of: offered to the mempool, and again with the next head when they came too early."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from aitbc.core.codec.wire import unpack
from aitbc.core.peer.network import TransactionsCame
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.talk.wires import MAX_ENVELOPE_BYTES, Wires

log = logging.getLogger("aitbc.node")

MAX_LATER = 1_000
MAX_TRIES = 3
"""A transaction of a peer is offered to so many heads: peers are a block or two apart."""
WRONG_IN_ITSELF = frozenset({Reason.TOO_LARGE, Reason.MALFORMED, Reason.NOT_CANONICAL, Reason.BAD_SIGNATURE})
"""Whatever the state: who has such a transaction has not looked at it. `wrong_key` is not one of them: which key is an
account's changes with a block that the teller may have and this node not, or the other way round."""


class Taker(Protocol):
    async def take_transactions(self, txs: Sequence[tuple[bytes, Transaction]]) -> list[Rejected | None]:
        """Offer a peer's transactions; what became of each. `malformed`: it came under another wid."""
        ...


class Transactions:
    def __init__(self, wires: Wires, host: Taker) -> None:
        self._wires, self._host = wires, host
        self._later: dict[bytes, bytes] = {}
        """Transactions that were refused, to be offered again with the next head."""
        self._tries: OrderedDict[bytes, int] = OrderedDict()
        """How often each was refused."""

    def took(self, wids: Sequence[bytes]) -> None:
        """These transactions wait here now."""
        self._wires.perform(self._wires.network.took(self._wires.now(), wids))

    def head_moved(self) -> None:
        if self._later:
            self._wires.spawn(self._offer_again())

    async def take(self, effect: TransactionsCame) -> None:
        """What a peer gave that was asked for it."""
        wrong = await self.offer(effect.txs)
        if wrong:
            self._wires.penalise(effect.key, f"a transaction that is {wrong[0][1]}")
            mistaken = self._wires.network.mistaken(self._wires.now(), [wid for wid, _ in wrong])
            self._wires.perform(mistaken)

    async def offer(self, packed: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, Rejected]]:
        """Returns what is wrong in itself, for whoever knows who gave it. It says nothing about what else may come
        under the same hash, so that is not refused."""
        verdicts: list[tuple[bytes, bytes, Rejected]] = []
        read: list[tuple[bytes, bytes, Transaction]] = []
        for wid, raw in packed:
            try:
                read.append((wid, raw, unpack(raw, Transaction, limit=MAX_ENVELOPE_BYTES)))
            except Rejected as rejection:
                verdicts.append((wid, raw, rejection))
        answers = await self._host.take_transactions([(wid, tx) for wid, _, tx in read])
        for (wid, raw, _), verdict in zip(read, answers, strict=True):
            if verdict is not None:
                verdicts.append((wid, raw, verdict))
        wrong = [(wid, verdict) for wid, _, verdict in verdicts if verdict.reason in WRONG_IN_ITSELF]
        for wid, raw, verdict in verdicts:
            log.debug("not taken: %s", verdict, extra={"component": "mempool"})
            if verdict.reason not in WRONG_IN_ITSELF:
                self._wires.network.refused(self._wires.now(), [wid])
                self._keep_for_later(wid, raw)
        return wrong

    def _keep_for_later(self, wid: bytes, raw: bytes) -> None:
        """Who told of it may be a block ahead: what depends on that block is offered again when it is here."""
        tries = self._tries.pop(wid, 0) + 1
        if tries >= MAX_TRIES:
            return
        self._tries[wid] = tries
        self._later[wid] = raw
        while len(self._tries) > MAX_LATER:
            oldest, _ = self._tries.popitem(last=False)
            self._later.pop(oldest, None)

    async def _offer_again(self) -> None:
        later, self._later = self._later, {}
        await self.offer(list(later.items()))
