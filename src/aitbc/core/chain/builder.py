"""Building a block on the head, and checking that somebody else's block says what executing it does."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from aitbc.core.codec.digests import (
    header_hash,
    outcome_leaf,
    validators_hash,
    wid_of,
)
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.address import check_address
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.mountains import Peaks, append_leaf, peaks_root
from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.context import BlockContext, Verifier
from aitbc.core.ledger.execution import Execution, execute_all
from aitbc.core.ledger.params import Params, version_at
from aitbc.core.ledger.state import State, Writes
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import (
    MAX_BLOCK_BYTES,
    MAX_BLOCK_TXS,
    MAX_EXTRA_BYTES,
    PROTOCOL_VERSION,
    Block,
    Header,
    Validator,
)
from aitbc.core.types.nakamoto import NakamotoSettings, reward_at
from aitbc.core.types.reasons import Reason, Rejected, Stops
from aitbc.core.types.records import Change, HistoryNode, PaidReceipt
from aitbc.core.types.transactions import Outcome, VerifiedTransaction


class ChainTip(msgspec.Struct, frozen=True, kw_only=True):
    """What a child block needs to know of its parent."""

    genesis_hash: bytes
    header: Header
    hash: bytes
    peaks: Peaks
    """Mountain range over the headers 0 … height − 1 of the tip, the tip itself not included."""
    epoch_length: int
    work: NakamotoSettings | None = None
    """Of a chain that agrees by work; None under Simplex."""


class BuiltBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block with its effect on the state: staged, not yet published or on disk."""

    block: Block
    hash: bytes
    included: list[VerifiedTransaction]
    outcomes: list[Outcome]
    refused: list[tuple[VerifiedTransaction, Rejected]]
    changes: list[Change]
    writes: Writes
    """The same as records: what puts the block on a state again."""
    receipts: list[PaidReceipt]
    peaks: Peaks
    """Range over the headers before this block: what its `history_root` covers."""
    history: list[HistoryNode]
    """Nodes that the parent's hash has completed."""
    validators: list[Validator]
    """The set after this block, when it is another than before it; else empty."""


def build_block(
    tip: ChainTip,
    state: State,
    txs: Iterable[VerifiedTransaction],
    *,
    proposer: str,
    timestamp_ms: int,
    extra: bytes = b"",
    verifier: Verifier = verify,
) -> BuiltBlock:
    """Execute waiting transactions on the head and put the valid ones into a block."""
    assert timestamp_ms > tip.header.timestamp_ms, "time moves forward"
    assert len(extra) <= MAX_EXTRA_BYTES, "whoever configures an author has checked its extra"
    context = _context(tip, state, proposer=proposer, timestamp_ms=timestamp_ms, verifier=verifier)
    execution = execute_all(context, state.tip(), txs)
    return _finish(tip, state, execution, context, extra=extra)


def sealed_block(built: BuiltBlock, header: Header) -> BuiltBlock:
    """A block that was built, with the seal that its author has found since."""
    ours = built.block.header
    assert msgspec.structs.replace(header, seal=ours.seal) == ours, "a seal changes nothing but the hash"
    block = Block(header, built.block.txs)
    return msgspec.structs.replace(built, block=block, hash=header_hash(header))


Known = Callable[[bytes], VerifiedTransaction | None]
"""`wid` → the transaction, if this very envelope has been verified before."""


def nothing_known(_wid: bytes) -> None:
    return None


