"""The real host of agreement by work under virtual time: replica, switcher, executor and store as a node has them, with
transactions, a network that is cut, and a process that dies before or after any write."""

from collections import deque
from collections.abc import Callable
from typing import Any, assert_never

import msgspec

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import header_hash, transaction_id
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.engine import PenalisePeer, SetTimer, TimerFired
from aitbc.core.consensus.nakamoto.authors import Miner
from aitbc.core.consensus.nakamoto.engine import (
    MAX_HEADERS,
    BlockMissed,
    FetchBlocks,
    FetchHeaders,
    Finalize,
    HeaderAnnounced,
    HeadersArrived,
    Mine,
    NonceFound,
    PartedBelowFinal,
    PeerJoined,
    PeerLeft,
    SignTemplate,
    StopMining,
    SwitchRefused,
    TemplateSigned,
)
from aitbc.core.consensus.nakamoto.engine import Announce as AnnounceHead
from aitbc.core.consensus.nakamoto.headers import link_to_bytes
from aitbc.core.consensus.nakamoto.work import work_of
from aitbc.core.crypto.address import address_of
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import ConsensusSettings, Genesis, GenesisAccount, genesis_document
from aitbc.core.ledger.params import Activation, Params
from aitbc.core.replica import Announce, Answer, Drop, Relay, TransactionsSubmitted
from aitbc.core.switching import Ready, Switcher, work_replica_at_head
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Block, Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason
from aitbc.core.types.transactions import Transaction
from aitbc.core.work_replica import (
    BlockCame,
    Build,
    Effect,
    Input,
    Reorganised,
    Switch,
)
from aitbc.sim.keys import key_named
from aitbc.sim.nakamoto.blocks import search, sign, verify
from aitbc.sim.nakamoto.world import World

JOB_MS = 5
"""What building or executing a block takes."""
PREMINT = 1_000 * AIT
FEE = 500
CHAIN_ID = "ait-work-sim"


def person(name: str) -> Miner:
    key = key_named(name)
    return Miner(address_of(key), key)


def genesis_of(
    settings: NakamotoSettings, *, miners: tuple[str, ...], rich: tuple[str, ...], at_ms: int
) -> bytes:
    """`miners`: those that are listed, in mode poa-pow; `rich`: who has coins."""
    listed = [key_to_text(person(name).auth_key) for name in miners]
    work = msgspec.structs.replace(settings, miners=listed)
    genesis = Genesis(
        chain_id=CHAIN_ID,
        timestamp=at_ms // 1_000,
        accounts=[GenesisAccount(address=person(name).address, balance=PREMINT) for name in rich],
        params=Params(activations=[Activation(version=2, height=0)]),
        authorities=[],
        consensus=ConsensusSettings(mode="poa-pow" if listed else "pow", epoch_length=7, work=work),
    )
    return genesis_document(genesis)


class Died(Exception):
    """The process ends here; what is on disk stays."""


class Disk(MemoryStore):
    """Asks at each write whether the process dies, before it or just after."""

    dies: Callable[[str], bool] = staticmethod(lambda _where: False)
    """Asked with a place such as `before switch`."""

    def _write(self, name: str, write: Callable[[], None]) -> None:
        if self.dies(f"before {name}"):
            raise Died
        write()
        if self.dies(f"after {name}"):
            raise Died

    def commit(self, *commits: Any) -> None:
        self._write("commit", lambda: super(Disk, self).commit(*commits))

    def switch(self, height: int, *commits: Any) -> None:
        self._write("switch", lambda: super(Disk, self).switch(height, *commits))

    def keep_final(self, link: bytes) -> None:
        self._write("keep_final", lambda: super(Disk, self).keep_final(link))


