"""How fast the ledger executes, what it keeps in memory, how long it takes to start, what a batch saves.

Transfers are verified before the clock starts; decoding, signatures and the state root are not in the figure of the
state transition. Every figure is CPU time of one process.
"""

import argparse
import gc
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import psutil
from common import ROOT, Json, save, spread

sys.path.insert(0, str(ROOT / "tests"))

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import attestation_digest, receipt_core_digest, receipt_id_of
from aitbc.core.codec.leaves import LEAF, Leaf, committed_leaves, leaf_bytes_of, pack_leaves
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.merkle import list_root, prove_range
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.execution import execute_all
from aitbc.core.ledger.params import Params
from aitbc.core.ledger.state import State
from aitbc.core.ledger.transactions.transfer import Transfer
from aitbc.core.types.amounts import AIT
from aitbc.core.types.receipts import Attestation, ReceiptCore
from aitbc.core.types.records import Account, StoredRows
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from support.chain import OUTPUT, REQUEST, VERSION_2, Chain, genesis
from support.people import ALICE, HUB, PROVIDER, VALIDATOR

TRANSFERS = 20_000
ROUNDS = 5


def account_rows(count: int) -> StoredRows:
    """So many accounts, each with a key and coins, as a store hands them out."""

    def rows() -> Iterator[tuple[int, str, bytes]]:
        for number in range(count):
            key = b"\0" + sha256(number.to_bytes(8, "big")).digest()
            yield number + 1, address_of(key), (10**9).to_bytes(8, "big") + bytes(8) + key

    return StoredRows(rows())


def loaded(rows: StoredRows) -> State:
    state = State()
    state.load({"accounts": rows})
    return state


def transfers(rows: StoredRows, count: int, draw: random.Random) -> list[VerifiedTransaction]:
    """From as many different senders, to anybody."""
    result = []
    for number, (_, sender, record) in enumerate(draw.sample(rows, count)):
        to = draw.choice(rows)[1]
        payload = jcs({"to": to, "amount": 5})
        tx = Transaction("TRANSFER", sender, 1, 10, payload, record[16:], bytes(64))
        name = number.to_bytes(32, "big")
        result.append(VerifiedTransaction(tx, name, name, Transfer(to=to, amount=5), None, len(pack(tx))))
    return result


def context(rows: StoredRows) -> BlockContext:
    return BlockContext(
        version=2,
        chain_id="bench",
        genesis_hash=bytes(32),
        height=1,
        timestamp_ms=1_000,
        proposer=rows[0][1],
        parent=bytes(32),
        epoch_length=600,
        params=Params(activations=VERSION_2),
    )


def transitions(accounts: int) -> Json:
    """Transfers a second through `execute_all`, and what staging (records, tree, root) adds to each."""
    rows, draw = account_rows(accounts), random.Random(1)
    state, at = loaded(rows), context(rows)
    rates, staging = [], []
    for _ in range(ROUNDS):
        txs = transfers(rows, TRANSFERS, draw)
        gc.collect()
        started = time.process_time()
        execution = execute_all(at, state.tip(), txs)
        rates.append(TRANSFERS / (time.process_time() - started))
        assert len(execution.included) == TRANSFERS and all(outcome.ok for outcome in execution.outcomes)
        started = time.process_time()
        staged = state.stage(execution.overlay.writes)
        staging.append((time.process_time() - started) / len(staged.changes) * 1e6)
        state.unstage()
    return {
        "transfers_per_second": spread(rates, 0),
        "stage_us_per_changed_account": spread(staging, 1),
    }


def memory(accounts: int) -> Json:
    """Bytes that a process grows by, per account; in a process of its own."""
    code = f"import ledger; ledger.print_growth({accounts})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return {"bytes_per_account": round(float(done.stdout) / accounts, 1)}


def print_growth(accounts: int) -> None:
    """Resident memory with the state less that without it."""
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    state = loaded(account_rows(accounts))
    gc.collect()
    assert len(state.data["accounts"]) == accounts
    print(process.memory_info().rss - before)


