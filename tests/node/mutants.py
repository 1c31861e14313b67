"""Test the tester: mistakes planted in the real host between a decision and its message, each found by a story.

`make mutants` prints by which. What is played are the tests of the scribe, of its files and of the loop over a slow
disk.
"""

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from aitbc.adapters.agreement import files
from aitbc.adapters.agreement.files import GuardFile, LogFile
from aitbc.core.consensus.engine import SignStatements, StatementsSigned
from aitbc.core.consensus.simplex import wal
from aitbc.core.consensus.simplex.guard import HALF_BYTES, Guard, decode_guard, encode_half
from aitbc.core.consensus.simplex.wal import encode_frame, frames_of
from aitbc.core.replica import Log, Tell
from aitbc.core.types.reasons import Rejected
from aitbc.node import agreement, runtime
from aitbc.node.agreement import Scribe
from aitbc.node.runtime import NodeRuntime
from node import test_persist_before_send as loop
from node import test_scribe as scribe

Work = Sequence[Log | SignStatements]


class Mutant(NamedTuple):
    name: str
    where: Any
    attribute: str
    wrong: Any
    """What stands there instead."""


# Stories: the tests that need nothing but a folder


def stories() -> dict[str, Callable[[Path], object]]:
    found: dict[str, Callable[[Path], object]] = {
        f"order: {story}": lambda _, work=work, order=order: scribe.check_order(work, order)
        for story, work, order in scribe.ORDERS
    }
    found |= {
        f"failure: {part}, {type(error).__name__}": lambda _, case=(part, error, done): (
            loop.test_when_the_disk_or_the_guard_fails_the_node_stops_and_tells_nothing(*case)
        )
        for part, error, done in loop.FAILURES
    }
    alone = [
        scribe.test_two_of_the_largest_blocks_in_one_step_are_written,
        scribe.test_when_the_log_fails_the_guard_is_not_asked,
        loop.test_everything_waits_for_what_it_rests_on,
        loop.test_when_something_else_fails_during_a_write_nothing_is_told_after_it,
        loop.test_who_is_stopped_during_a_write_finishes_that_one_only,
    ]
    found |= {test.__name__: lambda _, test=test: test() for test in alone}
    found[scribe.test_a_disk_that_takes_a_part_at_a_time_gets_all_of_it.__name__] = (
        scribe.test_a_disk_that_takes_a_part_at_a_time_gets_all_of_it
    )
    found |= {
        f"dying {name}": lambda folder, life=life: scribe.check_deaths(folder, *life)
        for name, life in scribe.LIVES.items()
    }
    found["dying with a damaged log"] = scribe.test_dying_while_a_damaged_log_is_begun_anew_never_lets_it_vote
    return found


# The scribe


def signatures(self: Any, work: Work) -> list[list[bytes]]:
    asked = [effect.statements for effect in work if isinstance(effect, SignStatements)]
    return [[self._signer.sign(statement.digest) for statement in statements] for statements in asked]


def admit(self: Any, work: Work) -> None:
    asked = [effect.statements for effect in work if isinstance(effect, SignStatements)]
    if asked:
        self._guard.admit([statement for statements in asked for statement in statements])


def append(self: Any, work: Work) -> None:
    for records in frames_of([effect.records for effect in work if isinstance(effect, Log)]):
        self._log.append(encode_frame(records, self._mark))


def write_no_log(self: Any, work: Work) -> list[list[bytes]]:
    admit(self, work)
    return signatures(self, work)


def write_no_guard(self: Any, work: Work) -> list[list[bytes]]:
    append(self, work)
    return signatures(self, work)


def write_neither(self: Any, work: Work) -> list[list[bytes]]:
    return signatures(self, work)


def write_guard_first(self: Any, work: Work) -> list[list[bytes]]:
    admit(self, work)
    append(self, work)
    return signatures(self, work)


def write_signatures_first(self: Any, work: Work) -> list[list[bytes]]:
    signed = signatures(self, work)
    append(self, work)
    admit(self, work)
    return signed


def write_reversed(self: Any, work: Work) -> list[list[bytes]]:
    return WRITE(self, list(reversed(work)))


def write_frames_at_once(self: Any, work: Work) -> list[list[bytes]]:
    """One sync for all: then a first frame may be torn and a second one whole."""
    frames = frames_of([effect.records for effect in work if isinstance(effect, Log)])
    if frames:
        self._log.append(b"".join(encode_frame(records, self._mark) for records in frames))
    admit(self, work)
    return signatures(self, work)


