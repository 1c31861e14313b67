"""What a signer signs for a node that lies: only what its own guard allows, and only what it can see through."""

import json
from pathlib import Path

import msgspec
import pytest

from aitbc.adapters.agreement.memory import MemoryGuard
from aitbc.adapters.signer.wire import (
    MAX_STATEMENTS,
    VERSION,
    BeginAnew,
    Done,
    Hello,
    RaiseFloor,
    Refused,
    Request,
    Sign,
    Signed,
    SignTransaction,
    Welcome,
)
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import transaction_id, vote_digest
from aitbc.core.consensus.simplex.wal import VoteRecord
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.blocks import ZERO_HASH
from aitbc.core.types.transactions import Transaction
from aitbc.signer.keeper import EVIDENCE_MS, MAX_EVIDENCE, MAX_FEE, Journal, Keeper
from support.people import ALICE, VALIDATOR

CHAIN, OTHER_CHAIN = b"c" * 32, b"o" * 32
A, B = b"a" * 32, b"b" * 32


class Clock:
    now = 1_000_000

    def now_ms(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(tmp_path: Path, clock: Clock) -> Keeper:
    return Keeper(
        signer=VALIDATOR,
        guard=MemoryGuard(CHAIN),
        journal=Journal(tmp_path / "signed.jsonl", clock),
        clock=clock,
        chain_id="ait-test",
        genesis_hash=CHAIN,
    )


def vote(kind: str, slot: int, candidate: bytes = A, epoch: int = 0) -> VoteRecord:
    return VoteRecord(kind, epoch, slot, candidate)


def test_it_says_whose_key_it_is_and_what_its_guard_holds(keeper: Keeper) -> None:
    keeper.answer(Sign([vote("notar", 1)]))
    assert keeper.answer(Hello(VERSION, CHAIN)) == Welcome(VALIDATOR.auth_key, 0, 0, 0, [vote("notar", 1)])


def test_the_digest_is_its_own(keeper: Keeper) -> None:
    """A node names fields, never a digest: so none can smuggle in the digest of something else."""
    answer = keeper.answer(Sign([vote("final", 3, B, epoch=2)]))
    assert isinstance(answer, Signed)
    digest = vote_digest(kind="final", epoch=2, slot=3, candidate=B, chain_id="ait-test", genesis_hash=CHAIN)
    assert verify(VALIDATOR.auth_key, digest, answer.signatures[0])


def test_the_same_again_is_signed_again_and_alike(keeper: Keeper) -> None:
    assert keeper.answer(Sign([vote("notar", 1)])) == keeper.answer(Sign([vote("notar", 1)]))


LIES: list[tuple[str, list[Request], str]] = [
    ("two votes in a slot", [Sign([vote("notar", 1)]), Sign([vote("notar", 1, B)])], "another machine"),
    ("two votes at once", [Sign([vote("notar", 1), vote("notar", 1, B)])], "contradicts"),
    ("two candidates", [Sign([vote("candidate", 1)]), Sign([vote("candidate", 1, B)])], "contradicts"),
    ("skip after final", [Sign([vote("final", 1)]), Sign([vote("skip", 1, ZERO_HASH)])], "contradicts"),
    ("below the floor", [RaiseFloor(0, 5), Sign([vote("notar", 5)])], "final"),
    ("a floor that falls", [RaiseFloor(0, 5), RaiseFloor(0, 1), Sign([vote("notar", 4)])], "final"),
    ("an unknown kind", [Sign([vote("block", 1)])], "nothing that a validator says"),
    ("a skip of a candidate", [Sign([vote("skip", 1)])], "names no candidate"),
    ("a vote for nothing", [Sign([vote("notar", 1, ZERO_HASH)])], "names no candidate"),
    ("half a candidate", [Sign([vote("notar", 1, A[:16])])], "nothing that"),
    ("a slot below zero", [Sign([vote("notar", -1)])], "out of range"),
    ("a slot beyond the file", [Sign([vote("notar", 2**64)])], "out of range"),
    ("a floor beyond the file", [RaiseFloor(2**64, 0)], "out of range"),
    ("time beyond the file", [BeginAnew(2**64)], "out of range"),
    ("nothing", [Sign([])], "0 statements"),
    ("too much", [Sign([vote("notar", n) for n in range(MAX_STATEMENTS + 1)])], "at most"),
    ("another chain", [Hello(VERSION, OTHER_CHAIN)], "is for chain"),
    ("another version", [Hello(VERSION + 1, CHAIN)], "version"),
]


@pytest.mark.parametrize(("name", "requests", "why"), LIES, ids=[name for name, *_ in LIES])
def test_a_lying_node_is_refused(keeper: Keeper, name: str, requests: list[Request], why: str) -> None:
    *before, last = requests
    for request in before:
        assert not isinstance(keeper.answer(request), Refused)
    answer = keeper.answer(last)
    assert isinstance(answer, Refused) and why in answer.why


def test_of_a_batch_with_one_lie_nothing_is_signed(keeper: Keeper, tmp_path: Path) -> None:
    keeper.answer(Sign([vote("notar", 1)]))
    assert isinstance(keeper.answer(Sign([vote("notar", 2), vote("notar", 1, B)])), Refused)
    assert isinstance(keeper.answer(Sign([vote("notar", 2, B)])), Signed)
    journal = [json.loads(line) for line in (tmp_path / "signed.jsonl").read_text().splitlines()]
    assert [(entry["slot"], entry["candidate"]) for entry in journal] == [(1, A.hex()), (2, B.hex())]


EVIDENCE = Transaction("EVIDENCE", VALIDATOR.address, 7, 100, jcs({"votes": {}}), VALIDATOR.auth_key, b"")


def test_evidence_of_its_own_account_is_signed(keeper: Keeper) -> None:
    answer = keeper.answer(SignTransaction(EVIDENCE))
    assert isinstance(answer, Signed)
    assert verify(VALIDATOR.auth_key, transaction_id(EVIDENCE, CHAIN), answer.signatures[0])


THEFT = [
    {"type": "TRANSFER", "payload": jcs({"to": ALICE.address, "amount": 1})},
    {"type": "KEY_ROTATE"},
    {"sender": ALICE.address},
    {"pubkey": ALICE.auth_key},
    {"fee": MAX_FEE + 1},
    {"fee": -1},
    {"nonce": 2**64},
]


@pytest.mark.parametrize("change", THEFT)
def test_no_other_transaction_is(keeper: Keeper, change: dict[str, object]) -> None:
    asked = msgspec.structs.replace(EVIDENCE, **change)
    assert isinstance(keeper.answer(SignTransaction(asked)), Refused)


def test_fees_of_evidence_cannot_drain_the_account(keeper: Keeper, clock: Clock) -> None:
    answers = [keeper.answer(SignTransaction(EVIDENCE)) for _ in range(MAX_EVIDENCE + 1)]
    assert [isinstance(answer, Signed) for answer in answers] == [True] * MAX_EVIDENCE + [False]
    clock.now += EVIDENCE_MS
    assert isinstance(keeper.answer(SignTransaction(EVIDENCE)), Signed)


def test_a_guard_that_is_begun_anew_says_so(keeper: Keeper) -> None:
    assert keeper.answer(BeginAnew(5_000)) == Done()
    welcome = keeper.answer(Hello(VERSION, CHAIN))
    assert isinstance(welcome, Welcome) and welcome.vote_after_ms == 5_000


def test_the_journal_begins_anew_when_it_is_large(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "MAX_BYTES", 100)
    journal = Journal(tmp_path / "signed.jsonl", clock)
    for slot in range(3):
        journal.write([{"slot": slot, "pad": "x" * 40}])
    journal.close()
    old, new = ((tmp_path / name).read_text().splitlines() for name in ("signed.jsonl.1", "signed.jsonl"))
    assert [json.loads(line)["slot"] for line in old + new] == [0, 1, 2]
