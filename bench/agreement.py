"""Four validators on loopback, as `aitbc devnet --validators 4` runs them, under 500 transfers a second.

Transfers are signed before the clock starts and sent over several connections to each node; every tenth is awaited on
another node than the one that took it. Then one validator is killed (`kill -9`) under the same load, and started again.
Client, four nodes, hub and provider share the machine: its two cores are the limit.

Goals: submit to final elsewhere p50 <= 250 ms, p99 <= 600 ms; block interval <= 200 ms when busy; a dead leader costs
at most a slot's timeout (600 ms); voting again <= 3 s after the restart of a killed validator.
"""

import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from common import AITBC, PORT_BASE, Devnet, Json, devnet, save

from aitbc.adapters.keystore import devnet_keys
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import build_transaction, transfer_payload
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.views import transaction_to_plain
from aitbc.core.types.amounts import AIT

NODES = 4
RATE = int(os.environ.get("RATE", "500"))
"""Transfers a second, all nodes together."""
SECONDS = int(os.environ.get("SECONDS", "20"))
DEAD_S = 12
CONNECTIONS = 4
"""To each node."""
SAMPLED = 10
SENDERS = 30
"""For each node."""
BLOCK_TIME_MS = 100
FEE = 20
Raw = tuple[bytes, str]
"""A request as its bytes, and the id of its transaction."""


def ask(node: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT_BASE + node}{path}", timeout=10) as answer:
        return json.loads(answer.read())


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def signed(signer: KeySigner, nonce: int, to: str, amount: int, genesis_hash: bytes) -> Raw:
    payload = transfer_payload(to=to, amount=amount)
    tx = build_transaction(
        "TRANSFER", payload, signer=signer, nonce=nonce, fee=FEE, genesis_hash=genesis_hash
    )
    body = json.dumps(transaction_to_plain(tx)).encode()
    return post("/rpc/sendTx", body), transaction_id(tx, genesis_hash).hex()


def senders_of(node: int) -> list[KeySigner]:
    """Accounts whose transfers go to one node; a mempool takes 64 of a sender."""
    return [KeySigner(bytes([node + 1, i + 1]) * 16) for i in range(SENDERS)]


def fund(genesis_hash: bytes) -> None:
    """Every sender gets coins from a client of the devnet."""
    alice = KeySigner(devnet_keys()["alice"])
    targets = [sender for node in range(NODES) for sender in senders_of(node)]

    async def play() -> None:
        connection = Connection(PORT_BASE)
        await connection.open()
        for nonce, target in enumerate(targets, start=1):
            raw, tx_id = signed(alice, nonce, target.address, 1_000 * AIT, genesis_hash)
            status, body = await connection.request(raw)
            assert status == 200, body
            if nonce % 60 == 0 or nonce == len(targets):
                await asyncio.to_thread(ask, 0, f"/rpc/getTx/{tx_id}?wait=final&timeout=9")

    asyncio.run(play())


