"""CPU and wall time of writing blocks full of transfers, against bare `executemany` of the same rows, made beforehand,
into the same tables: what the store adds to what SQLite costs anyway.

    python bench/storage.py [blocks] [transfers] [accounts]

With DATABASE_URL=postgresql://… the same blocks go to that (empty) database too; CPU is then this process's only.
"""

import gc
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from common import Json, save, spread
from run_all import table

from aitbc.adapters.storage import rows as shapes
from aitbc.adapters.storage import sql
from aitbc.adapters.storage.opening import open_store
from aitbc.adapters.storage.sqlite import CACHE_KIB, WAL_PAGES, SqliteStore
from aitbc.core.chain.builder import ChainTip, build_block
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import envelope_id, transaction_id
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.ledger.genesis import Authority, ConsensusSettings, Genesis, GenesisAccount, load_genesis
from aitbc.core.ledger.params import Params
from aitbc.core.ledger.transactions.transfer import Transfer
from aitbc.core.types.blocks import Candidate, Certificate, CommittedBlock
from aitbc.core.types.records import Commit
from aitbc.core.types.transactions import Transaction, VerifiedTransaction
from aitbc.ports import Store

START_MS = 1_760_000_000_000
EPOCH = 600


def key(number: int) -> bytes:
    return b"\x00" + sha256(b"bench %d" % number).digest()


class Source:
    """Blocks of transfers between random accounts, one in ten to a new one. Signatures are noise: a store looks at
    none."""

    def __init__(self, *, accounts: int) -> None:
        self.random = random.Random(1)
        self.keys = [key(number) for number in range(accounts)]
        self.addresses = [address_of(item) for item in self.keys]
        self.nonces = [0] * accounts
        genesis = Genesis(
            chain_id="ait-bench",
            timestamp=START_MS // 1000,
            accounts=[
                GenesisAccount(address=address, balance=10**9, pubkey=key_to_text(item))
                for address, item in zip(self.addresses, self.keys, strict=True)
            ],
            params=Params(),
            authorities=[Authority(pubkey=key_to_text(self.keys[0]))],
            consensus=ConsensusSettings(),
        )
        self.loaded = load_genesis(genesis)
        self.tip = ChainTip(
            genesis_hash=self.loaded.hash,
            header=self.loaded.block.block.header,
            hash=self.loaded.block.hash,
            peaks=[],
            epoch_length=EPOCH,
        )

    def commits(self, *, blocks: int, transfers: int) -> Iterator[Commit]:
        yield self.loaded.first
        state = self.loaded.state
        for height in range(1, blocks + 1):
            built = build_block(
                self.tip,
                state,
                [self.transfer() for _ in range(transfers)],
                proposer=self.addresses[0],
                timestamp_ms=START_MS + 1_000 * height,
            )
            assert not built.refused
            state.publish()
            certificate = Certificate("final", Candidate(0, height, 0, bytes(32), built.hash), 1, [bytes(64)])
            block = CommittedBlock(built.block, built.hash, built.outcomes, certificate)
            self.tip = ChainTip(
                genesis_hash=self.loaded.hash,
                header=built.block.header,
                hash=built.hash,
                peaks=built.peaks,
                epoch_length=EPOCH,
            )
            yield Commit(
                block=block,
                changes=built.changes,
                history=built.history,
                receipts=built.receipts,
                validators=[],
            )

    def transfer(self) -> VerifiedTransaction:
        sender = self.random.randrange(len(self.keys))
        self.nonces[sender] += 1
        fresh = self.random.random() < 0.1
        to = address_of(b"\x00" + self.random.randbytes(32)) if fresh else self.random.choice(self.addresses)
        payload = Transfer(to=to, amount=self.random.randrange(1, 1000))
        tx = Transaction(
            "TRANSFER",
            self.addresses[sender],
            self.nonces[sender],
            100,
            jcs(payload),
            self.keys[sender],
            self.random.randbytes(64),
        )
        tx_id = transaction_id(tx, self.loaded.hash)
        return VerifiedTransaction(tx, tx_id, envelope_id(tx_id, tx), payload, None, 300)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(CPU seconds of this process, wall seconds)."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


