"""A new node gets a whole chain from one, two and three peers on loopback: full of transfers, and of empty blocks.

Everybody is a real process and checks everything; peers and the new node share the machine's two cores. Goal: 8,000
transfers a second, 1,500 empty blocks a second, and never slower with more peers.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from common import AITBC, PORT_BASE, Json, save

from aitbc.adapters.storage.sqlite import SqliteStore
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import build_transaction, transfer_payload
from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import (
    Authority,
    ConsensusSettings,
    Genesis,
    GenesisAccount,
    genesis_document,
)
from aitbc.core.ledger.params import Activation, Params
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.node.main import DATABASE_FILE

EPOCH = 600
TRANSFERS = int(os.environ.get("TRANSFERS", "350000"))
"""More than the 64 MiB of blocks that a node holds while it waits for lower ones."""
PER_BLOCK = 1_000
EMPTY = int(os.environ.get("EMPTY", "12000"))
SENDERS = 200
PEERS = (1, 2, 3)
FEE = 20
CHAIN_ID = "ait-bench"
VALIDATOR = KeySigner(bytes([7]) * 32)


def document() -> bytes:
    senders = [sender(number) for number in range(SENDERS)]
    return genesis_document(
        Genesis(
            chain_id=CHAIN_ID,
            timestamp=int(time.time()) - 10_000_000,
            accounts=[
                GenesisAccount(address=who.address, balance=10_000 * AIT, pubkey=key_to_text(who.auth_key))
                for who in senders
            ],
            params=Params(
                devnet=1,
                mint_price_cap_bp=0,
                hubs=[],
                faucet="",
                synthetic_attester="",
                activations=[Activation(version=2, height=0)],
                min_validator_stake=1,
                hub_mint_per_bond_bp=0,
            ),
            authorities=[Authority(pubkey=key_to_text(VALIDATOR.auth_key))],
            consensus=ConsensusSettings(block_time_ms=100, idle_ms=3_600_000, epoch_length=EPOCH),
        )
    )


def sender(number: int) -> KeySigner:
    return KeySigner(number.to_bytes(2, "big") * 16)


def grow(path: Path, genesis: bytes, blocks: int, per_block: int) -> int:
    """A chain of one validator on disk; returns its height."""
    executor = Executor(genesis, None)
    store = SqliteStore(path, executor.loaded.hash)
    store.commit(executor.loaded.first)
    senders, nonces, now_ms = [sender(number) for number in range(SENDERS)], [0] * SENDERS, 0
    now_ms = executor.head.block.header.timestamp_ms
    waiting = []
    for height in range(1, blocks + 1):
        txs = []
        for place in range(per_block):
            who = (height * per_block + place) % SENDERS
            nonces[who] += 1
            payload = transfer_payload(to=senders[(who + 1) % SENDERS].address, amount=1)
            tx = build_transaction(
                "TRANSFER",
                payload,
                signer=senders[who],
                nonce=nonces[who],
                fee=FEE,
                genesis_hash=executor.loaded.hash,
            )
            txs.append(executor.transactions.verify(tx))
        now_ms += 100
        built = executor.build(txs, proposer=VALIDATOR.address, timestamp_ms=now_ms)
        assert not built.refused, built.refused[0]
        commit = executor.seal(built, certificate(executor, built.hash, height))
        waiting.append(commit)
        executor.publish(built, commit.block)
        if len(waiting) == 100 or per_block:
            store.commit(*waiting)
            waiting.clear()
    if waiting:
        store.commit(*waiting)
    store.close()
    return blocks


def certificate(executor: Executor, block_hash: bytes, height: int) -> Certificate:
    epoch, place = divmod(height - 1, EPOCH)
    candidate = Candidate(epoch, place + 1, place, bytes(32), block_hash)
    genesis_hash = executor.loaded.hash
    digest = vote_digest(
        kind="final",
        epoch=epoch,
        slot=place + 1,
        candidate=candidate_id(candidate, CHAIN_ID, genesis_hash),
        chain_id=CHAIN_ID,
        genesis_hash=genesis_hash,
    )
    return Certificate("final", candidate, 1, [VALIDATOR.sign(digest)])


def ask(place: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT_BASE + place}{path}", timeout=10) as answer:
        return json.loads(answer.read())


@contextmanager
def node(place: int, genesis: Path, data: Path, peers: range) -> Iterator[subprocess.Popen[bytes]]:
    command = [AITBC, "node", "start", "--genesis", str(genesis), "--data", str(data)]
    command += ["--port", str(PORT_BASE + place), "--p2p-port", str(PORT_BASE + 100 + place)]
    for peer in peers:
        command += ["--peer", f"127.0.0.1:{PORT_BASE + 100 + peer}"]
    log = (data / "node.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def wait_until(what: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            if what():
                return
        time.sleep(0.02)
    raise SystemExit("it took too long")


def synced(folder: Path, genesis: Path, source: Path, height: int, count: int) -> Json:
    """From the new node's first request to its last block; then all processes go."""
    with contextmanager(peers_up)(folder, genesis, source, count) as processes:
        data = folder / "new"
        data.mkdir()
        with node(0, genesis, data, range(1, count + 1)) as process:
            wait_until(lambda: ask(0, "/sync_status")["state"] == "blocks")
            started = time.monotonic()
            first = ask(0, "/sync_status")["height"]
            wait_until(lambda: ask(0, "/sync_status")["height"] == height)
            seconds = time.monotonic() - started
            spent = psutil.Process(process.pid).cpu_times()
            checking = [child.cpu_times() for child in psutil.Process(process.pid).children(recursive=True)]
            serving = [psutil.Process(peer.pid).cpu_times() for peer in processes]
            peak = psutil.Process(process.pid).memory_info().rss
        shutil.rmtree(data)
    return {
        "seconds": round(seconds, 2),
        "blocks": height - first,
        "blocks_per_s": round((height - first) / seconds),
        "cpu_s_new_node": round(spent.user + spent.system, 2),
        "cpu_s_its_signature_processes": round(sum(times.user + times.system for times in checking), 2),
        "cpu_s_peers": round(sum(times.user + times.system for times in serving), 2),
        "memory_mb_new_node": round(peak / 2**20),
    }


