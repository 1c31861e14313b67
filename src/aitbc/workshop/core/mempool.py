"""Transactions that wait for a block. docs/spec/workshop.md "Mempool"

There are no fees, so whoever has a key can offer any number of them: what is kept is bounded by sender and in all, and
what could be paid now is kept before what could not.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NoReturn

import msgspec

from aitbc.workshop.core.accounts import Accounts
from aitbc.workshop.core.keys import ADDRESS_BYTES, is_signed
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.texts import Transaction

MAX_POOLED = 4_096
MAX_OF_SENDER = 16
"""Nonces from the account's own on: more than fit one block."""
POOLED_MS = 3_600_000
"""The reference forgets after one to two minutes, far less than it needs for a block."""
MAX_RECIPIENT = 64
"""Bytes; no spelling of a key is longer."""

Place = tuple[bytes, int]
"""Sender and nonce: at most one transaction for each, so a copy with the other s is not a second one."""


class Waiting(msgspec.Struct):
    transaction: Transaction
    came_ms: int


class Mempool:
    def __init__(self, accounts: Accounts) -> None:
        """`accounts`: at the tip, followed as they change."""
        self._accounts = accounts
        self._waiting: OrderedDict[Place, Waiting] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def transactions(self) -> list[Transaction]:
        return [one.transaction for one in self._waiting.values()]

    def has(self, transaction: Transaction) -> bool:
        one = self._waiting.get((transaction.sender, transaction.nonce))
        return one is not None and one.transaction == transaction

    def next_nonce(self, sender: bytes) -> int:
        """After what is on the chain and what waits without a gap."""
        nonce = self._accounts[sender].nonce
        while (sender, nonce) in self._waiting:
            nonce += 1
        return nonce

    def add(self, transaction: Transaction, now_ms: int) -> None:
        """Raises WorkshopFault. Whether the sender can pay is not asked: this node may not have all blocks yet. The
        signature is looked at last, because it costs most."""
        nonce = self._accounts[transaction.sender].nonce
        if len(transaction.sender) != ADDRESS_BYTES or len(transaction.recipient) > MAX_RECIPIENT:
            _refuse(
                WorkshopReason.UNUSUAL_KEY, "only compressed keys are passed on, and recipients of 64 bytes"
            )
        if transaction.amount < 0:
            _refuse(WorkshopReason.NEGATIVE_AMOUNT, f"amount {transaction.amount}")
        if transaction.nonce < nonce:
            _refuse(WorkshopReason.NONCE_USED, f"{transaction.nonce}; the account is at {nonce}")
        if transaction.nonce >= nonce + MAX_OF_SENDER:
            _refuse(WorkshopReason.NONCE_TOO_FAR, f"{transaction.nonce}; at most {nonce + MAX_OF_SENDER - 1}")
        place = (transaction.sender, transaction.nonce)
        if place in self._waiting:
            _refuse(WorkshopReason.NONCE_TAKEN, f"another transaction waits with nonce {transaction.nonce}")
        if not is_signed(transaction):
            _refuse(WorkshopReason.BAD_SIGNATURE, "its key did not sign it")
        self._make_room(transaction)
        self._waiting[place] = Waiting(transaction, now_ms)

    def take_from_branch(self, dropped: Iterable[Transaction], now_ms: int) -> None:
        """What a branch held that is no longer the chain waits again, if it still can."""
        for transaction in dropped:
            try:
                self.add(transaction, now_ms)
            except WorkshopFault:
                continue

    def follow(self) -> None:
        """The tip moved: what is on the chain waits no longer."""
        self._keep(lambda place, _: place[1] >= self._accounts[place[0]].nonce)

    def forget_old(self, now_ms: int) -> None:
        self._keep(lambda _, one: now_ms - one.came_ms < POOLED_MS)

    def choose(self, most: int) -> list[Transaction]:
        """What the next block can hold, in the order of arrival as far as nonces and balances allow."""
        balances: dict[bytes, int] = {}
        nonces: dict[bytes, int] = {}
        chosen: list[Transaction] = []

        def balance(key: bytes) -> int:
            return balances.setdefault(key, self._accounts[key].balance)

        left = list(self._waiting.values())
        progress = True
        while progress and len(chosen) < most:
            progress, later = False, []
            for one in left:
                transaction = one.transaction
                sender = transaction.sender
                nonce = nonces.setdefault(sender, self._accounts[sender].nonce)
                fits = transaction.nonce == nonce and transaction.amount <= balance(sender)
                if not fits or len(chosen) == most:
                    later.append(one)
                    continue
                nonces[sender] += 1
                balances[sender] = balance(sender) - transaction.amount
                balances[transaction.recipient] = balance(transaction.recipient) + transaction.amount
                chosen.append(transaction)
                progress = True
            left = later
        return chosen

    def _make_room(self, transaction: Transaction) -> None:
        if len(self._waiting) < MAX_POOLED:
            return
        hopeless = next(
            (place for place, one in self._waiting.items() if not self._payable(one.transaction)), None
        )
        if hopeless is None or not self._payable(transaction):
            _refuse(WorkshopReason.POOL_FULL, f"{MAX_POOLED} transactions wait")
        del self._waiting[hopeless]

    def _payable(self, transaction: Transaction) -> bool:
        return 0 < self._accounts[transaction.sender].balance >= transaction.amount

    def _keep(self, is_kept: Callable[[Place, Waiting], bool]) -> None:
        self._waiting = OrderedDict(
            (place, one) for place, one in self._waiting.items() if is_kept(place, one)
        )


def _refuse(reason: WorkshopReason, message: str) -> NoReturn:
    raise WorkshopFault(reason, message)
