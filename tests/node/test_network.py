"""What a node does with what peers tell it before it can know better."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from aitbc.adapters.network.tcp import TcpTransport
from aitbc.core.codec.wire import pack
from aitbc.core.peer.kinds import CONSENSUS_GET, Kind, Status
from aitbc.core.peer.network import TransactionsCame
from aitbc.core.peer.peers import PeerSettings, Requested, Unreplied
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.node.network import NodeNetwork
from aitbc.node.queues import too_busy
from aitbc.node.runtime import SystemClock
from aitbc.node.talk.blocks import BlockRequest
from aitbc.node.talk.transactions import MAX_LATER, MAX_TRIES
from support.chain import Chain
from support.people import ALICE, BOB


class Behind:
    """A node whose head is so many blocks behind what its peers talk about."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.offered = 0
        self.taken: list[Transaction] = []

    async def take_transactions(self, txs: Sequence[tuple[bytes, Transaction]]) -> list[Rejected | None]:
        self.offered += len(txs)
        if self.blocks:
            return [Rejected(Reason.UNKNOWN_LOCK, "there is no such lock yet")] * len(txs)
        self.taken += [tx for _, tx in txs]
        return [None] * len(txs)


def network_of(host: Any) -> NodeNetwork:
    transport = TcpTransport(static=bytes([7]) * 32, prologue=b"", listen=None)
    settings = PeerSettings(key=transport.key, settings_hash=bytes(32), agent="test")
    return NodeNetwork(
        host=host,
        transport=transport,
        settings=settings,
        status=Status(0, bytes(32), 0),
        clock=SystemClock(),
    )


def play(host: Behind, transactions: list[Transaction], heads: int) -> None:
    async def story() -> None:
        network = network_of(host)
        await network.start()
        for tx in transactions:
            wid = len(tx.payload).to_bytes(16, "big") + tx.nonce.to_bytes(16, "big")
            await network.transactions.offer([(wid, pack(tx))])
        for height in range(1, heads + 1):
            host.blocks = max(0, host.blocks - 1)
            network.set_status(height=height, head_hash=bytes(32))
            await asyncio.sleep(0.05)
        await network.stop()

    asyncio.run(story())


def transfers(count: int) -> list[Transaction]:
    chain = Chain()
    payload = {"to": BOB.address, "amount": 1}
    return [chain.sign(ALICE, "TRANSFER", payload, nonce=nonce) for nonce in range(1, count + 1)]


def test_a_claim_that_comes_before_its_locks_block_is_taken_with_it() -> None:
    host = Behind(1)
    (tx,) = transfers(1)
    play(host, [tx], heads=3)
    assert (host.taken, host.offered) == ([tx], 2)


def test_what_is_wrong_is_not_offered_for_ever() -> None:
    host = Behind(100)
    play(host, transfers(1), heads=6)
    assert (host.taken, host.offered) == ([], MAX_TRIES)


def test_what_waits_for_the_next_head_is_bounded() -> None:
    host = Behind(1)
    play(host, transfers(MAX_LATER + 20), heads=1)
    assert len(host.taken) == MAX_LATER


class Failing:
    def __init__(self) -> None:
        self.failed = asyncio.Event()

    def fail(self, error: BaseException) -> None:
        assert isinstance(error, ZeroDivisionError)
        self.failed.set()


def test_a_bug_in_the_network_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its ticker a node would answer RPC for ever and never dial, ping or expire."""

    async def story() -> None:
        host = Failing()
        network = network_of(host)
        monkeypatch.setattr(network._network, "tick", lambda _now_ms: 1 // 0)
        await network.start()
        await asyncio.wait_for(host.failed.wait(), 5)
        await network.stop()

    asyncio.run(story())


class Overloaded:
    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]:
        raise too_busy("reads", 64)


def test_a_node_with_too_much_to_read_refuses_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(Overloaded())
    refused: list[Requested] = []
    monkeypatch.setattr(network._network, "refuse", lambda request: refused.append(request) or [])
    request = Requested(bytes(32), 1, 1, CONSENSUS_GET, pack(BlockRequest(bytes(32), 0)))
    asyncio.run(network.blocks.answer(request))
    assert refused == [request]


class Peers:
    """Those who say at once that they have no such block, and those who are still looking."""

    def __init__(self, have_none: set[bytes], looking: set[bytes]) -> None:
        self.peers = sorted(have_none | looking)
        self.have_none = have_none
        self.asked: list[bytes] = []
        self.searched: list[bytes] = []

    def ask(self, now_ms: int, key: bytes, kind: Kind, message: bytes, *, ticket: int) -> list[Any]:
        self.asked.append(key)
        refusal = Unreplied(key, ticket, kind, PeerReason.UNAVAILABLE, "no such block")
        return [refusal] if key in self.have_none else []

    def search(self, now_ms: int, kind: Kind, hash_: bytes) -> list[Any]:
        self.searched.append(hash_)
        return []


@pytest.mark.parametrize(("have_none", "looking", "asked"), [("ab", "c", 3), ("abc", "", 3), ("", "abc", 1)])
def test_a_block_that_one_peer_lacks_is_asked_of_the_next(have_none: str, looking: str, asked: int) -> None:
    network = network_of(Behind(0))
    peers = Peers({name.encode() for name in have_none}, {name.encode() for name in looking})
    network.wires.network = peers  # type: ignore[assignment]
    network.fetch(bytes(32), 7)
    assert len(peers.asked) == len(set(peers.asked)) <= asked
    assert looking == "" or peers.asked[-1].decode() in looking
    assert len(network.blocks.asked) == (1 if looking else 0)
    assert peers.searched == ([] if looking else [bytes(32)]), "when nobody has it, among theirs"


class Judging(Behind):
    """Says the same of everything."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(0)
        self.reason = reason

    async def take_transactions(self, txs: Sequence[tuple[bytes, Transaction]]) -> list[Rejected | None]:
        self.offered += len(txs)
        return [Rejected(self.reason, "so it is")] * len(txs)


@pytest.mark.parametrize(
    ("reason", "raw", "is_blamed", "is_kept"),
    [
        (Reason.MALFORMED, None, True, False),
        (Reason.BAD_SIGNATURE, None, True, False),
        (Reason.UNKNOWN_LOCK, None, False, True),
        (Reason.WRONG_KEY, None, False, True),
        (Reason.UNKNOWN_LOCK, b"\xc0", True, False),
    ],
    ids=["under another name", "forged", "too early", "a key of another block", "no transaction"],
)
def test_only_what_is_wrong_in_itself_is_held_against_its_giver(
    reason: Reason, raw: bytes | None, is_blamed: bool, is_kept: bool
) -> None:
    network = network_of(Judging(reason))
    blamed: list[bytes] = []
    mistaken: list[bytes] = []
    network.wires.penalise = lambda key, _: blamed.append(key)  # type: ignore[method-assign]
    network._network.mistaken = lambda _, wids: mistaken.extend(wids) or []  # type: ignore[method-assign]
    (tx,) = transfers(1)
    came = TransactionsCame(b"a" * 32, [(bytes(32), raw or pack(tx))])
    asyncio.run(network.transactions.take(came))
    assert blamed == ([b"a" * 32] if is_blamed else [])
    assert bool(network.transactions._later) == is_kept
    assert mistaken == ([bytes(32)] if is_blamed else []), "who else has announced it is asked"
    assert (bytes(32) in network._network._gossip._refused) == is_kept, "and may be asked"