def apply_block(
    tip: ChainTip,
    state: State,
    block: Block,
    *,
    verifier: Verifier = verify,
    known: Known = nothing_known,
    verified: Sequence[VerifiedTransaction] = (),
) -> BuiltBlock:
    """Check and execute another node's block on its parent's state; raises Rejected unless every field is right.
    `verified`: its transactions in order, or nothing; `known` is asked for them one by one then.

    On rejection the state is as it was.
    """
    header = block.header
    _check_header(tip, header, version=known_version(state.tip_params, tip.header.height + 1))
    _check_author(tip, header, state)
    if len(block.txs) > MAX_BLOCK_TXS or len(pack(block)) > MAX_BLOCK_BYTES:
        raise Rejected(Reason.TOO_LARGE, "the block is larger than the protocol allows")
    txs = list(verified) or _all_verified(block, tip.genesis_hash, known, verifier)
    assert len(txs) == len(block.txs), "what was verified is what the block holds"
    if len({tx.id for tx in txs}) != len(txs):
        raise Rejected(Reason.DUPLICATE_TRANSACTION, "the block holds a transaction twice")
    if list_root([tx.wid for tx in txs]) != header.txs_root:
        raise Rejected(Reason.ROOT_MISMATCH, "txs_root is not the root of the block's transactions")
    if tip.work is not None:
        _check_count(tip.header, block, tip.work)
    context = _context(
        tip, state, proposer=header.proposer, timestamp_ms=header.timestamp_ms, verifier=verifier
    )
    execution = execute_all(context, state.tip(), txs)
    if execution.refused:
        raise execution.refused[0][1]
    built = _finish(tip, state, execution, context, extra=header.extra, seal=header.seal)
    try:
        _compare(built.block.header, header)
    except Rejected:
        state.unstage()
        raise
    return built


class InvalidTransaction(Rejected):
    """The block holds a transaction that no state makes valid: who leads with it can be punished."""

    def __init__(self, rejection: Rejected, index: int) -> None:
        super().__init__(rejection.reason, rejection.message)
        self.index = index
        """Its place in the block."""


class WrongBody(Rejected):
    """These are not the transactions that the header names: somebody exchanged them; the block itself may be good."""


def has_its_body(block: Block, genesis_hash: bytes) -> bool:
    """Are a block's transactions those of its header?"""
    try:
        return list_root([wid_of(tx, genesis_hash) for tx in block.txs]) == block.header.txs_root
    except Rejected:
        return False


def _all_verified(
    block: Block, genesis_hash: bytes, known: Known, verifier: Verifier
) -> list[VerifiedTransaction]:
    """Each envelope is verified once: one with the same id and another signature or witness has another `wid`."""
    found = []
    for index, tx in enumerate(block.txs):
        try:
            found.append(known(wid_of(tx, genesis_hash)) or verify_transaction(tx, genesis_hash, verifier))
        except Rejected as rejection:
            raise InvalidTransaction(rejection, index) from None
    return found


def _context(
    tip: ChainTip, state: State, *, proposer: str, timestamp_ms: int, verifier: Verifier
) -> BlockContext:
    height = tip.header.height + 1
    return BlockContext(
        version=known_version(state.tip_params, height),
        chain_id=tip.header.chain_id,
        height=height,
        parent=tip.hash,
        epoch_length=tip.epoch_length,
        timestamp_ms=timestamp_ms,
        proposer=proposer,
        genesis_hash=tip.genesis_hash,
        params=state.tip_params,
        block_reward=None if tip.work is None else reward_at(tip.work.reward, height),
        verify=verifier,
    )


def _finish(
    tip: ChainTip,
    state: State,
    execution: Execution,
    context: BlockContext,
    *,
    extra: bytes,
    seal: bytes = b"",
) -> BuiltBlock:
    staged = state.stage(execution.overlay.writes)
    peaks, nodes = append_leaf(tip.peaks, tip.hash)
    validators = validators_of(state.tip())
    header = Header(
        version=context.version,
        chain_id=tip.header.chain_id,
        height=context.height,
        parent=tip.hash,
        timestamp_ms=context.timestamp_ms,
        proposer=context.proposer,
        txs_root=list_root([tx.wid for tx in execution.included]),
        outcomes_root=list_root([outcome_leaf(outcome) for outcome in execution.outcomes]),
        state_root=staged.root,
        next_validators_hash=validators_hash(validators),
        history_root=peaks_root(peaks),
        extra=extra,
        seal=seal,
    )
    return BuiltBlock(
        block=Block(header, [tx.tx for tx in execution.included]),
        hash=header_hash(header),
        included=execution.included,
        outcomes=execution.outcomes,
        refused=execution.refused,
        changes=staged.changes,
        writes=execution.overlay.writes,
        receipts=execution.overlay.receipts,
        peaks=peaks,
        history=[HistoryNode(*node) for node in nodes],
        validators=[] if header.next_validators_hash == tip.header.next_validators_hash else validators,
    )


