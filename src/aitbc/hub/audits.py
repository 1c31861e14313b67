"""Has a drawn share of deliveries done again by somebody else before anything is attested.

The second run is an ordinary prepaid job of the hub's own account: whoever gets it cannot tell it from a
client's. Every decision is in the log, and `core.jobs.audits.replay` makes it again. docs/spec/audits.md
"""

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING

import msgspec

from aitbc.adapters.engines.reference import replay_reference
from aitbc.core.jobs.audits import (
    EXACT,
    REPLAYED,
    AuditEntry,
    Delivered,
    Exposure,
    Step,
    Verdict,
    audit_rate_ppm,
    commitment,
    compared,
    is_drawn,
    next_step,
    replay_ppm,
    score_ppm,
    thresholds_of,
)
from aitbc.core.jobs.fairness import JobClass
from aitbc.core.jobs.lifecycle import FINAL_STATES, State
from aitbc.core.jobs.matching import Wishes
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.reputation import passed_check
from aitbc.core.jobs.requests import engine_request, request_hash_of
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from aitbc.hub import attempts
from aitbc.hub.accounts.ledger import CHECKS
from aitbc.hub.accounts.records import Payer
from aitbc.hub.prepaid import start_prepaid
from aitbc.hub.quotes import quoted_price
from aitbc.hub.records import Quote, ReceiptEntry
from aitbc.ports import EngineError

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

ROUTE = "check"
"""What the hub's usage says of such a job."""
POLL_S = 0.02
"""How often a check looks whether the second run is done."""


