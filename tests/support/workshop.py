"""The workshop's published vectors, blocks that are quick to find, and a peer that says what a story tells it to."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from aitbc.core.peer.frames import FrameReader, Head, Type, frame
from aitbc.workshop.core.chain import has_work
from aitbc.workshop.core.keys import WorkshopKey
from aitbc.workshop.core.machine import Machine, Settings
from aitbc.workshop.core.rules import Rules
from aitbc.workshop.core.texts import Block, Transaction, parse_block, parse_transaction
from aitbc.workshop.host import Host, HostSettings

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "workshop.json").read_text(encoding="utf-8")
)


def named(section: str, key: str) -> dict[str, Any]:
    return {one["name"]: one[key] for one in VECTORS[section]}


KEYS = {name: WorkshopKey(bytes.fromhex(secret)) for name, secret in named("keys", "private").items()}
ALICE, BOB, CAROL = KEYS["alice"], KEYS["bob"], KEYS["carol"]
BLOCKS = {name: parse_block(text) for name, text in named("blocks", "text").items()}
TRANSACTIONS = {name: parse_transaction(text) for name, text in named("transactions", "text").items()}
EXCHANGE = {name: bytes.fromhex(one) for name, one in named("exchange", "frame").items()}
SESSION = {name: bytes.fromhex(one) for name, one in named("session", "frame").items()}

EASY = Rules(difficulty=2)
"""256 tries."""


def find(
    parent: Block,
    *transactions: Transaction,
    coinbase: bytes = ALICE.address,
    number: int | None = None,
    rules: Rules = EASY,
) -> Block:
    """A block with work; `number`: another than it should have."""
    nonce = 0
    while True:
        above = parent.number + 1 if number is None else number
        block = Block(above, nonce, parent.hash, coinbase, transactions)
        if has_work(block.hash, rules.difficulty):
            return block
        nonce += 1


def branch(parent: Block, length: int, coinbase: bytes = ALICE.address) -> list[Block]:
    blocks = [parent]
    for _ in range(length):
        blocks.append(find(blocks[-1], coinbase=coinbase))
    return blocks[1:]


def counting(name: str) -> Callable[[int], bytes]:
    """Random bytes that a story can repeat."""
    turn = iter(range(1 << 30))
    return lambda size: sha256(f"{name} {next(turn)}".encode()).digest()[:size]


def machine(name: str = "node", rules: Rules = EASY, **settings: Any) -> Machine:
    return Machine(Settings(rules=rules, **settings), counting(name))


def with_id(data: bytes, id_: int) -> bytes:
    """A frame as the sender would have written it with another count."""
    return data[:5] + id_.to_bytes(4, "big") + data[9:]


def body(data: bytes) -> tuple[int, bytes, bytes]:
    """Type, kind and payload of one frame."""
    [(head, payload)] = FrameReader(lambda _: None).feed(data)
    assert isinstance(payload, bytes)
    return head.type, head.kind, payload


@dataclass
class ScriptedPeer:
    """One connection. What arrives is kept; what the story does not answer stays unanswered."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: list[tuple[Head, bytes]] = field(default_factory=list)
    cutter: FrameReader = field(default_factory=lambda: FrameReader(lambda _: None))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self, kind: bytes = b"", *, type_: int | None = None) -> bytes:
        """The next frame of this kind (empty: an answer), as its bytes; others before it are passed over."""
        while True:
            for place, (head, payload) in enumerate(self.frames):
                if head.kind == kind and type_ in (None, head.type):
                    del self.frames[place]
                    return frame(Type(head.type), head.id, head.kind, payload)
            data = await asyncio.wait_for(self.reader.read(65_536), 8)
            if not data:
                raise EOFError
            for head, payload in self.cutter.feed(data):
                assert isinstance(payload, bytes)
                self.frames.append((head, payload))

    async def silence(self, kind: bytes = b"") -> None:
        """By the time the node answers a last question it has said nothing of this kind."""
        self.send(frame(Type.REQUEST, 0xFFFF, b"aitbc:status", b""))
        while (await self.frame())[5:9] != b"\0\0\xff\xff":
            pass
        assert [head for head, _ in self.frames if head.kind == kind] == []

    async def hello(self, where: str = "127.0.0.1:15199", id_: int = 1) -> bytes:
        self.send(frame(Type.REQUEST, id_, b"p2p:hello", where.encode()))
        return await self.frame()

    async def closed(self) -> bool:
        try:
            while await asyncio.wait_for(self.reader.read(65_536), 5):
                pass
        except ConnectionError:
            pass
        return True


@dataclass
class Running:
    host: Host
    port: int

    @property
    def machine(self) -> Machine:
        return self.host.machine

    async def until(self, is_so: Callable[[], bool], seconds: float = 10) -> None:
        for _ in range(int(seconds * 100)):
            if is_so():
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(self.machine.status())


@asynccontextmanager
async def running(
    folder: Path, *, rules: Rules | None = None, workers: int = 0, **settings: Any
) -> AsyncIterator[Running]:
    made = Settings(rules=rules or Rules(), **settings)
    host = Host(HostSettings(machine=made, port=0, data=folder, workers=workers), os.urandom)
    port = await host.start()
    try:
        yield Running(host, port)
        assert not host.over.is_set(), "no stranger stops a node"
    finally:
        await host.stop()


@asynccontextmanager
async def connect(node: Running) -> AsyncIterator[ScriptedPeer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    try:
        yield ScriptedPeer(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[str, "asyncio.Queue[ScriptedPeer]"]]:
    """An address that can be dialled, and who dialled it."""
    came: asyncio.Queue[ScriptedPeer] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await came.put(ScriptedPeer(reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", came
    finally:
        server.close()
