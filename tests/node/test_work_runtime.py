"""The loop of a node that agrees by work: it mines alone, says how final things are, and comes back from its disk."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from aitbc.adapters.http.problems import Problem
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.executor import Executor
from aitbc.core.types.reasons import Reason, Rejected, Stops
from aitbc.node.config import NodeConfig
from aitbc.node.runtime import SystemClock
from aitbc.node.service import NodeService
from aitbc.node.work_runtime import Author, WorkRuntime, check_author
from aitbc.node.work_view import work_view
from aitbc.ports import StorageError
from support.chain import Chain
from support.people import ALICE, BOB, EVE, person
from support.work import FAST, REWARD, work_genesis
from support.work_host import Host, Maker

MINER = person("miner")


async def _nothing() -> Any:
    """Of a client that has said what it wants and stays."""
    await asyncio.Event().wait()


PATIENT = Request({"type": "http"}, receive=_nothing)
QUICK = msgspec.structs.replace(FAST, difficulty=2_000, interval_ms=50, finality_depth=3)
Story = Callable[[WorkRuntime], Awaitable[None]]


def author(**changes: Any) -> Author:
    return Author(**{"address": MINER.address, "signer": MINER, "workers": 1, "extra": b"hello", **changes})


def play(story: Story, chain: Chain, store: MemoryStore, *, mines: bool = True) -> None:
    async def run() -> None:
        node = WorkRuntime(
            Executor(chain.document, store.load()),
            store,
            author=author() if mines else None,
            clock=SystemClock(),
        )
        node.start()
        await node.start_miner()
        try:
            async with asyncio.timeout(60):
                await story(node)
        finally:
            await node.stop()
        assert node.failure is None

    asyncio.run(run())


def begun(**settings: Any) -> tuple[Chain, MemoryStore]:
    genesis = work_genesis(msgspec.structs.replace(QUICK, **settings))
    chain = Chain(genesis)
    store = MemoryStore(chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    return chain, store


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.02)


def test_a_lone_miner_makes_blocks_takes_a_payment_and_says_how_final_it_is() -> None:
    chain, store = begun()
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5, "data": "rent"}, nonce=1)

    async def story(node: WorkRuntime) -> None:
        service = NodeService(NodeConfig(genesis=chain.document, data=Path()), node)
        tx_id = await node.submit(tx)
        first = await service.transaction(tx_id, request=PATIENT, wait_s=50, proof=False, included=True)
        assert first["status"] in ("included", "final")
        last = await service.transaction(tx_id, request=PATIENT, wait_s=50, proof=False)
        assert (last["status"], last["final"]) == ("final", True)
        assert last["confirmations"] > 3
        head = service.head()
        assert (head["confirmations"], head["final"]) == (1, False)
        block = service.block(str(last["height"]), start=0, limit=10)
        assert (block["extra"], block["final"]) == (b"hello".hex(), True)
        view = work_view(node)
        assert (view["part"], view["mode"], view["nextReward"]) == ("mines", "pow", REWARD)
        assert view["mined"] >= view["height"] - 1
        assert view["finalHeight"] >= last["height"]
        with pytest.raises(Rejected) as again:
            await node.submit(chain.sign(ALICE, "TRANSFER", {"to": EVE.address, "amount": 9}, nonce=1))
        assert again.value.reason == Reason.BAD_NONCE

    play(story, chain, store)
    stored = store.load()
    assert stored is not None
    height = stored.head.block.header.height

    async def once_more(node: WorkRuntime) -> None:
        assert node.executor.head.block.header.height == height
        await until(lambda: node.executor.head.block.header.height > height + 1)

    play(once_more, chain, store)
    assert Executor(chain.document, store.load()).state.account(MINER.address).balance > height * REWARD


def test_a_wait_for_finality_ends_with_its_time() -> None:
    chain, store = begun(finality_depth=60)
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=1)

    async def story(node: WorkRuntime) -> None:
        service = NodeService(NodeConfig(genesis=chain.document, data=Path()), node)
        tx_id = await node.submit(tx)
        await node.wait_included(tx_id, 50)
        answer = await service.transaction(tx_id, request=PATIENT, wait_s=0.2, proof=False)
        assert (answer["status"], answer["final"]) == ("included", False)

    play(story, chain, store)


def test_transactions_that_waited_at_the_end_wait_again() -> None:
    chain, store = begun(empty_blocks=False, difficulty=2**52)
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=1)

    async def sent(node: WorkRuntime) -> None:
        await node.submit(tx)

    async def waits(node: WorkRuntime) -> None:
        await until(lambda: node.replica.mempool.waiting())

    play(sent, chain, store)
    play(waits, chain, store)


def test_who_only_follows_takes_blocks_and_no_orders_to_mine() -> None:
    maker = Maker()
    host = Host(maker.document)
    host.show(*maker.grow(2))
    chain = Chain(work_genesis())

    async def story(node: WorkRuntime) -> None:
        assert node.miner is None
        assert work_view(node)["part"] == "follows"
        with pytest.raises(Rejected) as refused:
            await node.submit(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=1))
        assert refused.value.reason == Reason.CANNOT_INCLUDE

    play(story, chain, host.store, mines=False)


@pytest.mark.parametrize(
    ("miners", "changes", "said"),
    [
        ((), {"address": "me"}, "bad_address"),
        ((), {"extra": bytes(257)}, "257 bytes"),
        ((BOB,), {}, "not among them"),
        ((BOB,), {"signer": None}, "not among them"),
        ((MINER,), {"address": EVE.address}, "leave --mine-to out"),
    ],
)
def test_an_author_that_never_could_is_told_so(
    miners: tuple[Any, ...], changes: dict[str, Any], said: str
) -> None:
    executor = Chain(work_genesis(miners=miners)).executor
    with pytest.raises((Stops, Rejected), match=said):
        check_author(executor, author(**changes))
    check_author(Chain(work_genesis(miners=(MINER,))).executor, author())
    check_author(Chain(work_genesis()).executor, author(signer=None))


def test_there_are_no_certificates_and_no_validators_to_ask_for() -> None:
    chain, store = begun()

    async def story(node: WorkRuntime) -> None:
        service = NodeService(NodeConfig(genesis=chain.document, data=Path()), node)
        await until(lambda: node.executor.head.block.header.height > 1)
        assert await service.validators(None) == {"epoch": 0, "items": []}
        with pytest.raises(Problem, match="final by depth"):
            await service.finality(1)

    play(story, chain, store)


def test_what_is_read_while_a_branch_is_switched_is_read_again() -> None:
    chain, store = begun()

    async def story(node: WorkRuntime) -> None:
        reads: list[int] = []

        def torn() -> str:
            reads.append(1)
            if len(reads) < 3:
                node._switches += 1
                raise StorageError("two halves of two branches")
            return "whole"

        def damaged() -> str:
            raise StorageError("really damaged")

        assert await node.read(torn) == "whole"
        for read in (node.read, node.read_much):
            with pytest.raises(StorageError, match="really"):
                await read(damaged)

    play(story, chain, store, mines=False)
