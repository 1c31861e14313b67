"""How many transfers a durable node takes in, one by one and in batches, from the first request until the last is final
and on disk.

Transfers of many accounts are signed and written as requests before the clock starts. Each connection has one request
under way, and an account always uses the same connection. The node, its signature processes and whoever sends share the
machine. Latency: the n-th transfer that was sent against the block with the n-th that became final.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path
from typing import Any

import psutil
import websockets
from common import AITBC, PORT_BASE, Json, save

from aitbc.client.signing import KeySigner
from aitbc.client.transactions import build_transaction, transfer_payload
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.ledger.genesis import (
    Authority,
    ConsensusSettings,
    Genesis,
    GenesisAccount,
    genesis_document,
)
from aitbc.core.ledger.params import Activation, Params
from aitbc.core.types.amounts import AIT

FEE = 20
VALIDATOR = bytes([7]) * 32
QUIET_S = 60.0
"""Without a new block for so long something is lost."""


def person(number: int) -> KeySigner:
    return KeySigner((number + 1).to_bytes(4, "big") * 8)


def document(people: list[KeySigner]) -> bytes:
    return genesis_document(
        Genesis(
            chain_id="ait-load",
            timestamp=int(time.time()) - 60,
            accounts=[
                GenesisAccount(address=who.address, balance=10_000 * AIT, pubkey=key_to_text(who.auth_key))
                for who in people
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
            authorities=[Authority(pubkey=key_to_text(KeySigner(VALIDATOR).auth_key))],
            consensus=ConsensusSettings(block_time_ms=200, idle_ms=3_600_000, epoch_length=100_000),
        )
    )


def signed(people: list[KeySigner], genesis_hash: bytes, count: int) -> list[bytes]:
    """Transfer n is of person n modulo their number, as JSON."""
    made = []
    for number in range(count):
        who = people[number % len(people)]
        payload = transfer_payload(to=people[(number + 1) % len(people)].address, amount=1)
        nonce = number // len(people) + 1
        tx = build_transaction(
            "TRANSFER", payload, signer=who, nonce=nonce, fee=FEE, genesis_hash=genesis_hash
        )
        made.append(jcs(transaction_to_plain(tx)))
    return made


def requests_of(
    made: list[bytes], *, people: int, batch: int, connections: int
) -> list[list[tuple[int, bytes]]]:
    """For each connection: (transfers, request) after request."""
    lanes: list[list[bytes]] = [[] for _ in range(connections)]
    for number, tx in enumerate(made):
        lanes[(number % people) * connections // people].append(tx)
    path = "/rpc/sendTx" if batch == 1 else "/rpc/sendTxs"
    result = []
    for lane in lanes:
        parts = [lane[start : start + batch] for start in range(0, len(lane), batch)]
        result.append([(len(part), _request(path, b"\n".join(part))) for part in parts])
    return result


def _request(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def send(port: int, requests: list[tuple[int, bytes]], sent: list[tuple[float, int]]) -> int:
    """Everything of one connection; returns how often the node was too busy. Refusals are sent again, unchanged."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    again = 0
    for count, request in requests:
        sent.append((time.monotonic(), count))
        while True:
            writer.write(request)
            status, body = await _answer(reader)
            if status == 200 and b'"error"' not in body:
                break
            passing = status in (429, 503) or b"too_busy" in body or b"mempool_full" in body
            if not passing:
                raise SystemExit(f"{status}: {body[:500]!r}")
            again += 1
            await asyncio.sleep(0.05)
    writer.close()
    return again


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
    return int(head[9:12]), await reader.readexactly(length)


