"""CPU of messages through the whole stack, both ends in one process over loopback TCP: frames, rates, gossip, Noise,
sockets. And of handshakes.

Goal: a 200-byte message ≤ 12 µs of CPU, both sides together; a block of 2,000 transfers that are known in ≤ 20 KB.
`network.py messages` measures messages and handshakes only and keeps the other figures, `network.py candidates` the
blocks, `network.py reach` the way of a transaction through twenty simulated nodes (goal: 3 hops' time).
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from common import RESULTS, Json, save, spread

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from aitbc.adapters.network.tcp import TcpLimits, TcpTransport
from aitbc.core.chain.builder import BuiltBlock, has_its_body
from aitbc.core.codec.wire import pack, unpack
from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.genesis import GenesisAccount
from aitbc.core.peer.compact import CompactBlock, Puzzle, block_of, compacted, filled, pieced_together
from aitbc.core.peer.gossip import FLUSH_MS, Delivered, Verdict
from aitbc.core.peer.handshake import Handshake, prologue_of, public_key_of
from aitbc.core.peer.kinds import CANDIDATE, CONSENSUS_GET, FILL, VOTE, Fill, Filled, Rate, Status
from aitbc.core.peer.links import Close, Dial, Linked, LinkEvent, Received, Send, Throttle
from aitbc.core.peer.messages import Session
from aitbc.core.peer.network import Network, NetworkEffect
from aitbc.core.peer.peers import PeerSettings, PeerUp, Replied, Requested
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.sim.network.goods import name_of, sealed
from aitbc.sim.network.plan import calm_network_plan
from aitbc.sim.network.run import NetworkRun
from support.chain import Chain, genesis
from support.people import person

PROLOGUE = prologue_of(chain_id="bench", genesis_hash=bytes(32))
STATUS = Status(head_height=1, head_hash=bytes(32), finalised_height=1)
MESSAGES = 3_500
"""Below the burst that one peer may send."""
BATCH = 50
"""Votes that arrive together, as of a committee."""
RUNS = 7
DELAY_MS = 20
UNBOUND = Rate(10**9, 10**9)
GOAL = (
    "a 200-byte message <= 12 us of CPU, both sides together; a block of 2,000 transfers that are known in <= 20 KB; "
    "a transaction reaches 20 simulated nodes in <= 3 hops"
)
TRANSFERS = 2_000
SENDERS = [person(f"sender {number}") for number in range(TRANSFERS // 50)]


class NoPool:
    def has(self, wid: bytes) -> bool:
        return False

    def get(self, wid: bytes) -> bytes | None:
        return None


class Host:
    """The smallest loop around a network: what a node does, without a node."""

    def __init__(self, static: bytes, *, listens: bool, bootstrap: tuple[str, ...] = ()) -> None:
        self.heard = 0
        self.replies = 0
        self.up = asyncio.Event()
        self.done: Callable[[], None] = lambda: None
        self.hear_news: Callable[[Delivered], None] = lambda _: None
        self.take: Callable[[Replied], None] = lambda _: None
        self.answer: Callable[[Requested], Any] = lambda request: request.message
        limits = TcpLimits(read=UNBOUND)
        self.transport = TcpTransport(
            static=static, prologue=PROLOGUE, listen=("127.0.0.1", 0) if listens else None, limits=limits
        )
        settings = PeerSettings(
            key=public_key_of(static),
            settings_hash=bytes(32),
            agent="bench",
            bootstrap=bootstrap,
            features=("votes",),
        )
        self.network = Network(settings, status=STATUS, pool=NoPool(), secret=os.urandom(32))

    def hear(self, event: LinkEvent) -> None:
        self.perform(self.network.step(self.now_ms(), event))

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def perform(self, effects: list[NetworkEffect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    self.transport.send(effect)
                case Delivered():
                    self.heard += 1
                    self.perform(self.network.judge(self.now_ms(), effect.id, Verdict.ACCEPT))
                    self.hear_news(effect)
                    self.done()
                case Requested():
                    self.perform(self.network.answer(effect, self.answer(effect)))
                case Replied():
                    self.replies += 1
                    self.take(effect)
                    self.done()
                case PeerUp():
                    self.up.set()
                case Dial():
                    self.transport.dial(effect)
                case Close():
                    self.transport.close(effect)
                case Throttle():
                    self.transport.throttle(effect)
                case _:
                    pass


async def connected() -> tuple[Host, Host]:
    bob = Host(b"B" * 32, listens=True)
    where = await bob.transport.start(bob.hear, lambda _: True)
    alice = Host(b"A" * 32, listens=False, bootstrap=(where,))
    await alice.transport.start(alice.hear, lambda _: True)
    alice.perform(alice.network.tick(alice.now_ms()))
    await asyncio.wait_for(asyncio.gather(alice.up.wait(), bob.up.wait()), 5)
    return alice, bob


async def votes(batch: int) -> float:
    """Microseconds of CPU per message that Alice publishes and Bob judges, `batch` at a time."""
    alice, bob = await connected()
    payloads = [number.to_bytes(8, "big") + bytes(192) for number in range(MESSAGES)]
    arrived = asyncio.Event()
    started = time.process_time()
    for start in range(0, MESSAGES, batch):
        until = start + batch
        arrived.clear()
        bob.done = lambda until=until: arrived.set() if bob.heard >= until else None  # type: ignore[misc]
        for payload in payloads[start:until]:
            alice.perform(alice.network.publish(alice.now_ms(), VOTE, payload))
        await arrived.wait()
    spent = time.process_time() - started
    assert bob.heard == MESSAGES
    await alice.transport.stop()
    await bob.transport.stop()
    return spent / MESSAGES * 1e6


async def statements() -> float:
    """Microseconds of CPU per statement from session to session: frames, rates and Noise over TCP, no gossip."""
    bob = TcpTransport(static=b"B" * 32, prologue=PROLOGUE, listen=("127.0.0.1", 0))
    alice = TcpTransport(static=b"A" * 32, prologue=PROLOGUE, listen=None)
    sessions = (Session(0), Session(0))
    for session in sessions:
        session.introduced = True
    arrived = asyncio.Event()
    linked: asyncio.Queue[LinkEvent] = asyncio.Queue()
    heard = 0

    def hear(event: LinkEvent) -> None:
        nonlocal heard
        if isinstance(event, Received):
            for _ in sessions[1].receive(0, event.data):
                heard += 1
            if heard % BATCH == 0:
                arrived.set()

    where = await bob.start(hear, lambda _: True)
    await alice.start(linked.put_nowait, lambda _: True)
    alice.dial(Dial(1, where, b""))
    event = await linked.get()
    assert isinstance(event, Linked)
    link = event.link
    payload = bytes(200)
    started = time.process_time()
    for _ in range(0, MESSAGES, BATCH):
        arrived.clear()
        for _ in range(BATCH):
            data = sessions[0].say(0, VOTE, payload)
            assert data is not None
            alice.send(Send(link, data, VOTE.lane))
        await arrived.wait()
    spent = time.process_time() - started
    assert heard == MESSAGES
    await alice.stop()
    await bob.stop()
    return spent / MESSAGES * 1e6


async def questions(size: int, count: int) -> float:
    """Microseconds of CPU per request and its answer of the same size, one after another."""
    alice, bob = await connected()
    (key,) = alice.network.peers
    answered = asyncio.Event()
    alice.done = answered.set
    started = time.process_time()
    for ticket in range(count):
        answered.clear()
        alice.perform(alice.network.ask(alice.now_ms(), key, CONSENSUS_GET, bytes(size), ticket=ticket))
        await answered.wait()
    spent = time.process_time() - started
    assert alice.replies == count
    await alice.transport.stop()
    await bob.transport.stop()
    return spent / count * 1e6


def signature_check() -> float:
    """Microseconds of CPU of one Ed25519 check: a yardstick, because the machine is shared and clocks differ."""
    digest = sha256(b"yardstick").digest()
    signature = SENDERS[0].sign(digest)
    started = time.process_time()
    for _ in range(500):
        assert verify(SENDERS[0].auth_key, digest, signature)
    return (time.process_time() - started) / 500 * 1e6


def by_yardstick(measure: Callable[[], float]) -> float:
    """How many signature checks something costs, each measured beside it."""
    before = signature_check()
    cost = measure()
    return cost / ((before + signature_check()) / 2)


def handshake() -> float:
    """Microseconds of CPU of one handshake, both sides."""
    started = time.process_time()
    for _ in range(200):
        alice = Handshake(initiator=True, prologue=PROLOGUE, static=b"A" * 32, ephemeral=os.urandom(32))
        bob = Handshake(initiator=False, prologue=PROLOGUE, static=b"B" * 32, ephemeral=os.urandom(32))
        bob.read(alice.write())
        alice.read(bob.write())
        bob.read(alice.write())
        alice.split(), bob.split()
    return (time.process_time() - started) / 200 * 1e6


async def candidates() -> Json:
    """A block of 2,000 transfers from its leader to a peer, over loopback: bytes, CPU, and milliseconds until the peer
    has it and has seen that it is this block, by what the peer holds. `whole`: as blocks travelled before they were
    told by names."""
    chain = Chain(genesis(accounts=[GenesisAccount(address=who.address, balance=AIT) for who in SENDERS]))
    payload = {"to": SENDERS[0].address, "amount": 1}
    txs = [chain.verified(SENDERS[i // 50], "TRANSFER", payload, nonce=i % 50 + 1) for i in range(TRANSFERS)]
    built = chain.block(*txs)
    name, wids, genesis_hash = built.hash, [tx.wid for tx in txs], chain.genesis_hash
    others = strangers(chain)
    held = compacted(built.block, name, wids=wids, fresh=())
    results: Json = {
        "compact_2000_transfers_bytes": len(pack(held)),
        "compact_2000_transfers_whole_block_bytes": len(pack(built.block)),
        "compact_2000_transfers_built_ms": spread(
            [timed(lambda: pack(compacted(built.block, name, wids=wids, fresh=()))) for _ in range(RUNS)], 2
        ),
    }
    for known, what in ((txs, "2000"), (txs + others, "20000")):

        def put_together(known: list[VerifiedTransaction] = known) -> None:
            compact = unpack(pack(held), CompactBlock, limit=CANDIDATE.limit)
            puzzle = pieced_together(compact, name, known=known, genesis_hash=genesis_hash)
            assert block_of(puzzle) == built.block

        results[f"compact_2000_of_{what}_known_put_together_ms"] = spread(
            [timed(put_together) for _ in range(RUNS)], 2
        )
    all_given = compacted(built.block, name, wids=wids, fresh=set(wids))
    ways = {"held": (held, txs), "lacking_and_given": (all_given, []), "lacking_and_asked_for": (held, [])}
    for way, (told, known) in ways.items():
        results[f"compact_2000_{way}_ms"] = spread(
            [await relayed(told, built, known, genesis_hash) for _ in range(RUNS)], 1
        )
    results["compact_2000_whole_ms"] = spread(
        [await relayed_whole(built, genesis_hash) for _ in range(RUNS)], 1
    )
    return results


def strangers(chain: Chain) -> list[VerifiedTransaction]:
    """Transactions that are known and not in the block; nobody looks at more than their hashes here."""
    one = chain.verified(SENDERS[0], "TRANSFER", {"to": SENDERS[1].address, "amount": 2}, nonce=99)
    return [
        msgspec.structs.replace(one, wid=sha256(number.to_bytes(4, "big")).digest())
        for number in range(18_000)
    ]


def reach(runs: int) -> Json:
    """How long transactions take to twenty simulated nodes, in hops: an announcement, a pull and the answer, three ways
    of 20 ms and two waits for company. One transaction from each of ten nodes, in networks of different seeds."""
    hop_ms = 3 * DELAY_MS + 2 * FLUSH_MS
    hops: list[float] = []
    for seed in range(runs):
        plan = calm_network_plan(20, delay_ms=DELAY_MS, seed=seed)
        network = NetworkRun(plan)
        for node in network.honest:
            node.start()
        network.world.run(plan.settle_ms)
        for node in network.honest[:10]:
            tx = sealed(f"transfer {node.name} " + "x" * 150)
            started_ms = network.world.now_ms
            node.submit(tx)
            while not all(other.pool.has(name_of(tx)) for other in network.honest):
                network.world.run(1)
                assert network.world.now_ms < started_ms + 10_000
            hops.append((network.world.now_ms - started_ms) / hop_ms)
    return {"transaction_to_20_simulated_nodes_hops": spread(hops, 2)}


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of CPU."""
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3


