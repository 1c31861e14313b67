"""The hand that writes for a validator: log, then guard, then signatures, and what is left when it dies at any call.

The life below is lived on a disk that loses what was not synced (`support/power.py`): the process dies before and after
every system call, the power fails or not, it dies again while it recovers; what it promised must hold each time.
"""

import random
import secrets
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from aitbc.adapters.agreement.files import CLOCKS_DIFFER_MS
from aitbc.core.consensus.engine import SignStatements
from aitbc.core.consensus.simplex import wal
from aitbc.core.consensus.simplex.guard import HALF_BYTES, GuardRefuses
from aitbc.core.consensus.simplex.wal import (
    HEAD_BYTES,
    MARK_BYTES,
    BlockRecord,
    CandidateRecord,
    LogRecord,
    VoteRecord,
    encode_frame,
    log_head,
    read_log,
)
from aitbc.core.replica import Log
from aitbc.core.types.blocks import MAX_BLOCK_BYTES
from aitbc.core.types.reasons import Stops
from aitbc.node.agreement import GUARD_FILE, LOG_FILE, Scribe, open_scribe
from support.power import Disk, restored
from support.witness import (
    CHAIN,
    B,
    Diary,
    WatchedGuard,
    WatchedLog,
    WatchedSigner,
    log,
    log_block,
    say,
    sign,
    vote,
)

NOW_MS = 1_000
DRAWS = 3
"""Power cuts that are tried at each call, beside the two that leave as little and as much as can be."""
Work = list[Log | SignStatements]


# In which order


def watched(diary: Diary) -> tuple[Scribe, WatchedLog, WatchedGuard]:
    kept, guard = WatchedLog(diary), WatchedGuard(diary)
    scribe = Scribe(log=kept, guard=guard, signer=WatchedSigner(diary), genesis_hash=CHAIN, now_ms=NOW_MS)
    return scribe, kept, guard


ORDERS: list[tuple[str, Work, list[str]]] = [
    ("nothing", [], []),
    ("only logged", [log(1, 2)], ["log 1 2"]),
    ("only signed", [sign(1)], ["guard 1", "sign 1"]),
    ("a step", [log(1), sign(1)], ["log 1", "guard 1", "sign 1"]),
    ("signed first", [sign(1), log(2)], ["log 2", "guard 1", "sign 1"]),
    (
        "several steps",
        [log(1), sign(1), log(2, 3), sign(2, 3), sign(1), log(4)],
        ["log 1 2 3 4", "guard 1 2 3 1", "sign 1", "sign 2", "sign 3", "sign 1"],
    ),
    (
        "each block in a frame of its own",
        [log(1), log_block(2), sign(2), log(3), log_block(4), sign(4)],
        ["log 1 2 3", "log 4", "guard 2 4", "sign 2", "sign 4"],
    ),
    (
        "two blocks of one step",
        [Log([*log_block(1).records, *log_block(2).records, vote(3)]), sign(1, 2)],
        ["log 1", "log 2 3", "guard 1 2", "sign 1", "sign 2"],
    ),
]


@pytest.mark.parametrize(("_story", "work", "order"), ORDERS, ids=[story for story, _, _ in ORDERS])
def test_first_the_log_then_the_guard_then_signatures(_story: str, work: Work, order: list[str]) -> None:
    check_order(work, order)


def check_order(work: Work, order: list[str]) -> None:
    diary = Diary()
    scribe, kept, guard = watched(diary)
    signatures = scribe.write(work)
    assert diary == order
    asked = [effect.statements for effect in work if isinstance(effect, SignStatements)]
    assert signatures == [[statement.digest * 2 for statement in statements] for statements in asked]
    logged = [record for effect in work if isinstance(effect, Log) for record in effect.records]
    assert read_log(kept.read(), CHAIN).records == logged
    assert {record.slot for record in guard.signed} == {said.slot for each in asked for said in each}


def test_two_of_the_largest_blocks_in_one_step_are_written() -> None:
    """Such a step stopped the node: one frame could not hold it."""
    step = Log([record for slot in (1, 2) for record in log_block(slot, size=MAX_BLOCK_BYTES).records])
    check_order([step, sign(1)], ["log 1", "log 2", "guard 1", "sign 1"])


