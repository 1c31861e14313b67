"""Kill what can be killed while jobs are under way: nothing is lost, nothing is paid twice, nothing stays reserved.

One hub on SQLite, and two hubs on one PostgreSQL. The long form (`make test-long`) goes on for minutes.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from aitbc.core.types.reasons import Rejected
from aitbc.hub.store import open_store
from hub.market import LedgerNode, Market, bearer, free_port, served
from support.postgres import connected, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

START = """
import sys
from pathlib import Path
from aitbc.adapters.keystore import devnet_keys
from aitbc.client.signing import KeySigner
from aitbc.hub.config import HubConfig
from aitbc.hub.main import run
rpc, folder, port, url = sys.argv[1:5]
sys.exit(run(HubConfig(
    signer=KeySigner(devnet_keys()["hub"]), data_dir=Path(folder), rpc_url=rpc, bind_port=int(port),
    heartbeat_ms=300, claim_retry_least_s=0.05, retry_wait_s=30, node_wait_s=5, batch_least=3, batch_s=0.3,
    database_url=url, refunds=False, deliver_s=110, claim_s=60,
)))
"""


class OneOfMany(Market):
    """A hub that is a process of its own, with providers of its own."""

    def __init__(self, folder: Path, node: LedgerNode, rpc_url: str, url: str) -> None:
        super().__init__(folder, node=node)
        self.arguments = [rpc_url, str(folder / "hub"), str(free_port()), url]
        self.url = f"http://127.0.0.1:{self.arguments[2]}"
        self.http = httpx2.AsyncClient(base_url=self.url, timeout=10)
        self.process: subprocess.Popen[bytes] | None = None

    async def boot(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *self.arguments], stderr=subprocess.DEVNULL
        )
        for _ in range(1_000):
            try:
                await self.http.get("/v1/health")
                return
            except httpx2.HTTPError:
                await asyncio.sleep(0.02)
        raise AssertionError("the hub did not come up")

    async def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            await asyncio.to_thread(self.process.wait, 10)
            self.process = None


async def patiently(call: Any, *, within: float = 60) -> Any:
    """As a client does: again, until somebody answers."""
    deadline = time.monotonic() + within
    while True:
        try:
            answer = await call()
            if answer.status_code < 500 and answer.status_code != 429:
                return answer
        except httpx2.HTTPError:
            pass
        assert time.monotonic() < deadline, "nobody answers"
        await asyncio.sleep(0.1)


def release(node: LedgerNode) -> None:
    """What was held back reaches the chain, as far as it still can: of two with one nonce, the first."""
    node.hold = lambda _tx: False
    held, node._held = node._held, {}
    for tx in held.values():
        with contextlib.suppress(Rejected):
            node.submit(tx)


async def one_job(places: list[OneOfMany], number: int, wallet: asyncio.Lock) -> Any:
    """Quote, lock, start, wait for the end; with whichever hub answers."""
    place = places[number % len(places)]
    words = "crawl " * (number % 4)
    quote = (await patiently(lambda: place.ask_quote(f"{words}tale {number}"))).json()
    async with wallet:
        lock = await place.lock(quote)
    answer = await patiently(lambda: places[number % len(places)].start(quote, lock))
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 100
    while True:
        for each in places:
            try:
                path = f"/v1/jobs/{quote['job_id']}"
                status = (await each.http.get(path, headers=bearer(quote))).json()
            except (httpx2.HTTPError, ValueError):
                continue
            if status.get("state") in ("settled", "failed", "expired", "canceled"):
                return {**status, "quote": quote}
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.3)


async def trouble(
    places: list[OneOfMany], node: LedgerNode, server: str, rng: random.Random, rounds: int
) -> None:
    """One thing after the other breaks."""
    for turn in range(rounds):
        await asyncio.sleep(rng.uniform(0.4, 1.2))
        place = rng.choice(places)
        what = ["hub", "provider", "node", "connections" if server else "hub"][turn % 4]
        if what == "hub":
            await place.kill()
            await asyncio.sleep(rng.uniform(0, 0.5))
            await place.boot()
        elif what == "provider" and place.providers:
            await place.drop(rng.choice(place.providers))
            await place.add_provider(f"{place.folder.name} again {turn}", wait=False)
        elif what == "node":
            node.hold = lambda tx: tx.type in ("RECEIPT_CLAIM", "RECEIPT_BATCH", "SETTLE")
            await asyncio.sleep(0.5)
            await asyncio.to_thread(release, node)
        elif what == "connections":
            with connected(server) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'aitbc hub'"
                )


async def chaos(folder: Path, url: str, server: str, *, jobs: int, rounds: int, seed: int) -> None:
    node = LedgerNode()
    with served(node) as rpc_url:
        places = [OneOfMany(folder / f"h{number}", node, rpc_url, url) for number in range(2 if url else 1)]
        try:
            for number, place in enumerate(places):
                place.folder.mkdir()
                await place.boot()
                for name in range(2):
                    await place.add_provider(f"hub {number} provider {name}")
            await asyncio.to_thread(
                node.send, "alice", "TRANSFER", {"to": places[0].signers["hub"].address, "amount": 1_000_000}
            )
            supply = total(node)
            breaking = asyncio.create_task(trouble(places, node, server, random.Random(seed), rounds))
            wallet = asyncio.Lock()
            ends = await asyncio.gather(*[one_job(places, number, wallet) for number in range(jobs)])
            await breaking
        finally:
            for place in places:
                for provider in place.providers:
                    await provider.stop()
                await place.kill()
                await place.http.aclose()
    check(folder, url, node, ends, supply)


def total(node: LedgerNode) -> int:
    """Everything that exists on the chain, in accounts and in locks."""
    state = node.executor.state
    accounts = sum([account.balance for _, account in state.items("accounts")])
    return accounts + sum(
        [lock.amount - lock.paid for _, lock in state.items("locks") if lock.status == "open"]
    )


def check(folder: Path, url: str, node: LedgerNode, ends: list[Any], supply: int) -> None:
    state = node.executor.state
    lost = [end for end in ends if end["state"] != "settled"]
    assert lost == [], "every job was possible, so every job is done"
    locks = {end["lock"]: state.get("locks", end["lock"]) for end in ends}
    assert {lock.status for lock in locks.values()} == {"settled"}, "nothing stays reserved"
    store = open_store(
        url, default=folder / "h0" / "hub" / "hub.sqlite", genesis_hash=node.genesis_hash.hex()
    )
    try:
        for end in ends:
            entries = store.receipts_of_job(end["quote"]["job_id"])
            assert [entry.state for entry in entries] == ["claimed"]
            assert entries[0].signed.attestation.price == locks[end["lock"]].paid, (
                "paid once, what was attested"
            )
            assert len(store.attempts(end["quote"]["job_id"])) <= 3
        assert store.open_receipts() == []
        assert store.unfinished() == 0
    finally:
        store.close()
    minted = sum(
        [
            event["amount"]
            for tx in node.places
            for event in (node.transaction(tx, proof=False)["receipt"] or {}).get("events", [])
            if event["kind"] == "minted"
        ]
    )
    burned = supply + minted - total(node)
    assert 0 <= burned <= supply // 100, "supply is what it was, what was minted, less fees that were burned"


def test_one_hub_on_sqlite(tmp_path: Path) -> None:
    asyncio.run(chaos(tmp_path, "", "", jobs=8, rounds=4, seed=1))


def test_two_hubs_on_one_postgresql(tmp_path: Path, postgres_server: str, postgres_url: str) -> None:
    asyncio.run(chaos(tmp_path, postgres_url, postgres_server, jobs=10, rounds=4, seed=2))


@pytest.mark.long
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", range(3))
def test_minutes_of_it(tmp_path: Path, postgres_server: str, postgres_url: str, seed: int) -> None:
    asyncio.run(chaos(tmp_path, postgres_url, postgres_server, jobs=60, rounds=60, seed=seed))
