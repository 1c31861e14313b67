"""E5: from a leader's candidate that was refused to evidence that anybody can check. docs/spec/evidence.md"""

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import wid_of
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.merkle import prove_item
from aitbc.core.ledger.transactions.evidence import MAX_PART_BYTES, BadBlock, Evidence
from aitbc.core.types.blocks import Block, Candidate
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import MAX_PAYLOAD_BYTES


class BlockFault(msgspec.Struct, frozen=True, kw_only=True):
    """A leader has signed a candidate whose block holds a transaction that no state makes valid."""

    validator: str
    candidate: Candidate
    signature: bytes
    """The leader's, over its candidate."""
    block: Block
    """It has the hash that the candidate names."""
    index: int
    """The transaction's place in it."""

    @property
    def epoch(self) -> int:
        return self.candidate.epoch

    @property
    def slot(self) -> int:
        return self.candidate.slot


def payload_of(fault: BlockFault, genesis_hash: bytes) -> bytes:
    """Of an EVIDENCE. Hashes the whole block, so not on a network loop. Raises Rejected for a transaction that is too
    large to be shown."""
    block, candidate = fault.block, fault.candidate
    header, tx = pack(block.header), pack(block.txs[fault.index])
    proof = prove_item([wid_of(tx, genesis_hash) for tx in block.txs], fault.index)
    shown = BadBlock(
        validator=fault.validator,
        epoch=candidate.epoch,
        slot=candidate.slot,
        parent_slot=candidate.parent_slot,
        parent_id=candidate.parent_id.hex(),
        sig=fault.signature.hex(),
        header=header.hex(),
        tx=tx.hex(),
        index=proof.index,
        count=proof.count,
        path=[node.hex() for node in proof.path],
    )
    payload = jcs(Evidence(block=shown))
    if max(len(header), len(tx)) > MAX_PART_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise Rejected(
            Reason.TOO_LARGE,
            f"a transaction of {len(tx)} bytes, which {fault.validator} led with, does not fit into evidence",
        )
    return payload
