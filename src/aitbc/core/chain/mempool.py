"""Transactions that wait for a block: one lane of consecutive nonces per sender, bounded in every direction.

Seed 000 §11 with its gaps closed: many per sender, replacement at a higher fee, cheapest evicted first, and nothing
waits that nobody pays for. docs/spec/execution.md
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush, nsmallest
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from aitbc.core.types.amounts import format_ait
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import VerifiedTransaction

MAX_PER_SENDER = 64
"""geth's figure for executable plus queued transactions that one account may hold."""
MAX_TXS = 50_000
MAX_BYTES = 64 * 1024 * 1024
MAX_GAPPED = 5_000
"""Transactions that cannot be in the next blocks because an earlier nonce is missing: they pay nobody yet, so they
get a tenth of the places (geth: 1,024 of 6,144)."""
MAX_WAIT_MS = 3 * 3600 * 1000
"""geth's lifetime of a transaction that no block takes."""
REPLACEMENT_PERCENT = 110
"""A replacement pays at least a tenth more, so that replacing is not free gossip."""
KEY_ROTATE = "KEY_ROTATE"
"""What waits behind one is signed with a key that will not be good any more."""
RATE_SCALE = 1 << 20
"""Fee rates are whole numbers: base units for each 2^20 bytes."""


MAX_LEFT = 1_024
"""Entries of what has left that the order by rate may hold beyond as many as wait."""

NOBODY: Mapping[str, int] = MappingProxyType({})


class Waiting(msgspec.Struct, frozen=True):
    """A transaction with what decides about its place."""

    tx: VerifiedTransaction
    rate: int
    cost: int
    """Fee and what the payload spends: base units of the sender's balance that are spoken for."""
    credit: str
    """The record that its fee will come out of, when its sender cannot pay it yet; else empty."""
    since_ms: int


class Lane:
    """A sender's transactions by nonce, with sums so that nothing is counted over for each that comes."""

    def __init__(self) -> None:
        self.txs: dict[int, Waiting] = {}
        self.cost = 0
        self.fees = 0
        self.rotations: set[int] = set()
        """Nonces of key rotations that wait."""
        self._following = 0
        """The sender's next nonce when somebody looked last."""
        self._unbroken = 0

    def put(self, waiting: Waiting) -> None:
        tx = waiting.tx.tx
        self.txs[tx.nonce] = waiting
        self.cost += waiting.cost
        self.fees += tx.fee
        if tx.type == KEY_ROTATE:
            self.rotations.add(tx.nonce)

    def remove(self, nonce: int) -> None:
        waiting = self.txs.pop(nonce)
        self.cost -= waiting.cost
        self.fees -= waiting.tx.tx.fee
        self.rotations.discard(nonce)
        self._unbroken = min(self._unbroken, nonce)

    def unbroken(self, following: int) -> int:
        """The first nonce from the sender's next one on that is not here."""
        if following < self._following or self._unbroken < following:
            self._unbroken = following
        self._following = following
        while self._unbroken in self.txs:
            self._unbroken += 1
        return self._unbroken


class Settled(NamedTuple):
    """What a new head leaves without a future."""

    overtaken: list[VerifiedTransaction]
    """Another transaction with this nonce is in a block."""
    unfunded: list[VerifiedTransaction]
    """The sender's balance no longer covers its lane."""
    rekeyed: list[VerifiedTransaction]
    """Signed with a key that is the sender's no more."""


