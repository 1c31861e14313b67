"""The one owner of the state: builds and checks blocks on the head and, when the host has written them, lets readers
see them.

`build`, `apply` and `prove` may run on a worker thread, `publish` runs on the host's: readers there always see a whole
block. `verify` may run on any thread. Pure: the host reads and writes the store.
"""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from aitbc.core.chain.branches import Branches
from aitbc.core.chain.builder import (
    BuiltBlock,
    ChainTip,
    WrongBody,
    apply_block,
    build_block,
    has_its_body,
)
from aitbc.core.codec.digests import names_of
from aitbc.core.codec.records import record_from_bytes
from aitbc.core.consensus.simplex.certificates import check_certificate
from aitbc.core.crypto.indexed_tree import TreeProof
from aitbc.core.crypto.mountains import peaks_root
from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.admission import WellFormed, check_form
from aitbc.core.ledger.context import BlockContext, ManyVerifier, Verifier
from aitbc.core.ledger.execution import check_witness
from aitbc.core.ledger.genesis import LoadedGenesis, load_genesis, parse_genesis
from aitbc.core.ledger.state import MAX_JOURNAL, Overlay, State, check_whole_supply
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.blocks import Block, Certificate, CommittedBlock
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected
from aitbc.core.types.records import Commit, StoredChain
from aitbc.core.types.transactions import Transaction, VerifiedTransaction

MEMORY_OF_TRANSACTIONS = 20_000
"""One block's worth: what waits longer is verified again when it comes in a block."""
MEMORY_OF_TRANSACTION_BYTES = 16 * 1024 * 1024
"""On the wire; decoded they take a few times that. Four full blocks."""
MEMORY_OF_VERIFICATIONS = 50_000
"""Signatures of receipts and attestations remembered between admission and block: 200 bytes each, 10 MB."""
MEMORY_OF_BAD_ONES = 1_000
"""Signatures that were not good: they need to be known from the thread that checks to the loop that refuses. Each is
a few KB at most."""


class RememberedVerifier:
    """Checks each (key, digest, signature) once; many good ones and a few bad ones are remembered, apart, so that
    strangers' bad ones push no good one out. The oldest are forgotten first."""

    def __init__(self, verifier: Verifier = verify) -> None:
        self._verify = verifier
        self._good: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()
        self._bad: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()

    def __call__(self, auth_key: bytes, digest: bytes, signature: bytes) -> bool:
        key = (auth_key, digest, signature)
        if key in self._good:
            return True
        if key in self._bad:
            return False
        good = self._verify(auth_key, digest, signature)
        if good:
            _remember(self._good, key, most=MEMORY_OF_VERIFICATIONS)
        else:
            _remember(self._bad, key, most=MEMORY_OF_BAD_ONES)
        return good


def _remember(
    known: OrderedDict[tuple[bytes, bytes, bytes], None], key: tuple[bytes, bytes, bytes], *, most: int
) -> None:
    known[key] = None
    if len(known) > most:
        known.popitem(last=False)


class VerifiedTransactions:
    """Envelopes whose signatures were good, by `wid`: each is verified once, on its way in or in a block, and one with
    the same id and another signature or witness is another envelope."""

    def __init__(self, genesis_hash: bytes, verifier: Verifier = verify) -> None:
        self._genesis_hash = genesis_hash
        self._verify = verifier
        self._known: OrderedDict[bytes, VerifiedTransaction] = OrderedDict()
        self._bytes = 0

    def get(self, wid: bytes) -> VerifiedTransaction | None:
        return self._known.get(wid)

    def all(self) -> list[VerifiedTransaction]:
        """The oldest first. The copy is made in one piece while other threads verify."""
        return list(self._known.values())

    def verify(self, tx: Transaction) -> VerifiedTransaction:
        """And remember it; raises Rejected."""
        (verdict,) = self.verify_all([tx])
        if isinstance(verdict, Exception):
            raise verdict
        self.remember([verdict])
        return verdict

    def verify_all(
        self, txs: Sequence[Transaction], check: ManyVerifier | None = None
    ) -> list[VerifiedTransaction | Exception]:
        """What each is, or what is wrong with it; may run on any thread. `check`: who looks at the signatures, all at
        once. What goes wrong with one, a bug too, concerns no other."""
        looked = [self._look_at(tx) for tx in txs]
        asked = [one.signed for one in looked if isinstance(one, WellFormed)]
        good = iter(check(asked) if check is not None else [self._verify(*one) for one in asked])
        return [_judged(one, next(good)) if isinstance(one, WellFormed) else one for one in looked]

    def _look_at(self, tx: Transaction) -> VerifiedTransaction | WellFormed | Exception:
        """Everything but a signature that is not known."""
        try:
            names = names_of(tx, self._genesis_hash)
            return self._known.get(names.wid) or check_form(tx, self._genesis_hash, names=names)
        except Exception as error:
            return error

    def remember(self, verified: Sequence[VerifiedTransaction]) -> None:
        """The oldest are forgotten first. Called on one thread."""
        for tx in verified:
            if tx.wid not in self._known:
                self._known[tx.wid] = tx
                self._bytes += tx.size
        while len(self._known) > MEMORY_OF_TRANSACTIONS or self._bytes > MEMORY_OF_TRANSACTION_BYTES:
            self._bytes -= self._known.popitem(last=False)[1].size


