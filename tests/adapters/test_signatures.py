"""Signatures are checked by other processes, and nothing is lost when these end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from aitbc.adapters import signatures
from aitbc.adapters.signatures import BEGIN_AT, FEW, SignaturePool, Signed
from aitbc.core.crypto.hashing import tagged
from aitbc.core.crypto.schemes import verify
from support.people import ALICE, BOB
from support.schemes import every_scheme

KEYS = [ALICE, BOB, *every_scheme().values()]
SOON_S = 20.0


def some(count: int) -> list[Signed]:
    """Of all schemes; every fifth is signed by another key, every seventh says something else."""
    batch = []
    for number in range(count):
        who, digest = KEYS[number % len(KEYS)], tagged("test", number.to_bytes(4, "big"))
        signer = KEYS[(number + 1) % len(KEYS)] if number % 5 == 4 else who
        said = bytes(32) if number % 7 == 6 else digest
        batch.append((who.auth_key, digest, signer.sign(said)))
    return batch


@pytest.fixture
def pool() -> Iterator[SignaturePool]:
    pool = SignaturePool(2)
    yield pool
    pool.close()


def pids(pool: SignaturePool) -> list[int]:
    return [worker._process.pid for worker in pool._workers]


@pytest.mark.parametrize("count", [0, 1, FEW, FEW + 1, BEGIN_AT, 2 * BEGIN_AT + 1])
def test_the_answer_is_what_each_signature_is(pool: SignaturePool, count: int) -> None:
    pool.check(some(BEGIN_AT))
    batch = some(count)
    assert pool.check(batch) == [verify(*one) for one in batch]


def test_a_node_with_little_to_do_starts_no_process(pool: SignaturePool) -> None:
    pool.check(some(BEGIN_AT - 1))
    assert pool.processes == 0
    pool.check(some(BEGIN_AT))
    assert pool.processes == 2


@pytest.mark.parametrize("what", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_ends_or_hangs_is_done_without(
    pool: SignaturePool, what: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "STUCK_S", 2.0)  # one that begins has to import its program
    monkeypatch.setattr(signatures, "AGAIN_S", 0.0)
    batch = some(2 * BEGIN_AT)
    expected = [verify(*one) for one in batch]
    pool.check(batch)
    first, second = pids(pool)
    os.kill(first, what)
    assert pool.check(batch) == expected
    assert pool.processes == 1 and pids(pool) == [second]
    assert pool.check(batch) == expected
    assert pool.processes == 2 and first not in pids(pool), "another one takes its place"
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_one_that_died_is_not_replaced_at_once(pool: SignaturePool) -> None:
    pool.check(some(BEGIN_AT))
    for pid in pids(pool):
        os.kill(pid, signal.SIGKILL)
    batch = some(BEGIN_AT)
    for _ in range(3):
        assert pool.check(batch) == [verify(*one) for one in batch]
    assert pool.processes == 0


def test_many_threads_ask_at_once(pool: SignaturePool) -> None:
    batch = some(BEGIN_AT + 3)
    expected, answers = [verify(*one) for one in batch], []
    threads = [threading.Thread(target=lambda: answers.append(pool.check(batch))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON_S)
    assert answers == [expected] * 8


def test_closed_it_still_answers_and_leaves_no_process(pool: SignaturePool) -> None:
    batch = some(BEGIN_AT)
    pool.check(batch)
    running = pids(pool)
    pool.close()
    assert pool.check(batch) == [verify(*one) for one in batch] and pool.processes == 0
    for pid in running:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_node_that_is_killed_leaves_no_process() -> None:
    program = (
        "import time; from aitbc.adapters.signatures import SignaturePool; pool = SignaturePool(1);"
        " pool.check([(b'\\0' + bytes(32), bytes(32), bytes(64))] * 100);"
        " print(pool._workers[0]._process.pid, flush=True); time.sleep(60)"
    )
    node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    worker = int(node.stdout.readline())
    node.kill()
    node.wait(SOON_S)
    end = time.monotonic() + SOON_S
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < end:
        with open(f"/proc/{worker}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                break  # ended, and nobody is there to ask how
        time.sleep(0.02)
    else:
        assert not os.path.exists(f"/proc/{worker}")