class Mempool:
    """`accounts(address)` is the sender's account at the head."""

    def __init__(self, accounts: Callable[[str], Account]) -> None:
        self._accounts = accounts
        self._lanes: dict[str, Lane] = {}
        self._by_id: dict[bytes, Waiting] = {}
        """In order of arrival."""
        self._by_rate: list[tuple[int, bytes]] = []
        """(rate, id): a heap with the cheapest first, in which some have left already."""
        self._ready: dict[str, None] = {}
        """Senders whose next nonce waits."""
        self._gapped: dict[str, int] = {}
        """Sender → how many of its transactions wait behind a missing nonce."""
        self._gapped_total = 0
        self._credits: dict[str, bytes] = {}
        """Record that pays a fee → id of the one transaction it pays for."""
        self._in_block: set[bytes] = set()
        """Ids in blocks that are not decided."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def total_bytes(self) -> int:
        return self._bytes

    def get(self, tx_id: bytes) -> VerifiedTransaction | None:
        waiting = self._by_id.get(tx_id)
        return waiting.tx if waiting else None

    def pending(self, address: str) -> int:
        """How many transactions of a sender wait."""
        lane = self._lanes.get(address)
        return len(lane.txs) if lane else 0

    def next_nonce(self, address: str) -> int:
        """The first nonce that neither the chain nor a waiting transaction of the sender has used."""
        following, lane = self._accounts(address).nonce + 1, self._lanes.get(address)
        return lane.unbroken(following) if lane else following

    def has_ready(self, ahead: Mapping[str, int] = NOBODY) -> bool:
        """Is there a transaction that the next block could hold? `ahead` as in `select`."""
        if len(self._ready) > len(ahead):
            return True
        return any(True for _ in self._first_of_lanes(ahead))

    def count_ready(self, most: int) -> int:
        """How many transactions the next block could hold, counted up to `most`."""
        count = 0
        for first in self._first_of_lanes(NOBODY):
            tx = first.tx.tx
            count += self._lanes[tx.sender].unbroken(tx.nonce) - tx.nonce
            if count >= most:
                return most
        return count

    # Coming in

    def add(
        self,
        tx: VerifiedTransaction,
        *,
        now_ms: int,
        account: Account | None = None,
        spends: int = 0,
        fee_source: str = "",
        free: bool = False,
    ) -> list[VerifiedTransaction]:
        """Take a verified transaction in; returns those it pushed out. Raises Rejected with the reason.

        `account`: the sender's at the head, where it is known. `spends`: base units that it takes from the sender
        beside the fee; they are reserved with it.
        `fee_source` names the record that may pay the fee when the sender cannot: such a transaction waits only when
        it is its turn (so its success was tried), and only one for each record. A `free` one waits without a gap.
        """
        if tx.id in self._by_id:
            raise Rejected(Reason.ALREADY_KNOWN, "the transaction waits in the mempool already")
        account = account or self._accounts(tx.tx.sender)
        lane = self._lanes.get(tx.tx.sender) or Lane()
        replaced = lane.txs.get(tx.tx.nonce)
        self._check_place(tx, account, lane, replaced, free=free)
        credit = self._check_funds(tx, spends, account, lane, replaced, fee_source)
        leaving = {replaced.tx.id: replaced} if replaced else {}
        if credit and credit in self._credits and self._credits[credit] not in leaving:
            rival = self._by_id[self._credits[credit]]
            self._check_replacement(tx, rival, f"a transaction that {credit} pays for")
            leaving[rival.tx.id] = rival
        waiting = Waiting(tx, tx.tx.fee * RATE_SCALE // tx.size, tx.tx.fee + spends, credit, now_ms)
        leaving.update(self._make_room(waiting, leaving))
        for other in leaving.values():
            self._drop(other)
        self._insert(waiting, account)
        return [other.tx for other in leaving.values()]

    def _check_place(
        self, tx: VerifiedTransaction, account: Account, lane: Lane, replaced: Waiting | None, *, free: bool
    ) -> None:
        nonce, following = tx.tx.nonce, account.nonce + 1
        if nonce < following:
            raise Rejected(Reason.BAD_NONCE, f"nonce {nonce} has been used; the next one is {following}")
        if replaced is not None:
            self._check_replacement(tx, replaced, f"nonce {nonce}")
            return
        if len(lane.txs) >= MAX_PER_SENDER:
            raise Rejected(
                Reason.TOO_MANY_PENDING, f"{MAX_PER_SENDER} transactions of this sender wait already"
            )
        if any(number < nonce for number in lane.rotations):
            raise Rejected(
                Reason.ROTATION_WAITS,
                "a KEY_ROTATE of this sender waits: sign with the new key when it is final",
            )
        unbroken = lane.unbroken(following)
        furthest = unbroken if free else following + MAX_PER_SENDER - 1
        if nonce > furthest:
            raise Rejected(Reason.NONCE_GAP, f"nonce {nonce} is too far ahead; the next one is {following}")
        if nonce > unbroken and self._gapped_total >= MAX_GAPPED:
            raise Rejected(
                Reason.NONCE_GAP, f"nonce {unbroken} is missing, and too many wait like this already"
            )

    def _check_replacement(self, tx: VerifiedTransaction, replaced: Waiting, name: str) -> None:
        if replaced.tx.id in self._in_block:
            raise Rejected(Reason.IN_BLOCK, f"{name} is in the block being made")
        old = replaced.tx.tx.fee
        needed = max((old * REPLACEMENT_PERCENT + 99) // 100, old + 1)
        if tx.tx.fee < needed:
            raise Rejected(
                Reason.REPLACEMENT_FEE_TOO_LOW, f"replacing {name} needs a fee of {needed} base units"
            )

    def _check_funds(
        self,
        tx: VerifiedTransaction,
        spends: int,
        account: Account,
        lane: Lane,
        replaced: Waiting | None,
        fee_source: str,
    ) -> str:
        """Refuse what nobody covers; returns the record that covers the fee, or "" when the sender does.

        The balance covers the fees and the spending of the whole lane; what comes in meanwhile does not count.
        """
        reserved = lane.cost - (replaced.cost if replaced else 0)
        if reserved + tx.tx.fee + spends <= account.balance:
            return ""
        others = len(lane.txs) - (replaced is not None)
        if fee_source and not others and tx.tx.nonce == account.nonce + 1:
            return fee_source
        fees = lane.fees - (replaced.tx.tx.fee if replaced else 0) + tx.tx.fee
        if fees > account.balance:
            raise Rejected(
                Reason.FEE_NOT_COVERED,
                f"fees of {format_ait(fees)} wait for {format_ait(account.balance)} of balance",
            )
        if not reserved:
            raise Rejected(
                Reason.INSUFFICIENT_BALANCE,
                f"{format_ait(spends)} to send, {format_ait(account.balance - tx.tx.fee)} left after the fee",
            )
        raise Rejected(
            Reason.INSUFFICIENT_BALANCE,
            f"{format_ait(tx.tx.fee + spends)} needed; of {format_ait(account.balance)} balance"
            f" {format_ait(reserved)} are reserved for what waits already",
        )

    def _make_room(self, newcomer: Waiting, leaving: dict[bytes, Waiting]) -> dict[bytes, Waiting]:
        """Who must go, the cheapest by fee per byte first with all that builds on it, or refuse the newcomer."""
        if len(self._by_id) < MAX_TXS and self._bytes + newcomer.tx.size <= MAX_BYTES:
            return {}
        excess_txs = len(self._by_id) - len(leaving) + 1 - MAX_TXS
        excess_bytes = self._bytes - sum(other.tx.size for other in leaving.values()) + newcomer.tx.size
        excess_bytes -= MAX_BYTES
        evicted: dict[bytes, Waiting] = {}
        looked_at: list[tuple[int, bytes]] = []
        try:
            while excess_txs > 0 or excess_bytes > 0:
                first = self._pop_cheapest(looked_at)
                if first is None or first.rate >= newcomer.rate:
                    raise Rejected(
                        Reason.MEMPOOL_FULL, "the mempool is full of transactions that pay as much: try later"
                    )
                for other in self._built_on(first):
                    if other.tx.id in leaving or other.tx.id in evicted:
                        continue
                    if other.tx.id in self._in_block or _is_before(other, newcomer):
                        break
                    evicted[other.tx.id] = other
                    excess_txs -= 1
                    excess_bytes -= other.tx.size
        finally:
            for entry in looked_at:
                heappush(self._by_rate, entry)
        return evicted

    def _pop_cheapest(self, looked_at: list[tuple[int, bytes]]) -> Waiting | None:
        """Out of the order by rate, of those that still wait; whoever looks puts back what it `looked_at`."""
        while self._by_rate:
            entry = heappop(self._by_rate)
            waiting = self._by_id.get(entry[1])
            if waiting is not None and waiting.rate == entry[0]:
                looked_at.append(entry)
                return waiting
        return None

    def _built_on(self, first: Waiting) -> list[Waiting]:
        """A transaction and its sender's later ones, which cannot go before it."""
        lane = self._lanes[first.tx.tx.sender].txs
        return [lane[nonce] for nonce in sorted(lane) if nonce >= first.tx.tx.nonce]

    def _insert(self, waiting: Waiting, account: Account) -> None:
        tx = waiting.tx
        lane = self._lanes.get(tx.tx.sender)
        if lane is None:
            lane = self._lanes[tx.tx.sender] = Lane()
        lane.put(waiting)
        self._by_id[tx.id] = waiting
        heappush(self._by_rate, (waiting.rate, tx.id))
        if len(self._by_rate) > 2 * len(self._by_id) + MAX_LEFT:
            self._by_rate = [(other.rate, tx_id) for tx_id, other in self._by_id.items()]
            heapify(self._by_rate)
        self._bytes += tx.size
        if waiting.credit:
            self._credits[waiting.credit] = tx.id
        self._refresh(tx.tx.sender, account)

    # Going out

    def select(
        self, *, max_txs: int, max_bytes: int, ahead: Mapping[str, int] = NOBODY
    ) -> list[VerifiedTransaction]:
        """Transactions for a block: best-paying lanes first, each lane in nonce order.

        `ahead`: sender → how many of its transactions are in undecided blocks that this one builds on.
        """
        heads = [
            (-first.rate, first.tx.id, first.tx.tx.sender, first.tx.tx.nonce)
            for first in self._first_of_lanes(ahead)
        ]
        chosen: list[VerifiedTransaction] = []
        room = max_bytes
        for _, _, sender, nonce in sorted(heads):
            lane = self._lanes[sender].txs
            while len(chosen) < max_txs and nonce in lane and lane[nonce].tx.size <= room:
                chosen.append(lane[nonce].tx)
                room -= lane[nonce].tx.size
                nonce += 1
        return chosen

    def hold(self, tx_ids: set[bytes]) -> None:
        """These are in blocks that are not decided: they can be neither replaced nor evicted. Others no more."""
        self._in_block = tx_ids

    def _first_of_lanes(self, ahead: Mapping[str, int]) -> Iterator[Waiting]:
        """What each sender could have next in a block."""
        for sender in self._ready:
            if sender not in ahead:
                yield self._lanes[sender].txs[self._accounts(sender).nonce + 1]
        for sender, count in ahead.items():
            lane = self._lanes.get(sender)
            following = self._accounts(sender).nonce + 1 + count
            if lane is not None and following in lane.txs:
                yield lane.txs[following]

    def settle(self, included: Iterable[VerifiedTransaction]) -> Settled:
        """A block is the head now: forget what it holds, and what it leaves without a nonce or without money."""
        overtaken, unfunded, rekeyed = [], [], []
        senders: dict[str, None] = {}
        for tx in included:
            waiting = self._by_id.get(tx.id)
            if waiting is not None:
                self._forget(waiting)
            senders[tx.tx.sender] = None
        for sender in senders:
            account, lane = self._accounts(sender), self._lanes.get(sender)
            if lane is not None:
                for waiting in [one for nonce, one in lane.txs.items() if nonce <= account.nonce]:
                    overtaken.append(waiting.tx)
                    self._forget(waiting)
                for waiting in [one for one in lane.txs.values() if one.tx.tx.pubkey != account.auth]:
                    rekeyed.append(waiting.tx)
                    self._forget(waiting)
                unfunded += self._forget_unfunded(account, lane)
            self._refresh(sender, account)
        return Settled(overtaken, unfunded, rekeyed)

    def _forget_unfunded(self, account: Account, lane: Lane) -> list[VerifiedTransaction]:
        """The last of a lane that the balance does not cover."""
        unfunded: list[VerifiedTransaction] = []
        while lane.cost > account.balance:
            last = lane.txs[max(lane.txs)]
            if last.credit:
                break
            unfunded.append(last.tx)
            self._forget(last)
        return unfunded

    def trim(self) -> list[VerifiedTransaction]:
        """Behind missing nonces no more wait than may come in: what has left made gaps, and those of the last sender to
        get one are forgotten first."""
        forgotten = []
        while self._gapped_total > MAX_GAPPED:
            sender = next(reversed(self._gapped))
            first = self.next_nonce(sender)
            for waiting in [one for nonce, one in self._lanes[sender].txs.items() if nonce > first]:
                forgotten.append(waiting.tx)
                self._drop(waiting)
        return forgotten

    def waiting(self) -> list[VerifiedTransaction]:
        """Everything that waits, each sender's in nonce order: what a snapshot keeps."""
        return [lane.txs[nonce].tx for lane in self._lanes.values() for nonce in sorted(lane.txs)]

    def all(self) -> list[VerifiedTransaction]:
        """Everything that waits, in no order worth knowing; may be called on any thread."""
        return [waiting.tx for waiting in list(self._by_id.values())]

    def page(self, after: tuple[str, int], most: int) -> list[VerifiedTransaction]:
        """The first ones behind a sender and nonce, in that order; may be called on any thread, and looks at as many
        lanes as it answers transactions. What comes or leaves meanwhile may be in it or not."""
        first, nonce = after
        senders = nsmallest(most + 1, [sender for sender in list(self._lanes) if sender >= first])
        found: list[VerifiedTransaction] = []
        for sender in senders:
            if len(found) >= most:
                break
            lane = self._lanes.get(sender)
            behind = [
                (waiting.tx.tx.nonce, waiting.tx)
                for waiting in (list(lane.txs.values()) if lane else ())
                if sender > first or waiting.tx.tx.nonce > nonce
            ]
            found += [tx for _, tx in sorted(behind, key=itemgetter(0))[: most - len(found)]]
        return found

    def lane(self, sender: str) -> list[VerifiedTransaction]:
        """A sender's, in nonce order; may be called on any thread."""
        lane = self._lanes.get(sender)
        return sorted(
            [waiting.tx for waiting in list(lane.txs.values())] if lane else [], key=lambda tx: tx.tx.nonce
        )

    def reopen(self, abandoned: Iterable[VerifiedTransaction]) -> None:
        """The head went back over these: their senders' next nonces are earlier ones again."""
        for sender in dict.fromkeys([tx.tx.sender for tx in abandoned]):
            self._refresh(sender, self._accounts(sender))

    def expire(self, now_ms: int) -> list[VerifiedTransaction]:
        """Forget and return what has waited too long."""
        expired: list[VerifiedTransaction] = []
        for waiting in list(self._by_id.values()):
            if abs(now_ms - waiting.since_ms) <= MAX_WAIT_MS:  # a clock may have gone back
                break
            if waiting.tx.id not in self._in_block:
                self._drop(waiting)
                expired.append(waiting.tx)
        return expired

    def remove(self, tx: VerifiedTransaction) -> None:
        """Forget a transaction, if it waits."""
        waiting = self._by_id.get(tx.id)
        if waiting is not None:
            self._drop(waiting)

    def _drop(self, waiting: Waiting) -> None:
        self._forget(waiting)
        self._refresh(waiting.tx.tx.sender, self._accounts(waiting.tx.tx.sender))

    def _forget(self, waiting: Waiting) -> None:
        """Whoever calls this refreshes the sender when all of its transactions that leave have left."""
        tx = waiting.tx
        del self._by_id[tx.id]
        self._bytes -= tx.size
        self._in_block.discard(tx.id)
        if waiting.credit:
            del self._credits[waiting.credit]
        lane = self._lanes[tx.tx.sender]
        lane.remove(tx.tx.nonce)
        if not lane.txs:
            del self._lanes[tx.tx.sender]

    def _refresh(self, sender: str, account: Account) -> None:
        """Is the sender's next nonce here, and how many wait behind one that is not?"""
        following, lane = account.nonce + 1, self._lanes.get(sender)
        ahead = lane.unbroken(following) - following if lane else 0
        if ahead:
            self._ready[sender] = None
        else:
            self._ready.pop(sender, None)
        gapped = (len(lane.txs) if lane else 0) - ahead
        self._gapped_total += gapped - self._gapped.pop(sender, 0)
        if gapped:
            self._gapped[sender] = gapped


def _is_before(other: Waiting, newcomer: Waiting) -> bool:
    """Does the newcomer build on the other?"""
    return other.tx.tx.sender == newcomer.tx.tx.sender and other.tx.tx.nonce < newcomer.tx.tx.nonce
