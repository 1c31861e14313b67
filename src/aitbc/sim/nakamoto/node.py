"""A host for one engine: holds opaque blocks, executes them with a hash, searches nonces in virtual time, and answers
others as `consensus.nakamoto.engine` says a host does."""

from collections.abc import Callable
from typing import assert_never

from aitbc.core.codec.digests import header_hash
from aitbc.core.consensus.engine import BuildBlock, PenalisePeer, SetTimer, TimerFired, TransactionsArrived
from aitbc.core.consensus.nakamoto.authors import Miner
from aitbc.core.consensus.nakamoto.engine import (
    MAX_HEADERS,
    Announce,
    BlockArrived,
    BlockMissed,
    FetchBlocks,
    FetchHeaders,
    Finalize,
    ForgetBlocks,
    HeaderAnnounced,
    HeadersArrived,
    HeadSwitched,
    Mine,
    NakamotoEffect,
    NakamotoEvent,
    NonceFound,
    PartedBelowFinal,
    PeerJoined,
    PeerLeft,
    SealBlock,
    SignTemplate,
    StopMining,
    SwitchHead,
    SwitchRefused,
    TemplateBuilt,
    TemplateSigned,
)
from aitbc.core.consensus.nakamoto.headers import HeaderRules, genesis_link
from aitbc.core.consensus.nakamoto.rules import Nakamoto
from aitbc.core.consensus.nakamoto.work import template_digest, work_of
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason
from aitbc.sim.nakamoto.blocks import (
    BAD,
    OpaqueBlock,
    body_root,
    search,
    sign,
    state_after,
    template,
)
from aitbc.sim.nakamoto.world import World

HELD_TEMPLATES = 2
EXECUTION_MS = 5


