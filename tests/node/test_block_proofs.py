"""Proofs out of blocks and states: a block is read once for all its transactions, and what does not fit is not
served."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.client.state_proofs import check_state_proof
from aitbc.core.executor import StateProof
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.node import block_proofs as module
from aitbc.node import runtime as runtime_module
from aitbc.node.block_proofs import BlockProofs
from aitbc.node.config import NodeConfig
from aitbc.node.proofs import ATTEMPTS, prove_record
from aitbc.node.runtime import NodeRuntime, SystemClock
from aitbc.node.service import NodeService
from aitbc.ports import StorageError, StoredTransaction
from support.chain import Chain
from support.people import ALICE, BOB

Json = dict[str, Any]
SIZES = (3, 1, 2)
"""Transactions of the blocks 1, 2, 3."""


class Watched(MemoryStore):
    """Counts the whole blocks that are read."""

    def __init__(self, genesis_hash: bytes) -> None:
        super().__init__(genesis_hash)
        self.read: list[int] = []

    def block_by_hash(self, block_hash: bytes) -> CommittedBlock | None:
        block = super().block_by_hash(block_hash)
        assert block is not None
        self.read.append(block.block.header.height)
        return block


@pytest.fixture
def store(chain: Chain) -> Watched:
    store = Watched(chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    for size in SIZES:
        nonce = chain.nonce(ALICE)
        pays = [
            chain.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce + n)
            for n in range(1, size + 1)
        ]
        store.commit(chain.executor.seal(chain.block(*pays), None))
    return store


def play(chain: Chain, store: Watched, story: Callable[[NodeRuntime], Coroutine[Any, Any, None]]) -> None:
    async def playing() -> None:
        node = NodeRuntime(chain.executor, store, scribe=None, clock=SystemClock())
        try:
            await story(node)
        finally:
            await node.stop()

    asyncio.run(playing())


def in_block(store: Watched, height: int) -> list[StoredTransaction]:
    return store.transactions_of(height, start=0, limit=100)


async def prove(proofs: BlockProofs, store: Watched, stored: StoredTransaction) -> Json:
    head = store.head_at(stored.height)
    assert head is not None
    return await proofs.prove(stored, head)


def test_a_block_is_read_once_however_many_ask_and_how_often(chain: Chain, store: Watched) -> None:
    async def story(node: NodeRuntime) -> None:
        proofs = BlockProofs(node)
        for _ in range(3):
            answers = await asyncio.gather(*[prove(proofs, store, stored) for stored in in_block(store, 1)])
            assert [answer["txProof"]["index"] for answer in answers] == [0, 1, 2]
        assert store.read == [1]

    play(chain, store, story)


def test_only_so_much_is_remembered(chain: Chain, store: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two blocks: the one that nobody has asked for longest goes."""

    async def story(node: NodeRuntime) -> None:
        proofs = BlockProofs(node)
        for height in (1, 2, 1, 3, 1, 2):
            await prove(proofs, store, in_block(store, height)[0])
        assert store.read == [1, 2, 3, 2]

    sizes = [module.make_nodes(store, item.hash).size for item in map(store.head_at, (1, 2, 3)) if item]
    assert sizes == [1024 + 2 * 5 * 32, 1024, 1024 + 2 * 2 * 32], "a list of one is its own root"
    store.read.clear()
    monkeypatch.setattr(module, "MAX_BYTES", sizes[0] + sizes[2])
    play(chain, store, story)


def test_too_many_other_blocks_at_once_are_refused(
    chain: Chain, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "MAX_READING_MUCH", 1)

    async def story(node: NodeRuntime) -> None:
        proofs = BlockProofs(node)
        asked = [prove(proofs, store, in_block(store, height)[0]) for height in (1, 1, 3)]
        first, same, other = await asyncio.gather(*asked, return_exceptions=True)
        assert first == same
        assert isinstance(other, Rejected) and other.reason == Reason.TOO_BUSY
        assert await prove(proofs, store, in_block(store, 3)[0])

    play(chain, store, story)


def test_a_transaction_that_its_block_does_not_have_is_not_proved(chain: Chain, store: Watched) -> None:
    """An index that was damaged leads to another block."""

    async def story(node: NodeRuntime) -> None:
        head = store.head_at(3)
        assert head is not None
        with pytest.raises(StorageError, match="block 1 does not have it"):
            await BlockProofs(node).prove(in_block(store, 1)[0], head)

    play(chain, store, story)


def test_a_whole_page_is_what_the_header_says(chain: Chain, store: Watched, tmp_path: Path) -> None:
    """Every transaction is one that was there, in another order."""
    real = store.transactions_of
    config = NodeConfig(genesis=chain.document, data=tmp_path)

    async def story(node: NodeRuntime) -> None:
        service = NodeService(config, node)
        assert len(service.block("1", start=0, limit=3)["txs"]) == 3
        store.transactions_of = lambda *args, **page: real(*args, **page)[::-1]  # type: ignore[method-assign]
        with pytest.raises(StorageError, match="block 1 on disk is damaged"):
            service.block("1", start=0, limit=3)

    play(chain, store, story)


def test_a_proof_that_a_block_has_overtaken_is_made_again(
    chain: Chain, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block became the head between the question and the proof, so the proof was of the state before."""
    real, made = chain.executor.prove, []

    def overtaken(name: str, key: str, *, height: int) -> StateProof:
        made.append(height)
        return real(name, key, height=height - 1 if len(made) == 1 else height)

    monkeypatch.setattr(chain.executor, "prove", overtaken)
    proof = prove_record(chain.executor, store, "accounts", ALICE.address, None)
    root = chain.executor.head.block.header.state_root.hex()
    assert check_state_proof(proof, root, store="accounts", key=ALICE.address) is not None
    assert made == [3, 3]


def test_a_proof_that_never_fits_is_not_served(
    chain: Chain, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = chain.executor.prove, []

    def wrong(name: str, key: str, *, height: int) -> StateProof:
        made.append(height)
        return real(name, key, height=height - 1)

    monkeypatch.setattr(chain.executor, "prove", wrong)
    with pytest.raises(Rejected) as caught:
        prove_record(chain.executor, store, "accounts", ALICE.address, None)
    assert caught.value.reason == Reason.TOO_BUSY
    assert len(made) == ATTEMPTS
