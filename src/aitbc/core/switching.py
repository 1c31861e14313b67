"""Where work on the state meets the disk, on a chain that agrees by work: templates, switches, and the beginning.

The host gives the store and calls from one worker thread; the simulator calls inline. docs/spec/nakamoto.md "Host"
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.wire import pack
from aitbc.core.consensus.nakamoto.authors import Miner
from aitbc.core.consensus.nakamoto.engine import SwitchRefused
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link, genesis_link, link_from_bytes
from aitbc.core.consensus.nakamoto.rules import Nakamoto
from aitbc.core.crypto.address import address_of
from aitbc.core.executor import Executor
from aitbc.core.pool import Pool
from aitbc.core.types.blocks import Block, CommittedBlock, Header
from aitbc.core.types.nakamoto import NakamotoSettings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Commit, StoredChain
from aitbc.core.types.transactions import VerifiedTransaction
from aitbc.core.work_replica import Build, Built, Switch, Switched, Undone, WorkReplica


class StoredHeader(Protocol):
    @property
    def header(self) -> Header: ...

    @property
    def hash(self) -> bytes: ...


class ChainStore(Protocol):
    """What is asked of `ports.Store` here."""

    def load(self, height: int | None = None) -> StoredChain | None: ...

    def commit(self, *commits: Commit) -> None: ...

    def switch(self, height: int, *commits: Commit) -> None: ...

    def block_by_height(self, height: int) -> CommittedBlock | None: ...

    def head_at(self, height: int) -> StoredHeader | None: ...

    def load_final(self) -> bytes: ...


class Ready(NamedTuple):
    """A switch that is on disk. `publish` makes readers see it, on their thread, and is called before anything else is
    done with the executor."""

    publish: Callable[[], None]
    switched: Switched


class Switcher:
    def __init__(self, executor: Executor, store: ChainStore) -> None:
        self._executor = executor
        self._store = store

    def build(self, asked: Build, *, author: str, extra: bytes) -> Built:
        built = self._executor.build(
            asked.txs, proposer=author, timestamp_ms=asked.timestamp_ms, parent=asked.parent, extra=extra
        )
        self._executor.abandon()
        return Built(built)

    def switch(self, asked: Switch) -> Ready | SwitchRefused:
        """All of it, or nothing and what is wrong."""
        executor, height = self._executor, self._executor.head.block.header.height - asked.undo
        executor.branches.clear()
        undone = [self._undone(number) for number in range(height + 1, height + asked.undo + 1)]
        deep = asked.undo > executor.reach
        maker = self._beside(height) if deep else executor
        if asked.undo and not deep:
            executor.step_back(asked.undo)
        built: list[BuiltBlock] = []
        for block in asked.apply:
            try:
                built.append(_put(maker, block))
            except Rejected as rejection:
                if asked.undo and not deep:
                    executor.step_forward()
                executor.branches.clear()
                name = block.hash if isinstance(block, BuiltBlock) else header_hash(block.header)
                return SwitchRefused(asked.hash, name, rejection.reason)
        commits = [executor.seal(block, None) for block in built]
        if asked.undo:
            self._store.switch(height, *commits)
        else:
            self._store.commit(*commits)
        applied = [(block, commit.block) for block, commit in zip(built, commits, strict=True)]

        def publish() -> None:
            if asked.undo and not deep:
                executor.publish_branch(applied)
                return
            for block, committed in applied:
                maker.publish(block, committed)
            if deep:
                executor.become(maker)

        return Ready(publish, Switched(undone, applied))

    def _beside(self, height: int) -> Executor:
        """The journal in memory does not reach so far: after a start, or after very full blocks."""
        stored = self._store.load(height)
        assert stored is not None, "there is a chain on disk"
        return self._executor.beside(stored)

    def _undone(self, height: int) -> Undone:
        stored = self._store.block_by_height(height)
        assert stored is not None, "what is undone is on disk"
        txs = self._executor.transactions.verify_all(stored.block.txs)
        assert all(isinstance(tx, VerifiedTransaction) for tx in txs), (
            "they were good when the block was executed"
        )
        good = [tx for tx in txs if isinstance(tx, VerifiedTransaction)]
        return Undone(stored.block, stored.hash, len(pack(stored.block)), good)


def _put(executor: Executor, block: Block | BuiltBlock) -> BuiltBlock:
    if isinstance(block, BuiltBlock):
        executor.put_back(block)
        return block
    return executor.apply(block)


def work_settings(executor: Executor) -> NakamotoSettings | None:
    """None: this chain agrees by votes."""
    return executor.loaded.genesis.consensus.work


def header_rules(executor: Executor) -> HeaderRules:
    settings = work_settings(executor)
    assert settings is not None, "this chain agrees by work"
    keys = [key_from_text(text) for text in settings.miners]
    return HeaderRules(
        settings,
        chain_id=executor.loaded.genesis.chain_id,
        miners=[Miner(address_of(key), key) for key in keys],
        verify=executor.verifier,
    )


def work_replica_at_head(executor: Executor, store: ChainStore, *, miner: str | None) -> WorkReplica:
    """The replica for what is on disk; raises Rejected when that is no chain of these rules. `miner`: whose blocks this
    node makes; None: it only follows."""
    rules, head = header_rules(executor), executor.head.block.header
    root, chain = _above_final(rules, executor, store)
    pool = Pool(
        lambda: executor.state,
        genesis_hash=executor.loaded.hash,
        head=head,
        head_hash=executor.head.hash,
        epoch_length=executor.loaded.genesis.consensus.epoch_length,
        verifier=executor.verifier,
        work=rules.settings,
    )
    try:
        engine = Nakamoto(
            rules=rules,
            root=root,
            chain=chain,
            miner=miner,
            transactions_wait=lambda: pool.mempool.count_ready(rules.settings.min_transactions),
        )
    except Rejected as rejection:
        raise _damaged(rejection.message) from None
    return WorkReplica(
        pool=pool, engine=engine, chain=[(header_hash(header), header.height) for header in chain]
    )


def _above_final(rules: HeaderRules, executor: Executor, store: ChainStore) -> tuple[Link, Sequence[Header]]:
    """The newest final block, and the headers above it. What was kept may be older by what a crash lost: from there on
    it is worked out again, so that never more than the finality depth can be undone."""
    kept, head = store.load_final(), executor.head.block.header
    try:
        root = (
            link_from_bytes(kept)
            if kept
            else genesis_link(executor.loaded.block.block.header, rules.settings)
        )
        if root.height > head.height or _header_at(store, root.height).hash != root.hash:
            raise _damaged(f"block {root.height}, which was final, is not on the stored chain")
        while head.height - root.height > rules.settings.finality_depth:
            root = rules.check(_header_at(store, root.height + 1).header, root)
    except Rejected as rejection:
        raise _damaged(rejection.message) from None
    return root, [_header_at(store, height).header for height in range(root.height + 1, head.height + 1)]


def _header_at(store: ChainStore, height: int) -> StoredHeader:
    stored = store.head_at(height)
    if stored is None:
        raise _damaged(f"block {height} is not there")
    return stored


def _damaged(why: str) -> Rejected:
    return Rejected(Reason.DAMAGED, why)
