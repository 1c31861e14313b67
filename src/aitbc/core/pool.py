"""What waits at a node, and the rules by which it comes in and goes, over the head's state. docs/spec/execution.md

The mempool knows lanes and fees; here transactions are tried on the state. Whatever agrees on blocks owns one of these.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from aitbc.core.chain.mempool import MAX_WAIT_MS, Mempool
from aitbc.core.ledger.context import BlockContext, Verifier
from aitbc.core.ledger.execution import check_active, check_fee, check_sender, check_witness, dry_run
from aitbc.core.ledger.params import version_at
from aitbc.core.ledger.state import Overlay, State
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings, reward_at
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Account
from aitbc.core.types.transactions import VerifiedTransaction

Dropped = tuple[VerifiedTransaction, Rejected]
"""What will not be in a block, and why."""

GAPPED = Rejected(Reason.NONCE_GAP, "one before it was dropped, and too many wait like this: send both again")
PUSHED_OUT = Rejected(Reason.MEMPOOL_FULL, "replaced or pushed out by a better-paying transaction")
OVERTAKEN = Rejected(Reason.BAD_NONCE, "another transaction has this nonce")
UNFUNDED = Rejected(Reason.INSUFFICIENT_BALANCE, "the balance has been spent meanwhile")
REKEYED = Rejected(Reason.WRONG_KEY, "the account has another key meanwhile")
EXPIRED = Rejected(Reason.WAITED_TOO_LONG, f"waited longer than {MAX_WAIT_MS // 60_000} minutes")


class TakenIn(NamedTuple):
    """What became of some transactions."""

    verdicts: list[Rejected | None]
    """In their order; None: it waits."""
    taken: list[VerifiedTransaction]
    """What had not waited before."""
    pushed_out: list[Dropped]
    known: list[int]
    """Places of those that waited before they came."""


class Pool:
    """`state()`: what readers see of the head."""

    def __init__(
        self,
        state: Callable[[], State],
        *,
        genesis_hash: bytes,
        head: Header,
        head_hash: bytes,
        epoch_length: int,
        verifier: Verifier,
        work: NakamotoSettings | None = None,
    ) -> None:
        self.mempool = Mempool(self.account)
        self.head = head
        self.head_hash = head_hash
        self._state = state
        self._genesis_hash = genesis_hash
        self._epoch_length = epoch_length
        self._verify = verifier
        self._work = work

    def account(self, address: str) -> Account:
        return self._state().account(address)

    def context(self, now_ms: int) -> BlockContext:
        """Of the block that would be built now."""
        height, params = self.head.height + 1, self._state().params
        return BlockContext(
            version=version_at(params, height),
            chain_id=self.head.chain_id,
            height=height,
            parent=self.head_hash,
            epoch_length=self._epoch_length,
            timestamp_ms=max(now_ms, self.head.timestamp_ms + 1),
            proposer=self.head.proposer,
            genesis_hash=self._genesis_hash,
            params=params,
            block_reward=None if self._work is None else reward_at(self._work.reward, height),
            verify=self._verify,
        )

    def take_in(self, now_ms: int, txs: Sequence[VerifiedTransaction]) -> "TakenIn":
        """Each for itself; one that waits already is no news and no fault."""
        context, state, came = self.context(now_ms), self._state(), TakenIn([], [], [], [])
        head = Overlay(state)
        for place, tx in enumerate(txs):
            try:
                came.pushed_out.extend(self._admit(now_ms, context, state, head, tx))
            except Rejected as rejection:
                is_known = rejection.reason is Reason.ALREADY_KNOWN
                came.verdicts.append(None if is_known else rejection)
                if is_known:
                    came.known.append(place)
            else:
                came.verdicts.append(None)
                came.taken.append(tx)
        return came

    def _admit(
        self, now_ms: int, context: BlockContext, state: State, head: Overlay, tx: VerifiedTransaction
    ) -> list[Dropped]:
        """Take one in; returns what it pushed out. Raises Rejected. Cheap checks first; a transaction whose turn it is
        must also succeed on the head's state, of which `head` is for reading."""
        kind = TYPES[tx.tx.type]
        account = state.account(tx.tx.sender)
        check_sender(account, tx)
        check_active(context, tx)
        free = check_fee(context, head, tx, kind)
        if not kind.needs_only_funds and self.mempool.get(tx.id) is None:
            if tx.tx.nonce == account.nonce + 1:
                dry_run(context, state, tx)
            else:
                check_witness(context, head, tx)
        fee_source = kind.fee_source(tx.payload) if kind.fee_source else ""
        evicted = self.mempool.add(
            tx,
            now_ms=now_ms,
            account=account,
            spends=kind.spends(tx.payload),
            fee_source=fee_source,
            free=free,
        )
        return all_for(PUSHED_OUT, evicted)

    def settle(
        self, now_ms: int, head: Header, head_hash: bytes, included: Iterable[VerifiedTransaction]
    ) -> list[Dropped]:
        """The head is this block; returns what it leaves without a future."""
        self.head, self.head_hash = head, head_hash
        settled = self.mempool.settle(included)
        expired = self.mempool.expire(now_ms)
        return [
            *all_for(OVERTAKEN, settled.overtaken),
            *all_for(UNFUNDED, settled.unfunded),
            *all_for(REKEYED, settled.rekeyed),
            *self.trim(),
            *all_for(EXPIRED, expired),
        ]

    def trim(self) -> list[Dropped]:
        return all_for(GAPPED, self.mempool.trim())

    def reopen(
        self, now_ms: int, head: Header, head_hash: bytes, abandoned: Sequence[VerifiedTransaction]
    ) -> list[Dropped]:
        """The head went back to this one over these, the oldest first: what can wait again does."""
        self.head, self.head_hash = head, head_hash
        self.mempool.reopen(abandoned)
        drops: list[Dropped] = []
        context, state = self.context(now_ms), self._state()
        for tx in abandoned:
            try:
                drops += self._admit(now_ms, context, state, Overlay(state), tx)
            except Rejected as rejection:
                drops.append((tx, rejection))
        return drops

    def switch(
        self,
        now_ms: int,
        head: Header,
        head_hash: bytes,
        *,
        undone: Sequence[VerifiedTransaction],
        included: Sequence[VerifiedTransaction],
    ) -> list[Dropped]:
        """The head is on another branch; both lists from the oldest on. What was undone and is not in the new branch
        waits again, if it can."""
        self.mempool.reopen(undone)
        drops = self.settle(now_ms, head, head_hash, included)
        taken = {tx.id for tx in included}
        return drops + self.reopen(now_ms, head, head_hash, [tx for tx in undone if tx.id not in taken])


def all_for(why: Rejected, txs: Iterable[VerifiedTransaction]) -> list[Dropped]:
    return [(tx, why) for tx in txs]