def test_when_the_log_fails_the_guard_is_not_asked() -> None:
    diary = Diary()
    scribe, kept, _ = watched(diary)
    kept.error = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        scribe.write([log(1), sign(1)])
    assert diary == []


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), GuardRefuses("signed something else")])
def test_when_the_guard_fails_nothing_is_signed(error: Exception) -> None:
    diary = Diary()
    scribe, _, guard = watched(diary)
    guard.error = error
    with pytest.raises(type(error)):
        scribe.write([log(1), sign(1), log(2), sign(2)])
    assert diary == ["log 1 2"]


def test_one_of_many_that_contradicts_leaves_all_unsigned() -> None:
    diary = Diary()
    scribe, _, _ = watched(diary)
    scribe.write([sign(1)])
    with pytest.raises(GuardRefuses):
        scribe.write([sign(2), SignStatements([say(1, B)])])
    assert diary == ["guard 1", "sign 1"]


# Files


def opened(folder: Path, diary: Diary | None = None) -> Scribe:
    signer = WatchedSigner(Diary() if diary is None else diary)
    return open_scribe(folder, signer=signer, genesis_hash=CHAIN, now_ms=NOW_MS, is_new=True)


START = [
    *["open guard", "pwrite guard", "ftruncate guard", "fsync guard", "pwrite guard", "fsync guard"],
    *["open .", "fsync .", "open agreement.log"],
]
REPLACE = [
    *["open agreement.log.new", "write agreement.log.new", "fsync agreement.log.new"],
    *["replace agreement.log", "open .", "fsync .", "open agreement.log"],
]
APPEND = ["write agreement.log", "fdatasync agreement.log"]
ADMIT = ["pwrite guard", "fsync guard", "pwrite guard", "fsync guard"]


def test_every_call_on_the_disk_in_its_order(tmp_path: Path) -> None:
    with Disk(tmp_path).used() as disk:
        diary = Diary()
        disk.calls = diary
        scribe = opened(tmp_path, diary)
        assert diary == START + REPLACE
        del diary[:]
        scribe.write([log(1), sign(1), log_block(2), log_block(3), sign(2)])
        assert diary == [*APPEND, *APPEND, *ADMIT, "sign 1", "sign 2"]
        del diary[:]
        scribe.rewrite([vote(3)])
        assert diary == REPLACE
        del diary[:]
        scribe.close()
    assert diary == []


def test_a_disk_that_takes_a_part_at_a_time_gets_all_of_it(tmp_path: Path) -> None:
    (folder := tmp_path / "life").mkdir()
    with Disk(folder, most_bytes=37).used() as disk:
        scribe = opened(folder)
        scribe.write([log(1), sign(1), log(2), sign(2)])
        assert found_in(tmp_path / "one", disk) == [vote(1), vote(2)] * 2
        scribe.rewrite([vote(1)])
        assert found_in(tmp_path / "two", disk) == [vote(1), vote(1), vote(2)]


def found_in(folder: Path, disk: Disk) -> list[LogRecord]:
    """By a process that starts after a power cut now."""
    again = opened(restored(folder, disk.after_a_power_cut(None)))
    again.close()
    assert again.vote_after_ms == 0
    return again.records


