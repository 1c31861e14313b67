"""An account changes its key and keeps its name; what was signed before stays good. docs/spec/keys.md"""

from collections.abc import Callable
from typing import Any

import pytest

from aitbc.core.codec.digests import rotation_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.schemes import SCHEMES
from aitbc.core.ledger.fees import signature_fee
from aitbc.core.ledger.keys import key_at
from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import AIT
from aitbc.core.types.records import KeyHistory, OldKey
from support.ledger import FEE, MINUTE_MS, Batches, Holder, Ledger, Work, holding, people
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, person
from support.schemes import every_scheme

NEW, NEWER = person("new key"), person("newer key")
PAY_BOB = {"to": BOB.address, "amount": 1}


@pytest.fixture
def chain() -> Ledger:
    chain = Ledger(more=[PROVIDER])
    chain.register(PROVIDER)
    return chain


def test_the_new_key_signs_and_the_old_one_does_not(chain: Ledger) -> None:
    outcome = chain.do(ALICE, "KEY_ROTATE", chain.rotation(ALICE, NEW))
    assert outcome.events == [("rotated", ALICE.address, 0)]
    rotated_at, rotated_ms = chain.height, chain.now_ms
    alice = holding(ALICE, NEW)
    assert chain.said(ALICE, "TRANSFER", PAY_BOB) == "invalid wrong_key"
    assert chain.said(alice, "TRANSFER", PAY_BOB) == "done"
    account = chain.view.account(ALICE.address)
    assert (account.auth, account.nonce, account.balance) == (NEW.auth_key, 2, 1_000 * AIT - 2 * FEE - 1)
    assert chain.executor.state.get("registry", f"keys:{ALICE.address}") == KeyHistory(
        keys=[OldKey(key=key_to_text(ALICE.auth_key), until_height=rotated_at, until_ms=rotated_ms)]
    )
    assert chain.nonce(NEW) == 0, "the key's own address is nobody"


def test_the_old_key_cannot_take_the_account_back(chain: Ledger) -> None:
    chain.rotate(ALICE, NEW)
    assert chain.said(ALICE, "KEY_ROTATE", chain.rotation(ALICE, NEWER)) == "invalid wrong_key"


def test_back_and_forth(chain: Ledger) -> None:
    alice = chain.rotate(ALICE, NEW)
    chain.rotate(alice, ALICE)
    assert chain.said(ALICE, "TRANSFER", PAY_BOB) == "done"
    assert chain.said(alice, "TRANSFER", PAY_BOB) == "invalid wrong_key"
    history = chain.view.key_history(ALICE.address)
    assert history is not None
    assert [old.key for old in history.keys] == [key_to_text(ALICE.auth_key), key_to_text(NEW.auth_key)]


# What shows that somebody holds the new key.


def proof(
    chain: Ledger, *, key: Any = NEW, owner: Any = ALICE, signer: Any = None, genesis: bytes | None = None
) -> dict[str, str]:
    digest = rotation_digest(owner.address, key.auth_key, genesis or chain.genesis_hash)
    return {"pubkey": key_to_text(key.auth_key), "sig": (signer or key).sign(digest).hex()}


PROOFS: list[tuple[str, Callable[[Ledger], dict[str, str]], str]] = [
    ("the new key's own", proof, "done"),
    ("signed by the old key", lambda chain: proof(chain, signer=ALICE), "failed bad_key_proof"),
    ("for another account", lambda chain: proof(chain, owner=BOB), "failed bad_key_proof"),
    ("for another chain", lambda chain: proof(chain, genesis=bytes(32)), "failed bad_key_proof"),
    ("for another key", lambda chain: {**proof(chain), "pubkey": key_to_text(NEWER.auth_key)}, "failed bad_key_proof"),
    ("the key it has", lambda chain: proof(chain, key=ALICE), "failed bad_key_proof"),
    ("no signature", lambda chain: {**proof(chain), "sig": ""}, "failed bad_key_proof"),
    ("half a signature", lambda chain: {**proof(chain), "sig": "ab" * 32}, "failed bad_key_proof"),
    ("a signature in capitals", lambda chain: {**proof(chain), "sig": "AB" * 64}, "invalid bad_hex"),
    ("a key of another length", lambda chain: {**proof(chain), "pubkey": "ab" * 31}, "invalid bad_hex"),
    ("no key", lambda chain: {**proof(chain), "pubkey": ""}, "invalid bad_hex"),
    ("a scheme that nobody knows", lambda chain: {**proof(chain), "pubkey": "rot13:ab"}, "invalid unknown_scheme"),
    ("a second spelling", lambda chain: {**proof(chain), "pubkey": "ed25519:" + "ab" * 32}, "invalid unknown_scheme"),
    ("a key that is no point", lambda chain: {**proof(chain), "pubkey": "00" * 32}, "failed bad_key_proof"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "make", "outcome"), PROOFS, ids=[row[0] for row in PROOFS])
