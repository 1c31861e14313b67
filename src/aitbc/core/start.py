"""Where a node begins, in a process or in a simulation: the replica for the head that the executor holds."""

from collections.abc import Sequence

from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.wire import unpack
from aitbc.core.consensus.epoch import anchor_of
from aitbc.core.consensus.simplex.pacing import Pace
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.consensus.simplex.wal import MAX_FRAME_BYTES, BlockRecord, LogRecord
from aitbc.core.crypto.address import address_of
from aitbc.core.executor import Executor
from aitbc.core.ledger.validators import members_of, validators_of
from aitbc.core.replica import Replica, epoch_after
from aitbc.core.types.blocks import Block


def address_of_validator(executor: Executor, auth_key: bytes) -> str:
    """Under which address a key votes, now or in an epoch to come: that of the member whose key it is, jailed ones
    included, else its own account's; empty for a key that its account has no more."""
    state, own = executor.state, address_of(auth_key)
    members = {address: key_from_text(record.auth_key) for address, record in members_of(state)}
    for address, key in members.items():
        if key == auth_key:
            return address
    known = members.get(own) or state.account(own).auth
    return own if known in (b"", auth_key) else ""


def votes_otherwise(executor: Executor, auth_key: bytes, address: str) -> str:
    """Why a node that began with this key, under this address, must begin anew to vote in the present epoch; empty when
    it need not. Its account may have come by the key, or lost it, since."""
    for member in validators_of(executor.state):
        if member.address == address and member.auth_key != auth_key:
            return f"{address} votes with another key: start again with that one"
        if member.auth_key == auth_key and member.address != address:
            return f"this key votes as {member.address}: start again"
    return ""


def replica_at_head(
    executor: Executor,
    *,
    address: str,
    records: Sequence[LogRecord] = (),
    vote_after_ms: int = 0,
    floor: tuple[int, int] = (0, 0),
    timeout_ms: int = 600,
    max_timeout_ms: int = 30_000,
) -> Replica:
    """A replica with the engine that the genesis asks for.

    `address` votes when it is in the set; one that is not, or an empty one, follows. `records`: what the log and the
    signer guard hold; `vote_after_ms` and `floor`: the guard's; `timeout_ms`: how long a slot's leader is waited for
    at first, `max_timeout_ms`: at most.
    """
    head, loaded = executor.head.block.header, executor.loaded
    settings = loaded.genesis.consensus
    epoch = epoch_after(executor.state, head, genesis_hash=loaded.hash, epoch_length=settings.epoch_length)
    engine = Simplex(
        address=address,
        pace=Pace(
            block_time_ms=settings.block_time_ms,
            idle_ms=settings.idle_ms,
            timeout_ms=timeout_ms,
            max_timeout_ms=max_timeout_ms,
        ),
        epoch=epoch,
        anchor=anchor_of(head, executor.head.hash, executor.head.certificate, epoch),
        transactions_wait=lambda: replica.has_work(),
        records=records,
        vote_after_ms=vote_after_ms,
        floor=floor,
    )
    replica = Replica(
        state=executor.state,
        engine=engine,
        genesis_hash=loaded.hash,
        head=head,
        head_hash=executor.head.hash,
        epoch_length=settings.epoch_length,
        verifier=executor.verifier,
        bodies=_bodies(records, above=head.height),
    )
    return replica


def _bodies(records: Sequence[LogRecord], *, above: int) -> list[tuple[bytes, Block]]:
    """Blocks that the log holds and the chain does not; what is wrong with one is found when it is judged again."""
    blocks = [
        (record.hash, unpack(record.raw, Block, limit=MAX_FRAME_BYTES))
        for record in records
        if isinstance(record, BlockRecord)
    ]
    return [(name, block) for name, block in blocks if block.header.height > above]