class Bare:
    """A connection with the store's settings and nothing else."""

    def __init__(self, path: Path, *, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for setting in (
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            f"cache_size = {-CACHE_KIB}",
            f"wal_autocheckpoint = {WAL_PAGES}",
        ):
            self.connection.execute(f"PRAGMA {setting}")
        for statement in sql.schema_statements("sqlite"):
            self.connection.execute(statement)

    def write(self, work: list[tuple[str, list[Any]]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for statement, rows in work:
            self.connection.executemany(statement, rows)
        self.connection.execute("COMMIT")


def rows_of(commit: Commit) -> list[tuple[str, list[Any]]]:
    block = commit.block
    state = shapes.state_rows(shapes.changed(commit.changes))
    tables = [
        (sql.BLOCKS, [shapes.block_row(block)]),
        (sql.TX, shapes.transaction_rows(block)),
        (sql.ACCOUNT_TX, shapes.account_rows(block)),
        (sql.UNDO, [shapes.undo_row(block.block.header.height, commit.changes)]),
        *((sql.STATE[table], rows) for table, rows in state.written.items()),
    ]
    return [(sql.insert_statement(insert), rows) for insert, rows in tables]


def measure_writes(store: Store, commits: list[Commit]) -> Json:
    store.commit(commits[0])
    times = [timed(lambda commit=commit: store.commit(commit)) for commit in commits[1:]]
    return {
        "CPU ms a block": spread([cpu * 1000 for cpu, _ in times], 0),
        "wall ms a block": spread([wall * 1000 for _, wall in times], 0),
    }


def measure_small(store: SqliteStore, commits: list[Commit], synchronous: str) -> Json:
    """Blocks of one transfer, in which waiting for the disk is everything."""
    store.commit(commits[0])
    assert store._database._writer is not None  # type: ignore[attr-defined]
    store._database._writer.execute(f"PRAGMA synchronous = {synchronous}")  # type: ignore[attr-defined]
    times = [timed(lambda commit=commit: store.commit(commit)) for commit in commits[1:]]
    return {
        "CPU ms a block": spread([cpu * 1000 for cpu, _ in times], 2),
        "wall ms a block": spread([wall * 1000 for _, wall in times], 2),
    }


def measure_rewind(store: Store, commits: list[Commit]) -> Json:
    """Taking the newest block back, and all but the first."""
    last, rest = timed(lambda: store.rewind(len(commits) - 2)), timed(lambda: store.rewind(1))
    return {"last block, CPU ms": round(last[0] * 1000), "all others, CPU ms": round(rest[0] * 1000)}


def measure_reads(store: Store, commits: list[Commit]) -> Json:
    block = commits[-1].block
    ids = [outcome.tx_id for outcome in block.outcomes[:500]]
    sender = block.block.txs[0].sender
    each = {
        "one transaction, us": (lambda: [store.transaction(tx_id) for tx_id in ids], len(ids), 1e6),
        "one id that is not there, us": (
            lambda: [store.find_transaction(bytes(28) + n.to_bytes(4, "big")) for n in range(500)],
            500,
            1e6,
        ),
        "a page of 50 of an account, ms": (
            lambda: store.account_history(sender, before=None, limit=50),
            1,
            1e3,
        ),
        "a whole block, ms": (lambda: store.block_by_height(len(commits) - 1), 1, 1e3),
        "load at start, ms": (store.load, 1, 1e3),
    }
    results: Json = {}
    for name, (work, count, unit) in each.items():
        results[name] = spread([timed(work)[0] / count * unit for _ in range(3)], 1)
    return results


def main() -> None:
    blocks, transfers, accounts = (int(n) for n in (*sys.argv[1:], 8, 10_000, 100_000)[:3])
    print("making blocks …", file=sys.stderr)
    source = Source(accounts=accounts)
    commits = list(source.commits(blocks=blocks, transfers=transfers))
    results: Json = {"blocks": blocks, "transfers a block": transfers, "accounts at genesis": accounts}
    with tempfile.TemporaryDirectory() as folder:
        for synchronous in ("FULL", "NORMAL"):
            bare = Bare(Path(folder) / f"bare-{synchronous}.db", synchronous=synchronous)
            prepared = [rows_of(commit) for commit in commits]
            bare.write(prepared[0])
            times = [timed(lambda bare=bare, work=work: bare.write(work)) for work in prepared[1:]]
            results[f"bare executemany, {synchronous}"] = {
                "CPU ms a block": spread([cpu * 1000 for cpu, _ in times], 0),
                "wall ms a block": spread([wall * 1000 for _, wall in times], 0),
            }
            bare.connection.close()
        store = SqliteStore(Path(folder) / "chain.db", source.loaded.hash)
        written = measure_writes(store, commits)
        results["SQLite store"] = {**written, **measure_reads(store, commits)}
        results["SQLite bytes a transfer"] = round(
            (Path(folder) / "chain.db").stat().st_size / max(1, blocks * transfers)
        )
        results["SQLite rewind"] = measure_rewind(store, commits)
        floor = results["bare executemany, FULL"]["CPU ms a block"]["median"]
        results["CPU, store to bare"] = round(written["CPU ms a block"]["median"] / floor, 2)
        store.close()
        small = Source(accounts=1_000)
        short = list(small.commits(blocks=200, transfers=1))
        for synchronous in ("FULL", "NORMAL"):
            store = SqliteStore(Path(folder) / f"small-{synchronous}.db", small.loaded.hash)
            results[f"blocks of one transfer, {synchronous}"] = measure_small(store, short, synchronous)
            store.close()
    if url := os.environ.get("DATABASE_URL"):
        postgres = open_store(url, default=Path(), genesis_hash=source.loaded.hash)
        results["PostgreSQL store"] = {
            **measure_writes(postgres, commits),
            **measure_reads(postgres, commits),
        }
        postgres.close()
    save("storage", "a block of 10,000 transfers in at most 0.5 s of CPU, off the main loop", results)
    print(table("storage"))


if __name__ == "__main__":
    main()
