"""One provider: engine child, link, worker, claims and registration, and what each tells the others."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from aitbc.adapters.nvml import Cards
from aitbc.client.errors import ClientError
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.requests import engine_request
from aitbc.core.types.reasons import Rejected
from aitbc.ports import EngineError
from aitbc.provider.chain import Chain
from aitbc.provider.claims import ClaimKeeper, UnclaimedQueue
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine import EngineGone, EngineProcess
from aitbc.provider.hours import Span, hours_of, why_closed
from aitbc.provider.joblog import EarningsLog, JsonLog
from aitbc.provider.link import HubLink, Session
from aitbc.provider.registration import Vouched, ensure_registered
from aitbc.provider.settings import MEGABYTE
from aitbc.provider.warm_up import warm_up_request
from aitbc.provider.work import Worker

log = logging.getLogger("aitbc.provider")

JOBS_FILE = "jobs.jsonl"
EARNINGS_FILE = "earnings.jsonl"
UNCLAIMED_FOLDER = "unclaimed"
NODE_PAUSE_S = 0.05
COUNTERSIGN_WAIT_S = 10
LOOK_AGAIN_S = 1
TEND_S = 0.5
LAST_WORDS_S = 0.2
"""A result that was queued is on its way after this time."""
KEEP_WARM = "keep-warm"


class Provider:
    """Made by `start`, ended by `stop`."""

    def __init__(self, config: ProviderConfig, chain: Chain) -> None:
        self.config = config
        self.chain = chain
        self.cards = Cards()
        self.engine = EngineProcess(config, cards=self.cards)
        self.worker = Worker(
            config, chain=chain, engine=self.engine, joblog=JsonLog(config.data_dir / JOBS_FILE)
        )
        self.earnings = EarningsLog(config.data_dir / EARNINGS_FILE)
        self.broken = asyncio.Event()
        """A bug ended one of the loops: better no provider than half of one."""
        self.eligible: list[str] = []
        """Models for which the hub gives us tasks."""
        self.link: HubLink | None = None
        self.claims: ClaimKeeper | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._doing: set[asyncio.Task[None]] = set()
        self._draining = False
        self._registering: asyncio.Task[None] | None = None
        self._countersignature: asyncio.Future[link.Countersignature] | None = None

    async def start(self) -> None:
        """Engine and genesis at the same time, then the link. Raises EngineGone or ClientError."""
        engine = asyncio.create_task(self.engine.start())
        try:
            document = self.config.genesis or await self._genesis()
            await engine
        except BaseException:
            engine.cancel()
            await asyncio.gather(engine, return_exceptions=True)
            await self.engine.stop()
            raise
        if not self.engine.cards:
            await self.engine.stop()
            raise EngineGone("no engine here serves a model that is asked for")
        self.worker.genesis_hash = genesis_hash_of(jcs(document))
        self.worker.genesis = document
        self.worker.chain_id = document["chain_id"]
        self.claims = self._claim_keeper()
        self.link = HubLink(
            self.config,
            genesis_hash=self.worker.genesis_hash,
            cards=lambda: self.engine.cards,
            running=lambda: self.worker.running,
            vram_mb=self.config.vram_mb or self.cards.largest_bytes // MEGABYTE,
            on_message=self._on_message,
            on_linked=self._on_linked,
            on_lost=self._on_lost,
        )
        self._spawn(self._tasks, self.link.run())
        self._spawn(self._tasks, self.claims.run())
        self._spawn(self._tasks, self._tend(hours_of(self.config.hours)))

    def _claim_keeper(self) -> ClaimKeeper:
        return ClaimKeeper(
            chain=self.chain,
            signer=self.config.signer,
            genesis_hash=self.worker.genesis_hash,
            queue=UnclaimedQueue(self.config.data_dir / UNCLAIMED_FOLDER),
            earnings=self.earnings,
            claim_after_s=self.config.claim_after_s,
            poll_s=self.config.claim_poll_s,
            max_fee=self.config.max_fee,
        )

    async def _tend(self, hours: list[Span]) -> None:
        """Open and close by the owner's wishes, and keep warm what nobody asks for."""
        assert self.link is not None, "the link is made first"
        warm_at = time.monotonic()
        while True:
            if self._draining:
                return
            local = time.localtime()
            closed = why_closed(
                data_dir=self.config.data_dir, hours=hours, minute=local.tm_hour * 60 + local.tm_min
            )
            if closed != self.worker.closed_for:
                log.info("no new work: %s" if closed else "work is welcome again%s", closed)
            self.worker.closed_for = closed
            if not closed:
                self.link.wanted.set()
            elif self.link.wanted.is_set() and not self.worker.running:
                self.link.leave()
            if self.worker.running or closed:
                warm_at = time.monotonic()
            elif self.config.keep_warm_s and time.monotonic() - warm_at > self.config.keep_warm_s:
                await self._keep_warm()
                warm_at = time.monotonic()
            await asyncio.sleep(TEND_S)

    async def _keep_warm(self) -> None:
        for model in self.engine.cards:
            request = engine_request(warm_up_request(model))
            try:
                await self.engine.run(
                    run_id=KEEP_WARM, model=model, request=request, on_event=lambda _event: None
                )
            except EngineError as error:
                log.warning("%s cannot be kept warm: %s", model, error.message)

    async def drain(self) -> None:
        """Take no new task and finish those under way, for at most `drain_s`."""
        self._draining = True
        self.worker.closed_for = "the provider is stopping"
        if self._doing:
            log.info("finishing %d tasks", len(self._doing))
            await asyncio.wait(self._doing, timeout=self.config.drain_s)
            await asyncio.sleep(LAST_WORDS_S)

    async def stop(self) -> None:
        """Nothing is lost: what was attested is on disk, what was running is the hub's to give away again."""
        tasks = [*self._tasks, *self._doing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.engine.stop()
        await self.chain.close()

    async def _genesis(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.config.node_wait_s
        while True:
            try:
                return await self.chain.genesis()
            except ClientError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(NODE_PAUSE_S)

    # what the hub says

    def _on_message(self, session: Session, message: link.FromHub) -> None:
        match message:
            case link.Task():
                self._on_task(session, message)
            case link.Cancel(task_id=task_id):
                self.worker.cancel(task_id)
            case link.Attested():
                self._on_attested(session, message)
            case link.ResultRefused(task_id=task_id, reason=reason, message=text):
                log.error("the hub refused our result of %s: %s: %s", task_id, reason, text)
            case link.Eligible(models=models):
                self._on_eligible(models)
            case link.Countersignature():
                if self._countersignature is not None and not self._countersignature.done():
                    self._countersignature.set_result(message)
            case link.LinkError(reason=reason, message=text):
                log.warning("the hub says: %s: %s", reason, text)
            case link.Challenge() | link.Welcome():
                log.warning("the hub sent %s out of turn", type(message).__name__)

    def _on_task(self, session: Session, task: link.Task) -> None:
        assert self.claims is not None, "the link is opened last"
        if self.claims.unclaimed >= self.config.max_unclaimed:
            refused = f"{self.claims.unclaimed} receipts wait for the chain"
            session.send(link.Declined(task_id=task.task_id, reason=JobReason.BUSY, message=refused))
            return
        work = self.worker.do(task, hub=session.hub, send=session.send, send_result=session.send_result)
        self._spawn(self._doing, work)

    def _on_attested(self, session: Session, attested: link.Attested) -> None:
        assert self.claims is not None, "the link is opened last"
        try:
            self.claims.add(attested, hub_key=session.hub_key)
        except (Refused, Rejected) as error:
            log.error("an attestation of the hub is of no use: %s", error)

    def _on_eligible(self, models: list[str]) -> None:
        self.eligible = models
        registered = self._registering is not None and self._registering.done()
        if registered and sorted(models) != sorted(self.engine.cards):
            asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._say_registered)

    async def _register(self) -> None:
        """Until it is final, then tell the hub to look."""
        await ensure_registered(
            self.chain,
            self.config,
            self.engine.cards,
            genesis_hash=self.worker.genesis_hash,
            ask=self._ask_countersignature,
            announce=self._say_registering,
        )
        self._say_registered()

    def _say_registering(self, tx_id: str) -> None:
        session = self.link.session if self.link is not None else None
        if session is not None:
            session.send(link.Registering(tx=tx_id))

    def _say_registered(self) -> None:
        """The hub's node may be behind ours, so this is said until the hub has seen it."""
        session = self.link.session if self.link is not None else None
        if session is not None and sorted(self.engine.cards) != sorted(self.eligible):
            session.send(link.Registered())

    async def _ask_countersignature(self) -> Vouched:
        """Over whatever link there is now. Raises TimeoutError when the hub does not answer."""
        session = self.link.session if self.link is not None else None
        if session is None:
            raise TimeoutError("no link to a hub that could vouch for us")
        self._countersignature = asyncio.get_running_loop().create_future()
        session.send(link.AskCountersignature())
        async with asyncio.timeout(COUNTERSIGN_WAIT_S):
            signed = await self._countersignature
        return Vouched(signed.hub, signed.sig, key_to_text(session.hub_key))

    def _on_linked(self) -> None:
        """Once per run: make the chain say what we serve."""
        if self._registering is None:
            self._registering = self._spawn(self._tasks, self._register())

    def _on_lost(self) -> None:
        """The hub gives our task to somebody else; stop working on it."""
        self.eligible = []
        for task_id in self.worker.running:
            self.worker.cancel(task_id)

    def _spawn(self, group: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        group.add(task)
        task.add_done_callback(lambda done: self._ended(group, done))
        return task

    def _ended(self, group: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        group.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a bug of the provider", exc_info=task.exception())
            if group is self._tasks:
                self.broken.set()
