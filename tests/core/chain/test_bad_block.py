"""From a block that is refused for one of its transactions to evidence that the ledger takes."""

from typing import Any

import msgspec
import pytest

from aitbc.core.chain.bad_block import BlockFault, payload_of
from aitbc.core.chain.builder import InvalidTransaction, WrongBody
from aitbc.core.codec.canonical import plain_json
from aitbc.core.codec.digests import candidate_id, header_hash, vote_digest, wid_of
from aitbc.core.crypto.merkle import list_root
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.params import Params
from aitbc.core.ledger.transactions.evidence import MAX_PART_BYTES, _is_valid
from aitbc.core.types.blocks import Block, Candidate
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.sim import keys
from aitbc.sim.ledger import CUSTOMERS, HUB
from aitbc.sim.ledger import signed as signed_in_a_simulation
from support.ledger import Ledger
from support.people import ALICE, BOB, VALIDATOR

STAKE = 1_000


@pytest.fixture
def chain() -> Ledger:
    chain = Ledger(more=[VALIDATOR])
    chain.stake(VALIDATOR, STAKE)
    return chain


def block_with(chain: Ledger, *txs: Transaction) -> Block:
    """A child of the head whose other transactions are sound."""
    sound = chain.sign(BOB, "TRANSFER", {"to": ALICE.address, "amount": 1})
    timestamp_ms = chain.executor.head.block.header.timestamp_ms + 1
    built = chain.executor.build([], proposer=VALIDATOR.address, timestamp_ms=timestamp_ms)
    chain.executor.abandon()
    all_txs = [sound, *txs]
    root = list_root([wid_of(tx, chain.genesis_hash) for tx in all_txs])
    return Block(msgspec.structs.replace(built.block.header, txs_root=root), all_txs)


def fault_of(chain: Ledger, block: Block, index: int) -> BlockFault:
    """As its leader signed it."""
    candidate = Candidate(0, 7, 6, bytes(32), header_hash(block.header))
    names = {"chain_id": block.header.chain_id, "genesis_hash": chain.genesis_hash}
    digest = vote_digest(
        kind="candidate", epoch=0, slot=7, candidate=candidate_id(candidate, **names), **names
    )
    return BlockFault(
        validator=VALIDATOR.address,
        candidate=candidate,
        signature=VALIDATOR.sign(digest),
        block=block,
        index=index,
    )


def test_a_refused_block_names_the_transaction_and_that_jails_its_leader(chain: Ledger) -> None:
    block = block_with(chain, chain.forged())
    with pytest.raises(InvalidTransaction) as caught:
        chain.executor.apply(block)
    assert (caught.value.index, str(caught.value.reason)) == (1, "bad_signature")
    payload = plain_json(payload_of(fault_of(chain, block, 1), chain.genesis_hash))
    outcome = chain.do(BOB, "EVIDENCE", payload)
    assert outcome.events == [("jailed", VALIDATOR.address, 0)]
    assert chain.bond(VALIDATOR).amount == STAKE


def test_a_transaction_that_the_state_refuses_is_no_offence(chain: Ledger) -> None:
    early = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=99)
    block = block_with(chain, early)
    with pytest.raises(Rejected) as caught:
        chain.executor.apply(block)
    assert not isinstance(caught.value, InvalidTransaction)
    payload = plain_json(payload_of(fault_of(chain, block, 1), chain.genesis_hash))
    assert str(chain.do(BOB, "EVIDENCE", payload).reason) == "no_conflict"


def test_an_invalid_transaction_that_somebody_put_in_afterwards_is_not_the_leaders(chain: Ledger) -> None:
    block = block_with(chain)
    exchanged = Block(block.header, [*block.txs, chain.forged()])
    with pytest.raises(WrongBody):
        chain.executor.apply(exchanged)


def test_what_fits_into_no_transaction_is_not_shown(chain: Ledger) -> None:
    huge = msgspec.structs.replace(chain.forged(), payload=b"{" + b" " * MAX_PART_BYTES)
    with pytest.raises(Rejected, match="does not fit into evidence"):
        payload_of(fault_of(chain, block_with(chain, huge), 1), chain.genesis_hash)


@pytest.mark.parametrize("signer", [CUSTOMERS[0], HUB])
def test_a_transaction_is_judged_by_the_scheme_of_its_chain(signer: Any) -> None:
    """Simulations have a cheaper one, under which all that is honest once looked invalid."""
    genesis_hash = bytes(32)
    tx_id, tx = signed_in_a_simulation(
        CUSTOMERS[0], "TRANSFER", 1, {"to": HUB.address, "amount": 1}, genesis_hash=genesis_hash
    )
    tx = msgspec.structs.replace(tx, sig=signer.sign(tx_id))
    context = BlockContext(
        version=2,
        chain_id="",
        genesis_hash=genesis_hash,
        height=1,
        timestamp_ms=1,
        proposer="",
        parent=bytes(32),
        epoch_length=1,
        params=Params(),
        verify=keys.verify,
    )
    assert _is_valid(context, tx) == (signer is CUSTOMERS[0])
