"""Texts, hashes, keys and signatures against what the reference implementation made."""

from hashlib import sha1, sha256

import pytest

from aitbc.workshop.core.accounts import Accounts
from aitbc.workshop.core.chain import check_work
from aitbc.workshop.core.keys import WorkshopKey, is_address, is_signed
from aitbc.workshop.core.reasons import WorkshopFault, WorkshopReason
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import GENESIS, Transaction, parse_block, parse_transaction
from support.workshop import ALICE, BLOCKS, BOB, KEYS, TRANSACTIONS, VECTORS, named


@pytest.mark.parametrize("name", KEYS)
def test_a_key_has_its_address(name: str) -> None:
    assert KEYS[name].secret == sha256(f"bcws-vector-{name}".encode()).digest()[:24]
    assert KEYS[name].address.hex() == named("keys", "address")[name]
    assert is_address(KEYS[name].address)


@pytest.mark.parametrize("vector", VECTORS["transactions"], ids=lambda one: one["name"])
def test_a_transaction_is_read_written_hashed_and_signed_alike(vector: dict[str, str]) -> None:
    transaction = parse_transaction(vector["text"])
    assert transaction.text == vector["text"]
    assert transaction.hash.hex() == vector["hash"]
    assert sha1(transaction.signed_text.encode()).hexdigest() == vector["signed_sha1"]
    assert is_signed(transaction)
    signer = next(key for key in KEYS.values() if key.address == transaction.sender)
    again = signer.pay(recipient=transaction.recipient, nonce=transaction.nonce, amount=transaction.amount)
    assert again.text == vector["text"]


@pytest.mark.parametrize("vector", VECTORS["blocks"], ids=lambda one: one["name"])
def test_a_block_is_read_written_and_hashed_alike(vector: dict[str, str]) -> None:
    block = parse_block(vector["text"])
    assert (block.text, block.hash.hex()) == (vector["text"], vector["hash"])
    if block != GENESIS:
        check_work(block, Rules())


def test_genesis_is_the_vectors() -> None:
    assert BLOCKS["genesis"] == GENESIS


@pytest.mark.parametrize("vector", VECTORS["odd"], ids=lambda one: one["name"])
def test_odd_signatures(vector: dict[str, object]) -> None:
    assert is_signed(parse_transaction(str(vector["text"]))) == vector["taken"], vector["why"]


@pytest.mark.parametrize("vector", VECTORS["refused_spellings"], ids=lambda one: one["name"])
def test_another_spelling_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(WorkshopFault) as refused:
        parse_block(vector["block"]) if "block" in vector else parse_transaction(vector["transaction"])
    assert refused.value.reason is WorkshopReason.BAD_TEXT


def spelled(sender: bytes) -> Transaction:
    unsigned = Transaction(sender, BOB.address, 0, 0, b"")
    return Transaction(sender, BOB.address, 0, 0, ALICE.sign(unsigned.signed_text))


FULL = bytes.fromhex(VECTORS["keys"][0]["uncompressed"])
ODD = FULL[-1] & 1


@pytest.mark.parametrize(
    ("sender", "is_good"),
    [
        (ALICE.address, True),
        (FULL, True),
        (FULL[1:], True),
        (bytes([6 + ODD]) + FULL[1:], True),
        (bytes([7 - ODD]) + FULL[1:], False),
        (bytes([5]) + ALICE.address[1:], False),
        (FULL[:-1] + bytes([FULL[-1] ^ 1]), False),
        (b"", False),
        (b"\0", False),
        (BOB.address, False),
    ],
)
def test_spellings_of_one_key_are_accounts_of_their_own(sender: bytes, is_good: bool) -> None:
    """As the reference verifier has it: a chain with these would otherwise end here."""
    assert is_signed(spelled(sender)) == is_good


@pytest.mark.parametrize("secret", [b"", bytes(24), b"\xff" * 24, bytes(25)])
def test_no_key_from_bytes_that_are_none(secret: bytes) -> None:
    with pytest.raises(ValueError, match="private key"):
        WorkshopKey(secret)


def test_paying_oneself_nothing_and_nobody_are_fine() -> None:
    """None of this is checked by the network, so none of it may be refused in a block."""
    accounts = Accounts()
    for recipient in (ALICE.address, b"", bytes(300)):
        accounts.check(ALICE.pay(recipient=recipient, nonce=0, amount=0))


def test_the_reasons_that_the_vectors_need_are_all_there() -> None:
    assert set(TRANSACTIONS) == {"t1", "t2", "t_future_nonce"}