def test_nobody_rotates_to_a_key_that_nobody_holds(
    chain: Ledger, story: str, make: Callable[[Ledger], dict[str, str]], outcome: str
) -> None:
    assert chain.said(ALICE, "KEY_ROTATE", make(chain), fee=200) == outcome
    expected = NEW.auth_key if outcome == "done" else ALICE.auth_key
    assert chain.said(holding(ALICE, _Key(expected)), "TRANSFER", PAY_BOB) == "done"


class _Key:
    """The signer of one of two keys."""

    def __init__(self, auth_key: bytes) -> None:
        who = {ALICE.auth_key: ALICE, NEW.auth_key: NEW}[auth_key]
        self.address, self.auth_key, self.sign = who.address, who.auth_key, who.sign


# Every scheme.


@pytest.mark.parametrize("name", [scheme.name for scheme in SCHEMES.values()])
def test_an_account_moves_to_a_key_of_any_scheme_and_back(chain: Ledger, name: str) -> None:
    key = every_scheme()[name]
    extra = signature_fee(chain.executor.state.params, key.auth_key)
    alice = chain.rotate(ALICE, key, fee=1_000)
    assert chain.said(alice, "TRANSFER", PAY_BOB, fee=5 + extra) == "invalid fee_too_low"
    assert chain.said(alice, "TRANSFER", PAY_BOB, fee=6 + extra) == "done"
    assert chain.said(ALICE, "TRANSFER", PAY_BOB) == "invalid wrong_key"
    chain.rotate(alice, ALICE, fee=1_000)
    assert chain.said(ALICE, "TRANSFER", PAY_BOB) == "done"


@pytest.mark.parametrize("name", [scheme.name for scheme in SCHEMES.values()])
def test_work_signed_under_a_key_of_any_scheme_is_paid(chain: Ledger, name: str) -> None:
    """Provider and hub both rotate, work, attest and are paid."""
    key = every_scheme()[name]
    provider, hub = chain.rotate(PROVIDER, key, fee=1_000), chain.rotate(HUB, key, fee=1_000)
    lock = chain.lock()
    payload, witness = chain.claim_parts(provider, lock, hub=hub)  # type: ignore[arg-type]
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness, fee=1_000) == "done"


def test_through_every_scheme_in_turn(chain: Ledger) -> None:
    alice: Any = ALICE
    for key in every_scheme().values():
        alice = chain.rotate(alice, key, fee=1_000)
        assert chain.said(alice, "TRANSFER", PAY_BOB, fee=1_000) == "done"


# Work that was begun under an old key.

WHEN: list[tuple[str, str, bool, bool, str]] = [
    ("provider", "a lock from before, the old key", True, True, "done"),
    ("provider", "a lock from before, the new key", True, False, "invalid bad_provider_signature"),
    ("provider", "a lock from after, the old key", False, True, "invalid bad_provider_signature"),
    ("provider", "a lock from after, the new key", False, False, "done"),
    ("hub", "a lock from before, the old key", True, True, "done"),
    ("hub", "a lock from before, the new key", True, False, "invalid bad_attestation_signature"),
    ("hub", "a lock from after, the old key", False, True, "invalid bad_attestation_signature"),
    ("hub", "a lock from after, the new key", False, False, "done"),
]


