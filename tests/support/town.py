"""Whole nodes under virtual time: the real loop of a node with its replica, executor, ledger, log, guard, mempool,
peering, gossip, compact blocks, searches and range sync, over roads that delay and can be cut.

`aitbc.sim` cannot do this: programs do not import each other. What is not real here: sockets and encryption
(`MemoryTransport`), disks of blocks (`MemoryStore`), and that threads run beside each other.
"""

import asyncio
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path

from aitbc.adapters.network.memory import MemorySwitch, MemoryTransport
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.client.signing import KeySigner
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount
from aitbc.core.peer.book import BookRecord
from aitbc.core.peer.kinds import Status
from aitbc.core.peer.links import LinkEvent
from aitbc.core.peer.peers import VOTES, PeerSettings
from aitbc.core.types.amounts import AIT
from aitbc.core.types.transactions import Transaction
from aitbc.node.agreement import open_scribe
from aitbc.node.book import BookKeeper
from aitbc.node.network import NodeNetwork
from aitbc.node.runtime import NodeRuntime
from support.chain import START_MS, Chain, genesis
from support.people import ALICE, BOB, person

EPOCH = 12
"""Blocks; few, so that a node is soon epochs behind."""
BEGIN_MS = START_MS + 3_600_000


class VirtualClock:
    """The loop's; threads ask, too."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now_ms(self) -> int:
        return BEGIN_MS + round(self._loop.time() * 1000)


class Memory(BookKeeper):
    """An address book that outlives a node without a disk."""

    def __init__(self) -> None:
        self.record: BookRecord | None = None

    def load(self) -> BookRecord | None:
        return self.record

    def save(self, record: BookRecord) -> None:
        self.record = record


class _Heard(MemoryTransport):
    """Adds what arrives to the story of the town."""

    def __init__(self, town: "Town", *, key: bytes, where: str) -> None:
        super().__init__(town.switch, key=key, where=where)
        self._town = town

    def _tell(self, event: LinkEvent) -> None:
        now_ms = round(asyncio.get_running_loop().time() * 1000)
        self._town.digest.update(f"{now_ms} {self.where} {event!r}".encode())
        self._town.events += 1
        super()._tell(event)


class TownNode:
    """`key`: a validator's; None: a relay."""

    def __init__(self, town: "Town", place: int, key: KeySigner | None) -> None:
        self.town, self.place, self.key = town, place, key
        self.name = f"n{place}"
        self.where = f"{20 + place}.{place}.0.1:7070"
        self.store = MemoryStore(town.chain.genesis_hash)
        self.book = Memory()
        self.lives = 0
        self.is_up = False

    @property
    def height(self) -> int:
        return self.runtime.executor.head.block.header.height

    @property
    def head(self) -> bytes:
        return self.runtime.executor.head.hash

    async def start(self) -> None:
        self.lives += 1
        self.is_up = True
        chain, clock = self.town.chain, VirtualClock()
        stored = self.store.load()
        executor = Executor(chain.document, stored)
        if stored is None:
            self.store.commit(executor.loaded.first)
        scribe = None
        if self.key is not None:
            folder = self.town.folder / self.name
            folder.mkdir(exist_ok=True)
            scribe = open_scribe(
                folder,
                signer=self.key,
                genesis_hash=chain.genesis_hash,
                now_ms=clock.now_ms(),
                is_new=self.lives == 1,
            )
        self.runtime = NodeRuntime(executor, self.store, scribe=scribe, clock=clock)
        self.transport = _Heard(self.town, key=self.name.encode().ljust(32, b"."), where=self.where)
        height = executor.head.block.header.height
        self.network = self.runtime.network = NodeNetwork(
            host=self.runtime,
            transport=self.transport,
            settings=PeerSettings(
                key=self.transport.key,
                settings_hash=chain.genesis_hash,
                agent=self.name,
                listen=":7070",
                features=(VOTES,),
                max_peers=self.town.max_peers,
                bootstrap=tuple(where for where in self.town.known if where != self.where),
            ),
            status=Status(height, executor.head.hash, height),
            clock=clock,
            book=self.book,
            secret=sha256(f"{self.town.seed} {self.name} {self.lives}".encode()).digest(),
        )
        await self.network.start()
        self.runtime.start()

    async def kill(self) -> None:
        """Nobody is told; what is on disk stays."""
        self.is_up = False
        self.transport.stop_now()
        await self.stop()

    def wipe(self) -> None:
        """Its disk is new; the address book with it."""
        self.store, self.book = MemoryStore(self.town.chain.genesis_hash), Memory()

    async def stop(self) -> None:
        self.is_up = False
        await self.network.stop()
        await self.runtime.stop()
        assert self.runtime.failure is None, self.runtime.failure


