"""A chain whose blocks look right and mean nothing: hashes, roots, slots and history fit, what happens is drawn from a
seed. For stores, which look at no rule: every kind of record, keys that go and come back, receipts of batches, odd
labels, and blocks that are taken back.
"""

import random
from collections.abc import Iterable
from typing import Any

from aitbc.core.chain.builder import ChainTip
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import envelope_id, header_hash, outcome_leaf, transaction_id, validators_hash
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.merkle import list_root
from aitbc.core.crypto.mountains import append_leaf, peaks_root
from aitbc.core.ledger.params import Params, params_to_texts
from aitbc.core.ledger.state import State
from aitbc.core.types.amounts import MAX_SIGNED, MAX_TOTAL
from aitbc.core.types.blocks import Block, Candidate, Certificate, CommittedBlock, Header, Validator
from aitbc.core.types.records import (
    Account,
    Commit,
    HistoryNode,
    Lock,
    Offence,
    PaidReceipt,
    Param,
    Record,
    ValidatorRecord,
)
from aitbc.core.types.transactions import Outcome, Transaction

GENESIS_HASH = bytes(range(32))
ADDRESSES = [address_of(b"\x00" + bytes([n]) * 32) for n in range(12)]
LABELS = [
    "job-1",
    "job-2",
    "a \\ in it",
    "ends with \\",
    "nought \0 inside",
    "\\0",
    "ünïcode ☂",
    '"; DROP TABLE tx; --',
]
REASONS = ["insufficient_balance", "refund_too_early"]