class WholeNode:
    """One honest node. `hashrate`: hashes a second; 0: it only follows."""

    def __init__(self, world: World, name: str, document: bytes, *, hashrate: int = 0) -> None:
        self.world, self.name, self.hashrate = world, name, hashrate
        self.miner = person(name)
        self._document = document
        self.disk = Disk(Executor(document, None, verifier=verify).loaded.hash)
        self.others: dict[str, WholeNode] = {}
        self.penalties: list[tuple[str, Reason]] = []
        self.dropped: dict[bytes, Reason] = {}
        self.undone: list[int] = []
        """Blocks that each switch took back."""
        self.lives = 0
        self.is_up = False
        self.boot()

    def boot(self) -> None:
        """From what is on disk."""
        self.lives += 1
        self.is_up = True
        self._timers: dict[str, int] = {}
        self._search: int | None = None
        self._jobs: deque[Callable[[], None]] = deque()
        stored = self.disk.load()
        self.executor = Executor(self._document, stored, verifier=verify)
        if stored is None:
            MemoryStore.commit(self.disk, self.executor.loaded.first)
        self.switcher = Switcher(self.executor, self.disk)
        self.replica = work_replica_at_head(
            self.executor, self.disk, miner=self.miner.address if self.hashrate else None
        )

    @property
    def head(self) -> Header:
        return self.executor.head.block.header

    def start(self) -> None:
        self._alive(lambda: self._perform(self.replica.start(self.world.now_ms)))
        for other in self.others.values():
            self._meet(other)
            other._meet(self)

    def meet(self, other: "WholeNode") -> None:
        """Both directions."""
        for one, two in ((self, other), (other, self)):
            one.others[two.name] = two
            one._meet(two)

    def _meet(self, other: "WholeNode") -> None:
        self.feed(PeerJoined(other.name))
        self._tell(other, HeaderAnnounced(self.name, self.head))

    def die(self, *, for_ms: int) -> None:
        """Nothing that was under way goes on; after a while the process is started again."""
        self.lives += 1
        self.is_up = False
        self.world.note(f"{self.name} dies at {self.head.height}")

        def rise() -> None:
            self.boot()
            self.world.note(f"{self.name} rises at {self.head.height}")
            self.start()

        self.world.after(for_ms, rise)

    def feed(self, message: Input) -> None:
        if self.is_up:
            self._alive(lambda: self._perform(self.replica.step(self.world.now_ms, message)))

    def _alive(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Died:
            self.die(for_ms=1_000)

    def _leave(self, name: str) -> None:
        """Both lose the link for good, as with a ban."""
        other = self.others.pop(name, None)
        if other is not None:
            self.feed(PeerLeft(name))
            other._leave(self.name)

    def _tell(self, other: "WholeNode", message: Input) -> None:
        def hear() -> None:
            if self.name in other.others:
                other.feed(message)

        self.world.send(self.name, other.name, hear)

    # Transactions

    def sign(self, sender: str, to: str, amount: int, *, nonce: int | None = None) -> Transaction:
        who = person(sender)
        number = self.replica.mempool.next_nonce(who.address) if nonce is None else nonce
        payload = jcs({"to": person(to).address, "amount": amount})
        unsigned = Transaction("TRANSFER", who.address, number, FEE, payload, who.auth_key, b"", b"")
        digest = transaction_id(unsigned, self.executor.loaded.hash)
        return msgspec.structs.replace(unsigned, sig=sign(who.auth_key, digest))

    def submit(self, tx: Transaction) -> bytes:
        verified = self.executor.transactions.verify(tx)
        self.feed(TransactionsSubmitted([verified], 0))
        return verified.id

    # Effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case SetTimer():
                self._set_timer(effect)
            case Build():
                self._do(lambda: self._build(effect))
            case Switch():
                self._do(lambda: self._switch(effect))
            case SignTemplate():
                signed = TemplateSigned(effect.template, sign(self.miner.auth_key, effect.template))
                self._later(0, lambda: self.feed(signed))
            case Mine():
                self._mine(effect)
            case StopMining():
                self._stop_mining()
            case Finalize():
                self.disk.keep_final(link_to_bytes(effect.link))
            case AnnounceHead():
                for other in self.others.values():
                    self._tell(other, HeaderAnnounced(self.name, effect.header))
            case FetchHeaders():
                self._ask(effect.peer, lambda other: other.give_headers(self, effect.locator))
            case FetchBlocks():
                for name in effect.hashes:
                    self._ask_block(effect.peer, name)
            case Relay():
                for other in self.others.values():
                    self._tell(other, TransactionsSubmitted(effect.txs, 0))
            case Drop():
                self.dropped[effect.tx.id] = effect.rejection.reason
            case Reorganised():
                self.undone.append(len(effect.undone))
                self.world.note(f"{self.name} undoes {len(effect.undone)}")
            case Announce():
                self.world.note(f"{self.name} head {effect.block.hash.hex()[:8]}")
            case PenalisePeer():
                self.penalties.append((effect.peer, effect.reason))
                self.world.note(f"{self.name} penalises {effect.peer} {effect.reason}")
                self._later(0, lambda: self._leave(effect.peer))
            case PartedBelowFinal():
                self.world.note(f"{self.name} is apart from {effect.peer}")
            case Answer():
                pass
            case _:
                assert_never(effect)

    def _later(self, delay_ms: int, action: Callable[[], None]) -> int:
        """Forgotten when the process dies before."""
        life = self.lives

        def act() -> None:
            if life == self.lives:
                self._alive(action)

        return self.world.after(delay_ms, act)

    def _do(self, job: Callable[[], None]) -> None:
        """One after the other, as on a worker thread."""
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._later(JOB_MS, self._next_job)

    def _next_job(self) -> None:
        self._jobs[0]()
        self._jobs.popleft()
        if self._jobs:
            self._later(JOB_MS, self._next_job)

    def _set_timer(self, effect: SetTimer) -> None:
        if effect.timer in self._timers:
            self.world.call_off(self._timers[effect.timer])
        delay = max(0, effect.at_ms - self.world.now_ms)
        self._timers[effect.timer] = self._later(delay, lambda: self.feed(TimerFired(effect.timer)))

    def _build(self, effect: Build) -> None:
        self.feed(self.switcher.build(effect, author=self.miner.address, extra=self.name.encode()))

    def _switch(self, effect: Switch) -> None:
        done = self.switcher.switch(effect)
        if isinstance(done, Ready):
            done.publish()
            self.feed(done.switched)
        else:
            assert isinstance(done, SwitchRefused)
            self.feed(done)

    def _mine(self, effect: Mine) -> None:
        """The time of a search is drawn; the nonce is a real one."""
        self._stop_mining()
        mean_ms = 1_000 * work_of(effect.target) / self.hashrate
        delay = int(self.world.random.expovariate(1 / mean_ms))
        nonce = search(effect.search, effect.target, first=self.world.random.randrange(2**32))
        self._search = self._later(delay, lambda: self.feed(NonceFound(effect.search, nonce)))

    def _stop_mining(self) -> None:
        if self._search is not None:
            self.world.call_off(self._search)
        self._search = None

    # What others ask

    def _ask(self, peer: str, question: Callable[["WholeNode"], None]) -> None:
        other = self.others[peer]

        def arrive() -> None:
            if other.is_up:
                question(other)

        self.world.send(self.name, peer, arrive)

    def _ask_block(self, peer: str, name: bytes) -> None:
        self._ask(peer, lambda other: other.give_block(self, name))

    def give_headers(self, to: "WholeNode", locator: list[bytes]) -> None:
        known = next((head for name in locator if (head := self.disk.head_of(name)) is not None), None)
        headers: list[Header] = []
        if known is not None:
            first = known.header.height + 1
            heads = [self.disk.head_at(height) for height in range(first, first + MAX_HEADERS)]
            headers = [head.header for head in heads if head is not None]
        self._tell(to, HeadersArrived(self.name, known is not None, headers))

    def give_block(self, to: "WholeNode", name: bytes) -> None:
        stored = self.disk.block_by_hash(name)
        block = stored.block if stored is not None else self.replica.body(name)
        self._tell(to, self._answer(name, block))

    def _answer(self, name: bytes, block: Block | None) -> Input:
        """As the asker's host judges it."""
        if block is None:
            return BlockMissed(self.name, name, None)
        if header_hash(block.header) != name:
            return BlockMissed(self.name, name, Reason.ROOT_MISMATCH)
        return BlockCame(self.name, name, block, len(pack(block)))