def believe_the_disk(self: Any, work: Work) -> list[list[bytes]]:
    try:
        return WRITE(self, work)
    except OSError:
        return signatures(self, work)


def one_frame(batches: Any) -> Any:
    return [[record for batch in batches for record in batch]] if batches else []


def a_frame_for_each_batch(batches: Any) -> Any:
    return [list(batch) for batch in batches]


def log_before_guard(self: Any) -> None:
    """A damaged log is begun anew before the guard knows."""
    replaced = self._guard.begin_anew
    with patch.object(self._guard, "begin_anew", lambda _after_ms: None):
        READ(self)
    if self.log_was_damaged:
        replaced(self._now_ms + files.CLOCKS_DIFFER_MS)


WRITE, READ = Scribe.write, Scribe._read


# Files


def append_unsynced(self: Any, frame: bytes) -> None:
    files._write_all(self._file, frame)


def append_once(self: Any, frame: bytes) -> None:
    os.write(self._file, frame)
    os.fdatasync(self._file)


def append_synced_before(self: Any, frame: bytes) -> None:
    os.fdatasync(self._file)
    files._write_all(self._file, frame)


def replace_unsynced(path: Path, data: bytes) -> None:
    new = path.with_name(path.name + ".new")
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    files._write_all(file, data)
    os.close(file)
    new.replace(path)
    files._sync_folder(path.parent)


def replace_in_place(self: Any, data: bytes) -> None:
    os.ftruncate(self._file, 0)
    files._write_all(self._file, data)
    os.fsync(self._file)


def keep_the_old_file(self: Any, data: bytes) -> None:
    """Appends go where no name leads any more."""
    files._replace(self._path, data)


def halves(*steps: str) -> Callable[[Any, Guard], None]:
    """A guard that is written in these steps."""

    def write(self: Any, guard: Guard) -> None:
        content = encode_half(guard)
        for step in steps:
            if step == "sync":
                os.fsync(self._file)
            else:
                self._write_at(HALF_BYTES * (step == "second"), content)
                if os.fstat(self._file).st_size < 2 * HALF_BYTES:
                    os.ftruncate(self._file, 2 * HALF_BYTES)
        self._guard = guard

    return write


def write_part(self: Any, start: int, content: bytes) -> None:
    os.pwrite(self._file, content, start)


def lost_when_unfinished(data: bytes, genesis_hash: bytes) -> Guard:
    """Whatever is there and cannot be read was a guard."""
    try:
        return decode_guard(data, genesis_hash)
    except Rejected:
        if data:
            return Guard(genesis_hash=genesis_hash, vote_after_ms=files.CLOCKS_DIFFER_MS)
        raise


def nothing(*_: Any) -> None:
    """Forgotten."""


def scan_for_frames(data: bytes, at: int, mark: bytes) -> None:
    """Any bytes that form a frame are one, as in version 1."""
    for later in range(at + 1, len(data) - 8):
        if wal._frame_at(data, later, b"") is not None:
            raise Rejected(wal.Reason.DAMAGED, "goes on")
    CHECK_TORN(data, at, mark)


CHECK_TORN = wal._check_torn


# The loop


def answers(feed: Callable[[Any, list[Any]], None]) -> Any:
    """What comes of the signatures of one write."""

    async def write_down(self: Any, writer: Scribe, work: Any) -> None:
        signed = await asyncio.get_running_loop().run_in_executor(writer.thread, writer.write, work)
        self._writing = False
        feed(self, [StatementsSigned(each) for each in signed])
        self._perform([])
        self._work_off()

    return write_down


def answer_newest_first(self: Any, signed: list[Any]) -> None:
    for each in signed:
        self._inputs.appendleft(each)


def answer_backwards(self: Any, signed: list[Any]) -> None:
    self._inputs.extend(reversed(signed))


def answer_in_one(self: Any, signed: list[Any]) -> None:
    self._inputs.append(StatementsSigned([one for each in signed for one in each.signatures]))


def never_wait(self: Any, effects: Any) -> None:
    """Only what is written waits."""
    for effect in effects:
        if isinstance(effect, Log | SignStatements):
            self._effects.append(effect)
        else:
            self._perform_one(effect)
    if self._effects and not self._writing:
        self._write(self._effects.popleft())


