"""What accounts hold, and how a block changes that. docs/spec/workshop.md "Rules"

Every change has its exact undo, so a reorganisation leaves nothing behind: not even an empty account.
"""

from typing import NoReturn

import msgspec

from aitbc.workshop.core.keys import is_signed
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import Block, Transaction


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    nonce: int = 0
    """That the next transaction must have."""


NOBODY = Account()

Undo = dict[bytes, Account | None]
"""What the accounts that a block touched were before; None for those that were not there."""


class Accounts:
    """The state after one block."""

    def __init__(self) -> None:
        self._accounts: dict[bytes, Account] = {}

    def __getitem__(self, key: bytes) -> Account:
        return self._accounts.get(key, NOBODY)

    def __len__(self) -> int:
        return len(self._accounts)

    def items(self) -> list[tuple[bytes, Account]]:
        return sorted(self._accounts.items())

    def apply_block(self, block: Block, rules: Rules) -> Undo:
        """Raises WorkshopFault, in the order of the chapter, and then has changed nothing."""
        undo: Undo = {}
        try:
            check_count(block, rules)
            for transaction in block.transactions:
                self.check(transaction)
                self._pay(transaction, undo)
        except WorkshopFault:
            self.take_back(undo)
            raise
        coinbase = self[block.coinbase]
        self._put(block.coinbase, Account(coinbase.balance + rules.reward, coinbase.nonce), undo)
        return undo

    def take_back(self, undo: Undo) -> None:
        for key, before in undo.items():
            if before is None:
                self._accounts.pop(key, None)
            else:
                self._accounts[key] = before

    def check(self, transaction: Transaction) -> None:
        """Whether it may come next."""
        sender = self[transaction.sender]
        if not is_signed(transaction):
            _refuse(WorkshopReason.BAD_SIGNATURE, transaction, "its key did not sign it")
        if transaction.amount < 0:
            _refuse(WorkshopReason.NEGATIVE_AMOUNT, transaction, f"amount {transaction.amount}")
        if transaction.nonce != sender.nonce:
            _refuse(WorkshopReason.WRONG_NONCE, transaction, f"{transaction.nonce}, not {sender.nonce}")
        if transaction.amount > sender.balance:
            _refuse(WorkshopReason.LOW_BALANCE, transaction, f"{transaction.amount} of {sender.balance}")

    def _pay(self, transaction: Transaction, undo: Undo) -> None:
        """Take, then give: who pays itself keeps its coins."""
        sender = self[transaction.sender]
        paid = Account(sender.balance - transaction.amount, sender.nonce + 1)
        self._put(transaction.sender, paid, undo)
        recipient = self[transaction.recipient]
        received = Account(recipient.balance + transaction.amount, recipient.nonce)
        self._put(transaction.recipient, received, undo)

    def _put(self, key: bytes, account: Account, undo: Undo) -> None:
        assert account.balance >= 0, "nobody owes"
        undo.setdefault(key, self._accounts.get(key))
        self._accounts[key] = account


def check_count(block: Block, rules: Rules) -> None:
    count = len(block.transactions)
    if count > rules.max_transactions and not rules.follow_overfull:
        raise WorkshopFault(
            WorkshopReason.TOO_MANY_TRANSACTIONS, f"{count} in a block; at most {rules.max_transactions}"
        )


def _refuse(reason: WorkshopReason, transaction: Transaction, message: str) -> NoReturn:
    raise WorkshopFault(reason, f"transaction {transaction.hash.hex()[:16]}: {message}")