class UnknownVersion(Stops):
    """The chain has moved to a protocol that this release does not know."""


def known_version(params: Params, height: int) -> int:
    """The version of the block at a height; raises UnknownVersion, with what to do."""
    version = version_at(params, height)
    if version > PROTOCOL_VERSION:
        raise UnknownVersion(
            f"from height {height} on this chain runs protocol version {version}; this release knows"
            f" {PROTOCOL_VERSION}: install a newer one and start again, nothing is lost"
        )
    return version


def _check_header(tip: ChainTip, header: Header, *, version: int) -> None:
    """What a header must say whatever its transactions do."""
    parent = tip.header
    if header.version != version:
        raise Rejected(
            Reason.WRONG_VERSION,
            f"protocol version {header.version} at height {header.height}, where this chain has {version}",
        )
    if header.chain_id != parent.chain_id:
        raise Rejected(Reason.WRONG_CHAIN, f"chain {header.chain_id!r}, not {parent.chain_id!r}")
    if header.height != parent.height + 1:
        raise Rejected(Reason.WRONG_HEIGHT, f"height {header.height} after {parent.height}")
    if header.parent != tip.hash:
        raise Rejected(Reason.WRONG_PARENT, f"parent {header.parent.hex()} is not {tip.hash.hex()}")
    if header.timestamp_ms > MAX_SIGNED:
        raise Rejected(Reason.BAD_TIMESTAMP, f"{header.timestamp_ms} ms is above 2^53 - 1")
    if header.timestamp_ms <= parent.timestamp_ms:
        raise Rejected(
            Reason.BAD_TIMESTAMP, f"{header.timestamp_ms} ms is not after {parent.timestamp_ms} ms"
        )
    if len(header.extra) > MAX_EXTRA_BYTES:
        raise Rejected(Reason.TOO_LARGE, f"extra of {len(header.extra)} bytes; at most {MAX_EXTRA_BYTES}")


def _check_author(tip: ChainTip, header: Header, state: State) -> None:
    """Who may author: under Simplex the set. Where work agrees, turn, work and signature are in the header alone and
    were checked before (docs/spec/nakamoto.md "Headers"); here counts that the reward has an account to go to."""
    if tip.work is not None:
        check_address(header.proposer)
        return
    if header.proposer not in {validator.address for validator in validators_of(state.tip())}:
        raise Rejected(Reason.WRONG_PROPOSER, f"{header.proposer!r} is not in the validator set")
    if header.seal:
        raise Rejected(Reason.MALFORMED, "a Simplex header has an empty seal")


def _check_count(parent: Header, block: Block, work: NakamotoSettings) -> None:
    """Where work agrees: how many transactions a block may hold, and from when on it may hold few."""
    count, timestamp_ms = len(block.txs), block.header.timestamp_ms
    if count > work.max_transactions:
        raise Rejected(Reason.TOO_LARGE, f"{count} transactions, where a block holds {work.max_transactions}")
    earliest = parent.timestamp_ms + work.interval_ms
    if count < work.min_transactions and timestamp_ms < earliest:
        raise Rejected(
            Reason.BAD_TIMESTAMP,
            f"a block of {count} transactions at {timestamp_ms}; below {work.min_transactions} it waits until"
            f" {earliest}",
        )


def _compare(ours: Header, theirs: Header) -> None:
    for name in ("outcomes_root", "state_root", "next_validators_hash", "history_root"):
        if getattr(ours, name) != getattr(theirs, name):
            raise Rejected(Reason.ROOT_MISMATCH, f"{name} is not what executing the block gives")
    assert ours == theirs, "every other field has been checked or copied"
