"""The real chain and the reference side by side, and what must hold after every block."""

import json
from collections import Counter
from typing import Any

from aitbc.core.chain.branches import Branches
from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.crypto.hashing import fields, u64
from aitbc.core.crypto.merkle import list_root
from aitbc.core.executor import Executor
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.genesis import Genesis, genesis_document
from aitbc.core.ledger.state import Overlay, State
from aitbc.core.types.blocks import Block, Candidate, Certificate
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from reference.forms import Invalid, check_form, leaves_of
from reference.ledger import TOTAL, Ledger, Outcome, Plain
from reference.tree import STORES, state_root

DISAGREEMENTS: frozenset[str] = frozenset()
"""What code and specification are known to disagree on; each has its test, an expected failure."""


class Twin:
    """One chain, twice; raises AssertionError when the two differ or a promise is broken.

    A block is made of `begin`, `add` for each transaction, and `commit`; in between `ledger` shows the state as the
    transactions so far have left it.
    """

    def __init__(
        self, genesis: Genesis, *, follow: bool = False, as_the_code: frozenset[str] = DISAGREEMENTS
    ) -> None:
        self.document = document = genesis_document(genesis)
        self.real = Executor(document, None)
        self.follower = Executor(document, None) if follow else None
        """Another node, which checks each block instead of building it."""
        self.ledger = Ledger(document, as_the_code=as_the_code)
        self.genesis_hash = self.ledger.genesis_hash
        self.all_in_time = True
        """Is everything retired by the first block that may?"""
        self.seen: Counter[tuple[str, str]] = Counter()
        """(type, what became of it), (`event`, kind) and (`skipped`, reason) → how often."""
        self._paid: set[tuple[str, int]] = set()
        self._claimed: set[str] = set()
        self._waiting: list[tuple[VerifiedTransaction, Outcome | str]] = []
        self._endowed: tuple[str, int] | None = None
        self.blocks: list[Block] = []
        self.history: list[tuple[Any, ...]] = []
        """What `retract` goes back to: one entry for each block, as things stood before it."""
        self._slots = self.ledger.slots
        assert self.real.loaded.hash == self.genesis_hash
        self._compare_states()

    def endow(self, address: str, amount: int) -> None:
        """More coins than genesis can give one account; before the first block only."""
        self._endowed = (address, amount)
        for executor in [one for one in (self.real, self.follower) if one]:
            endow(executor, address, amount)
        self.ledger.endow(address, amount)
        self._slots = self.ledger.slots
        self._compare_states()

    # A block

    def begin(self, timestamp_ms: int) -> None:
        self.history.append((self.ledger.snapshot(), self.records, set(self._paid), set(self._claimed)))
        self.ledger.begin(timestamp_ms)
        self._waiting = []

    def add(self, tx: Transaction) -> Outcome | str:
        """What the reference makes of it."""
        good = self._verified(tx)
        if isinstance(good, str):
            self.seen[tx.type, good] += 1
            return good
        below = tx.fee < self.ledger.least_fee(tx)
        own = tx.fee >= self.ledger.least_fee(tx, own_key_only=True)
        result = self.ledger.execute(tx)
        self._waiting.append((good, result))
        self.seen["other keys' fee", tx.type] += below and own and result == "fee_too_low"
        self.seen["free", str(result)] += below and isinstance(result, str) and result != "fee_too_low"
        self.seen[tx.type, result if isinstance(result, str) else result[1] or "ok"] += 1
        return result

    def _verified(self, tx: Transaction) -> VerifiedTransaction | str:
        """The transaction if its form is good; both sides must give the same reason if not."""
        theirs = ours = ""
        good: VerifiedTransaction | str = ""
        try:
            good = verify_transaction(tx, self.genesis_hash)
        except Rejected as error:
            good = theirs = str(error.reason)
        try:
            check_form(tx, self.genesis_hash)
        except Invalid as error:
            ours = error.reason
        assert theirs == ours, f"form of {tx}: the ledger says {theirs!r}, the reference {ours!r}"
        return good

    def commit(self, *, proposer: str) -> BuiltBlock:
        timestamp_ms, parent = self.ledger.time, self.real.head.hash
        version = self.ledger.version
        built = self.real.build([tx for tx, _ in self._waiting], proposer=proposer, timestamp_ms=timestamp_ms)
        included = [(tx, result) for tx, result in self._waiting if not isinstance(result, str)]
        self._compare_results(built)
        self.ledger.end(proposer=proposer, parent=parent)
        publish(self.real, built)
        self._compare_states()
        self._compare_changes(built)
        self.blocks.append(built.block)
        header = built.block.header
        assert (header.version, header.parent, header.height) == (version, parent, self.ledger.height)
        assert header.txs_root == list_root([tx.wid for tx, _ in included])
        assert header.outcomes_root == list_root([_outcome_bytes(tx.id, result) for tx, result in included])
        assert header.next_validators_hash == self.ledger.next_validators_hash()
        assert header.state_root == self.real.state.root() == state_root(self.records, self.ledger.slots)
        if self.follower is not None:
            checked = self.follower.apply(built.block)
            assert (checked.hash, checked.changes, checked.outcomes) == (
                built.hash,
                built.changes,
                built.outcomes,
            )
            publish(self.follower, checked)
        for _, (_, _, _, events) in included:
            self.seen.update([("event", kind) for kind, _, _ in events])
            self.seen.update([("skipped", key.split(":")[1]) for kind, key, _ in events if kind == "skipped"])
        self._note()
        self._check_history(built, included)
        self._check_promises([(tx, result) for tx, result in included if result[0]])
        return built

    def _compare_results(self, built: BuiltBlock) -> None:
        outcomes, refused = iter(built.outcomes), iter(built.refused)
        theirs: list[Outcome | str] = []
        included = list(built.included)
        for tx, _ in self._waiting:
            if included and tx is included[0]:
                del included[0]
                one = next(outcomes)
                assert one.tx_id == tx.id
                theirs.append((one.ok, str(one.reason), one.fee, one.events))
            else:
                other, error = next(refused)
                assert other.wid == tx.wid
                theirs.append(str(error.reason))
        for (tx, ours), other in zip(self._waiting, theirs, strict=True):
            assert other == ours, f"{tx.tx}\nthe ledger says {other}\nthe reference {ours}"

    def _compare_states(self) -> None:
        state, ours = self.real.state, self.ledger.records()
        self.records = ours
        for store in STORES:
            theirs = state.data[store]
            differing = theirs != ours[store] and {
                key: (theirs.get(key), ours[store].get(key))
                for key in sorted({*theirs, *ours[store]})
                if theirs.get(key) != ours[store].get(key)
            }
            assert not differing, f"{store}, key → (the ledger's, the reference's): {differing}"
            assert {key: state.index_of(store, key) for key in theirs} == self.ledger.slots[store], store

    def _compare_changes(self, built: BuiltBlock) -> None:
        """What a store is told to write is the difference between the two states."""
        before, after = self.history[-1][1], self.records
        told = {(change.store, change.key) for change in built.changes}
        assert len(told) == len(built.changes)
        for change in built.changes:
            assert change.before == before[change.store].get(change.key)
            assert (change.data or None) == after[change.store].get(change.key)
            slots = self._slots if change.record is None else self.ledger.slots
            assert change.index == slots[change.store][change.key]
        for store in STORES:
            assert {
                item for item in before[store].items() ^ after[store].items() if (store, item[0]) not in told
            } == set()

    def retract(self, blocks: int) -> None:
        """Take blocks back, on both sides."""
        for _ in range(blocks):
            assert self.real.retract().block == self.blocks.pop()
            snapshot, _, self._paid, self._claimed = self.history.pop()
        self.ledger.restore(snapshot)
        self._slots = self.ledger.slots
        self._compare_states()
        header = self.real.head.block.header
        assert header.height == self.ledger.height
        assert header.state_root == self.real.state.root() or (self._endowed and not self.blocks)

    def restart(self) -> None:
        """The follower starts again from the records alone."""
        assert self.follower is not None
        state = State()
        state.load(
            {
                store: sorted((self.ledger.slots[store][key], key, data) for key, data in records.items())
                for store, records in self.records.items()
            }
        )
        self.follower.state = state
        self.follower.branches = Branches(state, self.follower.tip)

    def replayed(self) -> Executor:
        """A node that checks the chain as it is now, straight from genesis."""
        other = Executor(self.document, None)
        if self._endowed:
            endow(other, *self._endowed)
        for block in self.blocks:
            publish(other, other.apply(block))
        return other

    # What the specification promises, looked at from outside of the rules

    def _check_promises(self, done: list[tuple[VerifiedTransaction, Outcome]]) -> None:
        before, after = self.ledger.before, self.ledger.stores
        assert self.ledger.coins() == self.ledger.supply() <= TOTAL
        for address, account in before["accounts"].items():
            assert after["accounts"][address]["nonce"] >= account["nonce"]
        self._check_payments(done)
        for key, lock in before["locks"].items():
            self._check_lock(lock, after["locks"].get(key))
        if self.ledger.version >= 2:
            for store, records in before.items():
                for key, record in records.items():
                    late = after[store].get(key) is record and self._is_over(store, key, record)
                    assert not late or not self.all_in_time, f"{store} {key} is retired late"

    def _note(self) -> None:
        """Which of the rarer things this block did, for the measure of coverage."""
        ledger = self.ledger
        before, after = ledger.before, ledger.stores
        for store in STORES:
            for key, record in before[store].items():
                now = after[store].get(key)
                if now is None:
                    self.seen["gone", key.split(":")[0] if ":" in key else store] += 1
                elif now is not record and record.get("status") == "open" != now["status"]:
                    self.seen["lock", now["status"]] += 1
            freed = set(self._slots[store].values()) - set(ledger.slots[store].values())
            taken = {slot for key, slot in ledger.slots[store].items() if key not in self._slots[store]}
            top, top_now = (max(slots[store].values(), default=0) for slots in (self._slots, ledger.slots))
            self.seen["slots", "freed"] += any(slot < top_now for slot in freed)
            self.seen["slots", "filled"] += any(slot < top for slot in taken)
            self.seen["slots", "given_up"] += top_now < top
        self._slots = ledger.slots
        for key, record in after["registry"].items():
            old = before["registry"].get(key)
            if key.startswith("keys:") and old and old["keys"][0] not in record["keys"]:
                self.seen["state", "key_forgotten"] += 1
            if key.startswith("bond:") and old and old["minted"] < record["minted"]:
                self.seen["state", "minted_on_bond"] += 1
            if key.startswith("bond:") and record["offences"] > (old["offences"] if old else 0):
                self.seen["state", "punished_again"] += record["offences"] > 1
                self.seen["state", "longest_jail"] += record["offences"] > 7
                score = before["validators"].get("score:" + key.removeprefix("bond:validator:"))
                self.seen["state", "score_halved"] += score is not None
            if key.startswith("bond:") and old and old["unbonding"] and not record["unbonding"]:
                self.seen["state", "bond_remembers_its_mint"] += record["amount"] == 0 < record["minted"]
        sets = [
            [(k, r["auth_key"], r["power"]) for k, r in s["validators"].items() if "power" in r]
            for s in (before, after)
        ]
        for position, what in ((0, "members"), (1, "keys"), (2, "powers")):
            if sorted(one[position] for one in sets[0]) != sorted(one[position] for one in sets[1]):
                self.seen["set", what] += 1
        self.seen["state", "scale_below_one"] += 0 < ledger.counter("mint.scale") < 10**9
        self.seen["state", "longest_lock"] += ledger.counter("lock.longest_ms") > ledger.param("max_lock_ms")
        announced = [
            len(stores["params"].get("activations", {"value": ""})["value"]) for stores in (before, after)
        ]
        self.seen["state", "activations_taken_back"] += announced[0] > announced[1]
        self.seen["set", "ramp"] += ledger.consensus("mode") == "hybrid" and any(
            1 < member["power"] < ledger.bond("validator", address)["amount"]
            for address, member in ledger.members()
        )
        self.seen["state", "score"] += any(key.startswith("score:") for key in after["validators"])

    @staticmethod
    def _check_history(built: BuiltBlock, included: list[tuple[VerifiedTransaction, Outcome]]) -> None:
        """What a store is told of paid receipts is what was paid, and what was minted for them."""
        told = [
            (
                one.tx_position,
                one.receipt_id,
                one.provider,
                one.units,
                one.price,
                one.lock,
                one.task,
                one.attempt,
            )
            for one in built.receipts
        ]
        paid = []
        for position, (tx, (ok, _, _, events)) in enumerate(included):
            payload = json.loads(tx.tx.payload)
            minted = sum(one.minted for one in built.receipts if one.tx_position == position)
            assert minted <= sum(amount for kind, _, amount in events if kind == "minted")
            if ok and tx.tx.type == "RECEIPT_CLAIM":
                core = (
                    payload["receipt_id"],
                    payload["miner_addr"],
                    payload["compute_units"],
                    payload["price"],
                )
                which = (payload.get("lock", ""), payload.get("task", 0), payload.get("attempt", 0))
                paid.append((position, *core, *which))
            if ok and tx.tx.type == "SETTLE":
                skipped = {int(key.split(":")[0]) for kind, key, _ in events if kind == "skipped"}
                for place, leaf in enumerate(leaves_of(payload["leaves"]), payload["start"]):
                    if place not in skipped:
                        provider = payload["providers"][leaf["provider"]]
                        said = ("rcpt_" + leaf["receipt"].hex(), provider, leaf["units"], leaf["price"])
                        paid.append(
                            (position, *said, payload["locks"][leaf["lock"]], leaf["task"], leaf["attempt"])
                        )
        assert told == paid

    def _check_payments(self, done: list[tuple[VerifiedTransaction, Outcome]]) -> None:
        """Each receipt and each (lock, task) is paid once, for ever; a lock counts what it paid."""
        paid: Counter[str] = Counter()
        for tx, (_, _, _, events) in done:
            payload = json.loads(tx.tx.payload)
            found: list[tuple[str, int, int]] = []
            if tx.tx.type == "RECEIPT_CLAIM":
                assert payload["receipt_id"] not in self._claimed, "a receipt was claimed twice"
                self._claimed.add(payload["receipt_id"])
                if "lock" in payload:
                    found.append((payload["lock"], payload.get("task", 0), payload["price"]))
            if tx.tx.type == "SETTLE":
                skipped = {int(key.split(":")[0]) for kind, key, _ in events if kind == "skipped"}
                for place, leaf in enumerate(leaves_of(payload["leaves"]), payload["start"]):
                    if place not in skipped:
                        found.append((payload["locks"][leaf["lock"]], leaf["task"], leaf["price"]))
            for lock, task, price in found:
                assert (lock, task) not in self._paid, "a task was paid twice"
                self._paid.add((lock, task))
                paid[lock] += price
        for lock, price in paid.items():
            before = self.ledger.before["locks"].get(lock, {"paid": 0})
            assert self.ledger.stores["locks"][lock]["paid"] == before["paid"] + price

    def _check_lock(self, before: Plain, after: Plain | None) -> None:
        """A lock only goes forward: open, then settled or refunded, then gone."""
        now = self.ledger.time
        if after is None:
            assert before["status"] in ("settled", "refunded") and 0 < before["closed_ms"] < now
            return
        moving = ("paid", "paid_tasks", "status", "closed_ms")
        assert {**after, **{name: before[name] for name in moving}} == before
        assert before["paid"] <= after["paid"] <= after["amount"]
        assert int(before["paid_tasks"], 16) & ~int(after["paid_tasks"], 16) == 0
        if before["status"] != "open" or after["status"] == "open":
            assert before["status"] == after["status"] and before["closed_ms"] == after["closed_ms"]
            return
        assert after["closed_ms"] == (now if self.ledger.version >= 2 else 0)
        if after["status"] == "settled":
            assert int(after["paid_tasks"], 16) == 2 ** after["tasks"] - 1 and now <= after["claim_until_ms"]
        else:
            assert after["status"] == "refunded" and now > after["claim_until_ms"]

    def _is_over(self, store: str, key: str, record: Plain) -> bool:
        """Should a block of now have retired this record, if it did not write it?"""

        def after(ms: int, retention: str = "") -> bool:
            keeps = json.loads(self.ledger.before["params"][retention]["value"]) if retention else 0
            return ms > 0 and self.ledger.time > ms + keeps

        if store == "locks":
            base = record["claim_until_ms"] if record["status"] == "open" else record["closed_ms"]
            return after(base, "lock_retention_ms")
        if store == "receipts" and not key.startswith("batch:"):
            return after(record["claimed_ms"], "receipt_retention_ms")
        return key.startswith(("batch:", "offence:")) and after(record["expires_ms"])


def endow(executor: Executor, address: str, amount: int) -> None:
    overlay = Overlay(executor.state)
    overlay.credit(address, amount)
    overlay.add_supply("genesis", amount)
    executor.state.stage(overlay.writes)
    executor.state.publish()
    executor.state.forget_journal()


def publish(executor: Executor, built: BuiltBlock) -> None:
    if executor.loaded.genesis.consensus.work is not None:
        executor.publish(built, executor.seal(built, None).block)
        return
    candidate = Candidate(0, built.block.header.height, 0, bytes(32), built.hash)
    sealed = executor.seal(built, Certificate("final", candidate, 1, [bytes(64)]))
    executor.publish(built, sealed.block)


def _outcome_bytes(tx_id: bytes, outcome: Outcome) -> bytes:
    """docs/spec/blocks.md"""
    ok, reason, fee, events = outcome
    said = b"".join([fields(kind.encode(), key.encode(), u64(amount)) for kind, key, amount in events])
    return fields(tx_id, b"\x01" if ok else b"\x00", reason.encode(), u64(fee), said)