def peers_up(folder: Path, genesis: Path, source: Path, count: int) -> Iterator[list[Any]]:
    started: list[Any] = []
    contexts = []
    try:
        for place in range(1, count + 1):
            data = folder / f"peer-{place}"
            data.mkdir()
            shutil.copy(source, data / DATABASE_FILE)
            context = node(place, genesis, data, range(1, 0))
            contexts.append(context)
            started.append(context.__enter__())
        for place in range(1, count + 1):
            wait_until(lambda place=place: ask(place, "/health")["status"] == "ok")
        yield started
    finally:
        for context in contexts:
            context.__exit__(None, None, None)
        for place in range(1, count + 1):
            shutil.rmtree(folder / f"peer-{place}")


def main() -> None:
    results: Json = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        genesis = folder / "genesis.json"
        genesis.write_bytes(document())
        for label, blocks, per_block in (
            ("transfers", TRANSFERS // PER_BLOCK, PER_BLOCK),
            ("empty", EMPTY, 0),
        ):
            source = folder / f"{label}.db"
            height = grow(source, genesis.read_bytes(), blocks, per_block)
            for count in PEERS:
                figures = synced(folder, genesis, source, height, count)
                if per_block:
                    figures["transfers_per_s"] = round(figures["blocks"] * per_block / figures["seconds"])
                results[f"{label} from {count}"] = figures
                print(label, count, figures, file=sys.stderr, flush=True)
    save(
        "sync",
        "transfers >= 8,000 a second, empty blocks >= 1,500 a second, never slower with more peers",
        results,
    )


if __name__ == "__main__":
    main()