def prepared(node: int, count: int, genesis_hash: bytes) -> list[Raw]:
    """Its senders in turn."""
    senders = senders_of(node)
    return [
        signed(senders[i % SENDERS], i // SENDERS + 1, senders[0].address, 1, genesis_hash)
        for i in range(count)
    ]


class Connection:
    """One keep-alive connection: a request, then its answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)

    async def request(self, raw: bytes) -> tuple[int, bytes]:
        async with self._turn:
            self._writer.write(raw)
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)


class Load:
    """Sends at a steady rate; what is late is sent at once, and counted from when it was due."""

    def __init__(self, nodes: list[int]) -> None:
        self._nodes = nodes
        self.latencies_ms: list[float] = []
        self.refused = 0
        self.first_refusal = ""
        self.sent = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, requests: dict[int, list[Raw]], seconds: int, rate: int) -> None:
        each = rate // NODES
        started = time.perf_counter() + 0.2
        await asyncio.gather(
            *(self._feed(node, requests[node], seconds * each, each, started) for node in self._nodes)
        )
        await asyncio.gather(*self._tasks)

    async def _feed(self, node: int, requests: list[Raw], count: int, each: int, started: float) -> None:
        connections = [Connection(PORT_BASE + node) for _ in range(CONNECTIONS)]
        for connection in connections:
            await connection.open()
        turn = itertools.cycle(connections)
        for number in range(count):
            due = started + number / each
            delay = due - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            raw, tx_id = requests.pop(0)
            self._spawn(self._send(next(turn), raw))
            if number % SAMPLED == 0:
                others = [other for other in self._nodes if other != node]
                self._spawn(self._await(others[number // SAMPLED % len(others)], tx_id, due))

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _send(self, connection: Connection, raw: bytes) -> None:
        status, body = await connection.request(raw)
        self.sent += 1
        if status != 200:
            self.refused += 1
            self.first_refusal = self.first_refusal or body.decode()

    async def _await(self, node: int, tx_id: str, due: float) -> None:
        connection = Connection(PORT_BASE + node)
        await connection.open()
        raw = f"GET /rpc/getTx/{tx_id}?wait=final&timeout=30 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        status, body = await connection.request(raw.encode())
        if status == 200 and json.loads(body)["status"] == "final":
            self.latencies_ms.append((time.perf_counter() - due) * 1000)
        else:
            self.refused += 1


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 1) if ordered else -1.0


def pids(net: Devnet) -> dict[str, int]:
    found = {}
    for child in psutil.Process(net.process.pid).children(recursive=False):
        found[Path(os.readlink(f"/proc/{child.pid}/fd/1")).stem] = child.pid
    return found


def cpu_s(found: dict[str, int]) -> dict[str, float]:
    times = {name: psutil.Process(pid).cpu_times() for name, pid in found.items() if name.startswith("node")}
    return {name: spent.user + spent.system for name, spent in times.items()}


def blocks(first: int, last: int) -> list[Json]:
    return [ask(0, f"/rpc/getBlock/{height}?limit=1") for height in range(first, last + 1)]


def intervals(found: list[Json]) -> list[float]:
    times = [block["timestampMs"] for block in found]
    return [float(after - before) for before, after in itertools.pairwise(times)]


def figures(load: Load) -> Json:
    return {
        "final_elsewhere_p50_ms": percentile(load.latencies_ms, 0.5),
        "final_elsewhere_p99_ms": percentile(load.latencies_ms, 0.99),
        "samples": len(load.latencies_ms),
        "refused_or_not_final": load.refused,
        **({"first_refusal": load.first_refusal} if load.first_refusal else {}),
    }


def safe_on_disk() -> dict[str, Json]:
    """Sum and count of the first node's histograms."""
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT_BASE}/rpc/metrics", timeout=10) as answer:
        lines = [line.split() for line in answer.read().decode().splitlines() if not line.startswith("#")]
    figures = {words[0]: float(words[1]) for words in lines}
    names = {"log": "blockchain_agreement_log_seconds", "guard": "blockchain_signer_guard_seconds"}
    return {
        short: {"sum": figures[f"{name}_sum"], "count": figures[f"{name}_count"]}
        for short, name in names.items()
    }


def busy(net: Devnet, requests: dict[int, list[Raw]]) -> Json:
    machine_load = round(os.getloadavg()[0], 2)
    load, before, first, at = Load(list(range(NODES))), cpu_s(pids(net)), height(), time.perf_counter()
    own, disk = time.process_time(), safe_on_disk()
    asyncio.run(load.run(requests, SECONDS, RATE))
    seconds = time.perf_counter() - at
    after, spent = cpu_s(pids(net)), time.process_time() - own
    found = blocks(first + 1, height())
    gaps = intervals(found)[2:-2]
    return {
        "transfers_per_s": round(load.sent / seconds, 1),
        **figures(load),
        "block_interval_p50_ms": percentile(gaps, 0.5),
        "block_interval_p99_ms": percentile(gaps, 0.99),
        "cpu_cores_per_node": round(statistics.mean(after[n] - before[n] for n in after) / seconds, 3),
        "cpu_cores_client": round(spent / seconds, 3),
        "cpu_ms_per_transfer_and_node": round(
            statistics.mean(after[n] - before[n] for n in after) / load.sent * 1000, 3
        ),
        **{
            f"{name}_write_mean_ms": round(
                (now["sum"] - disk[name]["sum"]) / (now["count"] - disk[name]["count"]) * 1000, 2
            )
            for name, now in safe_on_disk().items()
        },
        "machine_load_before": machine_load,
        "skipped_slots": ask(0, "/rpc/consensus")["skips"],
    }


