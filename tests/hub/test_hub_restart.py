"""A hub process is killed with -9: what it attested is still owed and claimed, what was running runs again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from aitbc.hub.store import JobStore, open_store
from aitbc.ports import StorageError
from hub.market import LedgerNode, Market, free_port, served, until

START = """
import sys
from pathlib import Path
from aitbc.adapters.keystore import devnet_keys
from aitbc.client.signing import KeySigner
from aitbc.hub.config import HubConfig
from aitbc.hub.main import run
rpc, folder, port = sys.argv[1:4]
sys.exit(run(HubConfig(
    signer=KeySigner(devnet_keys()["hub"]), data_dir=Path(folder), rpc_url=rpc, bind_port=int(port),
    heartbeat_ms=300, claim_retry_least_s=0.05, retry_wait_s=5, node_wait_s=0.3,
)))
"""


class HubProcess(Market):
    """A market whose hub is a process of its own."""

    def __init__(self, folder: Path, node: LedgerNode, rpc_url: str) -> None:
        super().__init__(folder, node=node)
        self.rpc_url = rpc_url
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx2.AsyncClient(base_url=self.url, timeout=10)
        self.process: subprocess.Popen[str] | None = None

    async def boot(self) -> None:
        self.process = self.spawn()
        for _ in range(500):
            try:
                await self.http.get("/v1/health")
                return
            except httpx2.ConnectError:
                await asyncio.sleep(0.02)
        raise AssertionError("the hub did not come up")

    def spawn(self) -> "subprocess.Popen[str]":
        arguments = [self.rpc_url, str(self.folder / "hub"), str(self.port)]
        return subprocess.Popen([sys.executable, "-c", START, *arguments], stderr=subprocess.PIPE, text=True)

    def end(self, number: int) -> int:
        assert self.process is not None
        os.kill(self.process.pid, number)
        code = self.process.wait(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process = None
        return code


@asynccontextmanager
async def hub_process(folder: Path) -> AsyncIterator[HubProcess]:
    node = LedgerNode()
    with served(node) as rpc_url:
        place = HubProcess(folder, node, rpc_url)
        await place.boot()
        try:
            yield place
        finally:
            for provider in place.providers:
                await provider.stop()
            if place.process is not None:
                place.end(signal.SIGKILL)
            await place.http.aclose()


def test_attested_receipts_survive_kill_9_and_are_claimed(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_process(tmp_path) as place:
            await place.add_provider()
            place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM"
            quotes = [await place.begin(f"story {number}") for number in range(3)]
            for quote in quotes:
                await place.until_state(quote, "delivered")
            results = [(await place.result(quote)).json() for quote in quotes]
            place.end(signal.SIGKILL)

            place.node._held.clear()  # the chain never heard of the claims
            place.node.hold = lambda _tx: False
            await place.boot()
            for quote, before in zip(quotes, results, strict=True):
                status = await place.until_state(quote, "settled")
                after = (await place.result(quote)).json()
                assert {**after, "claim_tx": ""} == {**before, "claim_tx": ""}
                assert status["claim_tx"] == after["claim_tx"] != ""
                assert place.node.minted_for(after["receipt_id"]) is not None
                events = await place.events(quote)
                assert "".join([event.get("text", "") for event in events]).endswith("the end.")
                assert events[-1]["state"] == "delivered"

    asyncio.run(story())


def test_a_claim_that_arrived_before_the_kill_is_not_made_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_process(tmp_path) as place:
            await place.add_provider()
            place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM"
            quote = await place.begin()
            await place.until_state(quote, "delivered")
            await until(lambda: len(place.node._held) == 1)
            await asyncio.sleep(0.1)
            place.end(signal.SIGKILL)
            await asyncio.to_thread(place.node.release)
            (claim,) = [tx for tx in place.node.places if tx_type(place.node, tx) == "RECEIPT_CLAIM"]
            await place.boot()
            status = await place.until_state(quote, "settled")
            assert status["claim_tx"] == claim
            assert len([tx for tx in place.node.places if tx_type(place.node, tx) == "RECEIPT_CLAIM"]) == 1

    asyncio.run(story())


def tx_type(node: LedgerNode, tx_id: str) -> str:
    return str(node.transaction(tx_id, proof=False)["tx"]["type"])


def test_a_job_that_ran_during_the_kill_runs_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_process(tmp_path) as place:
            provider = await place.add_provider()
            quote = await place.begin("crawl " * 10)
            await place.until_state(quote, "running")
            place.end(signal.SIGKILL)
            await until(lambda: not provider.worker.running, within=3)
            await place.boot()
            status = await place.until_state(quote, "settled", within=20)
            assert status["attempts"] == 2

    asyncio.run(story())


def test_a_quote_outlives_its_hub(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_process(tmp_path) as place:
            provider = await place.add_provider()
            quote = await place.quote()
            lock = await place.lock(quote)
            place.end(signal.SIGKILL)
            await place.boot()
            await until(lambda: provider.eligible)
            assert (await place.start(quote, lock)).status_code == 202
            await place.until_state(quote, "settled")

    asyncio.run(story())


def test_sigterm_ends_a_hub_in_order(tmp_path: Path) -> None:
    async def story() -> None:
        async with hub_process(tmp_path) as place:
            await place.add_provider()
            quote = await place.begin("crawl " * 100)
            await place.until_state(quote, "running")
            began = time.monotonic()
            assert await asyncio.to_thread(place.end, signal.SIGTERM) == 0
            assert time.monotonic() - began < 4

    asyncio.run(story())


def test_a_second_hub_does_not_use_the_same_folder(tmp_path: Path) -> None:
    def opened(name: str = "hub.sqlite", genesis_hash: str = "aa") -> JobStore:
        return open_store("", default=tmp_path / name, genesis_hash=genesis_hash)

    store = opened()
    with pytest.raises(StorageError, match="another hub"):
        opened()
    store.close()
    opened().close()
    with pytest.raises(StorageError, match="another chain"):
        opened(genesis_hash="bb")
    (tmp_path / "other.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="move it away"):
        opened("other.sqlite")


def test_a_hub_without_a_node_says_so(tmp_path: Path) -> None:
    arguments = [f"http://127.0.0.1:{free_port()}", str(tmp_path), str(free_port())]
    done = subprocess.run(
        [sys.executable, "-c", START, *arguments], capture_output=True, text=True, timeout=20
    )
    assert done.returncode != 0
    assert "cannot be reached" in done.stderr
