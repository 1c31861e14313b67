"""A stored chain is believed when everything in it fits: state, history, certificate and the sum of all coins."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.core import executor as module
from aitbc.core.chain.builder import WrongBody
from aitbc.core.executor import Executor, RememberedVerifier
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Block, Certificate, CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import StoredChain
from support.chain import Chain, certificate_of, genesis
from support.people import ALICE, BOB, EVE, VALIDATOR


def stored_chain(
    chain: Chain,
    *,
    certificate: Certificate | None = None,
    before: list[tuple[str, str, bytes | None]] | None = None,
) -> StoredChain:
    """What a store would hold of the chain; the head under the validator's real certificate or another one."""
    state, head = chain.executor.state, chain.executor.head
    if head.block.header.height:
        proof = certificate or certificate_of(head.hash, chain.genesis_hash)
        head = msgspec.structs.replace(head, certificate=proof)
    records = {
        store: sorted((state.index_of(store, key), key, data) for key, data in rows.items())
        for store, rows in state.data.items()
    }
    return StoredChain(
        genesis_hash=chain.genesis_hash,
        head=head,
        history_peaks=chain.executor.tip.peaks,
        records=records,
        before_head=before or [],
    )


@pytest.fixture
def chain() -> Chain:
    chain = Chain()
    for _ in range(3):
        assert chain.do(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}).ok
    return chain


def refusal(chain: Chain, stored: StoredChain) -> Rejected:
    with pytest.raises(Rejected) as caught:
        Executor(chain.document, stored)
    return caught.value


def test_a_whole_chain_is_believed(chain: Chain) -> None:
    executor = Executor(chain.document, stored_chain(chain))
    assert executor.state.data == chain.executor.state.data
    assert executor.head.hash == chain.executor.head.hash


def of_the_parent(chain: Chain) -> Certificate:
    """A real one, for the block before."""
    return certificate_of(chain.executor.head.block.header.parent, chain.genesis_hash)


def with_the_hash_replaced(chain: Chain) -> Certificate:
    """The parent's signature under this block's name."""
    real = of_the_parent(chain)
    candidate = msgspec.structs.replace(real.candidate, block_hash=chain.executor.head.hash)
    return msgspec.structs.replace(real, candidate=candidate)


