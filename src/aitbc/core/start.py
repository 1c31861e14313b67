"""Where a node begins, in a process or in a simulation: the replica for the head that the executor holds."""

from aitbc.core.consensus.engine import ConsensusEngine
from aitbc.core.consensus.observer import Observer
from aitbc.core.consensus.simplex.solo import SoloSimplex
from aitbc.core.executor import Executor
from aitbc.core.replica import Replica


def replica_at_head(executor: Executor, *, authors: bool) -> Replica:
    """A replica with the engine that the genesis asks for; one that does not author only watches."""
    head, loaded = executor.head.block.header, executor.loaded
    settings = loaded.genesis.consensus
    engine: ConsensusEngine = Observer()
    if authors:
        engine = SoloSimplex(
            chain_id=head.chain_id,
            genesis_hash=loaded.hash,
            block_time_ms=settings.block_time_ms,
            idle_ms=settings.idle_ms,
            epoch_length=settings.epoch_length,
            head_hash=executor.head.hash,
            head_timestamp_ms=head.timestamp_ms,
            head_certificate=executor.head.certificate,
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