@pytest.mark.parametrize(
    ("role", "story", "before", "old", "outcome"), WHEN, ids=[f"{row[0]}-{row[1]}" for row in WHEN]
)
def test_a_receipt_counts_under_the_keys_of_its_locks_height(
    chain: Ledger, role: str, story: str, before: bool, old: bool, outcome: str
) -> None:
    who: Any = {"provider": PROVIDER, "hub": HUB}[role]
    lock = chain.lock() if before else ""
    rotated = chain.rotate(who, NEW)
    lock = lock or chain.lock()
    signs = {role: who if old else rotated}
    provider, hub = signs.get("provider", PROVIDER), signs.get("hub", HUB)
    payload, witness = chain.claim_parts(provider, lock, hub=hub)
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == outcome


@pytest.mark.parametrize("first", ["the lock", "the rotation"])
def test_in_the_block_of_the_rotation_the_old_key_still_speaks(chain: Ledger, first: str) -> None:
    """Heights are blocks: within one there is no before and after."""
    lock = {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": 5 * AIT,
        "request_hash": "sha256:" + "cd" * 32,
        "deliver_by_ms": chain.now_ms + 60_000,
        "claim_until_ms": chain.now_ms + 60_000,
    }
    locking = chain.verified(ALICE, "JOB_LOCK", lock)
    rotating = chain.verified(PROVIDER, "KEY_ROTATE", chain.rotation(PROVIDER, NEW))
    txs = [locking, rotating] if first == "the lock" else [rotating, locking]
    assert all(outcome.ok for outcome in chain.block(*txs).outcomes)
    for key, outcome in ((holding(PROVIDER, NEW), "invalid bad_provider_signature"), (PROVIDER, "done")):
        payload, witness = chain.claim_parts(key, locking.id.hex())  # type: ignore[arg-type]
        assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == outcome


def test_a_claim_without_a_lock_counts_under_the_key_of_now() -> None:
    chain = Ledger(calibration_budget=100 * AIT, more=[PROVIDER])
    chain.register(PROVIDER)
    chain.close_epoch()
    provider = chain.rotate(PROVIDER, NEW)
    for key, outcome in ((PROVIDER, "invalid bad_provider_signature"), (provider, "done")):
        payload, witness = chain.calibration(key)
        assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == outcome


def test_a_batch_needs_no_key_but_the_one_that_sent_it(chain: Ledger) -> None:
    batch = Batches([Work(chain.lock(), PROVIDER.address)]).send(chain)
    hub = chain.rotate(HUB, NEW)
    chain.rotate(PROVIDER, NEWER)
    assert chain.said(BOB, "SETTLE", batch.settle()) == "done"
    assert chain.said(HUB, "RECEIPT_BATCH", batch.payload) == "invalid wrong_key"
    assert chain.said(hub, "RECEIPT_BATCH", batch.payload) == "done"


def test_a_hubs_word_for_a_provider_is_by_its_key_of_now(chain: Ledger) -> None:
    hub = chain.rotate(HUB, NEW)
    payload = {"role": "provider", "models": []}
    for key, outcome in ((HUB, "invalid fee_too_low"), (hub, "done")):
        witness = chain.countersignature(EVE, key)  # type: ignore[arg-type]
        assert chain.said(EVE, "REGISTER", payload, witness=witness, fee=0) == outcome


# More keys than are remembered.


def rotate_times(chain: Ledger, owner: Any, times: int) -> Holder:
    who = owner
    for key in people(f"key of {owner.address}", times):
        who = chain.rotate(who, key)
    return who  # type: ignore[no-any-return]


def old_keys(chain: Ledger) -> list[OldKey]:
    history = chain.view.key_history(ALICE.address)
    assert history is not None
    return history.keys


def next_epoch_but_one(chain: Ledger) -> None:
    for _ in range(2):
        chain.close_epoch()


def test_eight_old_keys_are_remembered_and_a_ninth_waits() -> None:
    """Forgetting a key would make its receipts worthless and its double signatures free."""
    chain = Ledger(evidence_epochs=1)
    owner = rotate_times(chain, ALICE, 8)
    last = people("one too many", 1)[0]
    assert chain.said(owner, "KEY_ROTATE", chain.rotation(owner, last)) == "failed too_many_rotations"
    history = old_keys(chain)
    assert len(history) == 8
    next_epoch_but_one(chain)
    chain.block(after_ms=history[1].until_ms + Params().max_lock_ms - chain.now_ms)
    chain.rotate(owner, last)
    assert old_keys(chain)[:-1] == history[2:], "the first two are nobody's need any more"