WRONG_CERTIFICATES: list[tuple[str, Callable[[Chain], Certificate], Reason, str]] = [
    (
        "signed by Eve",
        lambda chain: certificate_of(chain.executor.head.hash, chain.genesis_hash, signer=EVE),
        Reason.BAD_CERTIFICATE,
        "is not good",
    ),
    ("the parent's, renamed", with_the_hash_replaced, Reason.BAD_CERTIFICATE, "is not good"),
    ("the parent's, as it is", of_the_parent, Reason.DAMAGED, "the certificate of the stored block 3 is another's"),
    (
        "of another chain",
        lambda chain: certificate_of(chain.executor.head.hash, bytes(32)),
        Reason.BAD_CERTIFICATE,
        "is not good",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("story", "make", "reason", "why"), WRONG_CERTIFICATES, ids=[row[0] for row in WRONG_CERTIFICATES]
)
def test_a_head_that_the_validator_did_not_sign_is_refused(
    chain: Chain, story: str, make: Callable[[Chain], Certificate], reason: Reason, why: str
) -> None:
    caught = refusal(chain, stored_chain(chain, certificate=make(chain)))
    assert caught.reason == reason
    assert why in caught.message


def test_a_head_without_a_certificate_is_refused(chain: Chain) -> None:
    stored = stored_chain(chain)
    bare = msgspec.structs.replace(stored, head=msgspec.structs.replace(stored.head, certificate=None))
    caught = refusal(chain, bare)
    assert (caught.reason, caught.message) == (Reason.DAMAGED, "the stored block 3 has no certificate")


def test_a_genesis_block_of_another_document_is_refused() -> None:
    """The same accounts a second later: the state fits, the block is another."""
    document = genesis()
    here = Chain(document)
    there = Chain(msgspec.structs.replace(document, timestamp=document.timestamp + 1))
    assert here.executor.state.root() == there.executor.state.root()
    caught = refusal(here, stored_chain(there))
    assert caught.reason == Reason.DAMAGED
    assert caught.message == "the stored genesis block is not the one of this genesis.json"


def shifted(rows: list[tuple[int, str, bytes]]) -> list[tuple[int, str, bytes]]:
    return [*rows[:-1], (rows[-1][0] + 1, *rows[-1][1:])]


def one_slot_for_two(rows: list[tuple[int, str, bytes]]) -> list[tuple[int, str, bytes]]:
    return [*rows[:-1], (rows[-2][0], *rows[-1][1:])]


def one_key_twice(rows: list[tuple[int, str, bytes]]) -> list[tuple[int, str, bytes]]:
    return [*rows[:-1], (rows[-1][0], rows[0][1], rows[-1][2])]


@pytest.mark.parametrize(
    ("bend", "message"),
    [
        (shifted, "the stored state is not the state of block 3"),
        (one_slot_for_two, "store accounts has a slot or a key twice, or an empty key"),
        (one_key_twice, "store accounts has a slot or a key twice, or an empty key"),
    ],
)
def test_records_out_of_place_are_refused(chain: Chain, bend: Any, message: str) -> None:
    stored = stored_chain(chain)
    records = {**stored.records, "accounts": bend(stored.records["accounts"])}
    caught = refusal(chain, msgspec.structs.replace(stored, records=records))
    assert (caught.reason, caught.message) == (Reason.DAMAGED, message)


def test_a_history_of_another_chain_is_refused(chain: Chain) -> None:
    stored = msgspec.structs.replace(stored_chain(chain), history_peaks=[(0, bytes(32))])
    caught = refusal(chain, stored)
    assert (caught.reason, caught.message) == (
        Reason.DAMAGED,
        "the stored history peaks are not those of the head",
    )


def test_what_the_journal_has_lost_meanwhile_is_refused_and_stops_nothing(chain: Chain) -> None:
    """A full block may cut the journal between a question's check and its proof."""
    state = chain.executor.state
    assert state.depth == 3
    state.prove("accounts", ALICE.address, back=3)
    state.forget_journal()
    for back in (3, 1, -1):
        with pytest.raises(Rejected) as caught:
            state.prove("accounts", ALICE.address, back=back)
        assert caught.value.reason == Reason.OUT_OF_RANGE
    assert caught.value.message == "proofs reach 0 blocks back, not -1; older states are not kept"


def test_many_bad_signatures_push_no_good_one_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Good and bad ones are remembered apart; of the bad ones only the newest."""
    monkeypatch.setattr(module, "MEMORY_OF_BAD_ONES", 2)
    checked: list[bytes] = []

    def check(_key: bytes, _digest: bytes, signature: bytes) -> bool:
        checked.append(signature)
        return signature == b"good"

    verifier = RememberedVerifier(check)
    signatures = [b"good", b"bad 1", b"bad 2", b"bad 3", b"good", b"bad 3", b"bad 2", b"bad 1"]
    assert [verifier(b"key", b"digest", signature) for signature in signatures] == [
        signature == b"good" for signature in signatures
    ]
    assert checked == [b"good", b"bad 1", b"bad 2", b"bad 3", b"bad 1"]


def test_a_state_with_a_coin_too_many_is_not_started_from_even_when_the_head_signs_it(chain: Chain) -> None:
    """A validator's own mistake, long ago: every hash and signature fits, only the sum does not."""
    forged = Overlay(chain.executor.state)
    forged.credit(EVE.address, AIT)
    chain.executor.state.stage(forged.writes)
    chain.executor.state.publish()
    built = chain.executor.build([], proposer=VALIDATOR.address, timestamp_ms=chain.now_ms + 1_000)
    certificate = certificate_of(built.hash, chain.genesis_hash)
    chain.executor.publish(built, CommittedBlock(built.block, built.hash, [], certificate))
    with pytest.raises(Rejected, match="what is held equals the supply"):
        Executor(chain.document, stored_chain(chain))


def test_exchanged_transactions_are_not_blamed_on_the_block() -> None:
    """A header's hash says nothing about what travels beside it."""
    here, there = Chain(), Chain()
    block = here.block(here.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5})).block
    with pytest.raises(WrongBody):
        there.executor.apply(Block(block.header, []))
    bent = msgspec.structs.replace(block.header, state_root=bytes(32))
    with pytest.raises(Rejected) as caught:
        there.executor.apply(Block(bent, block.txs))
    assert not isinstance(caught.value, WrongBody)
    assert there.executor.apply(block).block == block


def test_what_the_executor_has_forgotten_can_still_be_published() -> None:
    chain = Chain()
    chain.executor.branches.limit = 1
    first, second = (
        chain.executor.build([], proposer=VALIDATOR.address, timestamp_ms=chain.now_ms + at, parent=b"")
        for at in (1, 2)
    )
    assert first.hash not in chain.executor.branches
    certificate = certificate_of(first.hash, chain.genesis_hash)
    chain.executor.publish(first, chain.executor.seal(first, certificate).block)
    assert chain.executor.head.hash == first.hash
    assert second.hash not in chain.executor.branches