def write_newest_first(self: Any, first: Any) -> None:
    self._writing = True
    work = [first, *(effect for effect in self._effects if isinstance(effect, Log | SignStatements))]
    self._effects = type(self._effects)(effect for effect in self._effects if effect not in work)
    self._spawn(self._write_down(self.scribe, work[::-1]))


def write_what_is_logged(self: Any, first: Any) -> None:
    """What is to be signed behind it is forgotten."""
    self._effects = type(self._effects)(
        effect for effect in self._effects if not isinstance(effect, SignStatements)
    )
    PICK(self, first)


def go_on_after_an_error(self: Any, _error: BaseException) -> None:
    self._writing = False
    self._perform([])


PICK = NodeRuntime._write

MUTANTS = [
    Mutant("never append to the log", Scribe, "write", write_no_log),
    Mutant("never ask the guard", Scribe, "write", write_no_guard),
    Mutant("neither log nor guard", Scribe, "write", write_neither),
    Mutant("the guard before the log", Scribe, "write", write_guard_first),
    Mutant("signatures before log and guard", Scribe, "write", write_signatures_first),
    Mutant("the work of a write reversed, by the scribe", Scribe, "write", write_reversed),
    Mutant("one sync for several frames", Scribe, "write", write_frames_at_once),
    Mutant("sign when the disk fails", Scribe, "write", believe_the_disk),
    Mutant("all batches in one frame", agreement, "frames_of", one_frame),
    Mutant("each batch in one frame", agreement, "frames_of", a_frame_for_each_batch),
    Mutant("begin the log anew before the guard", Scribe, "_read", log_before_guard),
    Mutant("no sync of the log", LogFile, "append", append_unsynced),
    Mutant("sync the log before the append", LogFile, "append", append_synced_before),
    Mutant("believe a short write of the log", LogFile, "append", append_once),
    Mutant("leave a torn tail in the log", LogFile, "cut", nothing),
    Mutant("no sync of a new log", files, "_replace", replace_unsynced),
    Mutant("rewrite the log in its place", LogFile, "replace", replace_in_place),
    Mutant("append to the file that was replaced", LogFile, "replace", keep_the_old_file),
    Mutant("no sync of the folder", files, "_sync_folder", nothing),
    Mutant("take frames in a block for the log's", wal, "_check_torn", scan_for_frames),
    Mutant("take damage for a torn tail", wal, "_check_torn", nothing),
    Mutant("no sync of the guard", GuardFile, "_write", halves("first", "second")),
    Mutant("sync one half of the guard only", GuardFile, "_write", halves("first", "sync", "second")),
    Mutant("write both halves of the guard at once", GuardFile, "_write", halves("first", "second", "sync")),
    Mutant("believe a short write of the guard", GuardFile, "_write_at", write_part),
    Mutant("take an unfinished guard for a lost one", files, "decode_guard", lost_when_unfinished),
    Mutant("the work of a write reversed, by the loop", NodeRuntime, "_write", write_newest_first),
    Mutant("forget what is to be signed", NodeRuntime, "_write", write_what_is_logged),
    Mutant("feed the newest signatures first", NodeRuntime, "_write_down", answers(answer_newest_first)),
    Mutant("feed signatures backwards", NodeRuntime, "_write_down", answers(answer_backwards)),
    Mutant("feed signatures in one answer", NodeRuntime, "_write_down", answers(answer_in_one)),
    Mutant("feed no signatures", NodeRuntime, "_write_down", answers(nothing)),
    Mutant("tell before it is written", NodeRuntime, "_perform", never_wait),
    Mutant("let what is told overtake", runtime, "_FREE", runtime._FREE | Tell),
    Mutant("go on after an error", NodeRuntime, "fail", go_on_after_an_error),
]


def hunt(planted: Mutant) -> tuple[str, BaseException] | None:
    """The first story that finds it, and how."""
    with patch.object(planted.where, planted.attribute, planted.wrong):
        for name, play in stories().items():
            with tempfile.TemporaryDirectory() as folder:
                try:
                    play(Path(folder))
                except BaseException as found:  # pytest's own failures are no Exceptions
                    return name, found
    return None


def main() -> int:
    logging.disable()
    survivors = 0
    for planted in MUTANTS:
        found = hunt(planted)
        survivors += found is None
        print(f"{planted.name:46} {found[0] if found else 'SURVIVED'}", flush=True)
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
