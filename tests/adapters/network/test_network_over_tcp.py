"""Whole networks over real sockets: the smallest host around `Network`, five of them, and what can happen to one."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable

from aitbc.adapters.network.tcp import TcpTransport
from aitbc.core.peer.gossip import Delivered, TransactionsCame, Verdict, Wake
from aitbc.core.peer.handshake import prologue_of, public_key_of
from aitbc.core.peer.kinds import CERTIFICATE, CONSENSUS_GET, Status
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.peer.network import Network, NetworkEffect
from aitbc.core.peer.peering import TICK_MS
from aitbc.core.peer.peers import PeerSettings, Replied, Requested
from support.village import PoolOf

PROLOGUE = prologue_of(chain_id="ait-test", genesis_hash=bytes(32))
STATUS = Status(head_height=1, head_hash=bytes(32), finalised_height=1)


class Host:
    """What a node does for its network: queue events, perform effects, keep time."""

    def __init__(self, name: bytes, bootstrap: tuple[str, ...] = (), port: int = 0) -> None:
        self.static = name.ljust(32, b".")
        self.pool = PoolOf()
        self.heard: list[bytes] = []
        self.replies: list[bytes] = []
        self.events: asyncio.Queue[LinkEvent] = asyncio.Queue()
        self.transport = TcpTransport(static=self.static, prologue=PROLOGUE, listen=("127.0.0.1", port))
        self.bootstrap = bootstrap
        self.name = name
        self.where = ""
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self.where = await self.transport.start(self.events.put_nowait, lambda where: self.admits(where))
        settings = PeerSettings(
            key=public_key_of(self.static),
            settings_hash=bytes(32),
            agent=self.name.decode(),
            listen=":" + self.where.rpartition(":")[2],
            max_peers=6,
            bootstrap=self.bootstrap,
        )
        self.network = Network(settings, status=STATUS, pool=self.pool, secret=os.urandom(32))
        self.tasks = [asyncio.create_task(self.listen()), asyncio.create_task(self.keep_time())]

    def admits(self, where: str) -> bool:
        return self.network.admits(where, self.now_ms())

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    async def listen(self) -> None:
        while True:
            event = await self.events.get()
            self.perform(self.network.step(self.now_ms(), event))

    async def keep_time(self) -> None:
        while True:
            self.perform(self.network.tick(self.now_ms()))
            await asyncio.sleep(TICK_MS / 1000)

    def wake(self) -> None:
        self.perform(self.network.tick(self.now_ms()))

    def perform(self, effects: list[NetworkEffect]) -> None:
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
                    delay = max(0, effect.at_ms - self.now_ms()) / 1000
                    asyncio.get_running_loop().call_later(delay, self.wake)
                case Delivered():
                    self.heard.append(effect.payload)
                    self.perform(self.network.judge(self.now_ms(), effect.id, Verdict.ACCEPT))
                case TransactionsCame():
                    self.pool.txs.update(effect.txs)
                    self.perform(self.network.took(self.now_ms(), [wid for wid, _ in effect.txs]))
                case Requested():
                    self.perform(self.network.answer(effect, effect.message * 1_000))
                case Replied():
                    self.replies.append(effect.message)
                case _:
                    pass

    async def stop(self, *, politely: bool = True) -> None:
        if politely:
            self.perform(self.network.stop(self.now_ms()))
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.transport.stop()


async def until(claim: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not claim():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def town(count: int) -> AsyncIterator[list[Host]]:
    hosts = [Host(b"n0")]
    await hosts[0].start()
    for number in range(1, count):
        hosts.append(Host(b"n%d" % number, (hosts[0].where,)))
        await hosts[-1].start()
    try:
        await until(lambda: all(len(host.network.peers) >= 3 for host in hosts))
        yield hosts
    finally:
        for host in hosts:
            await host.stop()


def test_five_nodes_find_each_other_and_share_everything() -> None:
    async def story() -> None:
        async with town(5) as hosts:
            hosts[1].perform(hosts[1].network.publish(hosts[1].now_ms(), CERTIFICATE, b"final 1"))
            wids = [number.to_bytes(32, "big") for number in range(3_000)]
            hosts[2].pool.txs.update({wid: b"tx" + wid * 4 for wid in wids})
            hosts[2].perform(hosts[2].network.took(hosts[2].now_ms(), wids))
            await until(lambda: all(len(host.pool.txs) == 3_000 for host in hosts))
            assert [host.heard for host in hosts] == [
                [b"final 1"],
                [],
                [b"final 1"],
                [b"final 1"],
                [b"final 1"],
            ]

    asyncio.run(story())


def test_a_large_answer_crosses_and_a_node_comes_back() -> None:
    async def story() -> None:
        async with town(4) as hosts:
            asker, other = hosts[0], hosts[3]
            key = public_key_of(other.static)
            asker.perform(asker.network.ask(asker.now_ms(), key, CONSENSUS_GET, bytes(4_000), ticket=1))
            await until(lambda: asker.replies == [bytes(4_000_000)])
            port = int(other.where.rpartition(":")[2])
            await other.stop(politely=False)
            await until(lambda: all(key not in host.network.peers for host in hosts[:3]))
            hosts[3] = Host(b"n3", (asker.where,), port)
            await hosts[3].start()
            await until(lambda: len(hosts[3].network.peers) >= 2)
            hosts[3].perform(hosts[3].network.publish(hosts[3].now_ms(), CERTIFICATE, b"I am back"))
            await until(lambda: all(host.heard == [b"I am back"] for host in hosts[:3]))

    asyncio.run(story())


def test_a_goodbye_is_heard_as_such() -> None:
    async def story() -> None:
        async with town(4) as hosts:
            key = public_key_of(hosts[3].static)
            await hosts[3].stop()
            await until(lambda: all(key not in host.network.peers for host in hosts[:3]), seconds=2)

    asyncio.run(story())
