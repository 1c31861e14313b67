"""The loop of a node that agrees by work: outside as `runtime`, inside another replica. docs/spec/nakamoto.md "Host"

Templates and switches are made on the executor's thread, one after the other; nonces are searched by processes.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, assert_never

from aitbc.core.codec.keytext import key_from_text
from aitbc.core.consensus.engine import PenalisePeer, SetTimer
from aitbc.core.consensus.nakamoto.engine import Announce as AnnounceHead
from aitbc.core.consensus.nakamoto.engine import (
    FetchBlocks,
    FetchHeaders,
    Finalize,
    Mine,
    NonceFound,
    PartedBelowFinal,
    SignTemplate,
    StopMining,
    TemplateSigned,
)
from aitbc.core.consensus.nakamoto.headers import link_to_bytes
from aitbc.core.consensus.nakamoto.rules import MAX_BEHIND
from aitbc.core.crypto.address import address_of, check_address
from aitbc.core.executor import Executor
from aitbc.core.replica import Announce, Answer, Drop, Relay
from aitbc.core.switching import Ready, Switcher, work_replica_at_head
from aitbc.core.sync.ranges import SyncState
from aitbc.core.types.blocks import MAX_EXTRA_BYTES, Block, CommittedBlock, Header
from aitbc.core.types.nakamoto import reward_at
from aitbc.core.types.reasons import Stops
from aitbc.core.work_replica import Build, Input, Reorganised, Switch, WorkReplica
from aitbc.node.catching_up import SyncView
from aitbc.node.miner import Miner
from aitbc.node.network import PeerNetwork
from aitbc.node.queues import too_busy
from aitbc.node.runtime import MAX_WAITERS, NodeRuntime
from aitbc.node.work_network import WorkNetwork
from aitbc.ports import Clock, Signer, StorageError, Store

T = TypeVar("T")

log = logging.getLogger("aitbc.node")

READ_TRIES = 5
AGAIN_S = 0.02
"""A switch of some blocks is written in less."""


class Author:
    """How this node makes blocks."""

    def __init__(self, *, address: str, signer: Signer | None, workers: int, extra: bytes) -> None:
        """`signer`: of a listed miner; `address`: who earns."""
        self.address, self.signer, self.workers, self.extra = address, signer, workers, extra


class WorkRuntime(NodeRuntime):
    """One running node. `start` and everything else are called on one event loop."""

    block_event = "head"

    def __init__(
        self,
        executor: Executor,
        store: Store,
        *,
        author: Author | None,
        clock: Clock,
        processes: int = 0,
    ) -> None:
        """`author`: None: it only follows. `processes`: how many check signatures once there are many. Raises Rejected
        when what is stored is no chain of this genesis."""
        self.author = author
        self._switcher = Switcher(executor, store)
        self.work_network: WorkNetwork | None = None
        self.miner = Miner(author.workers, self._found) if author is not None else None
        self._final_waiters: list[asyncio.Future[None]] = []
        self.reorganisations = self.deepest = 0
        """Switches that took blocks back, and the most that one took."""
        self.mined = 0
        self._switches = 0
        self._is_switching = False
        super().__init__(executor, store, scribe=None, clock=clock, processes=processes)
        self.address = author.address if author is not None else ""

    def _first_replica(self, _timeout_ms: int) -> WorkReplica:
        miner = self.author.address if self.author is not None else None
        self._work = work_replica_at_head(self.executor, self.store, miner=miner)
        return self._work

    @property
    def work(self) -> WorkReplica:
        return self._work

    async def start_miner(self) -> None:
        if self.miner is not None:
            await self.miner.start()

    async def stop(self) -> None:
        if self.miner is not None:
            await self.miner.stop()
        await super().stop()

    @property
    def validates(self) -> bool:
        """Nobody votes here."""
        return False

    @property
    def is_author(self) -> bool:
        return self.author is not None

    @property
    def takes_transactions(self) -> bool:
        return self.author is not None or self.work_network is not None

    @property
    def neighbours(self) -> PeerNetwork | None:
        return self.work_network

    def sync_view(self) -> SyncView | None:
        """Headers come first: the best one says how far there is to go."""
        if self.work_network is None:
            return None
        height, best = self.executor.head.block.header.height, self.work.engine.best.height
        state = SyncState.BLOCKS if best > height + MAX_BEHIND else SyncState.LIVE
        return SyncView(state=state, height=height, target=best, blocks_per_s=None, eta_s=None)

    # What the network asks

    def feed_work(self, message: Input) -> None:
        if not self.stopped.is_set():
            self.feed(message)

    def head_header(self) -> Header:
        return self.executor.head.block.header

    def body_beside(self, block_hash: bytes) -> Block | None:
        return self.work.body(block_hash)

    # Reading while branches are switched

    async def read(self, work: Callable[[], T]) -> T:
        return await self._read_steadily(lambda: NodeRuntime.read(self, work))

    async def read_much(self, work: Callable[[], T]) -> T:
        return await self._read_steadily(lambda: NodeRuntime.read_much(self, work))

    async def _read_steadily(self, read: Callable[[], Awaitable[T]]) -> T:
        """What is read in several steps may not fit together when the branch changed in between: it is read again then.
        It is damaged only if nothing changed."""
        for _ in range(READ_TRIES - 1):
            switches = self._switches
            try:
                return await read()
            except StorageError:
                if switches == self._switches and not self._is_switching:
                    raise
                await asyncio.sleep(AGAIN_S)
        return await read()

    # Final by depth

    def standing(self, height: int) -> dict[str, Any]:
        """How sure a block on the chain is."""
        head, depth = self.executor.head.block.header.height, self.work.engine.head.height
        return {
            "confirmations": max(0, min(head, depth) - height + 1),
            "final": self.work.is_final(height),
        }

    async def wait_final(self, tx_id: bytes, timeout_s: float) -> None:
        """Until the finality depth lies on top of its block; a branch that wins meanwhile begins the wait anew."""
        until = time.monotonic() + timeout_s
        await super().wait_final(tx_id, timeout_s)
        while (left := until - time.monotonic()) > 0 and not self.stopped.is_set():
            place = await self.read(lambda: self.store.find_transaction(tx_id))
            if tx_id in self.dropped or (place is not None and self.work.is_final(place[0])):
                return
            if len(self._final_waiters) >= MAX_WAITERS:
                raise too_busy("requests that wait for finality", MAX_WAITERS)
            moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._final_waiters.append(moved)
            try:
                async with asyncio.timeout(left):
                    await moved
            except TimeoutError:
                return
            finally:
                if moved in self._final_waiters:
                    self._final_waiters.remove(moved)

    async def wait_included(self, tx_id: bytes, timeout_s: float) -> None:
        await NodeRuntime.wait_final(self, tx_id, timeout_s)

    def _wake_final(self) -> None:
        waiters, self._final_waiters = self._final_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _end(self) -> None:
        super()._end()
        self._wake_final()

    # Effects

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            if not self.stopped.is_set():
                self._perform_one(effect)

    def _perform_one(self, effect: Any) -> None:
        match effect:
            case SetTimer():
                self._set_timer(effect)
            case Build():
                self._spawn(self._make_template(effect))
            case Switch():
                self._spawn(self._switch(effect))
            case SignTemplate():
                self._sign(effect)
            case Mine():
                assert self.miner is not None, "only an author mines"
                self.miner.search(effect.search, effect.target)
            case StopMining():
                assert self.miner is not None, "only an author mines"
                self.miner.stop_search()
            case Finalize():
                self._spawn(self._keep_final(effect))
            case AnnounceHead():
                self._tell_head(effect.header)
            case FetchHeaders():
                if self.work_network is not None:
                    self.work_network.work.fetch_headers(effect)
            case FetchBlocks():
                if self.work_network is not None:
                    self.work_network.work.fetch_blocks(effect)
            case PenalisePeer():
                if self.work_network is not None:
                    self.work_network.penalise(effect.peer, str(effect.reason))
            case PartedBelowFinal():
                log.warning(
                    "the chain of peer %s leaves this one below its newest final block: unless its side comes over by"
                    " itself, the network was apart for longer than its finality depth, and an operator decides",
                    effect.peer[:16],
                    extra={"component": "consensus", "event": "parted_below_final", "peer": effect.peer},
                )
            case Relay():
                self._taken += [tx.wid for tx in effect.txs]
                for tx in effect.txs:
                    self.subscriptions.transaction(tx, self._clock.now_ms())
            case Answer():
                self._answer(effect)
            case Drop():
                self._drop(effect)
            case Announce():
                self._announce(effect.block)
            case Reorganised():
                self._note_reorganisation(effect)
            case _:
                assert_never(effect)

    async def _make_template(self, effect: Build) -> None:
        author = self.author
        assert author is not None, "only an author builds"
        built = await self._in_worker(
            lambda: self._switcher.build(effect, author=author.address, extra=author.extra)
        )
        self.feed(built)

    def _sign(self, effect: SignTemplate) -> None:
        assert self.author is not None, "only an author signs"
        assert self.author.signer is not None, "a listed miner has a key"
        signature = self.author.signer.sign(effect.template)
        asyncio.get_running_loop().call_soon(self.feed, TemplateSigned(effect.template, signature))

    def _found(self, search: bytes, nonce: int) -> None:
        self.feed(NonceFound(search, nonce))

    async def _switch(self, effect: Switch) -> None:
        started, loop, published = time.perf_counter(), asyncio.get_running_loop(), threading.Event()

        def switch() -> Any:
            """The executor's thread stands still while the host's makes the branch visible."""
            done = self._switcher.switch(effect)
            if not isinstance(done, Ready):
                return done

            def publish() -> None:
                try:
                    done.publish()
                finally:
                    published.set()

            loop.call_soon_threadsafe(publish)
            published.wait()
            return done.switched

        self._is_switching = effect.undo > 0
        answer = await self._in_worker(switch)
        self._switches += effect.undo > 0
        self._is_switching = False
        self.measures.last_commit_ms = round((time.perf_counter() - started) * 1000)
        self.feed(answer)

    async def _keep_final(self, effect: Finalize) -> None:
        await self._in_worker(lambda: self.store.keep_final(link_to_bytes(effect.link)))
        self._tell_status()
        self._wake_final()

    def _tell_head(self, header: Header) -> None:
        if self.author is not None and header.proposer == self.author.address:
            self.mined += 1
        if self.work_network is not None:
            self._tell_status()
            self.work_network.work.announce(header)

    def _tell_status(self) -> None:
        if self.work_network is not None:
            head = self.executor.head
            self.work_network.set_heights(
                height=head.block.header.height,
                head_hash=head.hash,
                final_height=self.work.engine.final.height,
            )

    def _note_reorganisation(self, effect: Reorganised) -> None:
        self.reorganisations += 1
        self.deepest = max(self.deepest, len(effect.undone))
        log.warning(
            "the chain left %d blocks for a branch with more work; their transactions wait again",
            len(effect.undone),
            extra={"component": "chain", "event": "reorganised", "blocks": len(effect.undone)},
        )
        self._wake_final()

    def _measure(self, _header: Header) -> None:
        """A new block is not final."""

    def _announce(self, block: CommittedBlock) -> None:
        super()._announce(block)
        self._wake_final()

    @property
    def listed_miners(self) -> list[str]:
        """Addresses of who may author, in the order of their turns; nothing: anybody may."""
        settings = self.executor.loaded.genesis.consensus.work
        assert settings is not None, "this chain agrees by work"
        return [address_of(key_from_text(text)) for text in settings.miners]

    def reward_of_next(self) -> int:
        settings = self.executor.loaded.genesis.consensus.work
        assert settings is not None, "this chain agrees by work"
        return reward_at(settings.reward, self.executor.head.block.header.height + 1)


def check_author(executor: Executor, author: Author) -> None:
    """Raises Stops or Rejected, with what to do, for one that could never make a block here."""
    check_address(author.address)
    if len(author.extra) > MAX_EXTRA_BYTES:
        raise Stops(f"extra has {len(author.extra)} bytes; a header takes {MAX_EXTRA_BYTES}")
    settings = executor.loaded.genesis.consensus.work
    assert settings is not None, "this chain agrees by work"
    if not settings.miners:
        return
    listed = [key_from_text(text) for text in settings.miners]
    if author.signer is None or author.signer.auth_key not in listed:
        raise Stops(
            "this chain lists who may author its blocks, and the key of --proposer-key is not among them: start"
            " without it to follow, or with a listed miner's"
        )
    if author.address != author.signer.address:
        raise Stops(
            f"on this chain {author.signer.address} earns for what its key signs: leave --mine-to out"
        )
