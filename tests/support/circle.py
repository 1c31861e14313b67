"""Nodes that know blocks and transactions and nothing else: the real network part of each, over the memory
transport, on one event loop. What agreement would do with a proposal is four lines: keep its block, or have it
fetched."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from aitbc.adapters.network.memory import MemorySwitch, MemoryTransport
from aitbc.core.chain.builder import has_its_body
from aitbc.core.codec.digests import candidate_id, header_hash, vote_digest
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.messages import Proposal, Status, Verified, VerifiedProposal, Vote
from aitbc.core.ledger.validators import validators_of
from aitbc.core.peer import kinds
from aitbc.core.peer.kinds import Kind
from aitbc.core.peer.peers import PeerSettings
from aitbc.core.types.blocks import Block, Candidate, Certificate
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.node.network import NodeNetwork
from aitbc.node.runtime import SystemClock
from aitbc.node.subscriptions import Subscriptions
from support.chain import Chain
from support.people import VALIDATOR

AGAIN_S = 0.5
"""When a block that did not come is fetched again (docs/spec/simplex.md, rule 7)."""
LATENCY_MS = 5


class _Engine:
    """Everything that is of this epoch is of use."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        self.horizon = 10**6
        self.final_slot = 0

    def is_old(self, _message: Vote | Certificate) -> bool:
        return False

    def keeps(self, message: Verified) -> bool:
        return isinstance(message, VerifiedProposal)

    def status(self) -> Status:
        return Status(0, 0, 1)


class Friend:
    """A node of the circle."""

    def __init__(self, circle: "Circle", name: str, friends: Sequence[str]) -> None:
        self.name = name
        self.genesis_hash = circle.chain.genesis_hash
        self.executor = circle.chain.executor
        self.subscriptions = Subscriptions(0)
        self.known: dict[bytes, VerifiedTransaction] = {}
        self.blocks: dict[bytes, Block] = {}
        self.asked: Counter[str] = Counter()
        """What this node asked others, by kind."""
        self.whole: dict[bytes, float] = {}
        """When it had a block, on the loop's clock."""
        self.wanted: set[bytes] = set()
        self._engine = _Engine(circle.epoch)
        self.key = name.encode().ljust(32, b".")
        settings = PeerSettings(
            key=self.key,
            settings_hash=bytes(32),
            agent=name,
            max_peers=64,
            bootstrap=tuple(_where(friend) for friend in friends),
        )
        self.network = NodeNetwork(
            host=self,
            transport=_Line(circle.switch, self, _where(name)),
            settings=settings,
            status=kinds.Status(0, bytes(32), 0),
            clock=SystemClock(),
        )
        book = self.network._network._peering._dialler.book
        book.hear = lambda *_, **__: False  # type: ignore[method-assign]
        ask = self.network._network.ask

        def counted(now_ms: int, key: bytes, kind: Kind, message: Any, *, ticket: int) -> Any:
            self.asked[kind.name] += 1
            return ask(now_ms, key, kind, message, ticket=ticket)

        self.network._network.ask = counted  # type: ignore[method-assign]

    # What a node's network asks of its host

    def engine(self) -> Any:
        return self._engine

    def hear(self, peer: str, message: Verified, block: Block | None) -> None:
        if not isinstance(message, VerifiedProposal):
            return
        name = message.candidate.block_hash
        if block is not None:
            self._keep(name, block)
        elif name not in self.blocks and name not in self.wanted:
            self.want(name)

    def want(self, name: bytes) -> None:
        self.wanted.add(name)
        self._fetch(name)

    def _fetch(self, name: bytes) -> None:
        if name in self.wanted:
            self.network.fetch(name, 0)
            asyncio.get_running_loop().call_later(AGAIN_S, self._fetch, name)

    def _keep(self, name: bytes, block: Block) -> None:
        if has_its_body(block, self.genesis_hash):
            self.blocks[name] = block
            self.wanted.discard(name)
            self.whole.setdefault(name, asyncio.get_running_loop().time())

    def blocks_came(self, blocks: Sequence[tuple[bytes, Block]]) -> None:
        for name, block in blocks:
            if name in self.wanted:
                self._keep(name, block)

    async def take_transactions(self, txs: Sequence[tuple[bytes, Transaction]]) -> list[Rejected | None]:
        return [None] * len(txs)

    async def read_blocks(self, block_hash: bytes, above: int, *, most: int) -> list[Block]:
        block = self.blocks.get(block_hash)
        return [] if block is None else [block]

    def envelopes(self) -> list[VerifiedTransaction]:
        return list(self.known.values())

    def wids(self, block_hash: bytes) -> list[bytes] | None:
        return None

    def has_transaction(self, wid: bytes) -> bool:
        return wid in self.known

    def transaction(self, wid: bytes) -> bytes | None:
        tx = self.known.get(wid)
        return None if tx is None else pack(tx.tx)

    def fail(self, error: BaseException) -> None:
        raise error

    # What a test asks

    def holds(self, *txs: VerifiedTransaction) -> None:
        self.known.update({tx.wid: tx for tx in txs})

    @property
    def points(self) -> int:
        """That others have for anything."""
        return sum(view.points for view in self.network.view())

    @property
    def friends(self) -> set[str]:
        return {key.rstrip(b".").decode() for key in self.network._network.peers}


