"""What must be true in every run of whole nodes: of the chain, of what was said to be final, and of what is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aitbc.core.chain.bad_block import BlockFault, payload_of
from aitbc.core.chain.branches import MAX_UNDECIDED
from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.canonical import parse_jcs
from aitbc.core.codec.digests import validators_hash
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.messages import CANDIDATE, FINAL, check_any_certificate
from aitbc.core.executor import Executor
from aitbc.core.ledger.state import check_whole_supply
from aitbc.core.ledger.transactions.evidence import Evidence, check
from aitbc.core.replica import Commit, Drop
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import BrokenInvariant, Reason, Rejected
from aitbc.sim import keys
from aitbc.sim.blocks import START_MS
from aitbc.sim.checks import Broken, Checks

if TYPE_CHECKING:
    from aitbc.sim.whole import Whole
    from aitbc.sim.whole_cluster import WholeCluster

MAX_LEFT = 4 * MAX_UNDECIDED
"""Undecided blocks, and what is asked about them, that may be left when everything is well again."""


class WholeChecks(Checks):
    _cluster: WholeCluster

    def __init__(self, cluster: WholeCluster) -> None:
        super().__init__(cluster)
        self.placed: dict[bytes, int] = {}
        """Id of a transaction → height of the final block that holds it."""
        self.nonces: dict[str, int] = {}
        """Sender → the nonce that it used last in a final block."""
        self.blocks: dict[int, CommittedBlock] = {}
        self._epochs_of: dict[tuple[int, int], Epoch] = {}
        self._reported: dict[bytes, str] = {}
        """Id of a transaction → which node first told its client that it is final."""

    # A process begins

    def on_boot(self, node: Whole) -> None:
        """What readers of this node saw before it died is on its disk; what is on disk is final."""
        if not node.is_honest:
            return
        if node.height < node.disk.published:
            raise Broken(
                f"durability: {node.address} has shown block {node.disk.published} and begins at {node.height}"
            )
        for height in range(node.disk.published + 1, node.height + 1):
            committed = node.disk.store.block_by_height(height)
            assert committed is not None
            self._learn(node, committed)
            node.disk.published = height

    def on_epoch(self, node: Whole) -> None:
        """Every node has the same set and the same leaders in an epoch, those that the chain commits to."""
        epoch = node.engine.epoch
        if self._epochs_of.get((node.place, node.life)) is epoch:
            return
        self._epochs_of[node.place, node.life] = epoch
        if not node.is_honest:
            return
        known = self._cluster.epochs.setdefault(epoch.number, epoch)
        leaders = [epoch.leader_of(slot) for slot in range(1, 9)]
        if known.validators != epoch.validators or [known.leader_of(slot) for slot in range(1, 9)] != leaders:
            raise Broken(f"epochs: {node.address} has another set or other leaders in epoch {epoch.number}")
        base = node.disk.store.head_at(epoch.number * self._cluster.plan.epoch_length)
        if base is None or base.header.next_validators_hash != validators_hash(epoch.validators):
            raise Broken(
                f"epochs: {node.address} has another set than the chain commits to for epoch {epoch.number}"
            )
        weak = [
            member
            for member in epoch.validators
            if self._cluster.place_of(member.address) in self._cluster.weak
        ]
        assert 3 * sum(member.power for member in weak) < sum(epoch.powers), "the weak have less than a third"

    # A block becomes final

    def on_commit(self, node: Whole, effect: Commit) -> None:
        """The certificate is one that anybody can check, of the last block, under the set of its epoch."""
        if not node.is_honest:
            return
        certificate, last = effect.certificate, effect.blocks[-1]
        try:
            check_any_certificate(certificate, self._cluster.epochs[certificate.candidate.epoch], keys.verify)
        except Rejected as rejection:
            raise Broken(f"certificate: {node.address} commits on a bad one: {rejection.message}") from None
        if certificate.kind != FINAL or certificate.candidate.block_hash != last.hash:
            raise Broken(f"certificate: {node.address} commits on a {certificate.kind} of another block")
        length = self._cluster.plan.epoch_length
        for built in effect.blocks:
            if (built.block.header.height - 1) // length != certificate.candidate.epoch:
                raise Broken(f"epoch: block {built.block.header.height} is not of the epoch that decided it")

    def on_published(self, node: Whole, built: BuiltBlock, committed: CommittedBlock) -> None:
        """No two final blocks at a height, one state at a height, and no money out of nowhere."""
        if not node.is_honest:
            return
        header, state = committed.block.header, node.executor.state
        self._learn(node, committed)
        if node.executor.branches.top == built.hash and state.root() != header.state_root:
            raise Broken(f"state: {node.address} has another state at {header.height}")
        self._count_supply(node)
        stored = node.disk.store.block_by_height(header.height)
        if stored is None or stored.hash != built.hash:
            raise Broken(f"durability: {node.address} shows block {header.height} before it is on disk")
        node.disk.published = header.height

    def _learn(self, node: Whole, committed: CommittedBlock) -> None:
        height, name = committed.block.header.height, committed.hash
        first = self.blocks.setdefault(height, committed)
        self.final[height] = first.hash
        self.final_ms.setdefault(height, []).append(START_MS + self._cluster.now)
        self._cluster.note(node, f"final {height} {name.hex()[:8]} txs={len(committed.outcomes)}")
        if first.hash != name:
            raise Broken(
                f"agreement: {first.hash.hex()[:8]} and {name.hex()[:8]} are final at height {height}"
            )
        if first.outcomes != committed.outcomes:
            raise Broken(f"state: {node.address} has other outcomes at {height}")
        if first is committed:
            self._is_new(committed)

    def _is_new(self, committed: CommittedBlock) -> None:
        height = committed.block.header.height
        for tx, outcome in zip(committed.block.txs, committed.outcomes, strict=True):
            if self.placed.setdefault(outcome.tx_id, height) != height:
                raise Broken(f"again: a transaction of {tx.sender} is in block {height} too")
            if tx.nonce != self.nonces.get(tx.sender, 0) + 1:
                raise Broken(f"nonces: {tx.nonce} of {tx.sender} in block {height}")
            self.nonces[tx.sender] = tx.nonce

    def on_block_fault(self, node: Whole, fault: BlockFault) -> None:
        """Who led with an invalid block is guilty, and what shows it is evidence to a ledger."""
        if not node.is_honest:
            return
        self.on_refused(node, fault.validator)
        genesis_hash, epoch = self._cluster.genesis_hash, self._cluster.epochs[fault.epoch]
        try:
            check(parse_jcs(payload_of(fault, genesis_hash), Evidence), None, genesis_hash)
        except Rejected as rejection:
            raise Broken(f"evidence: that against {fault.validator} is none: {rejection}") from None
        position = epoch.position_of(fault.validator)
        assert position is not None, "only members lead"
        digest = epoch.digest_of(CANDIDATE, fault.slot, epoch.id_of(fault.candidate))
        if not keys.verify(epoch.validators[position].auth_key, digest, fault.signature):
            raise Broken(f"evidence: this candidate is not signed by {fault.validator}")
        name = self._cluster.name_of(fault.validator)
        self.accused.add(name)
        self._cluster.note(node, f"accuses {name}: an invalid transaction in slot {fault.slot}")

    def on_blame(self, node: Whole, peer: str, message: str) -> None:
        """Nobody honest tells what is wrong of the chain."""
        if node.is_honest and self._cluster.peer_is_honest(peer):
            raise Broken(f"blame: {node.address} blames {peer}, who is honest: {message}")

    @staticmethod
    def _count_supply(node: Whole) -> None:
        try:
            check_whole_supply(node.executor.state)
        except BrokenInvariant as error:
            raise Broken(f"supply: {error}") from None

    def on_announced(self, node: Whole, block: CommittedBlock) -> None:
        """From here on the node's clients believe it."""
        if node.is_honest:
            for outcome in block.outcomes:
                self._reported.setdefault(outcome.tx_id, node.address)

    def on_dropped(self, node: Whole, effect: Drop) -> None:
        """What a block holds that may become final is not pushed out for something that pays better."""
        if effect.rejection.reason is Reason.MEMPOOL_FULL and node.is_honest:
            for block in node.replica._undecided.all_built():
                if any(tx.id == effect.tx.id for tx in block.included):
                    raise Broken(f"mempool: {node.address} pushed {effect.tx.id.hex()[:8]} out of a block")

    # In the end

    def after_healing(self, tx: Any, honest: list[Any]) -> None:
        """Everybody has one chain with everything that was promised, and nothing is kept for ever."""
        last = min(node.height for node in honest)
        for node in honest:
            if node.disk.store.find_transaction(tx) is None:
                raise Broken(
                    f"liveness: {node.address} is at height {node.height} without what was sent after healing"
                )
            self._has_all(node)
            self._is_bounded(node)
        if any(node.height - last > 3 for node in honest):
            raise Broken(f"liveness: heights {[node.height for node in honest]}")
        for client in self._cluster.clients:
            for waiting in client.waits():
                raise Broken(f"answers: nobody says what became of {waiting.hex()[:8]} of {client.who.name}")
        self._replay(max(honest, key=lambda node: node.height))

    def _has_all(self, node: Whole) -> None:
        """Nothing that anybody reported final is missing."""
        for tx_id, by in self._reported.items():
            height = self.placed[tx_id]
            if height <= node.height and node.disk.store.find_transaction(tx_id) is None:
                raise Broken(f"lost: {node.address} has no {tx_id.hex()[:8]}, which {by} said is final")

    def _is_bounded(self, node: Whole) -> None:
        """Of undecided blocks only the newest few are left; the mempool has nothing that a block holds."""
        replica, undecided = node.replica, node.replica._undecided
        left = {
            "bodies": len(undecided._bodies),
            "built": len(undecided._built),
            "questions": len(undecided._questions),
            "wanted": len(undecided._wanted),
            "checking": len(undecided._checking),
            "fetching": len(replica._fetching),
            "ahead": len(replica._ahead),
            "branches": len(node.executor.branches._blocks),
        }
        for name, count in left.items():
            if count > MAX_LEFT:
                raise Broken(f"bounds: {node.address} keeps {count} {name}")
        for tx in replica.mempool.waiting():
            if self.placed.get(tx.id, node.height + 1) <= node.height:
                raise Broken(f"mempool: {node.address} still has {tx.id.hex()[:8]}, which is final")

    def _replay(self, node: Whole) -> None:
        """Who starts from genesis today comes to the same state by checking every block and every certificate."""
        executor = Executor(self._cluster.document, None, verifier=keys.verify)
        for height in range(1, node.height + 1):
            committed = node.disk.store.block_by_height(height)
            assert committed is not None
            try:
                built = executor.apply(committed.block)
            except Rejected as rejection:
                raise Broken(f"validity: block {height} is refused: {rejection}") from None
            if committed.certificate is not None:
                epoch = self._cluster.epochs[committed.certificate.candidate.epoch]
                check_any_certificate(committed.certificate, epoch, keys.verify)
            executor.publish(built, committed)
        if executor.state.data != node.executor.state.data:
            raise Broken("state: replaying the chain gives another one")
