"""An honest node without a ledger: the real network machine, a transport, and a judgement of what it hears."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aitbc.adapters.network.memory import MemoryTransport
from aitbc.core.peer.book import BookRecord
from aitbc.core.peer.gossip import Delivered, TransactionsCame, Verdict, Wake
from aitbc.core.peer.kinds import CANDIDATE, CONSENSUS_STATUS, PeerAddress, Status
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.peer.network import Examine, Found, LookUp, Network, NetworkEffect, NotFound
from aitbc.core.peer.peering import TICK_MS
from aitbc.core.peer.peers import (
    Heard,
    PeerDown,
    PeerSettings,
    PeerUp,
    Refusal,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.core.peer.reasons import PeerReason
from aitbc.sim.network.goods import is_sealed, name_of
from aitbc.sim.network.questions import Questions

if TYPE_CHECKING:
    from aitbc.sim.network.run import NetworkRun

SETTINGS_HASH = b"s" * 32
STATUS_BYTES = 8


class Pool:
    """Transactions that wait; nothing takes them away in so short a time."""

    def __init__(self) -> None:
        self.txs: dict[bytes, bytes] = {}

    def has(self, wid: bytes) -> bool:
        return wid in self.txs

    def get(self, wid: bytes) -> bytes | None:
        return self.txs.get(wid)


class Node:
    def __init__(self, run: NetworkRun, place: int, where: str, bootstrap: tuple[str, ...]) -> None:
        self.run, self.world = run, run.world
        self.name = f"n{place}"
        self.where = where
        self.key = self.name.encode().ljust(32, b".")
        self.life = 0
        """Which start this is; what an earlier one left in the heap is nobody's."""
        self.is_up = False
        self._bootstrap = bootstrap
        self._frozen: list[LinkEvent] | None = None
        """What happened while it did not run."""
        self._book: BookRecord | None = None

    # Life

    def start(self) -> None:
        self.life += 1
        self.is_up = True
        self.pool = Pool()
        self.heard: set[bytes] = set()
        """Votes, candidates and certificates, each once."""
        self.blocks = {name_of(block): block for block in self.run.ledger.blocks}
        self.questions = Questions(self)
        settings = PeerSettings(
            key=self.key,
            settings_hash=SETTINGS_HASH,
            agent=self.name,
            listen=f":{self.where.rpartition(':')[2]}",
            max_peers=self.run.plan.max_peers,
            features=("votes",),
            bootstrap=self._bootstrap,
        )
        secret = name_of(b"%d %s %d" % (self.run.plan.seed, self.name.encode(), self.life))
        self.network = Network(
            settings, status=self._status(), pool=self.pool, secret=secret, book=self._book
        )
        self.transport = MemoryTransport(self.world.switch, key=self.key, where=self.where)
        life = self.life
        self.transport.start_now(
            lambda event: self.world.later(0, lambda: self._hear(life, event)),
            lambda where: self.network.admits(where, self.world.now_ms),
        )
        self.world.note(f"{self.name} starts")
        self._tick(life)

    def kill(self) -> None:
        self._book = self.network.record()
        self.is_up = False
        self._frozen = None
        self.transport.stop_now()
        self.world.note(f"{self.name} is killed")

    def freeze(self, for_ms: int) -> None:
        """As a process that is stopped: its sockets are there, and nobody reads."""
        self._frozen = []
        self.world.note(f"{self.name} freezes")
        for link in self.transport.links:
            self.transport.throttle(Throttle(link, for_ms))

    def thaw(self) -> None:
        missed, self._frozen = self._frozen or [], None
        self.world.note(f"{self.name} goes on")
        for event in missed:
            self._hear(self.life, event)

    @property
    def runs(self) -> bool:
        return self.is_up and self._frozen is None

    def _hear(self, life: int, event: LinkEvent) -> None:
        if life != self.life or not self.is_up:
            return
        if self._frozen is not None:
            self._frozen.append(event)
            return
        data = getattr(event, "data", b"")
        if data:
            self.world.heard(self.name, data)
        self.perform(self.network.step(self.world.now_ms, event))

    def _tick(self, life: int) -> None:
        if life != self.life or not self.is_up:
            return
        if self._frozen is None:
            self.network.set_status(self._status())
            self.perform(self.network.tick(self.world.now_ms))
            self.questions.tick()
        self.world.later(TICK_MS, lambda: self._tick(life))

    def _woken(self, life: int) -> None:
        if life == self.life and self.runs:
            self.perform(self.network.tick(self.world.now_ms))

    def _status(self) -> Status:
        height = self.run.ledger.height
        return Status(height, name_of(self.run.ledger.blocks[height]), height)

    # What it does

    def submit(self, tx: bytes) -> None:
        """A client's transaction."""
        self.pool.txs[name_of(tx)] = tx
        self.perform(self.network.took(self.world.now_ms, [name_of(tx)]))

    def learn(self, peers: list[PeerAddress], source: str) -> None:
        """Addresses from somewhere else than peers."""
        self.network.hear_addresses(self.world.now_ms, peers, source=source)

    def blame(self, key: bytes, message: str) -> None:
        self.perform(self.network.blame(self.world.now_ms, key, PeerReason.INVALID, message))

    def perform(self, effects: list[NetworkEffect]) -> None:
        now_ms = self.world.now_ms
        for effect in effects:
            match effect:
                case Dial():
                    self.transport.dial(effect)
                case Send():
                    self.transport.send(effect)
                case Close():
                    self.transport.close(effect)
                case Throttle():
                    self.transport.throttle(effect)
                case Wake():
                    life = self.life
                    self.world.later(max(0, effect.at_ms - now_ms), lambda life=life: self._woken(life))  # type: ignore[misc]
                case Delivered():
                    self._judge(effect)
                case TransactionsCame():
                    self._take(effect)
                case LookUp():
                    content = self.blocks.get(effect.hash) or self.pool.get(effect.hash)
                    self.perform(self.network.looked(now_ms, effect.id, content))
                case Examine():
                    good = name_of(effect.content) == effect.hash
                    self.perform(self.network.examined(now_ms, effect.ticket, good=good))
                case Found():
                    self._found(effect)
                case NotFound():
                    self.questions.nobody_has(effect.hash)
                case Requested():
                    self.perform(self.questions.answer(effect))
                case Replied():
                    self.questions.replied(effect)
                case Unreplied():
                    self.questions.unreplied(effect)
                case Heard():
                    self._told(effect)
                case PeerUp():
                    self.world.note(f"{self.name} + {effect.hello.agent}")
                    height = self.run.ledger.height.to_bytes(STATUS_BYTES, "big")
                    self.perform(self.network.say(now_ms, effect.key, CONSENSUS_STATUS, height))
                case PeerDown():
                    self.world.note(f"{self.name} - {_named(effect.key)} {effect.reason}")
                case Refusal():
                    self.run.refusals[effect.reason] += 1
                    if effect.reason is not PeerReason.SELF_LIMITED:
                        self.world.note(
                            f"{self.name} ! {_named(effect.key)} {effect.reason} {effect.message}"
                        )

    def _judge(self, effect: Delivered) -> None:
        verdict = Verdict.ACCEPT if is_sealed(effect.payload) else Verdict.REJECT
        if verdict is Verdict.ACCEPT:
            self.heard.add(effect.payload)
        self.perform(self.network.judge(self.world.now_ms, effect.id, verdict))
        if verdict is Verdict.ACCEPT and effect.kind is CANDIDATE:
            self.questions.want(effect.key, block_named(effect.payload))

    def _take(self, effect: TransactionsCame) -> None:
        others = [wid for wid, tx in effect.txs if name_of(tx) != wid]
        good = [(wid, tx) for wid, tx in effect.txs if wid not in others and is_sealed(tx)]
        refused = [wid for wid, tx in effect.txs if wid not in others and not is_sealed(tx)]
        now_ms = self.world.now_ms
        self.pool.txs.update(good)
        self.perform(self.network.took(now_ms, [wid for wid, _ in good]))
        self.network.refused(now_ms, refused)
        if others:
            self.blame(effect.key, "a transaction with another hash")
            self.perform(self.network.mistaken(now_ms, others))

    def _found(self, effect: Found) -> None:
        if self.questions.wants(effect.hash):
            self.questions.have(effect.content)
        elif is_sealed(effect.content):
            self.submit(effect.content)

    def _told(self, effect: Heard) -> None:
        """How far a peer says it is; nobody believes it without proof."""
        if len(effect.message) != STATUS_BYTES:
            self.blame(effect.key, "no height")


def block_named(candidate: bytes) -> bytes:
    return bytes.fromhex(candidate[10:74].decode())


def candidate_of(block: bytes) -> str:
    return f"candidate {name_of(block).hex()}"


def _named(key: bytes) -> str:
    return key.rstrip(b".").decode("ascii", "replace")
