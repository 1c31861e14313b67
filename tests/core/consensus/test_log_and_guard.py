"""The bytes of log and guard: what a crash may tear, and what no crash explains."""

import zlib

import msgspec
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
    MAX_FRAME_RECORDS,
    BlockRecord,
    CandidateRecord,
    CertificateRecord,
    LogRecord,
    VoteRecord,
    encode_frame,
    frames_of,
    log_head,
    read_log,
)
from aitbc.core.types.blocks import MAX_BLOCK_BYTES, ZERO_HASH, Candidate, Certificate
from aitbc.core.types.reasons import Reason, Rejected

CHAIN = bytes(range(32))
A, B = b"a" * 32, b"b" * 32
CANDIDATE = Candidate(0, 1, 0, A, B)
BATCHES: list[list[LogRecord]] = [
    [CandidateRecord(CANDIDATE), VoteRecord("candidate", 0, 1, A), VoteRecord("notar", 0, 1, A)],
    [CertificateRecord(Certificate("notar", CANDIDATE, 1, [bytes(64)])), VoteRecord("final", 0, 1, A)],
    [VoteRecord("skip", 0, 2, ZERO_HASH)],
]
RECORDS = [record for batch in BATCHES for record in batch]
MARK = bytes(range(200, 216))
FRAMES = [encode_frame(batch, MARK) for batch in BATCHES]
LOG = log_head(CHAIN, MARK) + b"".join(FRAMES)
ENDS = [HEAD_BYTES + sum(map(len, FRAMES[:count])) for count in range(4)]


def frame_1(payload: bytes) -> bytes:
    """As version 1 wrote them."""
    return len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big") + payload


OLD_LOG = b"AITBCLG1" + CHAIN + b"".join(frame_1(msgspec.msgpack.encode(batch)) for batch in BATCHES)


def test_a_log_comes_back_as_it_was() -> None:
    assert read_log(LOG, CHAIN) == (RECORDS, len(LOG), MARK)


def test_a_new_log_is_empty() -> None:
    assert read_log(b"", CHAIN) == ([], 0, b"")


@pytest.mark.parametrize("length", range(HEAD_BYTES, len(LOG)))
def test_wherever_a_write_was_torn_whole_frames_are_left(length: int) -> None:
    whole = max(count for count in range(4) if ENDS[count] <= length)
    read = read_log(LOG[:length], CHAIN)
    assert read.records == [record for batch in BATCHES[:whole] for record in batch]
    assert read.length == ENDS[whole]


@pytest.mark.parametrize("length", range(1, HEAD_BYTES))
def test_a_head_is_never_torn(length: int) -> None:
    with pytest.raises(Rejected, match="no log of this chain"):
        read_log(LOG[:length], CHAIN)


@pytest.mark.parametrize("at", range(ENDS[2]))
def test_a_bit_that_flips_before_the_last_frame_is_no_torn_tail(at: int) -> None:
    data = bytearray(LOG)
    data[at] ^= 1
    with pytest.raises(Rejected) as caught:
        read_log(bytes(data), CHAIN)
    assert caught.value.reason == Reason.DAMAGED


def test_a_torn_frame_before_a_torn_frame_is_no_torn_tail() -> None:
    """The second was begun, so the first had been safe."""
    damaged = LOG[: ENDS[1] - 1] + b"?" + LOG[ENDS[1] : ENDS[2] - 1]
    with pytest.raises(Rejected, match=f"damaged at byte {ENDS[0]} and goes on at byte {ENDS[1]}"):
        read_log(damaged, CHAIN)


def test_no_bytes_in_a_block_make_a_torn_frame_look_damaged() -> None:
    """A proposer chooses bytes of its block: here whole frames of any mark, of none, and of another log."""
    inside = frame_1(b"\x90") + encode_frame(BATCHES[2], MARK[::-1]) + encode_frame(BATCHES[2], bytes(16))
    frame = encode_frame([BlockRecord(B, inside * 3), *BATCHES[0]], MARK)
    for length in range(len(frame)):
        read = read_log(LOG + frame[:length], CHAIN)
        assert (read.records, read.length) == (RECORDS, len(LOG))


def test_a_log_of_version_1_is_read_when_it_is_whole() -> None:
    assert read_log(OLD_LOG, CHAIN) == (RECORDS, len(OLD_LOG), b"")
    for length in range(1, len(OLD_LOG)):
        if length in (40, *OLD_ENDS):
            continue
        with pytest.raises(Rejected) as caught:
            read_log(OLD_LOG[:length], CHAIN)
        assert caught.value.reason == Reason.DAMAGED


OLD_ENDS = [40 + sum(len(frame) - 16 for frame in FRAMES[:count]) for count in range(4)]


def vote(slot: int) -> VoteRecord:
    return VoteRecord("skip", 0, slot, ZERO_HASH)


def block(name: bytes, size: int = 10) -> list[LogRecord]:
    candidate = msgspec.structs.replace(CANDIDATE, block_hash=name)
    return [BlockRecord(name, bytes(size)), CandidateRecord(candidate)]


MANY: list[LogRecord] = [vote(slot) for slot in range(MAX_FRAME_RECORDS)]
CUTS: list[tuple[str, list[list[LogRecord]], list[list[LogRecord]]]] = [
    ("nothing", [], []),
    ("batches are joined", [[vote(1)], [vote(2)]], [[vote(1), vote(2)]]),
    ("a block is joined too", [[vote(1)], block(A)], [[vote(1), *block(A)]]),
    (
        "of two blocks each has a frame",
        [[*block(A), vote(1)], [vote(2)], [*block(B), vote(3)]],
        [[*block(A), vote(1), vote(2)], [*block(B), vote(3)]],
    ),
    (
        "also those of one batch",
        [[vote(1), *block(A), vote(2), *block(B), vote(3)]],
        [[vote(1), *block(A), vote(2)], [*block(B), vote(3)]],
    ),
    ("a batch is not taken apart to fill a frame", [[vote(1)], MANY], [[vote(1)], MANY]),
    ("but when it fits in none", [[*MANY, vote(65)], [vote(66)]], [MANY, [vote(65), vote(66)]]),
]


@pytest.mark.parametrize(("_story", "batches", "frames"), CUTS, ids=[name for name, _, _ in CUTS])
def test_how_batches_are_put_into_frames(
    _story: str, batches: list[list[LogRecord]], frames: list[list[LogRecord]]
) -> None:
    assert frames_of(batches) == frames


def test_a_step_with_two_of_the_largest_blocks_fits_and_comes_back() -> None:
    """With as many of the largest certificates as a frame takes."""
    long = CertificateRecord(Certificate("skip", CANDIDATE, 1, [bytes(64)] * 124))
    step = [*block(A, MAX_BLOCK_BYTES), *[long] * 80, *block(B, MAX_BLOCK_BYTES), *[long] * 80]
    log = log_head(CHAIN, MARK) + b"".join(encode_frame(frame, MARK) for frame in frames_of([step]))
    assert read_log(log, CHAIN) == (step, len(log), MARK)


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