def test_a_second_process_does_not_touch_the_log(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.write([log(1)])
    before = (tmp_path / LOG_FILE).read_bytes()
    with Disk(tmp_path).used() as disk:
        with pytest.raises(Stops, match="in use"):
            opened(tmp_path)
        assert disk.calls == ["open guard"]
    assert (tmp_path / LOG_FILE).read_bytes() == before
    first.close()


# Death at every call


class Life:
    """What one validator logs and signs, and what it has promised so far."""

    def __init__(self) -> None:
        self.safe: list[LogRecord] = []
        """Of the log, when the last write returned."""
        self.handed: list[LogRecord] = []
        """And what was handed over since: any first part of it may be there too."""
        self.rewritten: list[LogRecord] | None = None
        """What stands in the place of all that, when the process dies while it rewrites."""
        self.asked: set[int] = set()
        self.signed: set[int] = set()

    def write(self, scribe: Scribe, *work: Log | SignStatements) -> None:
        for effect in work:
            if isinstance(effect, Log):
                self.handed += effect.records
            else:
                self.asked |= {statement.slot for statement in effect.statements}
        scribe.write(work)
        self.safe = list(self.handed)

    def rewrite(self, scribe: Scribe, *records: LogRecord) -> None:
        self.rewritten = list(records)
        scribe.rewrite(records)
        self.safe, self.handed, self.rewritten = [*records], [*records], None

    def check(self, scribe: Scribe, folder: Path) -> None:
        """After a new start."""
        data = (folder / LOG_FILE).read_bytes()
        read = read_log(data, CHAIN)
        assert read.length == len(data), "a torn tail is cut off"
        assert not scribe.log_was_damaged and scribe.vote_after_ms == 0, "no crash is taken for damage"
        found = read.records
        assert found == self.rewritten or (
            len(found) >= len(self.safe) and found == self.handed[: len(found)]
        ), "it is what was before, or what was after"
        self._check_blocks(found)
        remembered = scribe.records[len(found) :]
        assert scribe.records[: len(found)] == found
        assert {record.slot for record in remembered if isinstance(record, VoteRecord)} <= self.asked
        for slot in self.signed:
            with pytest.raises(GuardRefuses):
                scribe.write([SignStatements([say(slot, B)])])
        scribe.write([log(99), sign(99)])

    @staticmethod
    def _check_blocks(records: list[LogRecord]) -> None:
        blocks: set[bytes] = set()
        for record in records:
            if isinstance(record, BlockRecord):
                blocks.add(record.hash)
            if isinstance(record, CandidateRecord):
                assert record.candidate.block_hash in blocks, "a candidate is not there before its block"


class Signs(WatchedSigner):
    """What is signed can be anywhere in the world from now on."""

    def __init__(self, life: Life) -> None:
        super().__init__(Diary())
        self._life = life

    def sign(self, digest: bytes) -> bytes:
        self._life.signed.add(int.from_bytes(digest[:8], "big"))
        return super().sign(digest)


def begin(folder: Path, life: Life) -> Scribe:
    return open_scribe(folder, signer=Signs(life), genesis_hash=CHAIN, now_ms=NOW_MS, is_new=True)


def live(folder: Path, life: Life) -> None:
    scribe = begin(folder, life)
    life.write(scribe, log_block(1), sign(1))
    life.write(scribe, log(2))
    scribe.raise_floor(0, 1)
    scribe.thread.submit(lambda: None).result()
    life.write(scribe, log(3), sign(3), log_block(4), sign(4), log_block(5), log(6), sign(6, 7))
    life.rewrite(scribe, *log_block(5).records, vote(6), vote(7))
    life.write(scribe, Log([*log_block(8).records, *log_block(9, size=1_500).records]), sign(8, 9))
    scribe.thread.shutdown()


def find_torn(folder: Path) -> bytes:
    """What a crash has left: a torn frame whose block holds frames, as whoever made it liked."""
    mark = bytes(range(MARK_BYTES))
    inside = encode_frame([vote(9)], b"") + encode_frame([vote(9)], mark[::-1])
    block = encode_frame([BlockRecord(B, inside + bytes(900)), vote(2)], mark)
    (folder / LOG_FILE).write_bytes(log_head(CHAIN, mark) + encode_frame([vote(1)], mark) + block[:-1])
    return mark


def find_version_1(folder: Path) -> None:
    frames = b"".join(encode_frame([vote(slot)], b"") for slot in (1, 2))
    (folder / LOG_FILE).write_bytes(wal.OLD_MAGIC + CHAIN + frames)


def go_on_with(*records: LogRecord) -> Callable[[Path, Life], None]:
    """A start with a log that is there, and one write."""

    def go_on(folder: Path, life: Life) -> None:
        life.safe, life.handed = [*records], [*records]
        scribe = begin(folder, life)
        life.write(scribe, log(5), sign(5))
        scribe.thread.shutdown()

    return go_on


def nothing(_folder: Path) -> None:
    pass


LIVES: dict[str, tuple[Callable[[Path], object], Callable[[Path, Life], None]]] = {
    "from the first start on": (nothing, live),
    "with a torn tail": (find_torn, go_on_with(vote(1))),
    "with a log of version 1": (find_version_1, go_on_with(vote(1), vote(2))),
}


@pytest.mark.parametrize("name", LIVES)
def test_dying_at_any_call_breaks_no_promise(name: str, tmp_path: Path) -> None:
    check_deaths(tmp_path, *LIVES[name])


def check_deaths(
    tmp_path: Path, prepare: Callable[[Path], object], live_: Callable[[Path, Life], None]
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    prepare(before)
    files = {path.name: path.read_bytes() for path in before.iterdir()}
    dies_at, is_dead = 0, True
    while is_dead:
        life = Life()
        folder = restored(tmp_path / "life", files)
        marks = random.Random(dies_at).randbytes
        with Disk(folder, dies_at=dies_at).used() as disk, patch.object(secrets, "token_bytes", marks):
            live_(folder, life)
        is_dead = disk.is_dead
        assert is_dead or life.signed == life.asked
        for seed in range(DRAWS + 2):
            draw = random.Random(100 * dies_at + seed)
            left = disk.after_a_kill() if seed == 0 else disk.after_a_power_cut(None if seed == 1 else draw)
            again = restored(tmp_path / "again", left)
            if seed % 2:
                again = die_again(again, draw, tmp_path / "third")
            with Disk(again).used() as whole:
                scribe = begin(again, Life())
                life.check(scribe, again)
                scribe.thread.shutdown()
            restored(tmp_path / "last", whole.after_a_power_cut(None))
            with Disk(tmp_path / "last").used():
                scribe = begin(tmp_path / "last", Life())
                assert scribe.records.count(vote(99)) == 2, "in the log and in the guard"
        dies_at += 1
    assert dies_at > 20


def die_again(folder: Path, draw: random.Random, other: Path) -> Path:
    """While it starts."""
    with Disk(folder, dies_at=draw.randrange(30)).used() as disk:
        begin(folder, Life()).thread.shutdown()
    return restored(other, disk.after_a_power_cut(draw))


def test_dying_while_a_damaged_log_is_begun_anew_never_lets_it_vote(tmp_path: Path) -> None:
    """The log has lost what it must not lose: whoever finds that has nothing but the guard's word not to vote."""
    folder = tmp_path / "life"
    folder.mkdir()
    scribe = begin(folder, Life())
    scribe.write([log(1), log(2), sign(1)])
    scribe.write([log(3)])
    scribe.close()
    data = bytearray((folder / LOG_FILE).read_bytes())
    data[HEAD_BYTES + MARK_BYTES + 9] ^= 1
    files = {LOG_FILE: bytes(data), GUARD_FILE: (folder / GUARD_FILE).read_bytes()}
    dies_at, is_dead = 0, True
    while is_dead:
        life = Life()
        folder = restored(tmp_path / "life", files)
        with Disk(folder, dies_at=dies_at).used() as disk:
            begin(folder, life)
        is_dead = disk.is_dead
        for seed in range(DRAWS + 1):
            draw = random.Random(1_000 * dies_at + seed)
            restored(tmp_path / "again", disk.after_a_power_cut(draw) if seed else disk.after_a_kill())
            with Disk(tmp_path / "again").used():
                again = begin(tmp_path / "again", life)
                assert again.vote_after_ms == NOW_MS + CLOCKS_DIFFER_MS
                assert again.records == [vote(1)], "the guard knows what was signed"
        dies_at += 1
    assert dies_at > 20


@pytest.mark.parametrize("half", [0, 1])
def test_a_first_start_that_did_not_come_to_its_end_costs_nothing(half: int, tmp_path: Path) -> None:
    """A lone validator that takes a torn new guard for a lost one would never vote again."""
    opened(tmp_path).close()
    data = bytearray((tmp_path / GUARD_FILE).read_bytes())
    data[half * HALF_BYTES + 20 :] = bytes(len(data) - half * HALF_BYTES - 20)
    (tmp_path / GUARD_FILE).write_bytes(data)
    again = opened(tmp_path)
    assert again.vote_after_ms == 0
    again.close()


def test_a_log_that_is_not_there_is_begun_and_the_guard_remembers(tmp_path: Path) -> None:
    scribe = opened(tmp_path)
    scribe.write([log(1), sign(1)])
    scribe.close()
    (tmp_path / LOG_FILE).unlink()
    again = opened(tmp_path)
    assert again.records == [vote(1)]
    again.write([log(2)])
    again.close()
    assert read_log((tmp_path / LOG_FILE).read_bytes(), CHAIN).records == [vote(2)]