async def ask(port: int, path: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    _, body = await _answer(reader)
    writer.close()
    return json.loads(body)


async def watch(port: int, total: int, final: list[tuple[float, int]], follows: asyncio.Event) -> None:
    """Until so many transfers are final: when each block was told, and how many it has."""
    done = 0
    async with websockets.connect(f"ws://127.0.0.1:{port}/rpc/ws?streams=new_blocks") as link:
        while done < total:
            try:
                event = json.loads(await asyncio.wait_for(link.recv(), QUIET_S))
            except TimeoutError:
                raise SystemExit(f"{total - done} of {total} transfers did not become final") from None
            follows.set()
            if event["type"] != "hello":
                final.append((time.monotonic(), event["data"]["txCount"]))
                done += event["data"]["txCount"]


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def cpu_s(pid: int) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in family(pid))


def at_rank(points: list[tuple[float, int]]) -> tuple[list[int], list[float]]:
    return list(accumulate(count for _, count in points)), [when for when, _ in points]


def latencies_ms(sent: list[tuple[float, int]], final: list[tuple[float, int]], total: int) -> Json:
    begun, ended = at_rank(sorted(sent)), at_rank(final)
    found = sorted(
        ended[1][bisect_left(ended[0], rank)] - begun[1][bisect_left(begun[0], rank)]
        for rank in range(1, total + 1, max(1, total // 5_000))
    )
    return {f"p{part}": round(found[len(found) * part // 100] * 1_000) for part in (50, 95, 99)}


async def load(pid: int, port: int, data: Path, lanes: list[list[tuple[int, bytes]]], total: int) -> Json:
    sent: list[tuple[float, int]] = []
    final: list[tuple[float, int]] = []
    follows = asyncio.Event()
    watching = asyncio.create_task(watch(port, total, final, follows))
    await follows.wait()
    before, size = cpu_s(pid), _size(data)
    started = time.monotonic()
    again = await asyncio.gather(*[send(port, lane, sent) for lane in lanes])
    await watching
    seconds = final[-1][0] - started
    spent = cpu_s(pid) - before
    return {
        "transfers_per_s": round(total / seconds),
        "cpu_us_per_transfer": round(spent / total * 1e6, 1),
        "submit_to_final_ms": latencies_ms(sent, final, total),
        "asked_again": sum(again),
        "blocks": len(final),
        "memory_mb": round(sum(one.memory_info().rss for one in family(pid)) / 2**20),
        "bytes_on_disk_per_transfer": round((_size(data) - size) / total),
    }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def one(people: int, count: int, *, batch: int, connections: int) -> Json:
    everybody = [person(number) for number in range(people)]
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        genesis = document(everybody)
        (data / "genesis.json").write_bytes(genesis)
        (data / "key").write_text(VALIDATOR.hex() + "\n")
        (data / "key").chmod(0o600)
        made = signed(everybody, genesis_hash_of(genesis), count)
        lanes = requests_of(made, people=people, batch=batch, connections=connections)
        command = [
            AITBC,
            "node",
            "start",
            "--genesis",
            str(data / "genesis.json"),
            "--data",
            str(data / "chain"),
        ]
        command += ["--port", str(PORT_BASE), "--proposer-key", str(data / "key"), "--never-voted"]
        with (data / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=data)
        try:
            _wait_for(PORT_BASE, data / "log")
            return asyncio.run(load(process.pid, PORT_BASE, data / "chain", lanes, count))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if asyncio.run(ask(port, "/health"))["status"] == "ok":
                return
        except (OSError, asyncio.IncompleteReadError):
            time.sleep(0.1)
    raise SystemExit(log.read_text()[-2_000:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transfers", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=10_000)
    arguments = parser.parse_args()
    results: Json = {}
    for name, batch, connections in (("batches of 100", 100, 8), ("one by one", 1, 32)):
        count = arguments.transfers if batch > 1 else arguments.transfers // 4
        results[name] = one(arguments.people, count, batch=batch, connections=connections)
        print(name, results[name], flush=True)
    results["cores"] = os.cpu_count()
    save(
        "load",
        "one durable validator >= 12,000 included transfers a second at <= 150 us of CPU each, p99 <= 1.5 s",
        results,
    )


if __name__ == "__main__":
    main()