class Audits:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._seed = secrets.token_bytes(32)
        self.commitment = commitment(self._seed)

    async def start(self) -> None:
        """Commit to the seed before it decides anything."""
        await self._write(self._entry("committed"))

    async def stop(self) -> None:
        """From now on the seed decides nothing, so everybody may see it."""
        await self._write(msgspec.structs.replace(self._entry("revealed"), seed=self._seed.hex()))

    async def verdict(
        self, attempt: "attempts.Attempt", delivered: "attempts.Delivered", entry: ReceiptEntry
    ) -> Verdict | None:
        """What a check says of a delivery; None when it is not to be checked."""
        if not await self._decide(attempt, entry):
            return None
        offer = attempt.offer
        claimed = compared(offer.kind, delivered.data, delivered.result.delivery.details)
        thresholds = thresholds_of(offer.model, offer.kind)
        auditors: list[str] = []
        scores: list[int] = []
        try:
            async with asyncio.timeout(self._time_left_s(attempt)):
                step, verdict = next_step(scores, thresholds)
                while step != Step.DONE:
                    found = await self._done_again(attempt, [offer.provider, *auditors])
                    if found is None:
                        break
                    auditor, again = found
                    auditors.append(auditor)
                    exact = thresholds == EXACT
                    scores.append(await asyncio.to_thread(score_ppm, claimed, again, exact=exact))
                    if len(scores) == 1 and scores[0] > thresholds.hard_ppm:
                        replayed = await self._replayed(attempt, delivered)
                        if replayed is not None and replayed <= REPLAYED.hard_ppm:
                            scores, thresholds = [replayed], REPLAYED
                    step, verdict = next_step(scores, thresholds)
        except TimeoutError:
            log.warning("job %s: the check was not done in time", offer.job_id)
        _, verdict = next_step(scores, thresholds)
        await self._write(
            msgspec.structs.replace(
                self._entry("judged"),
                job_id=offer.job_id,
                part=attempt.part.index,
                receipt_id=entry.receipt_id,
                provider=offer.provider,
                auditors=auditors,
                scores=scores,
                thresholds=tuple(thresholds),
                verdict=verdict,
            )
        )
        self._note(attempt, verdict)
        return verdict

    async def _decide(self, attempt: "attempts.Attempt", entry: ReceiptEntry) -> bool:
        hub, offer = self._hub, attempt.offer
        if not hub.config.spot_checks or attempt.part.job.quote.account == CHECKS:
            return False
        standing = attempt.session.standing
        unmatured = await hub.db(hub.store.unmatured_of, offer.provider)
        exposure = Exposure(
            price=entry.signed.attestation.price,
            stake=attempt.session.stake,
            unmatured=unmatured,
            streak=standing.streak,
            verdicts=standing.valid + standing.invalid + standing.timeouts,
        )
        most_ppm = hub.config.spot_check_most_ppm
        rate_ppm = min(audit_rate_ppm(exposure), most_ppm)
        drawn = is_drawn(seed=self._seed, receipt_id=entry.receipt_id, rate_ppm=rate_ppm)
        await self._write(
            msgspec.structs.replace(
                self._entry("decided"),
                job_id=offer.job_id,
                part=attempt.part.index,
                receipt_id=entry.receipt_id,
                provider=offer.provider,
                exposure=exposure,
                rate_ppm=rate_ppm,
                most_ppm=most_ppm,
                drawn=drawn,
            )
        )
        return drawn

    async def _replayed(self, attempt: "attempts.Attempt", delivered: "attempts.Delivered") -> int | None:
        """Before more auditors are asked about a text: does the model, followed here token by token, tell it?

        Another machine's rounding may turn one token, and everything after it; that is no other work.
        """
        offer = attempt.offer
        spec = self._hub.config.reference_engines.get(offer.model)
        if offer.kind != "chat" or spec is None:
            return None
        try:
            replay = await replay_reference(spec, engine_request(offer.request), delivered.data)
        except EngineError as error:
            log.warning("job %s cannot be replayed: %s", offer.job_id, error.message)
            return None
        if replay is None or replay.tokens < delivered.result.delivery.details.counts["out"]:
            return None  # more tokens are billed than the text has
        return replay_ppm(tokens=replay.tokens, differing=replay.differing)

    def _time_left_s(self, attempt: "attempts.Attempt") -> float:
        """Until the lock's deadline: what was delivered in time is attested in time."""
        left_ms = attempt.offer.deliver_by_ms - self._hub.now_ms() - self._hub.config.dispatch_margin_ms
        return max(0.001, left_ms / 1000)

    async def _done_again(self, attempt: "attempts.Attempt", but: list[str]) -> tuple[str, Delivered] | None:
        """The same request, done by somebody who had no part in it; None when nobody is there or can be paid."""
        hub, offer = self._hub, attempt.offer
        quote = self._quote(attempt, but)
        if quote is None:
            return None
        try:
            quote = await start_prepaid(hub, Payer(account=CHECKS), quote, tokens=0, route=ROUTE)
        except Refused as error:
            log.warning("job %s cannot be checked: %s", offer.job_id, error)
            return None
        while True:
            record = await hub.db(hub.store.job, quote.job_id)
            assert record is not None, "a job that was started is not forgotten before its retention"
            if record.state in (State.DELIVERED, State.SETTLED):
                break
            if record.state in FINAL_STATES:
                return None
            await asyncio.sleep(POLL_S)
        entry = await hub.db(hub.store.receipt_of_job, quote.job_id)
        data = await hub.db(hub.store.result_data, quote.job_id)
        assert entry is not None and data is not None, "delivered is written with its receipt"
        return entry.provider, compared(offer.kind, data, entry.delivery.details)

    def _quote(self, attempt: "attempts.Attempt", but: list[str]) -> Quote | None:
        """An ordinary job with the same request under another nonce."""
        hub, offer = self._hub, attempt.offer
        now_ms = hub.now_ms()
        serving = hub.directory.serving(offer.model)
        others = [each for each in serving if each.address not in but and not each.standing.banned]
        if not others:
            return None
        request = {**offer.request, "nonce": secrets.token_hex(16)}
        per_kilounit = max(quoted_price(others, offer.model), offer.price_per_kilounit)
        units = worst_case_units(profile_of(offer.model), request)
        return Quote(
            job_id=f"job_{secrets.token_hex(12)}",
            token_hash="",
            client=hub.signer.address,
            kind=offer.kind,
            model=offer.model,
            request=request,
            request_hash=request_hash_of(request),
            units=units,
            price_per_kilounit=per_kilounit,
            price=price_of(units, per_kilounit),
            deliver_by_ms=offer.deliver_by_ms,
            claim_until_ms=offer.claim_until_ms,
            expires_ms=offer.deliver_by_ms,
            created_ms=now_ms,
            job_class=JobClass.INTERACTIVE,
            wishes=Wishes(deny=but),
            account=CHECKS,
        )

    def _note(self, attempt: "attempts.Attempt", verdict: Verdict) -> None:
        """A passed check is a step towards fewer; a failed one is noted with the attempt's failure."""
        if verdict == Verdict.PASSED:
            attempt.session.standing = passed_check(attempt.session.standing)
            self._hub.standing_changed(attempt.session)

    def _entry(self, what: str) -> AuditEntry:
        return AuditEntry(what=what, at_ms=self._hub.now_ms(), commitment=self.commitment)

    async def _write(self, entry: AuditEntry) -> None:
        await self._hub.db(self._hub.store.write_audit, entry)