async def relayed(
    told: CompactBlock, built: BuiltBlock, known: list[VerifiedTransaction], genesis_hash: bytes
) -> float:
    """Milliseconds from the leader's telling to the peer's block."""
    leader, peer = await connected()
    whole = asyncio.Event()
    puzzles: list[Puzzle] = []

    def hear(delivered: Delivered) -> None:
        compact = unpack(delivered.payload, CompactBlock, limit=CANDIDATE.limit)
        puzzle = pieced_together(compact, built.hash, known=known, genesis_hash=genesis_hash)
        if block_of(puzzle) is not None:
            whole.set()
            return
        puzzles.append(puzzle)
        (key,) = peer.network.peers
        fill = Fill(built.hash, puzzle.missing)
        peer.perform(peer.network.ask(peer.now_ms(), key, FILL, fill, ticket=1))

    def take(reply: Replied) -> None:
        txs = [unpack(raw, Transaction, limit=MAX_BLOCK_BYTES) for raw in reply.message.txs]
        assert block_of(filled(puzzles[0], txs, genesis_hash=genesis_hash)) == built.block
        whole.set()

    leader.answer = lambda request: Filled([pack(built.block.txs[place]) for place in request.message.places])
    peer.hear_news, peer.take = hear, take
    started = time.perf_counter()
    leader.perform(leader.network.publish(leader.now_ms(), CANDIDATE, pack(told)))
    await asyncio.wait_for(whole.wait(), 5)
    spent = time.perf_counter() - started
    await leader.transport.stop()
    await peer.transport.stop()
    return spent * 1e3


