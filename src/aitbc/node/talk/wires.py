"""What all subjects of the talk between nodes share: the machine that knows the peers, tasks, and a thread for work
that takes long."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol, TypeVar

from aitbc.core.codec.digests import header_hash
from aitbc.core.peer.compact import CompactBlock
from aitbc.core.peer.kinds import Kind
from aitbc.core.peer.network import Network, NetworkEffect
from aitbc.core.peer.peers import Replied, Requested, Unreplied
from aitbc.core.peer.reasons import PeerReason
from aitbc.core.types.blocks import Block
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.ports import Clock

T = TypeVar("T")

log = logging.getLogger("aitbc.node")

MAX_ENVELOPE_BYTES = 64 * 1024
"""A transaction on the wire is about 26 KB at most."""


class Subject(Protocol):
    """Asks peers and answers them about some kinds."""

    kinds: tuple[Kind, ...]

    def requested(self, effect: Requested) -> None: ...

    def replied(self, effect: Replied) -> None: ...

    def unreplied(self, effect: Unreplied) -> None: ...


class Wires:
    """Everything is called on one event loop."""

    def __init__(
        self, network: Network, *, clock: Clock, perform: Callable[[Sequence[NetworkEffect]], None]
    ) -> None:
        self.network = network
        self.perform = perform
        self.refused: Counter[str] = Counter()
        """What peers sent and was not taken, by reason."""
        self._clock = clock
        self._checker = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._much_checker = ThreadPoolExecutor(1, thread_name_prefix="check-much")
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets = count(1)

    def now(self) -> int:
        return self._clock.now_ms()

    def ask(self, key: bytes, kind: Kind, message: Any, *, note: Callable[[int], None]) -> None:
        """Ask one peer. `note` hears the ticket before anything is sent: the answer may come in this call."""
        ticket = next(self._tickets)
        note(ticket)
        self.perform(self.network.ask(self.now(), key, kind, message, ticket=ticket))

    def answer(self, request: Requested, message: Any) -> None:
        self.perform(self.network.answer(request, message))

    def refuse(self, request: Requested) -> None:
        self.perform(self.network.refuse(request))

    def penalise(self, key: bytes, message: str) -> None:
        self.perform(self.network.blame(self.now(), key, PeerReason.INVALID, message))

    async def beside(self, work: Callable[[], T]) -> T:
        """Decode and check on a thread, one thing after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._checker, work)

    async def beside_much(self, work: Callable[[], T]) -> T:
        """The same for whole blocks that strangers ask for, a tenth of a second each: votes do not wait behind them."""
        return await asyncio.get_running_loop().run_in_executor(self._much_checker, work)

    async def read(self, work: Coroutine[Any, Any, list[T]]) -> list[T]:
        """What the disk has; nothing while it has too much to do."""
        try:
            return await work
        except Rejected as rejection:
            log.debug("%s", rejection.message, extra={"component": "p2p"})
            return []

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self.done)

    def done(self, task: asyncio.Task[None]) -> None:
        """For every task that nobody awaits."""
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("a mistake of this program", exc_info=task.exception(), extra={"component": "p2p"})

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._checker.shutdown(wait=True)
        self._much_checker.shutdown(wait=True)


def key_of(peer: str | None) -> bytes | None:
    """The node key that a peer's name is; None for a validator's address."""
    if peer is None or len(peer) != 64:
        return None
    with contextlib.suppress(ValueError):
        return bytes.fromhex(peer)
    return None


def hash_of(block: Block | CompactBlock) -> bytes:
    """Raises Rejected for a header that has no bytes."""
    try:
        return header_hash(block.header)
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, "a field of a header has no bytes") from None
