"""One hub: its parts and how they reach each other. Routes and the provider link hold a `Hub` and nothing else."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from aitbc.client.errors import ClientError
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.jobs.lifecycle import State
from aitbc.core.jobs.reasons import JobReason
from aitbc.hub.accounts.service import Accounts
from aitbc.hub.admin import load_admin_token
from aitbc.hub.chain import Chain
from aitbc.hub.claims import ClaimWorker
from aitbc.hub.config import HubConfig
from aitbc.hub.gateway.policy import load_policies
from aitbc.hub.joblog import write_job_log
from aitbc.hub.jobs import Job, JobService
from aitbc.hub.limits import Handshakes, RateLimit
from aitbc.hub.matcher import Matcher
from aitbc.hub.metrics import Measures
from aitbc.hub.providers import Directory
from aitbc.hub.store import JobStore

log = logging.getLogger("aitbc.hub")

P = ParamSpec("P")
T = TypeVar("T")

DB_FILE = "hub.sqlite"
SWEEP_S = 5
"""How often quotes expire and old jobs are deleted."""
NODE_PAUSE_S = 0.05
COUNTERSIGNATURES_PER_MINUTE = 60
"""A registration that costs nothing is state that costs nothing: newcomers are welcome, floods are not."""


class Hub:
    """Made by `start`, ended by `stop`; in between it has one event loop and one database thread."""

    def __init__(self, config: HubConfig, chain: Chain) -> None:
        self.config = config
        self.chain = chain
        self.signer = config.signer
        self.followers = 0
        self.countersignatures = RateLimit(
            per_second=1, burst=COUNTERSIGNATURES_PER_MINUTE, monotonic=time.monotonic
        )
        self.quote_rate = RateLimit(
            per_second=config.quotes_per_second, burst=config.quotes_burst, monotonic=time.monotonic
        )
        self.seed003_rate = RateLimit(
            per_second=config.seed003_per_minute / 60,
            burst=config.seed003_per_minute,
            monotonic=time.monotonic,
        )
        self.admin_token = load_admin_token(config.data_dir)
        self.policies = load_policies(config.policies)
        self.measures = Measures(time.monotonic)
        self.directory = Directory(limit=config.max_providers, changed=self._providers_changed)
        self.matcher = Matcher(self.directory)
        self.handshakes = Handshakes(
            most=config.max_handshakes, most_per_host=config.max_handshakes_per_address
        )
        self._open_quotes: set[str] = set()
        self._background: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Learn the chain, open the store, take up what an earlier run left."""
        document = self.config.genesis or await self._genesis()
        self.genesis_hash = genesis_hash_of(jcs(document))
        self.genesis: dict[str, Any] = document
        self.chain_id: str = document["chain_id"]
        self._warn_when_unlisted(document)
        self._db_thread = ThreadPoolExecutor(1, thread_name_prefix="hub-db")
        self.store = await self._in_db_thread(
            JobStore, self.config.data_dir / DB_FILE, genesis_hash=self.genesis_hash.hex()
        )
        self.jobs = JobService(self)
        self.claims = ClaimWorker(self)
        self.accounts = Accounts(self)
        await self.accounts.start()
        await self._resume()
        self.in_background(self._sweep())

    async def close_streams(self) -> None:
        """End the connections that would never end by themselves: provider links and event streams."""
        for session in self.directory.sessions():
            session.shut()
        await self.jobs.stop()

    async def stop(self) -> None:
        """Leave everything on disk as it is; the next run goes on from there."""
        await self.close_streams()
        await self.claims.stop()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.accounts.stop()
        await self._in_db_thread(self.store.close)
        self._db_thread.shutdown()
        await self.chain.close()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # the database thread

    async def db(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the store on its thread; calls are performed in the order in which they are made."""
        return await self._in_db_thread(call, *args, **kwargs)

    def db_soon(self, call: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """The same for what nobody needs to wait for."""
        self.in_background(self._in_db_thread(call, *args, **kwargs))

    def _in_db_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._db_thread, partial(call, *args, **kwargs))

    def in_background(self, work: Any) -> None:
        """Keep a task until it is done and say so when it goes wrong."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: "asyncio.Task[Any]") -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work in the background failed", exc_info=task.exception())

    # quotes

    @property
    def quotes_full(self) -> bool:
        return len(self._open_quotes) >= self.config.max_quotes

    def quote_made(self, job_id: str) -> None:
        self._open_quotes.add(job_id)

    def quote_taken(self, job_id: str) -> None:
        self._open_quotes.discard(job_id)

    def job_ended(self, job: Job) -> None:
        """Its story is told: write it down, settle what an account pays for it."""
        write_job_log(job, now_ms=self.now_ms())
        self.measures.job_ended(job)
        self.accounts.job_ended(job)

    # inside

    async def _genesis(self) -> dict[str, Any]:
        """The genesis document; a node that is just starting gets the time that the configuration allows."""
        deadline = time.monotonic() + self.config.node_wait_s
        while True:
            try:
                return await self.chain.genesis()
            except ClientError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(NODE_PAUSE_S)

    def _warn_when_unlisted(self, document: dict[str, Any]) -> None:
        if self.signer.address not in document.get("params", {}).get("hubs", []):
            log.warning(
                "%s is not in the genesis list of hubs: its receipts mint nothing", self.signer.address
            )

    def _providers_changed(self) -> None:
        self.matcher.match()

    async def _resume(self) -> None:
        for record in await self.db(self.store.unfinished_jobs):
            match record.state:
                case State.QUOTED:
                    self._open_quotes.add(record.quote.job_id)
                case State.DELIVERED:
                    pass  # its receipt is among the open ones
                case _:
                    attempts = await self.db(self.store.attempts, record.quote.job_id)
                    self.jobs.resume(record, attempts)
        for entry in await self.db(self.store.open_receipts):
            self.claims.add(entry)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._sweep_once(self.now_ms())
            except sqlite3.Error:
                log.exception("the database refuses; expired quotes stay until it works again")

    async def _sweep_once(self, now_ms: int) -> None:
        gone = await self.db(
            self.store.expire_quotes,
            now_ms,
            spare=self.jobs.starting,
            reason=JobReason.QUOTE_EXPIRED,
            message="no lock came in time",
        )
        self._open_quotes.difference_update(gone)
        await self.db(
            self.store.forget,
            ended_before_ms=now_ms - self.config.retention_s * 1000,
            unused_before_ms=now_ms - self.config.unused_retention_s * 1000,
        )