class Town:
    """`validators` of the nodes have a key, all are strangers to each other who know the first two addresses."""

    def __init__(
        self, folder: Path, *, nodes: int, validators: int, seed: int = 0, max_peers: int = 8
    ) -> None:
        self.folder, self.seed, self.max_peers = folder, seed, max_peers
        self.digest = sha256()
        """Of everything that arrived anywhere, and when."""
        self.events = 0
        keys = [person(f"validator {place} of the town") for place in range(validators)]
        self.chain = Chain(
            genesis(
                authorities=tuple(keys),
                consensus=ConsensusSettings(block_time_ms=500, idle_ms=3_000, epoch_length=EPOCH),
                accounts=[
                    GenesisAccount(address=who.address, balance=1_000 * AIT, pubkey=key_to_text(who.auth_key))
                    for who in (ALICE, BOB, *keys)
                ],
            )
        )
        self.switch = MemorySwitch(
            lambda delay_ms, action: asyncio.get_running_loop().call_later(delay_ms / 1000, action),
            latency_ms=self._way_ms,
        )
        self._side: frozenset[str] = frozenset()
        self._ways: dict[tuple[str, str], int] = {}
        step = nodes // validators
        by_place = {number * step: key for number, key in enumerate(keys)}
        self.nodes = [TownNode(self, place, by_place.get(place)) for place in range(nodes)]
        self.known = tuple(node.where for node in self.nodes[:2])
        self._nonce = 0

    def _way_ms(self, one: str, other: str) -> int | None:
        if (one in self._side) != (other in self._side):
            return None
        pair = (min(one, other), max(one, other))
        return self._ways.setdefault(pair, 5 + sha256(f"{self.seed} {pair}".encode()).digest()[0] % 40)

    def cut(self, nodes: Collection[TownNode]) -> None:
        """Nothing passes between these and the others; nobody: everything passes."""
        self._side = frozenset(node.where for node in nodes)

    async def start(self) -> None:
        for node in self.nodes:
            await node.start()
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        for node in self.nodes:
            if node.is_up:
                await node.stop()

    async def pay(self, at: TownNode) -> bytes:
        """Alice pays Bob, at some node; the transaction's id."""
        self._nonce += 1
        tx: Transaction = self.chain.sign(
            ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=self._nonce
        )
        return await at.runtime.submit(tx)

    async def until(self, what: str, is_so: object, within_s: float) -> float:
        """Seconds that it took."""
        assert callable(is_so)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not is_so():
            assert loop.time() - began < within_s, f"{what}: not within {within_s} s; {self.told()}"
            await asyncio.sleep(0.1)
        return loop.time() - began

    def told(self) -> str:
        return " ".join(f"{node.name}:{node.height if node.is_up else '-'}" for node in self.nodes)

    def has_all(self, tx_ids: Sequence[bytes], nodes: Sequence[TownNode]) -> bool:
        """Is each of these final at each of those?"""
        return all(node.store.find_transaction(tx_id) for node in nodes for tx_id in tx_ids)

    def check_one_chain(self) -> None:
        """Nobody ever wrote another block at a height; who is behind has a part of the same."""
        best = max(self.nodes, key=lambda node: node.height)
        for node in self.nodes:
            for height in range(node.height + 1):
                ours, theirs = node.store.head_at(height), best.store.head_at(height)
                assert ours is not None and theirs is not None
                assert ours.hash == theirs.hash, f"{node.name} has another block {height} than {best.name}"

    def agree(self, nodes: Sequence[TownNode], above: int) -> bool:
        """Are all of these at one head that is higher?"""
        return len({node.head for node in nodes}) == 1 and nodes[0].height > above
