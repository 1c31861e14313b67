"""The signer guard: a validator's memory of what it signed, small enough to keep apart from everything else.

It says no to a statement that contradicts an earlier one even when the log is lost or an old backup was restored.
Not a height that only grows: Final(s) may rightly be signed after a vote in s + 1. Pure; the file is an adapter's.
docs/spec/simplex.md, "The guard"
"""

import zlib
from collections.abc import Sequence

import msgspec

from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.messages import CANDIDATE, FINAL, NOTAR, SKIP
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.crypto.hashing import u64
from aitbc.core.types.reasons import Reason, Rejected, Stops

MAGIC = b"AITBCGD1"
KINDS = (CANDIDATE, NOTAR, SKIP, FINAL)
HEAD_BYTES = len(MAGIC) + 32 + 8 + 8 + 8 + 8 + 2
ENTRY_BYTES = 1 + 8 + 8 + 32
HALF_BYTES = 64 * 1024
"""The file is two halves of this size, so it never grows and its directory entry never changes."""
MAX_ENTRIES = 1_200
"""300 slots without finality, of four statements each. Beyond, the oldest are forgotten and the floor rises over them:
what is not remembered is not signed again."""


class GuardRefuses(Stops):
    """Somebody with this key signed something else, or this program has a mistake. Never retried."""


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed. Nothing is signed at or below the floor."""

    genesis_hash: bytes
    sequence: int = 0
    """Grows with every change: the newer half counts."""
    vote_after_ms: int = 0
    """When this guard was made in the place of one that was lost: its owner votes only in epochs whose base block is
    newer, where it cannot have voted before. 0: it was there from the beginning."""
    floor_epoch: int = 0
    floor_slot: int = 0
    signed: tuple[VoteRecord, ...] = ()
    """Above the floor, oldest slot first."""

    @property
    def floor(self) -> tuple[int, int]:
        return self.floor_epoch, self.floor_slot


def admit(guard: Guard, statements: Sequence[Statement]) -> Guard:
    """The guard that remembers these statements too; raises GuardRefuses. What was signed may be signed again."""
    signed = list(guard.signed)
    for statement in statements:
        record = VoteRecord(statement.kind, statement.epoch, statement.slot, statement.candidate)
        if record in signed:
            continue
        _check(guard, signed, record)
        signed.append(record)
    if len(signed) == len(guard.signed):
        return guard
    signed.sort(key=lambda record: (record.epoch, record.slot))
    return _fitting(guard, signed)


def raise_floor(guard: Guard, epoch: int, slot: int) -> Guard:
    """Forget what lies at or below a slot whose block is final and on disk."""
    if (epoch, slot) <= guard.floor:
        return guard
    signed = tuple(record for record in guard.signed if (record.epoch, record.slot) > (epoch, slot))
    return msgspec.structs.replace(
        guard, sequence=guard.sequence + 1, floor_epoch=epoch, floor_slot=slot, signed=signed
    )


def made_anew(guard: Guard, vote_after_ms: int) -> Guard:
    """In the place of a memory that cannot be trusted: what it still holds is kept, and later epochs only are voted
    in."""
    return msgspec.structs.replace(
        guard, sequence=guard.sequence + 1, vote_after_ms=max(guard.vote_after_ms, vote_after_ms)
    )


def _check(guard: Guard, signed: list[VoteRecord], record: VoteRecord) -> None:
    where = f"{record.kind} in slot {record.slot} of epoch {record.epoch}"
    if (record.epoch, record.slot) <= guard.floor:
        raise GuardRefuses(f"the signer guard refuses a {where}: that slot is final")
    for earlier in signed:
        if (earlier.epoch, earlier.slot) == (record.epoch, record.slot) and _contradict(earlier, record):
            raise GuardRefuses(
                f"the signer guard refuses a {where}: this key has signed a {earlier.kind} there that contradicts it;"
                " does another machine run with this key?"
            )


def _contradict(earlier: VoteRecord, later: VoteRecord) -> bool:
    """E1–E4 of docs/spec/evidence.md."""
    if earlier.kind == later.kind:
        return earlier.candidate != later.candidate
    return {earlier.kind, later.kind} == {FINAL, SKIP}


def _fitting(guard: Guard, signed: list[VoteRecord]) -> Guard:
    epoch, slot = guard.floor
    if len(signed) > MAX_ENTRIES:
        last = signed[len(signed) - MAX_ENTRIES - 1]
        epoch, slot = last.epoch, last.slot
        signed = [record for record in signed if (record.epoch, record.slot) > (epoch, slot)]
    return msgspec.structs.replace(
        guard, sequence=guard.sequence + 1, floor_epoch=epoch, floor_slot=slot, signed=tuple(signed)
    )


def encode_half(guard: Guard) -> bytes:
    """One half of the file, without the zeros that fill it."""
    entries = [
        bytes([KINDS.index(record.kind)]) + u64(record.epoch) + u64(record.slot) + record.candidate
        for record in guard.signed
    ]
    head = (
        MAGIC
        + guard.genesis_hash
        + b"".join(map(u64, (guard.sequence, guard.vote_after_ms, guard.floor_epoch, guard.floor_slot)))
    )
    content = head + len(entries).to_bytes(2, "big") + b"".join(entries)
    return content + zlib.crc32(content).to_bytes(4, "big")


def decode_guard(data: bytes, genesis_hash: bytes) -> Guard:
    """The guard of a file: the newer of its halves that are whole; raises Rejected (`damaged`) when neither is.

    A signature leaves only after both halves are safe. So a half that is torn, or was damaged later, is missed by
    nobody: the other one knows everything that was signed.
    """
    halves = [_decode_half(data[:HALF_BYTES], genesis_hash), _decode_half(data[HALF_BYTES:], genesis_hash)]
    whole = [half for half in halves if half is not None]
    if not whole:
        raise Rejected(Reason.DAMAGED, "the signer guard cannot be read, or is another chain's")
    return max(whole, key=lambda half: half.sequence)


def _decode_half(half: bytes, genesis_hash: bytes) -> Guard | None:
    count = int.from_bytes(half[HEAD_BYTES - 2 : HEAD_BYTES], "big")
    end = HEAD_BYTES + count * ENTRY_BYTES
    if len(half) < end + 4 or half[:8] != MAGIC or half[8:40] != genesis_hash:
        return None
    if zlib.crc32(half[:end]) != int.from_bytes(half[end : end + 4], "big"):
        return None
    numbers = [int.from_bytes(half[at : at + 8], "big") for at in (40, 48, 56, 64)]
    signed = []
    for at in range(HEAD_BYTES, end, ENTRY_BYTES):
        epoch, slot = (int.from_bytes(half[at + start : at + start + 8], "big") for start in (1, 9))
        signed.append(VoteRecord(KINDS[half[at]], epoch, slot, half[at + 17 : at + ENTRY_BYTES]))
    return Guard(
        genesis_hash=genesis_hash,
        sequence=numbers[0],
        vote_after_ms=numbers[1],
        floor_epoch=numbers[2],
        floor_slot=numbers[3],
        signed=tuple(signed),
    )
