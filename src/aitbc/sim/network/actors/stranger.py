"""Somebody who speaks the protocol by hand: says hello like everybody, answers politely, and passes nothing on.

Bad actors change what they do not do politely. There is no limit here that a peer keeps to of its own will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aitbc.adapters.network.memory import MemoryTransport
from aitbc.core.peer.frames import FrameReader, Type, frame
from aitbc.core.peer.kinds import (
    BY_NAME,
    GET_PEERS,
    HELLO,
    PING,
    Hello,
    Kind,
    PeerAddress,
    PeerList,
    Ping,
    Status,
    Welcome,
    pack_answer,
    pack_message,
    unpack_message,
)
from aitbc.core.peer.links import Dial, DialFailed, Linked, LinkEvent, Received, Send, Unlinked
from aitbc.core.peer.peers import PROTOCOL_VERSION
from aitbc.core.peer.reasons import PeerFault
from aitbc.sim.network.goods import name_of
from aitbc.sim.network.node import SETTINGS_HASH

if TYPE_CHECKING:
    from aitbc.sim.network.run import NetworkRun

ACT_MS = 250


class Line:
    """One connection as a stranger sees it."""

    def __init__(self, link: int, key: bytes, where: str, dialled: str) -> None:
        self.link = link
        self.key = key
        self.where = where
        self.dialled = dialled
        """The address that was dialled; empty when the other side came."""
        self.reader = FrameReader(lambda _head: None)
        self.introduced = False
        self.asked: dict[int, Kind] = {}
        self.next_id = 1


class Stranger:
    back_ms = 2_000
    """Who was thrown out comes back after so long."""

    def __init__(self, run: NetworkRun, name: str, where: str, *, kinds: tuple[Kind, ...] = ()) -> None:
        """`kinds`: those that the actor is about."""
        self.run, self.world = run, run.world
        self.name, self.where = name, where
        self.kinds = kinds
        self.key = name_of(name.encode())
        self.lines: dict[int, Line] = {}
        self.said = 0
        """Frames of its own."""
        self._dials: dict[int, str] = {}
        self._next_dial = 0
        self.transport = MemoryTransport(run.world.switch, key=self.key, where=where)

    def start(self) -> None:
        self.transport.start_now(
            lambda event: self.world.later(0, lambda: self._hear(event)), lambda _where: True
        )
        for where in self.victims():
            self.dial(where)
        self._act()

    # What bad actors change

    def victims(self) -> list[str]:
        """Whom it dials."""
        return [node.where for node in self.run.honest]

    def act(self) -> None:
        """Four times a second."""

    def hello(self) -> Hello:
        return Hello(
            version_min=PROTOCOL_VERSION,
            version_max=PROTOCOL_VERSION,
            settings_hash=SETTINGS_HASH,
            status=Status(0, bytes(32), 0),
            clock_ms=self.world.now_ms,
            listen=f":{self.where.rpartition(':')[2]}",
            agent="friend",
            features=["votes"],
        )

    def known(self) -> list[PeerAddress]:
        """What it tells who asks for others."""
        return []

    def answer(self, line: Line, kind: Kind, payload: bytes) -> bytes | None:
        """None refuses."""
        if kind is HELLO:
            line.introduced = True
            return pack_answer(HELLO, Welcome(True, "", self.hello(), self.known()))
        if kind is GET_PEERS:
            return pack_answer(GET_PEERS, PeerList(self.known()))
        if kind is PING:
            ping: Ping = unpack_message(PING, payload)
            return pack_answer(PING, Ping(ping.number, Status(0, bytes(32), 0)))
        return None

    def told(self, line: Line, kind: Kind, payload: bytes) -> None:
        """A statement came."""

    # What it can do

    def dial(self, where: str) -> None:
        self._next_dial += 1
        self._dials[self._next_dial] = where
        self.transport.dial(Dial(self._next_dial, where, b""))

    @property
    def friends(self) -> list[Line]:
        return [line for line in self.lines.values() if line.introduced]

    def say(self, line: Line, kind: Kind, payload: bytes) -> None:
        """A statement, or the request that this kind is."""
        type_ = Type.REQUEST if kind.asks else Type.PLAIN
        if kind.asks:
            line.asked[line.next_id] = kind
        self.send(line, frame(type_, line.next_id, kind.wire, payload), kind)
        line.next_id += 1

    def send(self, line: Line, data: bytes, kind: Kind) -> None:
        self.said += 1
        self.transport.send(Send(line.link, data, kind.lane))

    # Inside

    def _act(self) -> None:
        self.act()
        self.world.later(ACT_MS, self._act)

    def _hear(self, event: LinkEvent) -> None:
        match event:
            case Linked():
                dialled = "" if event.dial is None else self._dials.pop(event.dial)
                line = self.lines[event.link] = Line(event.link, event.key, event.where, dialled)
                if dialled:
                    self.say(line, HELLO, pack_message(HELLO, self.hello()))
            case DialFailed():
                self._come_back(self._dials.pop(event.dial))
            case Received():
                self._received(event)
            case Unlinked():
                gone = self.lines.pop(event.link, None)
                if gone is not None and gone.dialled:
                    self._come_back(gone.dialled)

    def _come_back(self, where: str) -> None:
        self.world.later(self.back_ms, lambda: self.dial(where))

    def _received(self, event: Received) -> None:
        line = self.lines.get(event.link)
        if line is None:
            return
        for head, payload in line.reader.feed(event.data):
            assert not isinstance(payload, PeerFault), "a stranger refuses nothing"
            if head.type == Type.REQUEST:
                self._asked(line, BY_NAME[head.kind], head.id, payload)
            elif head.type == Type.PLAIN:
                self.told(line, BY_NAME[head.kind], payload)
            elif line.asked.pop(head.id, None) is HELLO and head.type == Type.ANSWER:
                line.introduced = True

    def _asked(self, line: Line, kind: Kind, id_: int, payload: bytes) -> None:
        answer: Any = self.answer(line, kind, payload)
        if answer is None:
            self.send(line, frame(Type.REFUSAL, id_, b"", b"unavailable"), kind)
        else:
            self.send(line, frame(Type.ANSWER, id_, b"", answer), kind)
