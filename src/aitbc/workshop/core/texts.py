"""Transactions and blocks as texts, and the hashes over them. docs/spec/workshop.md "Texts"

A text has one spelling: what the parser takes, it would write again byte for byte. The reference implementation reads
more spellings (spaces, `+1`, upper case) but hashes and serves the one form, so its whole chain is readable here.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import NoReturn

from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason

HASH_BYTES = 32
MAX_BLOCK_TEXT = 1024 * 1024 - 1024
"""Fits a frame of 1 MiB. Ten ordinary transactions take 2.5 kB; a recipient may be long, no rule bounds it."""
MAX_DIGITS = 4_300
"""The most that CPython turns into an integer by default, so the most that a reference node can read."""

_INTEGER = re.compile(rf"0|-?[1-9][0-9]{{0,{MAX_DIGITS - 1}}}")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True)
class Transaction:
    """As it was read: nothing of it is checked but its spelling."""

    sender: bytes
    """A public key, in one of four spellings; each is an account of its own."""
    recipient: bytes
    """Any bytes, also none: the rules do not check it."""
    nonce: int
    amount: int
    signature: bytes

    @cached_property
    def signed_text(self) -> str:
        return f"{self.sender.hex()},{self.recipient.hex()},{self.nonce},{self.amount}"

    @cached_property
    def text(self) -> str:
        return f"{self.signed_text},{self.signature.hex()}"

    @cached_property
    def hash(self) -> bytes:
        return sha256(self.text.encode()).digest()


@dataclass(frozen=True)
class Block:
    """As it was read: nothing of it is checked but its spelling."""

    number: int
    nonce: int
    parent: bytes
    coinbase: bytes
    transactions: tuple[Transaction, ...] = ()

    @cached_property
    def around_nonce(self) -> tuple[str, str]:
        """What stands before and after the nonce: all that a miner needs to know."""
        after = [self.parent.hex(), self.coinbase.hex(), *(one.text for one in self.transactions)]
        return f"{self.number}:", ":" + ":".join(after)

    @cached_property
    def text(self) -> str:
        before, after = self.around_nonce
        return f"{before}{self.nonce}{after}"

    @cached_property
    def hash(self) -> bytes:
        return sha256(self.text.encode()).digest()


GENESIS = Block(number=0, nonce=0, parent=bytes(32), coinbase=bytes(33))
"""Its coinbase has 33 bytes where all others have 25; nothing was ever paid to it."""


def parse_transaction(text: str) -> Transaction:
    parts = text.split(",", 5)
    if len(parts) != 5:
        _bad(f"a transaction has five parts, this has {len(parts)} or more")
    sender, recipient, nonce, amount, signature = parts
    return Transaction(_hex(sender), _hex(recipient), _integer(nonce), _integer(amount), _hex(signature))


def parse_block(text: str) -> Block:
    if len(text) > MAX_BLOCK_TEXT:
        raise WorkshopFault(
            WorkshopReason.TEXT_TOO_LARGE, f"a block of {len(text)} characters; at most {MAX_BLOCK_TEXT}"
        )
    number, *rest = text.split(":")
    if len(rest) < 3:
        _bad(f"a block has at least four parts, this has {len(rest) + 1}")
    nonce, parent, coinbase, *transactions = rest
    if len(parent) != 2 * HASH_BYTES:
        _bad(f"a parent of {len(parent)} characters")
    return Block(
        _integer(number),
        _integer(nonce),
        _hex(parent),
        _hex(coinbase),
        tuple(parse_transaction(one) for one in transactions),
    )


def decode_text(payload: bytes) -> str:
    try:
        return payload.decode("ascii")
    except UnicodeDecodeError:
        _bad("a text that is not ASCII")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        _bad(f"{text[:40]!r} is no integer as this network writes them")
    return int(text)


def _hex(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        _bad(f"{text[:40]!r} is no lower-case hexadecimal")
    return bytes.fromhex(text)


def _bad(message: str) -> NoReturn:
    raise WorkshopFault(WorkshopReason.BAD_TEXT, message)
