"""Log and guard of a validator: what every adapter of the two ports does, and what files do beyond that."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aitbc.adapters.agreement.files import CLOCKS_DIFFER_MS, GuardFile, LogFile
from aitbc.adapters.agreement.memory import MemoryGuard, MemoryLog
from aitbc.core.consensus.engine import Statement
from aitbc.core.consensus.simplex.guard import HALF_BYTES, GuardRefuses
from aitbc.core.consensus.simplex.wal import MARK_BYTES, VoteRecord, encode_frame, log_head, read_log
from aitbc.core.types.reasons import Stops
from aitbc.ports import ConsensusLog, SignerGuard
from support.signers import guard_of_a_signer

CHAIN = bytes(32)
A, B = b"a" * 32, b"b" * 32
NOTAR = VoteRecord("notar", 0, 1, A)
MARK = bytes(range(MARK_BYTES))
HEAD, FRAME = log_head(CHAIN, MARK), encode_frame([NOTAR], MARK)


def vote(kind: str, slot: int, candidate: bytes) -> Statement:
    return Statement(kind=kind, epoch=0, slot=slot, candidate=candidate, digest=bytes(32))


def file_guard(folder: Path, *, now_ms: int = 0, is_new: bool = True) -> GuardFile:
    return GuardFile(folder / "guard", CHAIN, now_ms=now_ms, is_new=is_new)


LOGS: list[Callable[[Path], ConsensusLog]] = [
    lambda folder: LogFile(folder / "log"),
    lambda _: MemoryLog(),
]
GUARDS: list[Callable[[Path], SignerGuard]] = [file_guard, lambda _: MemoryGuard(CHAIN), guard_of_a_signer]


@pytest.mark.parametrize("make", LOGS)
def test_a_log_grows_is_cut_and_replaced(make: Callable[[Path], ConsensusLog], tmp_path: Path) -> None:
    log = make(tmp_path)
    assert log.read() == b"", "a new log is empty"
    log.replace(HEAD)
    log.append(FRAME)
    log.append(FRAME[:25])
    read = read_log(log.read(), CHAIN)
    assert read.records == [NOTAR] and read.length == len(HEAD + FRAME)
    log.cut(read.length)
    log.append(FRAME)
    assert log.read() == HEAD + FRAME + FRAME
    log.replace(HEAD)
    log.append(FRAME)
    assert read_log(log.read(), CHAIN).records == [NOTAR]
    log.close()


@pytest.mark.parametrize("make", GUARDS)
def test_a_guard_says_no_to_the_second_of_two(make: Callable[[Path], SignerGuard], tmp_path: Path) -> None:
    guard = make(tmp_path)
    guard.admit([vote("notar", 1, A)])
    guard.admit([vote("notar", 1, A)])
    with pytest.raises(GuardRefuses, match="another machine"):
        guard.admit([vote("notar", 1, B)])
    assert guard.signed == [NOTAR]
    guard.raise_floor(0, 1)
    with pytest.raises(GuardRefuses, match="final"):
        guard.admit([vote("notar", 1, A)])
    assert guard.vote_after_ms == 0
    guard.begin_anew(7_000)
    guard.begin_anew(5_000)
    assert guard.vote_after_ms == 7_000
    guard.close()


def test_a_log_file_outlives_its_process(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    log.replace(HEAD)
    log.append(FRAME)
    assert read_log(LogFile(tmp_path / "log").read(), CHAIN).records == [NOTAR]


def test_a_guard_file_outlives_its_process_and_never_grows(tmp_path: Path) -> None:
    guard = file_guard(tmp_path)
    for slot in range(1, 50):
        guard.admit([vote("notar", slot, A)])
    guard.close()
    assert (tmp_path / "guard").stat().st_size == 2 * HALF_BYTES
    again = file_guard(tmp_path)
    assert len(again.signed) == 49
    with pytest.raises(GuardRefuses):
        again.admit([vote("notar", 7, B)])


def test_a_second_process_is_turned_away(tmp_path: Path) -> None:
    first = file_guard(tmp_path)
    with pytest.raises(Stops, match="in use"):
        file_guard(tmp_path)
    first.close()
    file_guard(tmp_path).close()


@pytest.mark.parametrize("half", [0, 1])
def test_one_damaged_half_costs_nothing(half: int, tmp_path: Path) -> None:
    guard = file_guard(tmp_path)
    guard.admit([vote("notar", 1, A)])
    guard.close()
    flip_a_bit(tmp_path / "guard", half * HALF_BYTES + 30)
    again = file_guard(tmp_path)
    assert again.signed == [NOTAR] and not again.was_lost


def test_without_a_readable_guard_it_only_watches_and_remembers_that(tmp_path: Path) -> None:
    guard = file_guard(tmp_path)
    guard.admit([vote("notar", 1, A)])
    guard.close()
    for half in (0, 1):
        flip_a_bit(tmp_path / "guard", half * HALF_BYTES + 30)
    for start_ms in (1_000, 9_000):
        again = file_guard(tmp_path, now_ms=start_ms)
        assert again.vote_after_ms == 1_000 + CLOCKS_DIFFER_MS, "the second start does not make it older"
        again.close()


def test_a_guard_that_should_be_there_is_missed(tmp_path: Path) -> None:
    guard = file_guard(tmp_path, now_ms=1_000, is_new=False)
    assert guard.was_lost and guard.vote_after_ms > 1_000


def flip_a_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))