async def relayed_whole(built: BuiltBlock, genesis_hash: bytes) -> float:
    """The same with the block itself, as it was before."""
    leader, peer = await connected()
    whole = asyncio.Event()

    def hear(delivered: Delivered) -> None:
        assert has_its_body(unpack(delivered.payload, Block, limit=CANDIDATE.limit), genesis_hash)
        whole.set()

    peer.hear_news = hear
    started = time.perf_counter()
    leader.perform(leader.network.publish(leader.now_ms(), CANDIDATE, pack(built.block)))
    await asyncio.wait_for(whole.wait(), 5)
    spent = time.perf_counter() - started
    await leader.transport.stop()
    await peer.transport.stop()
    return spent * 1e3


def main() -> None:
    if "candidates" in sys.argv[1:]:
        before = json.loads((RESULTS / "network.json").read_text())["results"]
        save("network", GOAL, before | asyncio.run(candidates()))
        return
    if "reach" in sys.argv[1:]:
        before = json.loads((RESULTS / "network.json").read_text())["results"]
        save("network", GOAL, before | reach(5))
        return
    results = messages()
    if "messages" in sys.argv[1:]:
        before = json.loads((RESULTS / "network.json").read_text())["results"]
        save("network", GOAL, before | results)
        return
    save("network", GOAL, results | reach(5) | asyncio.run(candidates()))


