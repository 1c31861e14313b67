"""What must be true in every run, whoever attacks. A broken promise raises `Broken` at the moment it is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aitbc.core.consensus.engine import Fault, Finalize, Statement
from aitbc.core.consensus.simplex.guard import GuardRefuses
from aitbc.core.consensus.simplex.messages import CANDIDATE, FINAL, SKIP, check_any_certificate
from aitbc.core.types.blocks import ZERO_HASH, Certificate
from aitbc.core.types.reasons import BrokenInvariant, Rejected, Stops
from aitbc.ports import StorageError
from aitbc.sim import keys
from aitbc.sim.blocks import START_MS

if TYPE_CHECKING:
    from aitbc.sim.cluster import Cluster
    from aitbc.sim.node import Node
    from aitbc.sim.process import Process


BUGS = (
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    BrokenInvariant,
    Rejected,
    Stops,
    StorageError,
)
"""What a node of a mistaken program dies of."""


class Broken(AssertionError):
    """A promise was broken; the message names it."""


class Checks:
    """Sees everything and is seen by nobody."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.final: dict[int, bytes] = {}
        """Height → hash, as the first honest node had it."""
        self.final_ms: dict[int, list[int]] = {}
        """Height → when it was final at each honest node, in the world's time."""
        self._signed: dict[tuple[str, int, int], dict[str, bytes]] = {}
        self.accused: set[str] = set()

    def on_committed(self, node: Node, height: int, name: bytes) -> None:
        """No two final blocks at one height, at any two honest nodes, ever; and none that is invalid."""
        if not node.is_honest:
            return
        first = self.final.setdefault(height, name)
        self.final_ms.setdefault(height, []).append(START_MS + self._cluster.now)
        self._cluster.note(node, f"final {height} {name.hex()[:8]}")
        if first != name:
            raise Broken(f"agreement: {first.hex()[:8]} and {name.hex()[:8]} are final at height {height}")
        block = node.blocks[name]
        parent = node.disk.chain[height - 1]
        if block.height != height or block.parent != parent.hash or not block.is_valid:
            raise Broken(f"validity: block {height} at {node.address} is no valid child of its parent")
        if block.timestamp_ms <= parent.block.timestamp_ms:
            raise Broken(f"time: block {height} is not younger than its parent")

    def on_finalize(self, node: Node, effect: Finalize, path: list[bytes]) -> None:
        """The certificate is one that anybody can check, and it is this block's."""
        if not node.is_honest:
            return
        certificate = effect.certificate
        epoch = self._cluster.epochs[certificate.candidate.epoch]
        try:
            check_any_certificate(certificate, epoch, keys.verify)
        except Rejected as rejection:
            raise Broken(f"certificate: {node.address} commits on a bad one: {rejection.message}") from None
        if certificate.kind != FINAL or certificate.candidate.block_hash != effect.hash:
            raise Broken(f"certificate: {node.address} commits on a {certificate.kind} of another block")
        if not path:
            raise Broken(f"monotony: {node.address} finalises {effect.hash.hex()[:8]} again")
        length = self._cluster.epochs.length
        if node.blocks[path[-1]].height > (certificate.candidate.epoch + 1) * length:
            raise Broken("epoch: a block lies behind the end of its epoch")

    def on_signed(self, node: Process, statements: list[Statement]) -> None:
        """No honest node, over all its lives, signs two statements that are evidence against it."""
        if not node.is_honest:
            return
        for statement in statements:
            said = self._signed.setdefault((node.address, statement.epoch, statement.slot), {})
            if said.setdefault(statement.kind, statement.candidate) != statement.candidate:
                raise Broken(f"double vote: {node.address} two {statement.kind} in slot {statement.slot}")
            if FINAL in said and SKIP in said:
                raise Broken(f"double vote: {node.address} final and skip in slot {statement.slot}")

    def on_refusal(self, node: Process, refusal: GuardRefuses) -> None:
        """The guard is the second line: an engine that needs it has forgotten something."""
        if node.is_honest:
            raise Broken(f"guard: {node.address} had to be stopped: {refusal}")

    def on_fault(self, node: Process, fault: Fault) -> None:
        """Evidence hits the guilty only, and a ledger will take it."""
        if not node.is_honest:
            return
        name = self._cluster.name_of(fault.validator)
        if self._cluster.place_of(fault.validator) not in self._cluster.plan.guilty:
            raise Broken(f"evidence: {node.address} accuses {name}, who is innocent")
        epoch = self._cluster.epochs[fault.epoch]
        kinds = (fault.first.kind, fault.second.kind)
        same = kinds[0] == kinds[1] != SKIP and fault.first.candidate < fault.second.candidate
        if not same and not (kinds == (FINAL, SKIP) and fault.second.candidate == ZERO_HASH):
            raise Broken(f"evidence: {kinds} in this order is no conflict")
        position = epoch.position_of(fault.validator)
        assert position is not None, "only members are accused"
        for statement in (fault.first, fault.second):
            digest = epoch.digest_of(statement.kind, fault.slot, statement.candidate)
            if not keys.verify(epoch.validators[position].auth_key, digest, statement.signature):
                raise Broken(f"evidence: this {statement.kind or CANDIDATE} is not signed by {name}")
        self.accused.add(name)
        self._cluster.note(node, f"accuses {name}: {kinds[0]} and {kinds[1]} in slot {fault.slot}")

    def on_refused(self, node: Process, validator: str) -> None:
        """Nobody honest leads with what is not valid."""
        if node.is_honest and self._cluster.place_of(validator) not in self._cluster.plan.guilty:
            raise Broken(
                f"evidence: {node.address} refuses what {self._cluster.name_of(validator)}, who is innocent, led with"
            )

    def on_epoch_end(self, node: Process, certificate: Certificate | None) -> None:
        """Whoever asks for the end of an epoch gets a certificate of its last block."""
        if node.is_honest and certificate is None:
            raise Broken(f"epoch: {node.address} has an epoch's last block without a certificate of its own")

    def after_healing(self, tx: Any, honest: list[Any]) -> None:
        """Everybody has the transaction that came after the faults, in one block of one chain."""
        for node in honest:
            if tx not in node.included:
                raise Broken(
                    f"liveness: {node.address} is at height {node.height} without what was sent after healing"
                )
        lowest = min(node.height for node in honest)
        if any(node.height - lowest > 3 for node in honest):
            raise Broken(f"liveness: heights {[node.height for node in honest]}")
