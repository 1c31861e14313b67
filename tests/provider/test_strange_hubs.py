"""A hub that is not who it says it is, offers work that nobody pays for, or forgets what it owes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve

from aitbc.client.signing import KeySigner
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.jobs import link
from aitbc.core.jobs.receipts import Offer
from aitbc.ports import EngineOutput
from aitbc.provider.config import ProviderConfig
from aitbc.provider.joblog import JsonLog
from aitbc.provider.link import HubLink
from aitbc.provider.work import Worker
from hub.market import market, until
from provider.test_offers import CARDS, LOCK, OFFER, OneLock
from support.people import EVE, HUB, PROVIDER

GENESIS_HASH = bytes(32)


@asynccontextmanager
async def hub_that_welcomes_as(signer: KeySigner) -> AsyncIterator[str]:
    """Says that it is HUB, and signs its welcome validly with the key of `signer`; yields its URL."""

    async def welcome(connection: ServerConnection) -> None:
        facts = {"hub": HUB.address, "genesis_hash": GENESIS_HASH}
        challenge = link.Challenge(
            version=link.VERSION,
            nonce="22" * 32,
            hub=HUB.address,
            chain_id="ait-test",
            genesis_hash=GENESIS_HASH.hex(),
        )
        await connection.send(link.encode_message(challenge))
        hello = link.decode_from_provider(str(await connection.recv()))
        assert isinstance(hello, link.Hello)
        digest = link.welcome_digest(hello_nonce=hello.nonce, provider=hello.address, **facts)
        said = link.Welcome(
            pubkey=key_to_text(signer.auth_key), sig=signer.sign(digest).hex(), heartbeat_ms=1_000
        )
        await connection.send(link.encode_message(said))
        await connection.wait_closed()

    async with serve(welcome, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("signer", "linked"), [(HUB, True), (EVE, False)], ids=["its own key", "another"])
def test_a_welcome_must_be_signed_with_the_key_of_the_hub_that_was_named(
    tmp_path: Path, signer: KeySigner, linked: bool
) -> None:
    async def story() -> None:
        async with hub_that_welcomes_as(signer) as url:
            hub_link = HubLink(
                ProviderConfig(signer=PROVIDER, data_dir=tmp_path, hub_url=url),
                genesis_hash=GENESIS_HASH,
                cards=lambda: CARDS,
                running=list,
                vram_mb=0,
                on_message=lambda _session, _message: None,
                on_linked=lambda: None,
                on_lost=lambda: None,
            )
            running = asyncio.create_task(hub_link.run())
            await until(lambda: hub_link.session or hub_link.last_error)
            assert (hub_link.session is not None) == linked
            assert ("does not hold the key of " + HUB.address in hub_link.last_error) != linked
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())


class SlowEngine:
    """Needs `seconds` for every answer."""

    ready = True
    cards = CARDS

    def __init__(self, seconds: float = 0) -> None:
        self.seconds = seconds
        self.runs = 0

    async def run(self, **_: Any) -> tuple[EngineOutput, int]:
        self.runs += 1
        await asyncio.sleep(self.seconds)
        output = EngineOutput(
            data=b" a story",
            media_type="text/plain; charset=utf-8",
            counts={"in": 1, "out": 2},
            transcript=[bytes(32)],
            notes={},
        )
        return output, 1


def said_by_a_worker(folder: Path, engine: Any, offer: Offer, lock: dict[str, Any] | None) -> list[Any]:
    """Everything that the hub hears about one offer."""
    said: list[Any] = []

    async def keep(result: link.Result, _data: bytes) -> None:
        said.append(result)

    async def story() -> None:
        config, chain = ProviderConfig(signer=PROVIDER, data_dir=folder), OneLock(lock)
        worker = Worker(config, chain=chain, engine=engine, joblog=JsonLog(folder / "jobs.jsonl"))  # type: ignore[arg-type]
        worker.chain_id, worker.genesis_hash = offer.chain_id, GENESIS_HASH
        task = link.Task(task_id=link.task_id_of(offer), lease_ms=1_000, offer=offer)
        await asyncio.wait_for(worker.do(task, hub=HUB.address, send=said.append, send_result=keep), 3)

    asyncio.run(story())
    return said


def offer_due_in(seconds: float) -> tuple[Offer, dict[str, Any]]:
    """An offer and the lock that pays for it. The provider's prices are AIT per 1,000 units by default, as here."""
    deliver_by_ms = int((time.time() + seconds) * 1000)
    times = {"deliver_by_ms": deliver_by_ms, "claim_until_ms": deliver_by_ms + 60_000}
    return msgspec.structs.replace(OFFER, **times), {**LOCK, "claim_until_ms": times["claim_until_ms"]}


def test_work_that_no_lock_pays_for_is_not_begun(tmp_path: Path) -> None:
    engine = SlowEngine()
    offer, lock = offer_due_in(60)
    (declined,) = said_by_a_worker(tmp_path, engine, offer, None)
    assert (type(declined), declined.reason) == (link.Declined, "lock_not_final")
    (declined,) = said_by_a_worker(tmp_path, engine, offer, {**lock, "status": "refunded"})
    assert (type(declined), declined.reason) == (link.Declined, "lock_mismatch")
    assert engine.runs == 0
    said = said_by_a_worker(tmp_path, engine, offer, lock)
    assert [type(message) for message in said] == [link.Accepted, link.Result]


def test_an_engine_slower_than_the_deadline_is_stopped_and_the_hub_hears_of_it(tmp_path: Path) -> None:
    offer, lock = offer_due_in(0.3)
    accepted, failed = said_by_a_worker(tmp_path, SlowEngine(seconds=60), offer, lock)
    assert isinstance(accepted, link.Accepted)
    assert (failed.reason, failed.message) == ("failed", "not finished before the deadline")


def test_with_too_much_unpaid_no_more_work_is_taken(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM"
            provider = await place.add_provider(max_unclaimed=2)
            for number in (1, 2):
                await place.until_state(await place.begin(), "delivered")
                await until(lambda number=number: provider.claims and provider.claims.unclaimed == number)
            third = await place.begin()
            status = await place.until_state(third, "queued")
            while not status["reason"]:
                status = await place.until_state(third, "queued")
            assert status["reason"] == "provider_refused"
            assert status["message"].endswith("declined (busy): 2 receipts wait for the chain")
            assert provider.worker.jobs_done == 2

    asyncio.run(story())
