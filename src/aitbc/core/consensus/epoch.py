"""What is fixed for an epoch: who votes, who leads which slot, and where the epoch ends. docs/spec/finality.md"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.consensus.simplex.certificates import quorum_of
from aitbc.core.types.blocks import Candidate, Certificate, Header, Validator

MAX_REMEMBERED = 1_024
"""Ids and digests of an epoch that are kept: those of the slots under way and many more."""
Leaders = Callable[[int], int]
"""Slot, from 1 → position of its leader in the set. See elector.py."""


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """A final block as agreement sees it: slots are counted on from here."""

    slot: int
    """0 for the base block, the last of the epoch before."""
    id: bytes
    """Of its candidate; for slot 0 the block's hash."""
    hash: bytes
    height: int
    timestamp_ms: int
    certificate: Certificate | None = None
    """Its Final certificate, for those who lack it; None for a base block: the epoch before has that."""


def anchor_of(header: Header, block_hash: bytes, certificate: Certificate | None, epoch: "Epoch") -> Anchor:
    """A final block with its own certificate: a candidate of this epoch, or its base block."""
    slot, name = 0, block_hash
    if certificate is not None and certificate.candidate.epoch == epoch.number:
        slot, name = certificate.candidate.slot, epoch.id_of(certificate.candidate)
    return Anchor(
        slot=slot,
        id=name,
        hash=block_hash,
        height=header.height,
        timestamp_ms=header.timestamp_ms,
        certificate=certificate if slot else None,
    )


class Epoch:
    """One epoch of one chain. Equal on every node; engines and whoever checks messages share it."""

    def __init__(
        self,
        *,
        number: int,
        validators: Sequence[Validator],
        leaders: Leaders,
        last_height: int,
        chain_id: str,
        genesis_hash: bytes,
    ) -> None:
        assert validators, "somebody votes"
        self.number = number
        self.validators = list(validators)
        self.leader_of = leaders
        self.last_height = last_height
        """The block at this height, once final, ends the epoch."""
        self.chain_id = chain_id
        self.genesis_hash = genesis_hash
        self.powers = [validator.power for validator in validators]
        self.quorum = quorum_of(self.validators)
        self._ids: dict[Candidate, bytes] = {}
        self._digests: dict[tuple[str, int, bytes], bytes] = {}
        self._positions = {validator.address: place for place, validator in enumerate(validators)}

    def position_of(self, address: str) -> int | None:
        """Place in the set; None for who is not in it."""
        return self._positions.get(address)

    def id_of(self, candidate: Candidate) -> bytes:
        name = self._ids.get(candidate)
        if name is None:
            name = self._ids[candidate] = candidate_id(candidate, self.chain_id, self.genesis_hash)
            _forget_when_full(self._ids)
        return name

    def digest_of(self, kind: str, slot: int, candidate: bytes) -> bytes:
        """What a member signs to state something about a slot of this epoch."""
        statement = (kind, slot, candidate)
        digest = self._digests.get(statement)
        if digest is None:
            digest = self._digests[statement] = vote_digest(
                kind=kind,
                epoch=self.number,
                slot=slot,
                candidate=candidate,
                chain_id=self.chain_id,
                genesis_hash=self.genesis_hash,
            )
            _forget_when_full(self._digests)
        return digest


def _forget_when_full(memory: dict[Any, bytes]) -> None:
    """Fifty votes for one statement take one hash; what strangers make up pushes out no more than this."""
    if len(memory) > MAX_REMEMBERED:
        memory.clear()
