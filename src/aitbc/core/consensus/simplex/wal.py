"""The write-ahead log: what a validator must not forget, as bytes. docs/spec/simplex.md, "The log"

The file begins with a head that names the chain and the log's own mark; after it come frames: mark, length, CRC-32,
records. A frame is written, and safe, before the next one begins, so a crash can tear the last frame only: that is cut
off. Damage before the last frame means that records were lost after they were safe: `Damaged`, and whoever meets it
must not sign.

The mark is drawn by chance for each file and leaves the machine in no message. So only this log's own frames can begin
with it: a block from a stranger that holds the bytes of a frame does not make a torn log look damaged.
"""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected

MAGIC, OLD_MAGIC = b"AITBCLG2", b"AITBCLG1"
"""Version 1 had frames without marks."""
MARK_BYTES = 16
HEAD_BYTES = len(MAGIC) + 32 + MARK_BYTES + 4
MAX_FRAME_BYTES = 5 * 1024 * 1024
"""Of payload: a largest block and 63 records of at most 8 KiB, which certificates are."""
MAX_FRAME_RECORDS = 64
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
    """Of all whole frames, the oldest first."""
    length: int
    """Bytes that are good: what follows was torn and is to be cut off."""
    mark: bytes
    """Of its frames. Empty for a log that is new, or of version 1: to be begun with a head, and the records again."""


def log_head(genesis_hash: bytes, mark: bytes) -> bytes:
    """`mark`: 16 bytes that nobody else can know or guess."""
    assert len(mark) == MARK_BYTES
    head = MAGIC + genesis_hash + mark
    return head + _crc(head)


def frames_of(batches: Sequence[Sequence[LogRecord]]) -> list[list[LogRecord]]:
    """Several batches in few frames, all records in order: at most one block in each, which may be as large as a frame
    allows. Only a batch that fits in no frame is taken apart."""
    frames: list[list[LogRecord]] = []
    for batch in batches:
        for part in _parts(batch):
            if frames and _fit(frames[-1] + part):
                frames[-1] += part
            else:
                frames.append(part)
    return frames


def _parts(batch: Sequence[LogRecord]) -> list[list[LogRecord]]:
    parts: list[list[LogRecord]] = []
    for record in batch:
        if parts and _fit([*parts[-1], record]):
            parts[-1].append(record)
        else:
            parts.append([record])
    return parts


def _fit(records: Sequence[LogRecord]) -> bool:
    blocks = sum(isinstance(record, BlockRecord) for record in records)
    return blocks <= 1 and len(records) <= MAX_FRAME_RECORDS


def encode_frame(records: Sequence[LogRecord], mark: bytes) -> bytes:
    payload = pack(list(records))
    assert len(payload) <= MAX_FRAME_BYTES, "a frame has a maximum"
    return mark + len(payload).to_bytes(4, "big") + _crc(payload) + payload


def read_log(data: bytes, genesis_hash: bytes) -> ReadLog:
    """Records of a log and where it is torn; raises Rejected (`damaged`) where a torn tail is no explanation."""
    if not data:
        return ReadLog([], 0, b"")
    mark, at = _read_head(data, genesis_hash)
    records: list[LogRecord] = []
    while at < len(data):
        payload = _frame_at(data, at, mark)
        if payload is None:
            _check_torn(data, at, mark)
            break
        records.extend(unpack(payload, list[LogRecord], limit=MAX_FRAME_BYTES))
        at += len(mark) + 8 + len(payload)
    return ReadLog(records, at, mark)


def _read_head(data: bytes, genesis_hash: bytes) -> tuple[bytes, int]:
    """The mark, and where the first frame begins. A head gets its name when it is whole, so none is ever torn."""
    old = OLD_MAGIC + genesis_hash
    if data.startswith(old):
        return b"", len(old)
    head = data[:HEAD_BYTES]
    mark = head[-4 - MARK_BYTES : -4]
    if len(head) < HEAD_BYTES or head != log_head(genesis_hash, mark):
        raise Rejected(Reason.DAMAGED, "this is no log of this chain")
    return mark, HEAD_BYTES


def _frame_at(data: bytes, at: int, mark: bytes) -> bytes | None:
    """The payload of a whole frame; None where there is none."""
    start = at + len(mark)
    size = int.from_bytes(data[start : start + 4], "big")
    payload = data[start + 8 : start + 8 + size]
    if data[at:start] != mark or not 0 < size <= MAX_FRAME_BYTES or len(payload) != size:
        return None
    return payload if _crc(payload) == data[start + 4 : start + 8] else None


def _check_torn(data: bytes, at: int, mark: bytes) -> None:
    """A torn frame is the last: one that begins after it shows that the damage came later than the writing. In a log
    of version 1 there is no telling, so all of it must be whole."""
    later = data.find(mark, at + 1) if mark else at
    if later >= 0:
        raise Rejected(Reason.DAMAGED, f"the log is damaged at byte {at} and goes on at byte {later}")


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
