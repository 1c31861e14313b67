"""A node that is for discovery only: it hears and tells where others are, and is nobody's peer. docs/spec/p2p.md
"Roles"

It holds no chain but its genesis document, which names the network. Who dials it is told addresses in the welcome,
which refuses by name (`discovery_only`); what it hears it dials itself, to see whether somebody is there.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from aitbc.core.peer.kinds import PeerAddress, Status
from aitbc.core.peer.links import Close, Dial, LinkEvent, Send, Throttle
from aitbc.core.peer.peering import TICK_MS, Peering
from aitbc.core.peer.peers import (
    ConfiguredPeer,
    Heard,
    PeerDown,
    PeerEffect,
    PeerSettings,
    PeerUp,
    PeerView,
    Refusal,
    Replied,
    Requested,
    Unreplied,
)
from aitbc.node.book import FIRST_SAVE_S, SAVE_EVERY_S, BookKeeper
from aitbc.ports import Clock, Transport

log = logging.getLogger("aitbc.node")


class Lister:
    """Everything is called on one event loop. `stopped` is set by a bug; `failure` is then what it was."""

    def __init__(
        self,
        *,
        transport: Transport,
        settings: PeerSettings,
        status: Status,
        clock: Clock,
        book: BookKeeper,
        configured: Sequence[ConfiguredPeer] = (),
    ) -> None:
        assert settings.lists_only
        self._transport, self._clock, self._book = transport, clock, book
        self._peering = Peering(
            settings, status=status, secret=os.urandom(32), book=book.load(), configured=configured
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.refused: Counter[str] = Counter()
        """What strangers were refused, and what became of dials, by reason."""
        self.address = ""
        """Where others can connect."""
        self.stopped = asyncio.Event()
        self.failure: BaseException | None = None

    async def start(self) -> None:
        """Raises StorageError when the port cannot be had."""
        self.address = await self._transport.start(
            self._step, lambda where: self._peering.admits(where, self._clock.now_ms())
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tick_for_ever()), loop.create_task(self._save_for_ever())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._book.save(self._peering.record())
        self._perform(self._peering.stop(self._clock.now_ms()))
        await self._transport.stop()

    # What is seen from outside

    @property
    def known(self) -> tuple[int, int]:
        """Addresses, and how many of them answered when they were dialled last."""
        return self._peering.known

    @property
    def peers(self) -> int:
        """It has none: nobody stays."""
        return len(self._peering.peers)

    @property
    def needs_more(self) -> bool:
        """Nobody is known to be there."""
        return not self.known[1]

    def view(self) -> list[PeerView]:
        return self._peering.view(self._clock.now_ms())

    def hear_addresses(self, peers: Sequence[PeerAddress], *, source: str) -> None:
        """Addresses that a discovery service told; `source`: the network it is in."""
        self._peering.hear_addresses(self._clock.now_ms(), peers, source=source)

    # The loop

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_MS / 1000)
            try:
                self._perform(self._peering.tick(self._clock.now_ms()))
            except Exception as error:
                self._fail(error)

    async def _save_for_ever(self) -> None:
        pause_s = FIRST_SAVE_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = SAVE_EVERY_S
            record = self._peering.record()
            await asyncio.get_running_loop().run_in_executor(None, self._book.save, record)

    def _fail(self, error: BaseException) -> None:
        log.critical("stopped", exc_info=error, extra={"event": "bug", "component": "p2p"})
        self.failure = error
        self.stopped.set()

    def _step(self, event: LinkEvent) -> None:
        try:
            self._perform(self._peering.step(self._clock.now_ms(), event))
        except Exception as error:
            self._fail(error)

    def _perform(self, effects: Sequence[PeerEffect]) -> None:
        for effect in effects:
            match effect:
                case Dial():
                    self._transport.dial(effect)
                case Send():
                    self._transport.send(effect)
                case Close():
                    self._transport.close(effect)
                case Throttle():
                    self._transport.throttle(effect)
                case Refusal():
                    self.refused[str(effect.reason)] += 1
                    log.debug("%s: %s", effect.reason, effect.message, extra={"component": "p2p"})
                case PeerUp() | PeerDown() | Heard() | Requested() | Replied() | Unreplied():
                    raise AssertionError("nobody is introduced to who only lists")
                case _:
                    assert_never(effect)