def messages() -> Json:
    """Of sessions over TCP (frames, rates, Noise), and of votes with all of gossip and the node's word on them."""
    return {
        "statements_of_200_bytes_50_at_once_us": spread([asyncio.run(statements()) for _ in range(RUNS)], 2),
        "uvloop_statements_of_200_bytes_50_at_once_us": spread(
            [uvloop.run(statements()) for _ in range(RUNS)], 2
        ),
        "votes_of_200_bytes_50_at_once_us": spread([asyncio.run(votes(BATCH)) for _ in range(RUNS)], 2),
        "votes_of_200_bytes_one_at_a_time_us": spread([asyncio.run(votes(1)) for _ in range(RUNS)], 2),
        "uvloop_votes_of_200_bytes_50_at_once_us": spread([uvloop.run(votes(BATCH)) for _ in range(RUNS)], 2),
        "uvloop_votes_of_200_bytes_one_at_a_time_us": spread([uvloop.run(votes(1)) for _ in range(RUNS)], 2),
        "uvloop_question_and_answer_of_200_bytes_us": spread(
            [uvloop.run(questions(200, 90)) for _ in range(RUNS)], 2
        ),
        "handshake_us": spread([handshake() for _ in range(RUNS)], 0),
        "signature_check_us": spread([signature_check() for _ in range(RUNS)], 1),
        "uvloop_statement_of_200_bytes_50_at_once_in_signature_checks": spread(
            [by_yardstick(lambda: uvloop.run(statements())) for _ in range(RUNS)], 3
        ),
        "uvloop_vote_of_200_bytes_50_at_once_in_signature_checks": spread(
            [by_yardstick(lambda: uvloop.run(votes(BATCH))) for _ in range(RUNS)], 3
        ),
    }


if __name__ == "__main__":
    main()
