"""The one owner of the state: builds blocks on the head and, when the host has written them, lets readers see them.

`build` may run on a worker thread, `publish` runs on the host's: readers there always see a whole block. Pure: the
host reads and writes the store.
"""

from collections import OrderedDict

from aitbc.core.chain.builder import BuiltBlock, ChainTip, build_block
from aitbc.core.consensus.simplex.certificates import check_certificate
from aitbc.core.crypto.mountains import peaks_root
from aitbc.core.crypto.schemes import verify
from aitbc.core.ledger.genesis import LoadedGenesis, load_genesis, parse_genesis
from aitbc.core.ledger.state import State, check_whole_supply
from aitbc.core.types.blocks import Certificate, CommittedBlock
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected
from aitbc.core.types.records import Commit, StoredChain
from aitbc.core.types.transactions import VerifiedTransaction

MEMORY_OF_VERIFICATIONS = 50_000
"""Signatures of receipts and attestations remembered between admission and block: 200 bytes each, 10 MB."""


class RememberedVerifier:
    """Checks each (key, digest, signature) once; only good ones are remembered, oldest forgotten first."""

    def __init__(self) -> None:
        self._good: OrderedDict[tuple[bytes, bytes, bytes], None] = OrderedDict()

    def __call__(self, auth_key: bytes, digest: bytes, signature: bytes) -> bool:
        key = (auth_key, digest, signature)
        if key in self._good:
            return True
        if not verify(auth_key, digest, signature):
            return False
        self._good[key] = None
        if len(self._good) > MEMORY_OF_VERIFICATIONS:
            self._good.popitem(last=False)
        return True


class Executor:
    """State and tip of one chain, from its genesis or from what was stored.

    Raises Rejected when the stored chain is not one that this genesis can have.
    """

    def __init__(self, genesis_document: bytes, stored: StoredChain | None) -> None:
        self.loaded: LoadedGenesis = load_genesis(parse_genesis(genesis_document))
        self._verifier = RememberedVerifier()
        if stored is None:
            self.state: State = self.loaded.state
            self.head: CommittedBlock = self.loaded.block
            self.tip = self._tip_of(self.head, [])
        else:
            self.state = self._restore(stored)
            self.head = stored.head
            self.tip = self._tip_of(self.head, stored.history_peaks)

    def _tip_of(self, block: CommittedBlock, peaks: list[tuple[int, bytes]]) -> ChainTip:
        return ChainTip(
            genesis_hash=self.loaded.hash,
            header=block.block.header,
            hash=block.hash,
            peaks=peaks,
            epoch_length=self.loaded.genesis.consensus.epoch_length,
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
        self._check_head(stored.head)
        try:
            check_whole_supply(state)
        except BrokenInvariant as error:
            raise Rejected(Reason.DAMAGED, str(error)) from None
        return state

    def _check_head(self, head: CommittedBlock) -> None:
        header = head.block.header
        if header.height == 0:
            if head.hash != self.loaded.block.hash:
                raise Rejected(Reason.DAMAGED, "the stored genesis block is not the one of this genesis.json")
            return
        if head.certificate is None:
            raise Rejected(Reason.DAMAGED, f"the stored block {header.height} has no certificate")
        check_certificate(
            head.certificate,
            self.loaded.validators,
            chain_id=header.chain_id,
            genesis_hash=self.loaded.hash,
        )
        if head.certificate.candidate.block_hash != head.hash:
            raise Rejected(
                Reason.DAMAGED, f"the certificate of the stored block {header.height} is another's"
            )

    def build(self, txs: list[VerifiedTransaction], *, proposer: str, timestamp_ms: int) -> BuiltBlock:
        return build_block(
            self.tip,
            self.state,
            txs,
            proposer=proposer,
            timestamp_ms=timestamp_ms,
            verifier=self._verifier,
        )

    @staticmethod
    def seal(built: BuiltBlock, certificate: Certificate) -> Commit:
        """The block as a store keeps it."""
        block = CommittedBlock(built.block, built.hash, built.outcomes, certificate)
        return Commit(block=block, changes=built.changes, history=built.history, receipts=built.receipts)

    def publish(self, built: BuiltBlock, committed: CommittedBlock) -> None:
        """Readers see the block from here on."""
        self.state.publish()
        self.head = committed
        self.tip = self._tip_of(committed, built.peaks)
