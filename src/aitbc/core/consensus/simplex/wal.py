"""The write-ahead log: what a validator must not forget, as bytes. docs/spec/simplex.md, "The log"

The file begins with a head that names the chain; after it each batch is one frame: length, CRC-32, records. A batch is
written, and safe, before the next one begins, so a crash can tear the last frame only: that is cut off. Damage before
the last good frame means that records were lost after they were safe: `Damaged`, and whoever meets it must not sign.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected

MAGIC = b"AITBCLG1"
HEAD_BYTES = len(MAGIC) + 32
MAX_FRAME_BYTES = 5 * 1024 * 1024
"""One batch: a largest block, the votes of a step and at most the 33 certificates of a proposal; a log that is
rewritten takes several."""
MAX_LOG_BYTES = 16 * 1024 * 1024
"""A host rewrites a longer log from the engine's `live_records`."""


class CandidateRecord(
    msgspec.Struct, frozen=True, array_like=True, tag="candidate", forbid_unknown_fields=True
):
    """Proposed by this validator, or about to be voted for; its block is safe as well."""

    candidate: Candidate


class VoteRecord(msgspec.Struct, frozen=True, array_like=True, tag="vote", forbid_unknown_fields=True):
    """Decided; it may or may not have been signed and sent."""

    kind: str
    epoch: int
    slot: int
    candidate: bytes


class CertificateRecord(
    msgspec.Struct, frozen=True, array_like=True, tag="certificate", forbid_unknown_fields=True
):
    certificate: Certificate


class BlockRecord(msgspec.Struct, frozen=True, array_like=True, tag="block", forbid_unknown_fields=True):
    """The block of a candidate, as the host has it; the engine does not read it."""

    hash: bytes
    raw: bytes


LogRecord = BlockRecord | CandidateRecord | VoteRecord | CertificateRecord


class ReadLog(NamedTuple):
    records: list[LogRecord]
    """Of all whole batches, the oldest first."""
    length: int
    """Bytes that are good: what follows was torn and is to be cut off."""


def log_head(genesis_hash: bytes) -> bytes:
    return MAGIC + genesis_hash


def encode_batch(records: Sequence[LogRecord]) -> bytes:
    payload = pack(list(records))
    assert len(payload) <= MAX_FRAME_BYTES, "a batch has a maximum"
    return len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big") + payload


def read_log(data: bytes, genesis_hash: bytes) -> ReadLog:
    """Records of a log and where it is torn; raises Rejected (`damaged`) where a torn tail is no explanation."""
    head = log_head(genesis_hash)
    if len(data) < HEAD_BYTES and head.startswith(data):
        return ReadLog([], 0)
    if data[:HEAD_BYTES] != head:
        raise Rejected(Reason.DAMAGED, "this is no log of this chain")
    records: list[LogRecord] = []
    at = HEAD_BYTES
    while at < len(data):
        payload = _frame_at(data, at)
        if payload is None:
            _check_torn(data, at)
            break
        records.extend(unpack(payload, list[LogRecord], limit=MAX_FRAME_BYTES))
        at += 8 + len(payload)
    return ReadLog(records, at)


def _frame_at(data: bytes, at: int) -> bytes | None:
    """The payload of a whole frame; None where there is none."""
    size = int.from_bytes(data[at : at + 4], "big")
    payload = data[at + 8 : at + 8 + size]
    if not 0 < size <= MAX_FRAME_BYTES or len(payload) != size:
        return None
    return payload if zlib.crc32(payload) == int.from_bytes(data[at + 4 : at + 8], "big") else None


def _check_torn(data: bytes, at: int) -> None:
    """A torn frame is the last: a whole one after it shows that the damage came later than the writing."""
    for later in range(at + 1, len(data) - 8):
        if _frame_at(data, later) is not None:
            raise Rejected(Reason.DAMAGED, f"the log is damaged at byte {at} and goes on at byte {later}")