def _judged(formed: WellFormed, is_good: bool) -> VerifiedTransaction | Rejected:
    try:
        return formed.verified(is_good=is_good)
    except Rejected as rejection:
        return rejection


class StateProof(NamedTuple):
    proof: TreeProof
    store_roots: dict[str, bytes]
    """In the order in which `state_root` covers them."""


class Executor:
    """State and tip of one chain, from its genesis or from what was stored.

    Raises Rejected when the stored chain is not one that this genesis can have.
    """

    def __init__(
        self, genesis_document: bytes, stored: StoredChain | None, *, verifier: Verifier = verify
    ) -> None:
        """`verifier`: of every signature; simulations have a cheaper scheme."""
        self.loaded: LoadedGenesis = load_genesis(parse_genesis(genesis_document))
        self.verifier = RememberedVerifier(verifier)
        self.transactions = VerifiedTransactions(self.loaded.hash, verifier)
        self._earlier: list[tuple[CommittedBlock, ChainTip]] = []
        """Heads that `retract` can go back to, the oldest first."""
        self._left: list[tuple[CommittedBlock, ChainTip]] = []
        """Those above which another branch is being made, the newest last; nothing: there is none."""
        if stored is None:
            self.state: State = self.loaded.state
            self.head: CommittedBlock = self.loaded.block
            tip = self._tip_of(self.head, [])
        else:
            self.state = self._restore(stored)
            self.head = stored.head
            tip = self._tip_of(self.head, stored.history_peaks)
        self.branches = Branches(self.state, tip)
        """Blocks above the head that are not decided."""

    @property
    def tip(self) -> ChainTip:
        """What a child of the head needs to know of it."""
        return self.branches.head

    def _tip_of(self, block: CommittedBlock, peaks: list[tuple[int, bytes]]) -> ChainTip:
        return ChainTip(
            genesis_hash=self.loaded.hash,
            header=block.block.header,
            hash=block.hash,
            peaks=peaks,
            epoch_length=self.loaded.genesis.consensus.epoch_length,
            work=self.loaded.genesis.consensus.work,
        )

    def _restore(self, stored: StoredChain) -> State:
        """Rebuild the state and compare its root with the head's: a stored state is believed only when it fits."""
        state = State()
        state.load(stored.records)
        header = stored.head.block.header
        if state.root() != header.state_root:
            raise Rejected(Reason.DAMAGED, f"the stored state is not the state of block {header.height}")
        if peaks_root(stored.history_peaks) != header.history_root:
            raise Rejected(Reason.DAMAGED, "the stored history peaks are not those of the head")
        self._check_head(stored, state)
        try:
            check_whole_supply(state)
        except BrokenInvariant as error:
            raise Rejected(Reason.DAMAGED, str(error)) from None
        return state

    def _check_head(self, stored: StoredChain, state: State) -> None:
        head, header = stored.head, stored.head.block.header
        if header.height == 0:
            if head.hash != self.loaded.block.hash:
                raise Rejected(Reason.DAMAGED, "the stored genesis block is not the one of this genesis.json")
            return
        if self.loaded.genesis.consensus.work is not None:
            return  # whoever begins agreement checks the work of the blocks that are not final yet
        if head.certificate is None:
            raise Rejected(Reason.DAMAGED, f"the stored block {header.height} has no certificate")
        deciding = Overlay(state)
        for store, key, data in stored.before_head:
            deciding.put(store, key, None if data is None else record_from_bytes(store, key, data))
        check_certificate(
            head.certificate,
            validators_of(deciding),
            chain_id=header.chain_id,
            genesis_hash=self.loaded.hash,
            verifier=self.verifier,
        )
        if head.certificate.candidate.block_hash != head.hash:
            raise Rejected(
                Reason.DAMAGED, f"the certificate of the stored block {header.height} is another's"
            )

    def build(
        self,
        txs: list[VerifiedTransaction],
        *,
        proposer: str,
        timestamp_ms: int,
        parent: bytes = b"",
        extra: bytes = b"",
    ) -> BuiltBlock:
        """A block of waiting transactions on the head, or on an undecided `parent`; `extra`: whatever its author wants
        to say in the header."""
        tip = self.branches.tip_at(parent or self.head.hash)
        built = build_block(
            tip,
            self.state,
            txs,
            proposer=proposer,
            timestamp_ms=timestamp_ms,
            extra=extra,
            verifier=self.verifier,
        )
        self.branches.add(built)
        return built

    def apply(self, block: Block, verified: Sequence[VerifiedTransaction] = ()) -> BuiltBlock:
        """Check another node's block on its parent, the head or an undecided block; raises Rejected, with nothing
        changed: WrongBody when the transactions are not even those that the header names. `verified`: its transactions
        in order, where they were verified before."""
        tip = self.branches.tip_at(block.header.parent)
        try:
            built = apply_block(
                tip,
                self.state,
                block,
                verifier=self.verifier,
                known=self.transactions.get,
                verified=verified,
            )
        except Rejected as rejection:
            if not has_its_body(block, self.loaded.hash):
                raise WrongBody(rejection.reason, rejection.message) from None
            raise
        self.branches.add(built)
        return built

    def put_back(self, built: BuiltBlock) -> None:
        """Stage a block that was built or applied before; its parent is the head or an undecided block."""
        self.branches.tip_at(built.block.header.parent)
        self.branches.put_back(built)

    def abandon(self) -> None:
        """Forget the block that was built or applied last and is not decided."""
        self.branches.drop_top()

    def warm(self, tx: VerifiedTransaction, context: BlockContext) -> None:
        """Verify what a witness claims, so that whoever asks next is answered from memory; may run on any thread."""
        if TYPES[tx.tx.type].check_witness is None:
            return
        with suppress(Rejected):
            check_witness(msgspec.structs.replace(context, verify=self.verifier), Overlay(self.state), tx)

    def prove(self, store: str, key: str, *, height: int) -> StateProof:
        """Proof of a record, or of its absence, in the state of a block that the journal still reaches; Rejected for
        another."""
        proof, roots = self.state.prove(store, key, back=self.head.block.header.height - height)
        return StateProof(proof, roots)

    @staticmethod
    def seal(built: BuiltBlock, certificate: Certificate | None) -> Commit:
        """The block as a store keeps it; without certificate one that is final because a descendant is."""
        block = CommittedBlock(built.block, built.hash, built.outcomes, certificate)
        return Commit(
            block=block,
            changes=built.changes,
            history=built.history,
            receipts=built.receipts,
            validators=built.validators,
        )

    def publish(self, built: BuiltBlock, committed: CommittedBlock) -> None:
        """Readers see the block from here on; it is a child of the head."""
        earlier = (self.head, self.tip)
        self.branches.decide(built)
        self._earlier = [*self._earlier[-MAX_JOURNAL + 1 :], earlier]
        self.head = committed

    def retract(self) -> CommittedBlock:
        """Take the head back, as far as the journal reaches, and return it: its transactions may wait again."""
        abandoned = self.head
        self.branches.clear()
        self.state.retract()
        self.head, tip = self._earlier.pop()
        self.branches.go_back_to(tip)
        return abandoned

    # Another branch. Readers see the head as it is until it is published.

    @property
    def reach(self) -> int:
        """How many blocks `step_back` can leave."""
        return min(self.state.depth, len(self._earlier))

    def step_back(self, count: int) -> None:
        """Build and apply below the head from here on: `count` blocks below it, within `reach`."""
        assert 0 < count <= self.reach, "whoever asks has looked how far it reaches"
        assert not self._left, "one branch at a time is made"
        self.branches.clear()
        for _ in range(count):
            self.state.step_back()
        self._left = [*self._earlier[-count:], (self.head, self.tip)]
        self.branches.go_back_to(self._left[0][1])

    def step_forward(self) -> None:
        """Give the other branch up: everything is as it was before `step_back`, undecided blocks apart."""
        self.branches.clear()
        self.state.step_forward()
        self.branches.go_back_to(self._left[-1][1])
        self._left = []

    def publish_branch(self, blocks: Sequence[tuple[BuiltBlock, CommittedBlock]]) -> None:
        """Readers see the other branch, which is on disk, instead of what was left."""
        self.state.publish_back()
        self.head = self._left[0][0]
        del self._earlier[-len(self._left) + 1 :]
        self._left = []
        for built, committed in blocks:
            self.publish(built, committed)

    def beside(self, stored: StoredChain) -> "Executor":
        """Another executor of the same chain on an earlier state, for a branch that leaves deeper than `reach`."""
        other = Executor(self.loaded.document, stored)
        other.verifier, other.transactions = self.verifier, self.transactions
        return other

    def become(self, other: "Executor") -> None:
        """Readers see what another executor has made of a deeper branch."""
        self.state, self.head, self.branches = other.state, other.head, other.branches
        self._earlier = other._earlier
