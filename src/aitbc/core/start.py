"""Where a node begins, in a process or in a simulation: the replica for the head that the executor holds."""

from aitbc.core.codec.digests import candidate_id
from aitbc.core.consensus.engine import ConsensusEngine
from aitbc.core.consensus.epoch import Anchor
from aitbc.core.consensus.observer import Observer
from aitbc.core.consensus.simplex.pacing import Pace
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.executor import Executor
from aitbc.core.replica import Replica, epoch_after


def replica_at_head(executor: Executor, *, authors: bool) -> Replica:
    """A replica with the engine that the genesis asks for; one that does not author only watches."""
    head, loaded = executor.head.block.header, executor.loaded
    settings = loaded.genesis.consensus
    engine: ConsensusEngine = Observer()
    if authors:
        epoch = epoch_after(
            executor.state, head, genesis_hash=loaded.hash, epoch_length=settings.epoch_length
        )
        engine = Simplex(
            address=epoch.validators[0].address,
            pace=Pace(block_time_ms=settings.block_time_ms, idle_ms=settings.idle_ms),
            epoch=epoch,
            anchor=_anchor(executor, epoch.number),
            transactions_wait=lambda: replica.mempool.has_ready(),
        )
    replica = Replica(
        state=executor.state,
        engine=engine,
        genesis_hash=loaded.hash,
        head=head,
        head_hash=executor.head.hash,
        epoch_length=settings.epoch_length,
        verifier=executor.verifier,
    )
    return replica


def _anchor(executor: Executor, epoch: int) -> Anchor:
    """The head: a candidate of the running epoch, or its base block."""
    head, header, certificate = executor.head, executor.head.block.header, executor.head.certificate
    slot, name = 0, head.hash
    if certificate is not None and certificate.candidate.epoch == epoch:
        slot = certificate.candidate.slot
        name = candidate_id(certificate.candidate, header.chain_id, executor.loaded.hash)
    return Anchor(
        slot=slot,
        id=name,
        hash=head.hash,
        height=header.height,
        timestamp_ms=header.timestamp_ms,
        certificate=certificate if slot else None,
    )
