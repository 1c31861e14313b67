"""Gives newcomers, once in each epoch, the job that the chain has drawn for them, and compares it with a reference.

Nobody pays: a receipt with `routed` `calibration` mints from a budget with an end. A pass is a provider's first
reputation and, on a chain without premint, the first coins there are. docs/spec/audits.md "Calibration"
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from aitbc.adapters.engines.reference import run_reference
from aitbc.client.calibration import Calibration, calibration_of
from aitbc.client.errors import ClientError
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import list_root
from aitbc.core.jobs.audits import EXACT, Delivered, compared, score_ppm, thresholds_of
from aitbc.core.jobs.calibration import calibration_request, drawn_job
from aitbc.core.jobs.fairness import JobClass
from aitbc.core.jobs.matching import Wishes
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.requests import engine_request, request_hash_of
from aitbc.core.jobs.units import profile_of, worst_case_units
from aitbc.hub import attempts
from aitbc.hub.providers import ProviderSession
from aitbc.hub.records import Quote
from aitbc.ports import EngineError

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

LOOK_S = 2.0
"""How often the hub looks for a new epoch and new providers."""


class Calibrations:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._given: set[str] = set()
        """Job ids of this epoch."""
        self._epoch = -1
        self._expected: dict[str, asyncio.Task[Delivered]] = {}
        self._running = asyncio.Semaphore(1)
        """References run one at a time: they are this machine's own work."""

    async def run(self) -> None:
        """For ever; a node that is away is asked again."""
        while True:
            try:
                await self.look()
            except (ClientError, Refused) as error:
                log.warning("calibration: %s", error)
            await asyncio.sleep(LOOK_S)

    async def stop(self) -> None:
        for task in self._expected.values():
            task.cancel()
        await asyncio.gather(*self._expected.values(), return_exceptions=True)

    async def look(self) -> None:
        """Give every provider here that may have one its job of the running epoch."""
        hub = self._hub
        drawn = await calibration_of(hub.chain, hub.genesis, now_ms=hub.now_ms())
        if not drawn.left or not drawn.epoch or hub.signer.address not in drawn.hubs:
            return
        if drawn.epoch != self._epoch:
            self._epoch = drawn.epoch
            self._given.clear()
        for session in hub.directory.sessions():
            await self._give(session, drawn)

    async def _give(self, session: ProviderSession, drawn: Calibration) -> None:
        hub = self._hub
        models = sorted(session.eligible & set(hub.config.reference_engines))
        job = drawn_job(
            genesis_hash=hub.genesis_hash, epoch=drawn.epoch, seed=drawn.seed, provider=session.address
        )
        if not models or job.job_id in self._given or session.standing.banned:
            return
        registered = await hub.chain.registration("provider", session.address)
        if registered is None or int(registered["height"]) > drawn.first_height:
            return  # it is drawn from the next epoch on
        self._given.add(job.job_id)
        if await hub.db(hub.store.job, job.job_id) is not None:
            return  # an earlier run or another process has given it
        model = models[int(job.nonce[-8:], 16) % len(models)]
        quote = self._quote(session, model, job.job_id, calibration_request(model, job.nonce))
        await hub.db(hub.store.add_quote, quote)
        # in the place of a lock: as unique as one
        await hub.jobs.enqueue(quote, lock=job.nonce, first_task=0, randomness=bytes.fromhex(job.nonce))
        log.info("calibration: %s is asked for %s", session.address, model)

    def _quote(self, session: ProviderSession, model: str, job_id: str, request: dict[str, object]) -> Quote:
        hub, now_ms = self._hub, self._hub.now_ms()
        offered, profile = session.models[model], profile_of(model)
        deliver_by_ms = now_ms + hub.config.deliver_s * 1000
        return Quote(
            job_id=job_id,
            token_hash="",
            client=hub.signer.address,
            kind=offered.kind,
            model=model,
            request=request,
            request_hash=request_hash_of(request),
            units=worst_case_units(profile, request),
            price_per_kilounit=offered.price_per_kilounit,
            price=0,
            deliver_by_ms=deliver_by_ms,
            claim_until_ms=deliver_by_ms + hub.config.claim_s * 1000,
            expires_ms=deliver_by_ms,
            created_ms=now_ms,
            job_class=JobClass.FREE,
            wishes=Wishes(allow=[session.address]),
            calibrates=True,
        )

    async def passed(self, attempt: "attempts.Attempt", delivered: "attempts.Delivered") -> bool:
        """Is it what the reference makes of the same request? Without a reference nothing is attested."""
        offer = attempt.offer
        try:
            expected = await asyncio.shield(self._reference(offer.model, offer.kind, dict(offer.request)))
        except EngineError as error:
            log.error("calibration: %s cannot be compared: %s", offer.job_id, error.message)
            return False
        thresholds = thresholds_of(offer.model, offer.kind)
        claimed = compared(offer.kind, delivered.data, delivered.result.delivery.details)
        score = await asyncio.to_thread(score_ppm, claimed, expected, exact=thresholds == EXACT)
        log.info("calibration: %s scores %d of %d", offer.job_id, score, thresholds.soft_ppm)
        return score <= thresholds.soft_ppm

    def _reference(self, model: str, kind: str, request: dict[str, object]) -> "asyncio.Task[Delivered]":
        """The same request here, once, however often it is asked for."""
        name = request_hash_of(request)
        if name not in self._expected:
            task = asyncio.create_task(self._run(model, kind, request))
            self._expected[name] = task
            task.add_done_callback(lambda _: self._expected.pop(name, None))
        return self._expected[name]

    async def _run(self, model: str, kind: str, request: dict[str, object]) -> Delivered:
        async with self._running:
            output = await run_reference(self._hub.config.reference_engines[model], engine_request(request))
        return Delivered(
            kind=kind,
            data=output.data,
            output_hash=hash_text(output.data),
            transcript_root="sha256:" + list_root(output.transcript).hex(),
            counts=output.counts,
        )
