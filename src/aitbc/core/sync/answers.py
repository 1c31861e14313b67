"""What peers answer, checked: pure functions that may run on any thread. docs/spec/sync.md

A quorum's certificate proves the last block of an epoch and with it the next set; headers are linked up to such a
block; a body belongs to the header that has its hash. Raises Rejected for what nobody honest answers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import NamedTuple

import msgspec

from aitbc.core.codec.digests import header_hash, validators_hash
from aitbc.core.codec.wire import unpack
from aitbc.core.consensus.simplex.certificates import Verifier, check_certificate
from aitbc.core.crypto.schemes import verify
from aitbc.core.peer.kinds import MAX_STEP
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, Block, Certificate, Header, Validator
from aitbc.core.types.reasons import Reason, Rejected

FINAL = "final"
MAX_HEADER_BYTES = 2_048
MAX_CERTIFICATE_BYTES = 8 * 1024
MAX_END_BYTES = 32 * 1024
"""Header, certificate and next set of 53 validators."""
PROVED_EVERY = 16
"""Of so many blocks one certificate is checked and kept: blocks are written up to such a one, and with 50 validators a
certificate costs as much as thirty transfers."""


class Chain(NamedTuple):
    """What every certificate of a chain is checked against."""

    id: str
    genesis_hash: bytes
    epoch_length: int
    verifier: Verifier = verify


class End(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last block of an epoch, or a certified one within; on the wire too."""

    header: Header
    certificate: Certificate
    validators: list[Validator]
    """Who votes after an epoch's last block; empty for a block within an epoch."""


class Proved(NamedTuple):
    """A block that a quorum made final."""

    height: int
    hash: bytes
    epoch: int
    certificate: Certificate
    next_validators: list[Validator]
    """Empty within an epoch."""


class Link(NamedTuple):
    """A header's hash, and its certificate where one was kept."""

    hash: bytes
    certificate: Certificate | None


def check_ends(
    raw: Sequence[bytes], *, above: int, validators: list[Validator], chain: Chain
) -> list[Proved]:
    """Proved blocks above a height, the set after which is `validators`; the last of an epoch proves the next set."""
    proved: list[Proved] = []
    for packed in raw:
        end = unpack(packed, End, limit=MAX_END_BYTES)
        height, name = end.header.height, _hash_of(end.header)
        epoch = above // chain.epoch_length
        last = (epoch + 1) * chain.epoch_length
        if not above < height <= min(last, above + MAX_STEP):
            raise Rejected(Reason.WRONG_HEIGHT, f"block {height} is no proof that follows block {above}")
        _check_final(end.certificate, name, epoch, validators, chain)
        is_last = height == last
        if is_last != bool(end.validators):
            raise Rejected(
                Reason.MALFORMED, "the last block of an epoch comes with the next set, and only that"
            )
        if is_last and _hash_of_set(end.validators) != end.header.next_validators_hash:
            raise Rejected(Reason.ROOT_MISMATCH, "the next set is not the one that the header names")
        proved.append(Proved(height, name, epoch, end.certificate, end.validators))
        above, validators = height, end.validators or validators
    return proved


def check_headers(
    headers: Sequence[bytes],
    certificates: Sequence[bytes],
    *,
    start: int,
    parent: bytes,
    end: Proved,
    validators: list[Validator],
    chain: Chain,
) -> list[Link]:
    """Headers from height `start` on, the child of `parent` first, up to a proved block at most; the peer told all of
    them since the block proved before, so a chain that misses this one is its lie."""
    links: list[Link] = []
    kept = start - 1
    for height, (packed, signed) in enumerate(zip_longest(headers, certificates, fillvalue=b""), start):
        header = unpack(packed, Header, limit=MAX_HEADER_BYTES)
        if header.height != height or header.parent != parent or height > end.height:
            raise Rejected(Reason.WRONG_PARENT, f"header {height} does not follow the one before it")
        parent = _hash_of(header)
        certificate = None
        if height == end.height:
            certificate = end.certificate
            if parent != end.hash:
                raise Rejected(
                    Reason.WRONG_PARENT, f"these headers do not lead to the final block {end.height}"
                )
        elif signed and height - kept >= PROVED_EVERY:
            certificate = unpack(signed, Certificate, limit=MAX_CERTIFICATE_BYTES)
            _check_final(certificate, parent, end.epoch, validators, chain)
            kept = height
        links.append(Link(parent, certificate))
    if not links:
        raise Rejected(Reason.MALFORMED, "no header, of blocks that the peer said it has")
    return links


def check_blocks(raw: Sequence[bytes], *, hashes: Sequence[bytes]) -> list[Block]:
    """Bodies for the headers with these hashes, from the first on, as many as came; whether the transactions are those
    of the header is found when a block is executed."""
    if len(raw) > len(hashes) or not raw:
        raise Rejected(Reason.MALFORMED, f"{len(raw)} blocks, {len(hashes)} were asked for")
    blocks = [unpack(packed, Block, limit=MAX_BLOCK_BYTES) for packed in raw]
    for block, name in zip(blocks, hashes, strict=False):
        if _hash_of(block.header) != name:
            raise Rejected(
                Reason.WRONG_PARENT, f"block {block.header.height} is not the one that was asked for"
            )
    return blocks


def _check_final(
    certificate: Certificate, name: bytes, epoch: int, validators: list[Validator], chain: Chain
) -> None:
    candidate = certificate.candidate
    if certificate.kind != FINAL or candidate.block_hash != name or candidate.epoch != epoch:
        raise Rejected(Reason.BAD_CERTIFICATE, "the certificate makes another block final, or none")
    check_certificate(
        certificate,
        validators,
        chain_id=chain.id,
        genesis_hash=chain.genesis_hash,
        verifier=chain.verifier,
    )


def _hash_of(header: Header) -> bytes:
    with _only_what_has_bytes("header"):
        return header_hash(header)


def _hash_of_set(validators: list[Validator]) -> bytes:
    with _only_what_has_bytes("validator"):
        return validators_hash(validators)


@contextmanager
def _only_what_has_bytes(what: str) -> Iterator[None]:
    try:
        yield
    except (OverflowError, UnicodeEncodeError):
        raise Rejected(Reason.OUT_OF_RANGE, f"a field of a {what} has no bytes") from None
