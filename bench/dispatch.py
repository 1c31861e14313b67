"""How fast a hub gives work away: 1,000 providers whose engine does nothing, 100,000 jobs waiting.

    python bench/dispatch.py [jobs] [providers]        DATABASE_URL=postgresql://…  measures PostgreSQL too

The providers are sessions in this process: the hub's own work (queue, draw, lease on disk, message, check of the signed
delivery, attestation on disk) is real and all there; sockets, locks on a chain and claims are not. `dispatch`: every
provider has 64 slots and holds what it is given. `whole life`: every job is delivered, checked and attested at once;
half of that time is the fake provider's signing. `latency`: jobs come at 500 a second and are held by who gets them.
"""

import asyncio
import gc
import os
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from common import Json, save

from aitbc.client.signing import KeySigner
from aitbc.core.codec.digests import receipt_core_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.jobs import link
from aitbc.core.jobs.receipts import Computed, Delivery, Offer, build_core, build_details
from aitbc.core.jobs.requests import normalise_request, request_hash_of
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from aitbc.hub.config import HubConfig
from aitbc.hub.hub import Hub
from aitbc.hub.providers import ProviderSession
from aitbc.hub.records import NewReservation, NewTask, Quote
from aitbc.hub.store import open_store

MODEL, DIGEST, PRICE = "tiny-lm", "sha256:" + "11" * 32, 1_000
CLIENTS = 100
GENESIS: Json = {"chain_id": "bench", "params": {"hubs": []}}
HUB = KeySigner(sha256(b"bench hub").digest())


class NoChain:
    """Locks and claims are measured elsewhere."""

    async def close(self) -> None:
        pass


class Nothing:
    """Attested receipts end here."""

    def __init__(self) -> None:
        self.open = 0

    def add(self, _entry: Any) -> None:
        self.open += 1

    async def stop(self) -> None:
        pass


class FakeProvider(ProviderSession):
    """Answers at once when it `works`, else holds what it gets."""

    works = True
    pushed: list[tuple[str, float]]

    def __init__(self, hub: Hub, number: int, *, slots: int) -> None:
        self.signer = KeySigner(sha256(f"bench provider {number}".encode()).digest())
        model = link.LinkModel(model=MODEL, kind="chat", digest=DIGEST, price_per_kilounit=PRICE)
        hello = link.Hello(
            version=1,
            address=self.signer.address,
            pubkey=key_to_text(self.signer.auth_key),
            nonce="0" * 64,
            sig="",
            models=[model],
            slots=slots,
            device="fake",
        )
        super().__init__(hello, auth_key=self.signer.auth_key)
        self.eligible = frozenset({MODEL})
        self.hub = hub

    def post(self, message: link.FromHub) -> None:
        link.encode_message(message)
        if isinstance(message, link.Task):
            self.pushed.append((message.offer.job_id, time.perf_counter()))
            if self.works:
                asyncio.get_running_loop().call_soon(self._work, message)

    def _work(self, task: link.Task) -> None:
        self.deliver(task.task_id, link.Accepted(task_id=task.task_id))
        delivery = self._delivery(task.offer)
        result = link.Result(task_id=task.task_id, size=6, delivery=delivery)
        self.deliver(task.task_id, result, b" words")
        self.free_slot(task.task_id)
        self.hub.provider_changed(self)

    def _delivery(self, offer: Offer) -> Delivery:
        computed = Computed(
            data=b" words",
            counts={"in": 1, "out": 2},
            transcript=[],
            notes={},
            started_ms=1,
            finished_ms=2,
            engine_ms=1,
        )
        details = build_details(offer, computed)
        core = build_core(offer, details)
        sig = self.signer.sign(receipt_core_digest(core, self.hub.genesis_hash)).hex()
        return Delivery(details=details, core=core, sig=sig, media_type="text/plain; charset=utf-8")


def made_quote(number: int) -> Quote:
    request = normalise_request(
        profile_of(MODEL), {"prompt": f"job {number}", "max_tokens": 8}, nonce=f"{number:032x}"
    )
    units = worst_case_units(profile_of(MODEL), request)
    now_ms = time.time_ns() // 1_000_000
    return Quote(
        job_id=f"job_{number:024}",
        token_hash="",
        client=f"ait1client{number % CLIENTS}",
        kind="chat",
        model=MODEL,
        request=request,
        request_hash=request_hash_of(request),
        units=units,
        price_per_kilounit=PRICE,
        price=price_of(units, PRICE),
        deliver_by_ms=now_ms + 3_600_000,
        claim_until_ms=now_ms + 7_200_000,
        expires_ms=now_ms + 3_600_000,
        created_ms=now_ms,
    )