class MadeUpChain:
    """`commits` is the chain from genesis to the head, as a store was given it."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.state = State()
        self.commits: list[Commit] = []
        self._tips: list[ChainTip] = []
        """Of each block."""
        self._receipts = 0
        texts = params_to_texts(Params())
        accounts = {address: Account(1_000, 0, b"") for address in ADDRESSES[:4]}
        self._append(
            {"accounts": dict(accounts), "params": {key: Param(value=text) for key, text in texts.items()}}, 0
        )

    @property
    def height(self) -> int:
        return len(self.commits) - 1

    def extend(self, transactions: int | None = None) -> Commit:
        """One more block on the head."""
        return self._append(
            self._writes(), self.random.randrange(6) if transactions is None else transactions
        )

    def grow(self, blocks: int) -> list[Commit]:
        return [self.extend() for _ in range(blocks)]

    def take_back(self, height: int) -> None:
        """Make the block at a height the head again."""
        while self.height > height:
            self.state.retract()
            self.commits.pop()
            self._tips.pop()

    def _append(self, writes: dict[str, dict[str, Record | None]], transactions: int) -> Commit:
        height, draw = len(self.commits), self.random
        parent = self._tips[-1] if self._tips else None
        peaks, nodes = append_leaf(parent.peaks, parent.hash) if parent else ([], [])
        txs = [self._transaction() for _ in range(transactions)]
        ids = [transaction_id(tx, GENESIS_HASH) for tx in txs]
        outcomes = [self._outcome(tx_id) for tx_id in ids]
        staged = self.state.stage(writes)
        validators = [
            Validator(draw.choice(ADDRESSES), draw.randbytes(33), draw.randrange(1, MAX_SIGNED))
            for _ in range(draw.randrange(1, 4))
        ]
        header = Header(
            version=2,
            chain_id="ait-made-up",
            height=height,
            parent=parent.hash if parent else bytes(32),
            timestamp_ms=1_760_000_000_000 + 1_000 * height + draw.randrange(1_000),
            proposer=draw.choice(ADDRESSES) if height else "",
            txs_root=list_root([envelope_id(tx_id, tx) for tx_id, tx in zip(ids, txs, strict=True)]),
            outcomes_root=list_root([outcome_leaf(outcome) for outcome in outcomes]),
            state_root=staged.root,
            next_validators_hash=validators_hash(validators),
            history_root=peaks_root(peaks),
            extra=GENESIS_HASH if not height else draw.randbytes(draw.randrange(4)),
            seal=b"",
        )
        block_hash = header_hash(header)
        certificate = Certificate(
            "final", Candidate(0, height, 0, bytes(32), block_hash), 3, [draw.randbytes(64)] * 2
        )
        block = CommittedBlock(Block(header, txs), block_hash, outcomes, certificate if height else None)
        commit = Commit(
            block=block,
            changes=staged.changes,
            history=[HistoryNode(*node) for node in nodes],
            receipts=[self._receipt(place) for place in range(len(txs)) for _ in range(draw.randrange(3))],
            validators=validators,
        )
        self.state.publish()
        self.commits.append(commit)
        self._tips.append(
            ChainTip(genesis_hash=GENESIS_HASH, header=header, hash=block_hash, peaks=peaks, epoch_length=600)
        )
        return commit

    def _transaction(self) -> Transaction:
        draw = self.random
        payload = {"to": draw.choice(ADDRESSES), "amount": draw.randrange(1_000), "data": draw.choice(LABELS)}
        witness = jcs({"sig": draw.randbytes(8).hex()}) if draw.random() < 0.3 else b""
        return Transaction(
            draw.choice(("TRANSFER", "RECEIPT_CLAIM", "SETTLE")),
            draw.choice(ADDRESSES),
            draw.randrange(1, 2**53),
            draw.randrange(1_000),
            jcs(payload),
            b"\x00" + draw.randbytes(32),
            draw.randbytes(64),
            witness,
        )

    def _outcome(self, tx_id: bytes) -> Outcome:
        draw = self.random
        if draw.random() < 0.2:
            return Outcome(tx_id, False, draw.choice(REASONS), "for people: ☂", draw.randrange(100), [])
        keys = [*ADDRESSES, "lock " + "ab" * 32, "ait1short"]
        events = [
            (
                draw.choice(("transferred", "paid", "minted")),
                draw.choice(keys),
                draw.choice((0, 5, MAX_TOTAL)),
            )
            for _ in range(draw.randrange(4))
        ]
        return Outcome(tx_id, True, "", "", draw.randrange(100), events)

    def _receipt(self, position: int) -> PaidReceipt:
        draw = self.random
        self._receipts += 1
        alone = draw.random() < 0.5
        return PaidReceipt(
            receipt_id="rcpt_" + self._receipts.to_bytes(32, "big").hex(),
            tx_position=position,
            job_id=draw.choice(LABELS),
            client=draw.choice(ADDRESSES),
            provider=draw.choice(ADDRESSES),
            hub=draw.choice(ADDRESSES),
            units=draw.randrange(1, 10**12),
            price=draw.randrange(2**53),
            minted=draw.randrange(2**53),
            output_hash="sha256:" + "ab" * 32 if alone else "",
            provider_sig=draw.randbytes(64).hex() if alone else "",
            lock=draw.randbytes(32).hex() if draw.random() < 0.8 else "",
            task=draw.randrange(4096),
            attempt=draw.randrange(256),
        )

    def _writes(self) -> dict[str, dict[str, Record | None]]:
        """A few records made, changed and removed; few keys, so that slots are freed and taken again."""
        draw = self.random
        writes: dict[str, dict[str, Record | None]] = {
            "accounts": {
                address: Account(
                    draw.choice((0, 7, MAX_TOTAL)),
                    draw.randrange(2**53),
                    draw.randbytes(draw.choice((0, 33))),
                )
                for address in draw.sample(ADDRESSES, draw.randrange(5))
            },
            "locks": {f"lock-{n}": _lock(draw) for n in draw.sample(range(8), draw.randrange(4))},
            "registry": {
                f"offence:{n}": Offence(
                    offender=draw.choice(ADDRESSES), height=1, expires_ms=draw.randrange(10**6)
                )
                for n in draw.sample(range(8), draw.randrange(4))
            },
            "validators": {
                address: ValidatorRecord(auth_key="00" * 33, power=draw.randrange(1, 9), position=0)
                for address in draw.sample(ADDRESSES[:3], draw.randrange(2))
            },
            "params": {"supply.minted": Param(value=str(draw.randrange(10**20)))},
        }
        for store in ("accounts", "locks", "registry", "validators"):
            there = sorted(self.state.data[store])
            for key in draw.sample(there, min(len(there), draw.choice((0, 0, 1, 2)))):
                writes[store][key] = None
        return writes


def _lock(draw: random.Random) -> Lock:
    return Lock(
        client=draw.choice(ADDRESSES),
        hub=draw.choice(ADDRESSES),
        job_id=draw.choice(LABELS),
        amount=draw.randrange(2**53),
        paid=0,
        tasks=1,
        paid_tasks="0",
        request_hash="",
        deliver_by_ms=0,
        claim_until_ms=draw.randrange(10**6),
        height=1,
        status="open",
    )


def records_of(state: State) -> dict[str, list[tuple[int, str, bytes]]]:
    """The state at the head as a store gives it back."""
    return {
        store: sorted((state.index_of(store, key), key, data) for key, data in rows.items())
        for store, rows in state.data.items()
    }


def replayed(commits: Iterable[Commit]) -> State:
    """The state after some blocks, from their changes alone."""
    state, writes = State(), dict[str, Any]
    for commit in commits:
        changed: dict[str, writes] = {}
        for change in commit.changes:
            changed.setdefault(change.store, {})[change.key] = change.record
        state.stage(changed)
        state.publish()
    return state
