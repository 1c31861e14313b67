"""The bytes of log and guard: what a crash may tear, and what no crash explains."""

import pytest

from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import (
    HALF_BYTES,
    MAX_ENTRIES,
    Guard,
    GuardRefuses,
    admit,
    decode_guard,
    encode_half,
    raise_floor,
)
from aitbc.core.consensus.simplex.wal import (
    HEAD_BYTES,
    CandidateRecord,
    CertificateRecord,
    LogRecord,
    VoteRecord,
    encode_batch,
    log_head,
    read_log,
)
from aitbc.core.types.blocks import ZERO_HASH, Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected

CHAIN = bytes(range(32))
A, B = b"a" * 32, b"b" * 32
CANDIDATE = Candidate(0, 1, 0, A, B)
BATCHES: list[list[LogRecord]] = [
    [CandidateRecord(CANDIDATE), VoteRecord("candidate", 0, 1, A), VoteRecord("notar", 0, 1, A)],
    [CertificateRecord(Certificate("notar", CANDIDATE, 1, [bytes(64)])), VoteRecord("final", 0, 1, A)],
    [VoteRecord("skip", 0, 2, ZERO_HASH)],
]
LOG = log_head(CHAIN) + b"".join(encode_batch(batch) for batch in BATCHES)
ENDS = [HEAD_BYTES + sum(len(encode_batch(batch)) for batch in BATCHES[:count]) for count in range(4)]


def test_a_log_comes_back_as_it_was() -> None:
    assert read_log(LOG, CHAIN) == ([record for batch in BATCHES for record in batch], len(LOG))


@pytest.mark.parametrize("length", range(len(LOG)))
def test_wherever_a_write_was_torn_whole_batches_are_left(length: int) -> None:
    whole = max((count for count in range(4) if ENDS[count] <= length), default=0)
    read = read_log(LOG[:length], CHAIN)
    assert read.records == [record for batch in BATCHES[:whole] for record in batch]
    assert read.length == (ENDS[whole] if length >= HEAD_BYTES else 0)


@pytest.mark.parametrize("at", range(ENDS[2]))
def test_a_bit_that_flips_before_the_last_batch_is_no_torn_tail(at: int) -> None:
    data = bytearray(LOG)
    data[at] ^= 1
    with pytest.raises(Rejected) as caught:
        read_log(bytes(data), CHAIN)
    assert caught.value.reason == Reason.DAMAGED


def test_another_chains_log_is_not_read() -> None:
    with pytest.raises(Rejected, match="no log of this chain"):
        read_log(LOG, bytes(32))


def say(kind: str, slot: int, candidate: bytes = A, epoch: int = 0) -> Statement:
    return Statement(kind=kind, epoch=epoch, slot=slot, candidate=candidate, digest=bytes(32))


FRESH = Guard(genesis_hash=CHAIN)
PAIRS = [
    (say("candidate", 1), say("candidate", 1, B), False),
    (say("notar", 1), say("notar", 1, B), False),
    (say("final", 1), say("final", 1, B), False),
    (say("final", 1), say("skip", 1, ZERO_HASH), False),
    (say("skip", 1, ZERO_HASH), say("final", 1), False),
    (say("notar", 1), say("skip", 1, ZERO_HASH), True),
    (say("skip", 1, ZERO_HASH), say("notar", 1), True),
    (say("notar", 2), say("final", 1), True),
    (say("notar", 1), say("notar", 1, B, epoch=1), True),
    (say("notar", 1), say("notar", 1), True),
]


@pytest.mark.parametrize(("first", "second", "is_allowed"), PAIRS)
def test_what_may_be_signed_after_what(first: Statement, second: Statement, is_allowed: bool) -> None:
    """Final in slot 1 after a vote in slot 2 is right: the guard is no counter."""
    guard = admit(FRESH, [first])
    if is_allowed:
        admit(guard, [second])
        admit(FRESH, [first, second])
        return
    with pytest.raises(GuardRefuses):
        admit(guard, [second])
    with pytest.raises(GuardRefuses):
        admit(FRESH, [first, second])


def test_nothing_is_signed_at_or_below_the_floor() -> None:
    guard = raise_floor(admit(FRESH, [say("notar", 1), say("notar", 3)]), 0, 2)
    assert [record.slot for record in guard.signed] == [3]
    for slot in (1, 2):
        with pytest.raises(GuardRefuses, match="final"):
            admit(guard, [say("notar", slot)])
    assert raise_floor(guard, 0, 1) is guard
    with pytest.raises(GuardRefuses, match="final"):
        admit(raise_floor(guard, 1, 0), [say("notar", 99)])


def test_a_full_guard_forgets_the_oldest_and_refuses_what_it_forgot() -> None:
    guard = FRESH
    for slot in range(1, MAX_ENTRIES + 11):
        guard = admit(guard, [say("notar", slot)])
    assert len(guard.signed) == MAX_ENTRIES and guard.floor == (0, 10)
    assert len(encode_half(guard)) <= HALF_BYTES
    with pytest.raises(GuardRefuses):
        admit(guard, [say("notar", 10)])


def halves(first: bytes, second: bytes) -> bytes:
    return first.ljust(HALF_BYTES, b"\0") + second.ljust(HALF_BYTES, b"\0")


def test_whichever_half_is_torn_the_other_knows_all_that_was_signed() -> None:
    old = admit(FRESH, [say("notar", 1)])
    new = admit(old, [say("final", 1)])
    before, after = encode_half(old), encode_half(new)
    for cut in range(0, len(after), 7):
        torn = after[:cut] + before[cut:]
        for data in (halves(torn, before), halves(before, torn)):
            assert decode_guard(data, CHAIN) == old, "what was being written was not signed yet"
        for data in (halves(after, torn), halves(torn, after)):
            if torn not in (before, after):
                assert decode_guard(data, CHAIN) == new
    assert decode_guard(halves(before, after), CHAIN) == new


def test_two_bad_halves_are_no_guard() -> None:
    for data in (
        b"",
        halves(b"", b""),
        halves(b"x" * 200, b"x" * 200),
        halves(*[encode_half(FRESH)] * 2)[:40],
    ):
        with pytest.raises(Rejected) as caught:
            decode_guard(data, CHAIN)
        assert caught.value.reason == Reason.DAMAGED
    with pytest.raises(Rejected):
        decode_guard(halves(*[encode_half(FRESH)] * 2), bytes(32))