class _Line(MemoryTransport):
    """Events come from the loop, as the port promises, and are counted in bytes."""

    def __init__(self, switch: MemorySwitch, friend: Friend, where: str) -> None:
        super().__init__(switch, key=friend.key, where=where)
        self.sent = 0

    async def start(self, hear: Any, admits: Any) -> str:
        loop = asyncio.get_running_loop()
        return self.start_now(lambda event: loop.call_soon(hear, event), admits)

    def send(self, effect: Any) -> None:
        self.sent += len(effect.data)
        super().send(effect)


class Circle:
    """`async with Circle({"a": "", "b": "a"}) as circle`: b dials a; inside, everybody is connected and nobody
    hears of others."""

    def __init__(self, friends: dict[str, str], *, latency_ms: int = LATENCY_MS) -> None:
        """Name → names that it dials, with spaces between."""
        self.chain = Chain()
        self.epoch = Epoch(
            number=0,
            validators=validators_of(self.chain.executor.state.tip()),
            leaders=lambda slot: 0,
            last_height=1_000,
            chain_id="ait-test",
            genesis_hash=self.chain.genesis_hash,
        )
        self.switch = MemorySwitch(
            lambda delay_ms, action: asyncio.get_running_loop().call_later(delay_ms / 1000, action),
            latency_ms=lambda _a, _b: latency_ms,
        )
        self.friends = {name: Friend(self, name, dials.split()) for name, dials in friends.items()}
        self._dials = friends

    def __getitem__(self, name: str) -> Friend:
        return self.friends[name]

    async def __aenter__(self) -> "Circle":
        for friend in self.friends.values():
            await friend.network.start()
        await until(
            lambda: all(set(dials.split()) <= self[name].friends for name, dials in self._dials.items())
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for friend in self.friends.values():
            await friend.network.stop()

    def propose(self, leader: str, block: Block, *, slot: int = 1) -> bytes:
        """Have a node tell the validator's proposal of a block; returns the block's hash."""
        name = header_hash(block.header)
        self[leader].blocks[name] = block
        self[leader].network.tell(self.proposal(name, slot=slot), None, block)
        return name

    def proposal(self, block_hash: bytes, *, slot: int = 1) -> Proposal:
        candidate = Candidate(0, slot, 0, bytes(32), block_hash)
        digest = vote_digest(
            kind="candidate",
            epoch=0,
            slot=slot,
            candidate=candidate_id(candidate, "ait-test", self.chain.genesis_hash),
            chain_id="ait-test",
            genesis_hash=self.chain.genesis_hash,
        )
        return Proposal(candidate, VALIDATOR.sign(digest), [])

    def block(self, *txs: VerifiedTransaction) -> Block:
        return self.chain.block(*txs).block

    async def all_have(self, name: bytes, within_s: float = 5) -> None:
        await until(lambda: all(name in friend.blocks for friend in self.friends.values()), within_s)


async def until(what: Any, within_s: float = 5) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while not what():
        assert loop.time() < end, f"not within {within_s} s"
        await asyncio.sleep(0.005)


def _where(name: str) -> str:
    """An address in a network of its own."""
    number = sum(byte << 8 * place for place, byte in enumerate(name.encode()[:2]))
    return f"{20 + number % 200}.{number // 200 % 250}.0.1:7070"