def cold_start(accounts: int) -> Json:
    """From a chain in SQLite to a state that answers, its root compared: what a starting node does."""
    from aitbc.adapters.storage.sqlite import SqliteStore

    chain = Chain(genesis(activations=VERSION_2))
    state = chain.executor.state
    records = {
        address: Account(int.from_bytes(data[:8], "big"), 0, data[16:])
        for _, address, data in account_rows(accounts)
    }
    staged = state.stage({"accounts": records})
    first = chain.executor.loaded.first
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "chain.db", chain.genesis_hash)
        store.commit(msgspec.structs.replace(first, changes=[*first.changes, *staged.changes]))
        store.close()
        root = staged.root
        del chain, state, staged, records, first
        gc.collect()
        done = subprocess.run(
            [sys.executable, "-c", f"import ledger; ledger.print_start({folder!r}, {root.hex()!r})"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    total, read = done.stdout.split()
    return {"cpu_seconds": float(total), "of_that_reading": float(read)}


def print_start(folder: str, root: str) -> None:
    from aitbc.adapters.storage.sqlite import SqliteStore
    from aitbc.node.main import collector_paused

    genesis_hash = Chain(genesis(activations=VERSION_2)).genesis_hash
    started = time.process_time()
    store = SqliteStore(Path(folder) / "chain.db", genesis_hash)
    with collector_paused():
        stored = store.load()
        read = time.process_time() - started
        assert stored is not None
        state = State()
        state.load(stored.records)
    assert state.root().hex() == root
    print(round(time.process_time() - started, 2), round(read, 2))


def batches(count: int) -> Json:
    """Bytes on the chain and CPU to verify and execute: so many receipts claimed one by one, and as one batch."""
    single, batch = _chain(count), _chain(count)
    claims = [
        _claim(single, lock, task, nonce) for nonce, (lock, task) in enumerate(_tasks(single, count), 1)
    ]
    settles = _batch(batch, count)
    one = _measure(single, [claims])
    # the batch is a block before its settlements
    many = _measure(batch, [settles[:1], settles[1:]])
    return {
        "receipts": count,
        "single": one,
        "batch": many,
        "bytes_ratio": round(one["bytes"] / many["bytes"], 1),
        "cpu_ratio": round(one["cpu_ms"] / many["cpu_ms"], 1),
    }


def _chain(count: int) -> Chain:
    chain = Chain(genesis(activations=VERSION_2, mint_price_cap_bp=10_000))
    chain.register(PROVIDER)
    chain.locks = [  # type: ignore[attr-defined]
        chain.lock(amount=AIT * 500, tasks=min(4_096, count), session=True, job_id="session")
    ]
    return chain


def _tasks(chain: Chain, count: int) -> list[tuple[str, int]]:
    return [(chain.locks[0], task) for task in range(count)]  # type: ignore[attr-defined]


def _claim(chain: Chain, lock: str, task: int, nonce: int) -> Transaction:
    core = ReceiptCore(
        job_id=f"job-{task}",
        client_addr=ALICE.address,
        miner_addr=PROVIDER.address,
        compute_units=2_000,
        price=AIT // 10,
        output_hash=OUTPUT,
        lock=lock,
        task=task,
        attempt=1,
        nonce="00" * 16,
        details_hash=REQUEST,
    )
    payload = msgspec.json.decode(jcs(core))
    payload["receipt_id"] = receipt_id_of(core, chain.genesis_hash)
    payload["miner_sig"] = PROVIDER.sign(receipt_core_digest(core, chain.genesis_hash)).hex()
    said = Attestation(
        receipt_id=payload["receipt_id"],
        lock=lock,
        job_id=core.job_id,
        hub=HUB.address,
        client=ALICE.address,
        provider=PROVIDER.address,
        task=task,
        attempt=1,
        units=2_000,
        price=AIT // 10,
        output_hash=OUTPUT,
        routed="random",
        candidates_hash=REQUEST,
    )
    witness = {
        "attestation": msgspec.json.decode(jcs(said)),
        "sig": HUB.sign(attestation_digest(said, chain.genesis_hash)).hex(),
    }
    first = chain.nonce(HUB)
    return chain.sign(HUB, "RECEIPT_CLAIM", payload, nonce=first + nonce, fee=200, witness=witness)


def _batch(chain: Chain, count: int) -> list[Transaction]:
    lock = chain.locks[0]  # type: ignore[attr-defined]
    leaves = [
        Leaf(sha256(task.to_bytes(4, "big")).digest(), 0, 0, task, 1, 1, 2_000, AIT // 10)
        for task in range(count)
    ]
    committed = committed_leaves(
        leaf_bytes_of(pack_leaves(leaves)), [bytes.fromhex(lock)], [PROVIDER.address.encode()]
    )
    first = chain.nonce(HUB)
    batch = chain.sign(
        HUB, "RECEIPT_BATCH", {"root": list_root(committed).hex(), "count": count}, nonce=first + 1, fee=200
    )
    tx_id = verify_transaction(batch, chain.genesis_hash).id.hex()
    part = (16 * 1024 - 1_600) * 3 // 4 // LEAF.size
    result = [batch]
    for nonce, start in enumerate(range(0, count, part), first + 2):
        stop = min(start + part, count)
        payload = {
            "batch": tx_id,
            "start": start,
            "locks": [lock],
            "providers": [PROVIDER.address],
            "leaves": pack_leaves(leaves[start:stop]),
            "proof": [node.hex() for node in prove_range(committed, start, stop)],
        }
        result.append(chain.sign(HUB, "SETTLE", payload, nonce=nonce, fee=2_000))
    return result


def _measure(chain: Chain, blocks: list[list[Transaction]]) -> Json:
    """Verify, execute and stage on another node's copy; the smallest of nine."""
    best = float("inf")
    for _ in range(9):
        spent = 0.0
        for number, txs in enumerate(blocks):
            gc.collect()
            started = time.process_time()
            verified = [verify_transaction(tx, chain.genesis_hash) for tx in txs]
            built = chain.executor.build(
                verified,
                proposer=VALIDATOR.address,
                timestamp_ms=chain.now_ms + 1_000 * (number + 1),
                parent=chain.executor.branches.top,
            )
            spent += time.process_time() - started
            assert not built.refused and all(outcome.ok for outcome in built.outcomes)
            assert not any(event[0] == "skipped" for outcome in built.outcomes for event in outcome.events)
        for _ in blocks:
            chain.executor.abandon()
        best = min(best, spent)
    transactions = [tx for txs in blocks for tx in txs]
    return {
        "transactions": len(transactions),
        "bytes": sum(len(pack(tx)) for tx in transactions),
        "cpu_ms": round(best * 1000, 1),
    }


def flat_state(blocks: int) -> Json:
    """Records after a while and after a long while of locks, claims, batches and refunds with short retentions."""
    from support.busy_chain import BusyChain

    chain, sizes = BusyChain(7), []
    receipts = 0
    for number in range(1, blocks + 1):
        receipts += len(chain.next_block().receipts)
        if number % (blocks // 5) == 0:
            state = chain.executor.state
            sizes.append({store: len(state.data[store]) for store in ("receipts", "locks")})
    return {"blocks": blocks, "receipts_paid": receipts, "records_at_each_fifth": sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--small", action="store_true", help="a hundredth of the accounts: to see that it runs"
    )
    small = parser.parse_args().small
    many, few = (10_000, 1_000) if small else (1_000_000, 100_000)
    global TRANSFERS
    TRANSFERS = 500 if small else TRANSFERS
    results: dict[str, Any] = {
        f"transitions_{few}": transitions(few),
        f"transitions_{many}": transitions(many),
        f"memory_{many}": memory(many),
        f"cold_start_{many}": cold_start(many),
        "batch": batches(50 if small else 1_000),
        "flat_state": flat_state(100 if small else 2_000),
    }
    save(
        "ledger",
        "≥ 60,000 transfers/s at 100,000 accounts, ≥ 40,000 at 1,000,000; ≤ 400 bytes per account; cold start ≤ 5 s"
        " at 1,000,000; a batch of 1,000: ≤ 1/12 of the bytes, ≤ 1/30 of the CPU; state stays flat",
        results,
    )


if __name__ == "__main__":
    main()