def height() -> int:
    return int(ask(0, "/rpc/getHead")["height"])


def without_one(net: Devnet, requests: dict[int, list[Raw]]) -> Json:
    """The last node dies half a second into the load on the others."""
    victim, first, skips = pids(net)[f"node-{NODES - 1}"], height(), ask(0, "/rpc/consensus")["skips"]
    load = Load(list(range(NODES - 1)))

    async def play() -> None:
        work = asyncio.ensure_future(load.run(requests, DEAD_S, RATE))
        await asyncio.sleep(0.7)
        os.kill(victim, signal.SIGKILL)
        await work

    asyncio.run(play())
    gaps = intervals(blocks(first + 1, height()))
    usual = statistics.median(gaps)
    return {
        **figures(load),
        "skipped_slots": ask(0, "/rpc/consensus")["skips"] - skips,
        "usual_interval_ms": round(usual, 1),
        "longest_interval_ms": max(gaps),
        "cost_of_dead_leader_first_ms": round(max(gaps) - usual, 1),
        "cost_after_five_seconds_ms": round(percentile(gaps[-20:], 0.99) - usual, 1),
    }


def back(data: Path) -> Json:
    """From the start of the process to its first vote at another node, and to the first certificate with one: three of
    four make a certificate, so the slowest may wait for its own turn."""
    last, folder = NODES - 1, data / f"node-{NODES - 1}"
    command = [AITBC, "node", "start", "--genesis", str(data / "genesis.json"), "--data", str(folder)]
    command += ["--proposer-key", str(folder / "proposer.key"), "--port", str(PORT_BASE + last)]
    command += ["--p2p-port", str(PORT_BASE + 100 + last)]
    for other in range(last):
        command += ["--peer", f"127.0.0.1:{PORT_BASE + 100 + other}"]
    behind, started = height(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    answers_s = heard_s = votes_s = None
    try:
        seen = behind
        while votes_s is None and time.perf_counter() - started < 30:
            time.sleep(0.02)
            if answers_s is None:
                with suppress(OSError):
                    ask(last, "/health")
                    answers_s = time.perf_counter() - started
            if heard_s is None:
                heard_ms = ask(0, "/rpc/consensus")["validators"][last]["heardMs"]
                since_s = time.perf_counter() - started
                heard_s = since_s if heard_ms / 1000 < since_s else None
            while seen < height():
                seen += 1
                certificate = ask(0, f"/rpc/getBlock/{seen}?limit=1")["certificate"]
                if certificate and certificate["bitmap"] >> last & 1:
                    votes_s = votes_s or time.perf_counter() - started
        return {
            "rpc_answers_s": round(answers_s or -1, 2),
            "votes_again_s": round(heard_s or -1, 2),
            "in_a_certificate_s": round(votes_s or -1, 2),
        }
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "net"
        options = ("--validators", str(NODES), "--block-time-ms", str(BLOCK_TIME_MS), "--idle-ms", "200")
        with devnet(*options, "--data", str(data)) as net:
            genesis_hash = bytes.fromhex(ask(0, "/rpc/getHead")["genesisHash"])
            count = RATE // NODES * (SECONDS + DEAD_S + 2)
            fund(genesis_hash)
            requests = {node: prepared(node, count, genesis_hash) for node in range(NODES)}
            results = {"busy": busy(net, requests), "one_killed": without_one(net, requests)}
            results["restart"] = back(data)
            refused = urllib.request.urlopen(f"http://127.0.0.1:{PORT_BASE}/rpc/metrics").read().decode()
            held = [line for line in refused.splitlines() if line.startswith("blockchain_network_refused")]
            print("\n".join(held), file=sys.stderr)
    save(
        "agreement",
        "p50 <= 250 ms, p99 <= 600 ms, interval <= 200 ms, a dead leader <= 600 ms, votes again <= 3 s",
        results,
    )


if __name__ == "__main__":
    main()