def fill(folder: Path, url: str, jobs: int) -> None:
    """A backlog, as hubs leave it."""
    from aitbc.core.codec.canonical import jcs
    from aitbc.core.codec.digests import genesis_hash_of

    store = open_store(url, default=folder / "hub.sqlite", genesis_hash=genesis_hash_of(jcs(GENESIS)).hex())
    for start in range(0, jobs, 1_000):
        quotes = [made_quote(number) for number in range(start, min(jobs, start + 1_000))]
        with store.group():
            for quote in quotes:
                store.add_quote(quote)
            store.reserve([_reservation(quote, number) for number, quote in enumerate(quotes, start)])
    store.close()


def _reservation(quote: Quote, number: int) -> NewReservation:
    task = NewTask(part=0, cap=MODEL, job_class=1, vfinish=number // CLIENTS, units=quote.units)
    return NewReservation(
        job_id=quote.job_id,
        lock=f"{number:064x}",
        first_task=0,
        randomness=sha256(quote.job_id.encode()).digest(),
        tasks=[task],
        deliver_by_ms=quote.deliver_by_ms,
        owner="",
        at_ms=quote.created_ms,
    )


async def opened(folder: Path, url: str) -> tuple[Hub, float]:
    hub = Hub(
        HubConfig(signer=HUB, data_dir=folder, genesis=GENESIS, database_url=url, accept_s=600), NoChain()
    )  # type: ignore[arg-type]
    began = time.perf_counter()
    await hub.start()
    hub.claims = Nothing()  # type: ignore[assignment]
    return hub, time.perf_counter() - began


def join(hub: Hub, providers: int, *, slots: int, works: bool) -> list[tuple[str, float]]:
    pushed: list[tuple[str, float]] = []
    FakeProvider.works, FakeProvider.pushed = works, pushed
    sessions = [FakeProvider(hub, number, slots=slots) for number in range(providers)]
    for session in sessions:
        hub.directory.join(session)
    hub.matcher.match(MODEL)
    hub.feeder.wake()
    return pushed


async def backlog(url: str, jobs: int, providers: int, *, slots: int, works: bool) -> Json:
    """From the moment in which everybody is connected until everything that can be pushed is."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, url, jobs)
        hub, start_s = await opened(folder, url)
        target = jobs if works else min(jobs, providers * slots)
        gc.collect()
        cpu, began = time.process_time(), time.perf_counter()
        pushed = join(hub, providers, slots=slots, works=works)
        while len(pushed) < target or (works and hub.claims.open < target):
            await asyncio.sleep(0.01)
            assert time.perf_counter() - began < 300, f"{len(pushed)} of {target}"
        took = time.perf_counter() - began
        cpu = time.process_time() - cpu
        await hub.stop()
        assert len({job for job, _ in pushed}) == len(pushed) == target, "each once"
        return {
            "jobs_per_s": round(target / took),
            "cpu_us_per_job": round(cpu / target * 1e6),
            "restart_with_backlog_s": round(start_s, 2),
        }


async def latency(url: str, providers: int, *, per_s: int = 500, seconds: int = 10) -> Json:
    """Enqueue to push, open loop."""
    with tempfile.TemporaryDirectory() as name:
        hub, _ = await opened(Path(name), url)
        pushed = join(hub, providers, slots=64, works=False)
        asked: dict[str, float] = {}
        quotes = [made_quote(10_000_000 + number) for number in range(per_s * seconds)]
        for quote in quotes:
            await hub.db(hub.store.add_quote, quote)
        began = time.perf_counter()
        waiting = set()
        for number, quote in enumerate(quotes):
            delay = began + number / per_s - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            asked[quote.job_id] = began + number / per_s
            task = asyncio.create_task(
                hub.jobs.enqueue(
                    quote, lock=f"{10_000_000 + number:064x}", first_task=0, randomness=bytes(32)
                )
            )
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        while len(pushed) < len(quotes):
            await asyncio.sleep(0.01)
        await hub.stop()
        waits = sorted([(at - asked[job]) * 1_000 for job, at in pushed])
        return {
            name: round(waits[int(len(waits) * share)], 1)
            for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
        }


def fresh(url: str) -> str:
    """An empty schema on the server, by name."""
    if not url:
        return ""
    import psycopg

    schema = f"bench_{time.time_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    providers = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    results: Json = {}
    for kind, url in (("sqlite", ""), ("postgresql", os.environ.get("DATABASE_URL", ""))):
        if kind == "sqlite" or url:
            life = min(jobs, 20_000)
            results[kind] = {
                "dispatch": asyncio.run(backlog(fresh(url), jobs, providers, slots=64, works=False)),
                "whole life": asyncio.run(backlog(fresh(url), life, providers, slots=1, works=True)),
                "latency at 500/s": asyncio.run(latency(fresh(url), providers)),
            }
    goal = "dispatch ≥ 1,000 jobs/s on SQLite, 2,000 on PostgreSQL; p99 enqueue → push ≤ 50 ms at 500/s; restart ≤ 5 s"
    save("dispatch", goal, results)


if __name__ == "__main__":
    main()
