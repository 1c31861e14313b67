"""One hub: its parts and how they reach each other. Routes and the provider link hold a `Hub` and nothing else."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from aitbc.client.errors import ClientError
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.jobs.reputation import Standing
from aitbc.hub.accounts.service import Accounts
from aitbc.hub.admin import load_admin_token
from aitbc.hub.audits import Audits
from aitbc.hub.calibration import Calibrations
from aitbc.hub.chain import Chain
from aitbc.hub.claims import ClaimWorker
from aitbc.hub.config import HubConfig
from aitbc.hub.dbthread import DbThread
from aitbc.hub.feeder import Feeder
from aitbc.hub.gateway.policy import load_policies
from aitbc.hub.joblog import write_job_log
from aitbc.hub.jobs import JobService
from aitbc.hub.limits import Handshakes, RateLimit
from aitbc.hub.matcher import Matcher
from aitbc.hub.metrics import Measures
from aitbc.hub.parts import Job
from aitbc.hub.providers import Directory, ProviderSession
from aitbc.hub.refunds import Refunds
from aitbc.hub.sender import Sender
from aitbc.hub.speeds import Speeds
from aitbc.hub.store import JobStore, open_store
from aitbc.ports import StorageError

log = logging.getLogger("aitbc.hub")

P = ParamSpec("P")
T = TypeVar("T")
I = TypeVar("I")  # noqa: E741

DB_FILE = "hub.sqlite"
SWEEP_S = 5
"""How often quotes expire and old jobs are deleted."""
ALIVE_S, ALIVE_EVERY_S = 6.0, 1.5
"""A process that has not said that it is alive for so long is dead: what it had is taken over."""
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
        self.process = secrets.token_hex(8)
        """Names this run among the processes on one database; never used again."""
        self.open_jobs = 0
        """Between lock and delivery, everywhere on this database; counted anew at each sweep."""
        self.speeds = Speeds()
        self.directory = Directory(limit=config.max_providers)
        self.feeder = Feeder(self)
        self.matcher = Matcher(self.directory, policy=config.matching, hungry=self.feeder.hungry)
        self._standings: dict[str, Standing] = {}
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
        self._thread = DbThread()
        try:
            self.store: JobStore = await self._thread.call(
                open_store,
                self.config.database_url,
                default=self.config.data_dir / DB_FILE,
                genesis_hash=self.genesis_hash.hex(),
            )
        except BaseException:
            await self._thread.stop()
            raise
        self._thread.store = self.store
        self.jobs = JobService(self)
        self.sender = Sender(self)
        self.refunds = Refunds(self)
        self.audits = Audits(self)
        await self.audits.start()
        self.claims = ClaimWorker(self, self.sender)
        self.calibrations = Calibrations(self)
        self.accounts = Accounts(self)
        await self.accounts.start()
        await self._resume()
        self.in_background(self._sweep())
        self.in_background(self._stay_alive())
        self.in_background(self.feeder.run())
        if self.config.calibrate:
            self.in_background(self.calibrations.run())
        if self.config.refunds:
            self.in_background(self.refunds.run())
        if self.store.database.shared:
            self.in_background(self.feeder.listen())

    async def close_streams(self) -> None:
        """End the connections that would never end by themselves: provider links and event streams."""
        for session in self.directory.sessions():
            session.shut()
        await self.jobs.stop()

    async def stop(self) -> None:
        """Leave everything on disk as it is; the next run goes on from there."""
        await self.close_streams()
        await self.claims.stop()
        await self.calibrations.stop()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        try:
            await self._save_standings()
            await self.audits.stop()
            await self.db(self.store.leave, self.process)
        except StorageError as error:
            log.error("the database refuses the last words: %s", error)
        await self.accounts.stop()
        await self._thread.stop()
        self.store.close()
        await self.chain.close()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    # the database thread

    def db(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "asyncio.Future[T]":
        """Run a method of the store on its thread; calls are performed in the order in which they are made."""
        return self._thread.call(call, *args, **kwargs)

    def batched(self, call: Callable[[Sequence[I]], Sequence[T]], item: I) -> "asyncio.Future[T]":
        """The same for one item of a method that takes many: what waits together is one statement."""
        return self._thread.batched(call, item)

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

    # providers

    def provider_changed(self, session: ProviderSession) -> None:
        """It may be able to work, or not any more."""
        self.directory.refresh(session)
        for model in session.eligible:
            self.matcher.match(model)

    def standing_changed(self, session: ProviderSession) -> None:
        """How its work turned out: weighs in the next draw, on disk with the next sweep."""
        self._standings[session.address] = session.standing
        self.directory.refresh(session)

    async def know(self, session: ProviderSession) -> None:
        """What earlier runs and other processes have learnt of it."""
        known = self._standings.get(session.address)
        session.standing = known if known else await self.db(self.store.standing, session.address)

    async def _save_standings(self) -> None:
        changed, self._standings = self._standings, {}
        if changed:
            await self.db(self.store.save_standings, changed)

    # inside

    async def _resume(self) -> None:
        """Take up what earlier runs left, and what processes that died had."""
        now_ms = self.now_ms()
        if not self.store.database.shared:
            await self.db(self.store.bury)
        await self.db(self.store.alive, self.process, until_ms=now_ms + int(ALIVE_S * 1000))
        await self.db(self.store.reclaim, now_ms=now_ms)
        self._open_quotes.update(await self.db(self.store.open_quotes))
        self.open_jobs = await self.db(self.store.unfinished)
        await self.feeder.start()
        self.claims.resume(await self.db(self.store.open_receipts))

    async def _stay_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_S)
            try:
                now_ms = self.now_ms()
                await self.db(self.store.alive, self.process, until_ms=now_ms + int(ALIVE_S * 1000))
                if await self.db(self.store.reclaim, now_ms=now_ms):
                    self.feeder.wake()
            except StorageError as error:
                log.error("%s", error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._sweep_once(self.now_ms())
            except StorageError:
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
        await self.db(self.store.expire_waiting, now_ms=now_ms, margin_ms=self.config.dispatch_margin_ms)
        await self.db(
            self.store.forget,
            ended_before_ms=now_ms - self.config.retention_s * 1000,
            unused_before_ms=now_ms - self.config.unused_retention_s * 1000,
        )
        await self._save_standings()
        await self.feeder.mend()
        self.open_jobs = await self.db(self.store.unfinished)