class Node:
    """One honest node. `hashrate`: hashes a second, 0 for one that only follows."""

    def __init__(
        self,
        world: World,
        miner: Miner,
        *,
        rules: HeaderRules,
        genesis: Header,
        hashrate: int = 0,
        skew_ms: int = 0,
    ) -> None:
        self.world, self.rules, self.hashrate, self.skew_ms = world, rules, hashrate, skew_ms
        self.name, self._key = miner.address, miner.auth_key
        self.blocks = {header_hash(genesis): OpaqueBlock(genesis, b"")}
        self.chain = [header_hash(genesis)]
        """By height."""
        self.penalties: list[tuple[str, Reason]] = []
        self.apart: list[str] = []
        """Whose branch was found to leave ours below the final block."""
        self.switches: list[SwitchHead] = []
        self.others: dict[str, Node] = {}
        self.waiting: list[bytes] = []
        """Bodies that clients sent: the next template takes one."""
        self._templates: dict[bytes, OpaqueBlock] = {}
        self._timers: dict[str, int] = {}
        self._search: int | None = None
        self._root = genesis_link(genesis, rules.settings)
        self._life = 0
        self.boot()

    def boot(self) -> None:
        """A new engine from what is on disk; what it had in memory is gone."""
        self._life += 1
        self._timers.clear()
        self._search = None
        self.engine = Nakamoto(
            rules=self.rules,
            root=self._root,
            chain=[self.blocks[hash_].header for hash_ in self.chain[self._root.height + 1 :]],
            miner=self.name if self.hashrate else None,
            transactions_wait=lambda: len(self.waiting),
        )

    @property
    def now_ms(self) -> int:
        """By its own clock."""
        return self.world.now_ms + self.skew_ms

    @property
    def final_height(self) -> int:
        return self._root.height

    @property
    def head(self) -> Header:
        return self.blocks[self.chain[-1]].header

    def start(self) -> None:
        self._perform(self.engine.start(self.now_ms))

    def on(self, event: NakamotoEvent) -> None:
        self._perform(self.engine.on(self.now_ms, event))

    def submit(self, body: bytes) -> None:
        self.waiting.append(body)
        self.on(TransactionsArrived())

    # Links

    def meet(self, other: "Node") -> None:
        """One direction: the other does the same."""
        self.others[other.name] = other
        self.on(PeerJoined(other.name))
        self._tell(other, HeaderAnnounced(self.name, self.head))

    def restart(self) -> None:
        """The process dies and comes back."""
        self.boot()
        self.start()
        for other in self.others.values():
            self.on(PeerJoined(other.name))
            self._tell(other, HeaderAnnounced(self.name, self.head))

    def part(self, name: str) -> None:
        """Both lose the link for good, as with a ban."""
        other = self.others.pop(name, None)
        if other is not None:
            self.on(PeerLeft(name))
            other.part(self.name)

    def _tell(self, other: "Node", event: NakamotoEvent) -> None:
        def hear() -> None:
            if self.name in other.others:
                other.on(event)

        self.world.send(self.name, other.name, hear)

    # What the engine asks for

    def _perform(self, effects: list[NakamotoEffect]) -> None:
        for effect in effects:
            self.perform(effect)

    def perform(self, effect: NakamotoEffect) -> None:
        match effect:
            case SetTimer():
                self._set_timer(effect)
            case BuildBlock():
                self._build(effect)
            case SignTemplate():
                signed = TemplateSigned(effect.template, sign(self._key, effect.template))
                self._later(0, lambda: self.on(signed))
            case Mine():
                self._mine(effect)
            case StopMining():
                self._stop_mining()
            case SealBlock():
                body = self._templates[effect.template].body
                self.blocks[header_hash(effect.header)] = OpaqueBlock(effect.header, body)
            case SwitchHead():
                self._later(EXECUTION_MS * len(effect.apply), lambda: self._switch(effect))
            case Announce():
                self.announce(effect.header)
            case FetchHeaders():
                self._ask_headers(effect)
            case FetchBlocks():
                self._ask_blocks(effect)
            case ForgetBlocks():
                for hash_ in effect.hashes:
                    if hash_ not in self.chain:
                        self.blocks.pop(hash_, None)
            case Finalize():
                self._finalize(effect)
            case PenalisePeer():
                self.penalties.append((effect.peer, effect.reason))
                self.world.note(f"{self.name} penalises {effect.peer} {effect.reason}")
                self._later(0, lambda: self.part(effect.peer))
            case PartedBelowFinal():
                self.apart.append(effect.peer)
                self.world.note(f"{self.name} is apart from {effect.peer}")
            case _:
                assert_never(effect)

    def _later(self, delay_ms: int, action: Callable[[], None]) -> int:
        """Forgotten when the node dies before."""
        life = self._life

        def act() -> None:
            if life == self._life:
                action()

        return self.world.after(delay_ms, act)

    def _set_timer(self, effect: SetTimer) -> None:
        if effect.timer in self._timers:
            self.world.call_off(self._timers[effect.timer])
        delay = max(0, effect.at_ms - self.now_ms)
        self._timers[effect.timer] = self._later(delay, lambda: self.on(TimerFired(effect.timer)))

    # Mining

    def _build(self, effect: BuildBlock) -> None:
        body = self.waiting[0] if self.waiting else b""
        header = template(
            self.blocks[effect.parent].header, body, timestamp_ms=effect.timestamp_ms, author=self.name
        )
        self._templates[template_digest(header)] = OpaqueBlock(header, body)
        while len(self._templates) > HELD_TEMPLATES:
            del self._templates[next(iter(self._templates))]
        self._later(EXECUTION_MS, lambda: self.on(TemplateBuilt(header, int(bool(body)))))

    def _mine(self, effect: Mine) -> None:
        """The time of a search is drawn; the nonce is a real one."""
        self._stop_mining()
        mean_ms = 1_000 * work_of(effect.target) / self.hashrate
        delay = int(self.world.random.expovariate(1 / mean_ms))
        nonce = search(effect.search, effect.target, first=self.world.random.randrange(2**32))
        self._search = self._later(delay, lambda: self.on(NonceFound(effect.search, nonce)))

    def _stop_mining(self) -> None:
        if self._search is not None:
            self.world.call_off(self._search)
        self._search = None

    # The chain

    def _switch(self, effect: SwitchHead) -> None:
        """All of it or nothing."""
        assert effect.undo == self.chain[: -len(effect.undo) - 1 : -1], (
            "what is undone is the top of the chain"
        )
        kept = self.chain[: len(self.chain) - len(effect.undo)]
        assert len(kept) > self.final_height, "nothing final is undone"
        for hash_ in effect.apply:
            block = self.blocks[hash_]
            assert block.header.parent == kept[-1], "blocks are applied in their order"
            reason = self._fault_of(block, self.blocks[kept[-1]].header)
            if reason is not None:
                self.world.note(f"{self.name} refuses {hash_.hex()[:8]}")
                self.on(SwitchRefused(effect.hash, hash_, reason))
                return
            kept.append(hash_)
        returned = [self.blocks[hash_].body for hash_ in effect.undo]
        self.chain = kept
        taken = {self.blocks[hash_].body for hash_ in effect.apply}
        self.waiting = [body for body in [*returned, *self.waiting] if body and body not in taken]
        self.switches.append(effect)
        self.world.note(f"{self.name} head {len(kept) - 1} {kept[-1].hex()[:8]} undo={len(effect.undo)}")
        self.on(HeadSwitched(effect.hash))

    def _fault_of(self, block: OpaqueBlock, parent: Header) -> Reason | None:
        if block.body.startswith(BAD) or block.header.state_root != state_after(parent, block.body):
            return Reason.ROOT_MISMATCH
        return None

    def _finalize(self, effect: Finalize) -> None:
        assert effect.link.height > self.final_height, "finality is monotonic"
        assert self.chain[effect.link.height] == effect.link.hash, "final blocks are on the chain"
        self._root = effect.link

    # Asking and answering

    def announce(self, header: Header) -> None:
        for other in self.others.values():
            self._tell(other, HeaderAnnounced(self.name, header))

    def _ask_headers(self, effect: FetchHeaders) -> None:
        other = self.others.get(effect.peer)
        if other is not None:
            self.world.send(self.name, other.name, lambda: other.give_headers(self, effect.locator))

    def give_headers(self, to: "Node", locator: list[bytes]) -> None:
        places = {hash_: height for height, hash_ in enumerate(self.chain)}
        known = next((places[hash_] for hash_ in locator if hash_ in places), None)
        after = [] if known is None else self.chain[known + 1 : known + 1 + MAX_HEADERS]
        headers = [self.blocks[hash_].header for hash_ in after]
        self._tell(to, HeadersArrived(self.name, known is not None, headers))

    def _ask_blocks(self, effect: FetchBlocks) -> None:
        other = self.others.get(effect.peer)
        if other is not None:
            for hash_ in effect.hashes:
                self._ask_block(other, hash_)

    def _ask_block(self, other: "Node", hash_: bytes) -> None:
        self.world.send(self.name, other.name, lambda: other.give_block(self, hash_))

    def give_block(self, to: "Node", hash_: bytes) -> None:
        block = self.blocks.get(hash_)
        self.world.send(self.name, to.name, lambda: to.take_block(self.name, hash_, block))

    def take_block(self, peer: str, hash_: bytes, block: OpaqueBlock | None) -> None:
        """What a host checks of a body before the engine hears of it."""
        if block is None:
            self.on(BlockMissed(peer, hash_, None))
        elif block.hash != hash_ or body_root(block.body) != block.header.txs_root:
            self.on(BlockMissed(peer, hash_, Reason.ROOT_MISMATCH))
        else:
            self.blocks[hash_] = block
            self.on(BlockArrived(peer, hash_))