def test_a_key_that_a_lock_may_still_ask_for_is_kept() -> None:
    """No vote under it can be punished any more."""
    chain = Ledger(evidence_epochs=1)
    alice = chain.rotate(ALICE, NEW)
    (first,) = old_keys(chain)
    next_epoch_but_one(chain)
    chain.block(after_ms=first.until_ms + Params().max_lock_ms - chain.now_ms - 1_000)
    alice = chain.rotate(alice, NEWER)
    assert old_keys(chain)[0] == first, "in the last block that a lock can end in"
    chain.rotate(alice, ALICE)
    assert first not in old_keys(chain)


def test_a_key_that_evidence_may_still_ask_for_is_kept() -> None:
    """No lock asks for it any more, but whoever voted twice with it answers for evidence_epochs."""
    chain = Ledger(evidence_epochs=1, epoch_length=10, max_lock_ms=MINUTE_MS)
    alice = chain.rotate(ALICE, NEW)
    (first,) = old_keys(chain)
    chain.close_epoch()
    chain.block(after_ms=2 * MINUTE_MS)
    alice = chain.rotate(alice, NEWER)
    assert first in old_keys(chain), "one epoch back is not too old"
    chain.close_epoch()
    chain.rotate(alice, ALICE)
    assert first not in old_keys(chain)


def test_a_shorter_longest_lock_does_not_shorten_the_memory_of_older_ones() -> None:
    """The lock was made for an hour when locks could be so long; then an update allows a minute."""
    hour = 60 * MINUTE_MS
    chain = Ledger(evidence_epochs=1, max_lock_ms=hour, unbonding_ms=MINUTE_MS, more=[PROVIDER])
    chain.register(PROVIDER)
    until = chain.now_ms + hour
    lock = chain.lock(deliver_by_ms=until, claim_until_ms=until)
    provider = chain.rotate(PROVIDER, NEW)
    assert chain.change(set={"max_lock_ms": MINUTE_MS}) == "done"
    next_epoch_but_one(chain)
    assert (chain.param("max_lock_ms"), chain.number("lock.longest_ms")) == (MINUTE_MS, hour)
    chain.block(after_ms=10 * MINUTE_MS)
    chain.rotate(provider, NEWER)
    payload, witness = chain.claim_parts(PROVIDER, lock)
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "done"
    stake = {"role": "hub", "amount": AIT}
    for kind in ("STAKE", "UNSTAKE"):
        assert chain.said(HUB, kind, stake) == "done"
    (part,) = chain.bond(HUB, "hub").unbonding
    assert part.free_ms == chain.now_ms + hour, "evidence about that lock still counts"


def test_the_longest_lock_is_remembered_only_when_it_becomes_shorter() -> None:
    chain = Ledger(max_lock_ms=2 * MINUTE_MS, epoch_length=3)
    for wish, remembered in ((3, 0), (1, 3), (2, 3), (4, 3), (1, 4)):
        assert chain.change(set={"max_lock_ms": wish * MINUTE_MS}) == "done"
        chain.close_epoch()
        assert chain.number("lock.longest_ms") == remembered * MINUTE_MS, wish


def test_the_key_at_each_height(chain: Ledger) -> None:
    """Compared with writing down, block by block, which key the account had."""
    keys = people("seven keys", 7)
    owner: Any = BOB
    had = {}
    for step in range(21):
        had[chain.height + 1] = owner.auth_key
        if step % 3 == 0:
            owner = chain.rotate(owner, keys[step // 3])
        else:
            chain.block()
    for height, key in had.items():
        assert key_at(chain.view, BOB.address, height) == key, height


def test_work_under_a_key_that_was_not_forgotten_is_paid_after_eight_rotations(chain: Ledger) -> None:
    lock = chain.lock()
    rotate_times(chain, PROVIDER, 8)
    payload, witness = chain.claim_parts(PROVIDER, lock)
    assert chain.said(BOB, "RECEIPT_CLAIM", payload, witness=witness) == "done"
