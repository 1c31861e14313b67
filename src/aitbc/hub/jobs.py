"""The jobs that are under way in this process: their parts wait in the matcher, run as attempts and end here.

A part that waits is data and a timer; one that runs is a task. Its state is written before anybody is told, and a write
that says the part is not ours any more ends our interest in it. docs/spec/jobs.md
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from aitbc.core.jobs import link
from aitbc.core.jobs.audits import Verdict
from aitbc.core.jobs.draw import candidates_hash
from aitbc.core.jobs.fairness import JobClass, cost_of
from aitbc.core.jobs.lifecycle import FINAL_STATES, MAX_ATTEMPTS, Event, State, advance, after_failed_attempt
from aitbc.core.jobs.matching import Ask
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Offer
from aitbc.core.jobs.reputation import failed_check, passed_check, succeeded, timed_out, was_false
from aitbc.core.jobs.requests import request_hash_of
from aitbc.core.jobs.splitting import prove_part
from aitbc.core.jobs.units import price_of, profile_of, worst_case_units
from aitbc.hub.accounts.ledger import CHECKS
from aitbc.hub.attempts import CANCELED, Attempt, Delivered, Ended, attested_message
from aitbc.hub.chain import check_lock, final_lock
from aitbc.hub.matcher import Want
from aitbc.hub.parts import RETRY_ELSEWHERE, Failure, Job, Part
from aitbc.hub.providers import CancelAsked, Granted, ProviderSession
from aitbc.hub.records import (
    AttemptRecord,
    JobRecord,
    NewAttempt,
    NewDelivery,
    NewReservation,
    NewTask,
    Quote,
    ReceiptEntry,
    TaskChange,
    TaskRecord,
)
from aitbc.hub.refunds import GRACE_MS
from aitbc.hub.store.queue import Claimed

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

LET_GO_S = 5
"""A provider that was told to stop has this long before its slot counts as free again."""
MAX_REMEMBERED = 200
"""Event logs of finished jobs that are kept in memory for late readers; older ones are told from the disk."""
HEDGE_LEAST_S = 1.0
"""No second provider is asked sooner: below a second the wait for another one costs more than it saves."""
FEW_LEFT = 10
"""Stragglers of a split job are hedged when fewer than one part in so many is left."""

_FALSE = frozenset(
    {
        JobReason.WRONG_TASK,
        JobReason.FORGED_SIGNATURE,
        JobReason.DETAILS_MISMATCH,
        JobReason.OUTPUT_HASH_MISMATCH,
        JobReason.OUTPUT_TOO_LARGE,
        JobReason.BAD_OUTPUT,
        JobReason.COUNTS_MISMATCH,
        JobReason.UNITS_MISMATCH,
        JobReason.UNITS_ABOVE_OFFER,
        JobReason.PRICE_MISMATCH,
        JobReason.STREAM_MISMATCH,
        JobReason.CALIBRATION_FAILED,
    }
)
"""What no honest provider delivers; everything else may happen to anybody."""

_CHECKED = frozenset({JobReason.CHECK_FAILED, JobReason.CALIBRATION_FAILED})
"""Verdicts about work that was delivered and done again."""


class JobService:
    """Starts, drives, cancels and remembers jobs."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._live: dict[str, Job] = {}
        self._done: OrderedDict[str, Job] = OrderedDict()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._drivers: set[asyncio.Task[None]] = set()
        self._seq = 0

    def live(self, job_id: str) -> Job | None:
        """A job in memory, under way or recently finished."""
        return self._live.get(job_id) or self._done.get(job_id)

    @property
    def under_way(self) -> int:
        return len(self._live)

    def is_under_way(self, job_id: str) -> bool:
        return job_id in self._live

    @property
    def starting(self) -> set[str]:
        """Jobs whose lock is being waited for; their quotes do not expire."""
        return set(self._starting)

    # starting

    async def start(self, job_id: str, lock_id: str) -> State:
        """Begin a quoted job on its lock as soon as that is final. The same call again does nothing more."""
        record = await self._hub.db(self._hub.store.job, job_id)
        assert record is not None, "the route has looked the job up"
        if record.state != State.QUOTED:
            return self._already(record, lock_id)
        running = self._starting.get(job_id)
        if running is None:
            self.refuse_when_full()
            if self._hub.now_ms() > record.quote.expires_ms:
                message = "this quote is over; a lock made for it can be refunded"
                raise Refused(JobReason.QUOTE_EXPIRED, message)
            running = asyncio.create_task(self._start(record.quote, lock_id))
            self._starting[job_id] = running
            running.add_done_callback(lambda task: self._started_or_not(job_id, task))
        await asyncio.shield(running)
        started = await self._hub.db(self._hub.store.job, job_id)
        assert started is not None, "a job that is starting is not forgotten"
        return self._already(started, lock_id)

    def _started_or_not(self, job_id: str, task: asyncio.Task[None]) -> None:
        """Its outcome goes to those who wait; when all of them have hung up it is only noted."""
        self._starting.pop(job_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.info("job %s did not start: %s", job_id, task.exception())

    def _already(self, record: JobRecord, lock_id: str) -> State:
        if record.lock == lock_id:
            return record.state
        if record.lock:
            raise Refused(JobReason.LOCK_MISMATCH, f"this job runs on lock {record.lock}")
        raise Refused(
            JobReason.JOB_OVER, f"this quote is {record.state}: {record.message or 'ask for a new one'}"
        )

    def refuse_when_full(self) -> None:
        full = self._hub.open_jobs + len(self._starting)
        if full >= self._hub.config.max_jobs:
            raise Refused(JobReason.QUEUE_FULL, f"{full} jobs are under way; try again soon")

    async def _start(self, quote: Quote, lock_id: str) -> None:
        hub = self._hub
        lock = await final_lock(hub.chain, lock_id, wait_s=hub.config.lock_wait_s)
        check_lock(lock, client=quote.client, terms=quote.lock_terms(hub.signer.address))
        if hub.now_ms() + hub.config.dispatch_margin_ms > quote.deliver_by_ms:
            raise Refused(JobReason.TOO_LATE, "the lock became final too late to deliver before its deadline")
        await self.enqueue(quote, lock=lock_id, first_task=0, randomness=lock.block_hash)
        hub.quote_taken(quote.job_id)

    async def enqueue(self, quote: Quote, *, lock: str, first_task: int, randomness: bytes) -> None:
        """The money is set aside: put the job's parts into the queue, on disk first. Refuses a quote that has ended and
        a lock that pays another job. The quote is in the store already."""
        hub = self._hub
        tasks = [self._new_task(quote, part) for part in range(len(quote.requests))]
        here = all(hub.feeder.room(task) for task in tasks)
        reservation = NewReservation(
            job_id=quote.job_id,
            lock=lock,
            first_task=first_task,
            randomness=randomness,
            tasks=tasks,
            deliver_by_ms=quote.deliver_by_ms,
            owner=hub.process if here else "",
            at_ms=hub.now_ms(),
        )
        if not quote.account and not quote.calibrates:
            await hub.db(hub.store.watch_lock, lock, refund_after_ms=quote.claim_until_ms + GRACE_MS)
        if not await hub.batched(hub.store.reserve, reservation):
            raise Refused(JobReason.JOB_OVER, "this quote has ended, or its lock pays another job; refund it")
        hub.open_jobs += 1
        if not here:
            hub.feeder.more(tasks)
            return
        record = _queued_record(quote, reservation)
        job = self._make_live(record, told=State.RESERVED)
        for task in tasks:
            self._seq += 1
            self._adopt_part(job, _task_record(quote.job_id, task, seq=self._seq))

    def _new_task(self, quote: Quote, part: int) -> NewTask:
        units = worst_case_units(profile_of(quote.model), quote.requests[part])
        clock = self._hub.matcher.queue(quote.model).clock
        cost = cost_of(units, quote.weight_milli)
        return NewTask(
            part=part,
            cap=quote.model,
            job_class=quote.job_class,
            vfinish=clock.stamp(quote.payer, cost),
            units=units,
        )

    async def adopt(self, claimed: Claimed) -> None:
        """Take up parts that waited in the store, perhaps since an earlier run."""
        hub, record = self._hub, claimed.job
        history: list[AttemptRecord] = []
        if any(task.attempts for task in claimed.tasks):
            history = await hub.db(hub.store.attempts, record.quote.job_id)
        job = self._live.get(record.quote.job_id) or self._make_live(record)
        for task in claimed.tasks:
            hub.matcher.queue(task.cap).clock.heard(record.quote.payer, task.vfinish)
            part = self._adopt_part(job, task, history)
            if not part.want:
                log.info("job %s: part %d is here already", job.id, task.part)

    def _make_live(self, record: JobRecord, *, told: State | None = None) -> Job:
        job = Job(record, event_limit=self._hub.config.max_events_per_job)
        if told is not None:
            job.log.append({"state": told})
        self._live[job.id] = job
        job.show_state()
        return job

    def _adopt_part(self, job: Job, task: TaskRecord, history: Iterable[AttemptRecord] = ()) -> Part:
        if task.part in job.parts and not job.parts[task.part].over:
            return job.parts[task.part]
        part = Part(job, task, cost_of(task.units, job.quote.weight_milli))
        for attempt in history:
            if attempt.part == part.index and attempt.reason:
                gone = attempt.reason in RETRY_ELSEWHERE
                (part.lost if gone else part.avoid).add(attempt.offer.provider)
        if part.attempts:
            part.retry_until_ms = self._hub.now_ms() + int(self._hub.config.retry_wait_s * 1000)
        job.parts[part.index] = part
        self._wait_for_provider(part)
        return part

    # waiting

    def _want(self, part: Part, *, hedge: bool = False) -> Want:
        quote = part.job.quote
        busy = {attempt.offer.provider for attempt in part.running.values()}
        ask = Ask(
            model=quote.model,
            price_per_kilounit=quote.price_per_kilounit,
            client=quote.client,
            wishes=quote.wishes,
            used=frozenset(part.avoid | busy),
            price=quote.price and price_of(part.units, quote.price_per_kilounit),
        )
        return Want(
            key=(part.job.id, part.index),
            ask=ask,
            lost=frozenset(part.lost),
            lock=part.job.lock,
            task=part.task,
            attempt=part.attempts,
            randomness=part.job.randomness,
            job_class=quote.job_class,
            vfinish=part.vfinish,
            seq=part.seq,
            cost=part.cost,
            granted=lambda want, granted: self._granted(part, granted, hedge=hedge),
        )

    def _wait_for_provider(self, part: Part) -> None:
        if part.job.stop_asked is not None:
            self._in_background(partial(self._canceled, part), part)
            return
        part.want = self._want(part)
        self._arm(part)
        self._hub.matcher.ask(part.want)

    def _arm(self, part: Part) -> None:
        """The one timer of a waiting part: the end of its wait for another provider, or its deadline."""
        part.stop_timer()
        now_ms = self._hub.now_ms()
        until_ms = part.job.quote.deliver_by_ms - self._hub.config.dispatch_margin_ms
        if part.retry_until_ms is not None and now_ms < part.retry_until_ms:
            until_ms = min(until_ms, part.retry_until_ms)
        elif part.retry_until_ms is not None:
            until_ms = min(until_ms, now_ms + 1_000)
        delay_s = max(0.001, (until_ms - now_ms) / 1000)
        part.timer = asyncio.get_running_loop().call_later(delay_s, self._waited_enough, part)

    def _waited_enough(self, part: Part) -> None:
        """Nobody came: at the deadline it ends, and before it when nobody who is connected ever could."""
        hub, want = self._hub, part.want
        if want is None:
            return
        if hub.now_ms() + hub.config.dispatch_margin_ms >= part.job.quote.deliver_by_ms:
            message = part.message or f"no provider for {part.job.quote.model} was free before the deadline"
            end = Ended(Event.DEADLINE_PASSED, JobReason.DEADLINE_MISSED, message)
        elif part.attempts and not hub.matcher.feasible(want):
            reason = JobReason(part.reason or JobReason.NO_PROVIDER)
            end = Ended(Event.ATTEMPTS_EXHAUSTED, reason, part.message)
        else:
            self._arm(part)
            return
        self._end_waiting(part, end)

    def _end_waiting(self, part: Part, end: Ended) -> None:
        if part.want is not None and self._hub.matcher.withdraw(part.want):
            part.want = None
            part.stop_timer()
            self._in_background(
                partial(self._to, part, end.event, reason=end.reason, message=end.message), part
            )

    async def _canceled(self, part: Part) -> None:
        """The end of a part that its client has stopped and nobody is paid for."""
        await self._to(part, CANCELED.event, reason=CANCELED.reason, message=CANCELED.message)

    def has(self, job_id: str, part: int) -> bool:
        """Is this part in memory, waiting or at work?"""
        job = self._live.get(job_id)
        return job is not None and part in job.parts

    def release_waiting(self, model: str) -> list[tuple[str, int]]:
        """Forget the waiting parts for a model that nobody here serves; another process may have who does."""
        released = []
        for want in self._hub.matcher.wants(model):
            job = self._live.get(want.key[0])
            part = job.parts.get(want.key[1]) if job else None
            if part is not None and not part.running and self._hub.matcher.withdraw(want):
                released.append(want.key)
                self._drop(part)
        return released

    # attempts

    def _granted(self, part: Part, granted: Granted, *, hedge: bool) -> None:
        if hedge and (part.over or not part.running):
            granted.session.free_slot(granted.task_id)
            self._hub.provider_changed(granted.session)
            return
        if not hedge:
            part.want = None
            part.stop_timer()
            part.enter(Event.DISPATCHED)
        self._in_background(partial(self._attempt, part, granted, hedge=hedge), part)

    async def _attempt(self, part: Part, granted: Granted, *, hedge: bool) -> None:
        """Put the draw on record, send the task, follow it to its end."""
        hub, session = self._hub, granted.session
        offer = self._offer(part, granted)
        part.attempts += 1
        lease_s = max(hub.config.lease_least_s, 3 * offer.units / 1000)
        attempt = Attempt(hub, part, granted, offer, lease_s=lease_s)
        part.running[offer.attempt] = attempt
        if part.job.stop_asked is not None:
            attempt.stop(part.job.stop_asked)
        record = AttemptRecord(
            offer=offer, part=part.index, table=granted.table, randomness=part.job.randomness, reason=""
        )
        try:
            lease = NewAttempt(record=record, owner=hub.process, at_ms=hub.now_ms(), hedge=hedge)
            if not await hub.batched(hub.store.begin_attempts, lease):
                log.warning("job %s: part %d has been taken over", part.job.id, part.index)
                self._drop(part)
                return
            if not hedge:
                part.job.follow(part)
            session.post(link.Task(task_id=granted.task_id, lease_ms=int(lease_s * 1000), offer=offer))
            outcome = await attempt.follow()
            part.running.pop(offer.attempt, None)
            match outcome:
                case Failure():
                    await self._failed(attempt, outcome)
                case Ended():
                    await self._ended(attempt, outcome)
                case Delivered():
                    await self._deliver(attempt, outcome)
        finally:
            part.running.pop(offer.attempt, None)
            self._release(session, granted.task_id)

    def _offer(self, part: Part, granted: Granted) -> Offer:
        job, quote, request = part.job, part.job.quote, part.request
        per_kilounit = 0 if quote.calibrates else granted.winner.price_per_kilounit
        proof = None
        if job.split:
            proof = prove_part([request_hash_of(each) for each in quote.parts], part.index)
        return Offer(
            chain_id=self._hub.chain_id,
            job_id=job.id,
            lock="" if quote.calibrates else job.lock,
            task=part.task,
            attempt=part.attempts,
            ticket=granted.ticket,
            client=quote.client,
            provider=granted.winner.address,
            hub=self._hub.signer.address,
            kind=quote.kind,
            model=quote.model,
            model_digest=granted.winner.model_digest,
            request=request,
            request_hash=request_hash_of(request) if job.split else quote.request_hash,
            candidates_hash=candidates_hash(granted.table),
            units=part.units,
            price_per_kilounit=per_kilounit,
            price=price_of(part.units, per_kilounit),
            deliver_by_ms=quote.deliver_by_ms,
            claim_until_ms=quote.claim_until_ms,
            of_parts=proof,
        )

    def started(self, part: Part) -> None:
        """A provider has said that it works on it."""
        if part.state != State.LEASED:
            return
        part.enter(Event.STARTED)
        part.job.follow(part)
        self._hub.in_background(self._hub.batched(self._hub.store.change_tasks, self._change(part)))
        self._plan_hedge(part)

    def _plan_hedge(self, part: Part) -> None:
        """Ask a second provider when the first takes half as long again as nearly all do."""
        p95_ms = self._hub.speeds.p95_ms(part.job.quote.model, part.units)
        if p95_ms is not None and self._hub.config.hedging:
            delay_s = max(HEDGE_LEAST_S, 1.5 * p95_ms / 1000)
            part.stop_timer()
            part.timer = asyncio.get_running_loop().call_later(delay_s, self._hedge, part)

    def _hedge(self, part: Part) -> None:
        job = part.job
        left = sum([not other.over for other in job.parts.values()])
        urgent = job.quote.job_class == JobClass.INTERACTIVE or (
            job.split and FEW_LEFT * left < len(job.quote.parts)
        )
        if (
            not urgent
            or part.over
            or job.stop_asked is not None
            or len(part.running) != 1
            or part.attempts >= MAX_ATTEMPTS
        ):
            return
        want = self._want(part, hedge=True)
        if self._hub.matcher.feasible(want):
            log.info("job %s: part %d is slow, a second provider is asked", job.id, part.index)
            part.want = want
            self._hub.matcher.ask(want)

    async def _failed(self, attempt: Attempt, failure: Failure) -> None:
        """Back to the queue, or the end; while another attempt runs, neither."""
        part, provider = attempt.part, attempt.offer.provider
        self._judge(attempt.session, failure.reason)
        (part.lost if failure.reason in RETRY_ELSEWHERE else part.avoid).add(provider)
        number = attempt.offer.attempt
        log.info("job %s: attempt %d failed, %s: %s", part.job.id, number, failure.reason, failure.message)
        beside_a_check = part.state == State.AUDITING and failure.reason not in _CHECKED
        if part.running or part.over or beside_a_check:
            await self._hub.db(
                self._hub.store.end_attempt,
                part.job.id,
                part.index,
                number,
                reason=failure.reason,
                at_ms=self._hub.now_ms(),
            )
            return
        self._withdraw_hedge(part)
        event = after_failed_attempt(attempts_made=part.attempts, retry_useful=failure.retry_useful)
        if part.state == State.AUDITING and event == Event.ATTEMPT_FAILED:
            event = Event.CHECK_FAILED
        part.progress = (0, 0)
        part.retry_until_ms = self._hub.now_ms() + int(self._hub.config.retry_wait_s * 1000)
        ours = await self._to(part, event, reason=failure.reason, message=failure.message, ended=number)
        if ours and part.state == State.QUEUED:
            self._wait_for_provider(part)

    def _judge(self, session: ProviderSession, reason: JobReason) -> None:
        """What an attempt that failed says about its provider."""
        session.recent_failures += 1
        now_ms = self._hub.now_ms()
        if reason in _FALSE:
            session.standing = was_false(session.standing, now_ms=now_ms)
        elif reason == JobReason.CHECK_FAILED:
            session.standing = failed_check(session.standing)
        elif reason != JobReason.HUB_ERROR:
            session.standing = timed_out(session.standing, now_ms=now_ms)
        self._hub.standing_changed(session)

    async def _ended(self, attempt: Attempt, end: Ended) -> None:
        """The client has stopped or the deadline has come; or another attempt has won, and only this one ends."""
        part = attempt.part
        if end.reason == JobReason.HEDGED or part.over or part.state == State.AUDITING:
            await self._hub.db(
                self._hub.store.end_attempt,
                part.job.id,
                part.index,
                attempt.offer.attempt,
                reason=end.reason,
                at_ms=self._hub.now_ms(),
            )
            return
        self._withdraw_hedge(part)
        for other in part.running.values():
            other.stop(CancelAsked(reason=JobReason.HEDGED))
        await self._to(part, end.event, reason=end.reason, message=end.message, ended=attempt.offer.attempt)

    async def _deliver(self, attempt: Attempt, delivered: Delivered) -> None:
        """Attest, write down, and only then tell provider and client. The first valid delivery of a part wins."""
        hub, part, session = self._hub, attempt.part, attempt.session
        if part.over:
            self._too_late(attempt)
            return
        entry = attempt.attest(delivered)
        part.stop_timer()
        if part.job.quote.calibrates:
            if not await self._calibrated(attempt, delivered):
                return
        elif hub.config.spot_checks and not await self._checked(attempt, delivered, entry):
            return
        if part.over:
            self._too_late(attempt)
            return
        part.enter(Event.ATTESTED)
        self._withdraw_hedge(part)
        delivery = NewDelivery(
            entry=entry,
            data=delivered.data,
            owner=hub.process,
            attempt=attempt.offer.attempt,
            job_state=part.job.known_state(),
            at_ms=hub.now_ms(),
        )
        if not await hub.batched(hub.store.save_deliveries, delivery):
            log.warning("job %s: part %d was delivered, but it has been taken over", part.job.id, part.index)
            self._too_late(attempt)
            self._drop(part)
            return
        for other in part.running.values():
            other.stop(CancelAsked(reason=JobReason.HEDGED))
        part.job.receipts.append(entry)
        part.job.bytes_out += len(delivered.data)
        session.recent_failures //= 2
        session.standing = succeeded(session.standing, now_ms=hub.now_ms())
        hub.standing_changed(session)
        if not attempt.stopping:
            hub.speeds.note(attempt.offer.model, units=part.units, took_ms=hub.now_ms() - attempt.began_ms)
        session.post(attested_message(entry))
        if attempt.offer.kind == "chat":
            attempt.show_text(delivered.data.decode())
        part.job.state = State.DELIVERED if not part.job.split else part.job.state
        self._tell_delivered(part, entry.receipt_id)
        hub.claims.add(entry)
        self._retire_when_over(part.job)

    async def _checked(self, attempt: Attempt, delivered: Delivered, entry: ReceiptEntry) -> bool:
        """A delivery that is drawn for a check is attested after it; False: it is false, or not ours any more."""
        part = attempt.part
        if part.state != State.RUNNING or part.job.quote.account == CHECKS:
            return True
        if delivered.result.delivery.details.status == "partial":
            return True  # where a text was stopped nobody else would stop
        for other in part.running.values():
            other.stop(CancelAsked(reason=JobReason.HEDGED))
        if not await self._begin_check(part):
            return False
        verdict = await self._hub.audits.verdict(attempt, delivered, entry)
        if verdict != Verdict.FALSE:
            return True
        message = "the work was done again, twice, and is not what was delivered"
        await self._check_failed(attempt, JobReason.CHECK_FAILED, message)
        return False

    async def _calibrated(self, attempt: Attempt, delivered: Delivered) -> bool:
        """A calibration job is attested when the reference says the same, and never otherwise."""
        if not await self._begin_check(attempt.part):
            return False
        if await self._hub.calibrations.passed(attempt, delivered):
            attempt.session.standing = passed_check(attempt.session.standing)
            return True
        message = "the work is not what the reference made of the same request"
        await self._check_failed(attempt, JobReason.CALIBRATION_FAILED, message)
        return False

    async def _begin_check(self, part: Part) -> bool:
        """False: the part is not ours any more."""
        part.enter(Event.CHECK_BEGUN)
        if await self._hub.batched(self._hub.store.change_tasks, self._change(part)):
            return True
        self._drop(part)
        return False

    async def _check_failed(self, attempt: Attempt, reason: JobReason, message: str) -> None:
        attempt.session.post(
            link.ResultRefused(task_id=attempt.granted.task_id, reason=reason, message=message)
        )
        elsewhere = reason == JobReason.CHECK_FAILED  # calibration is for this provider alone
        await self._failed(attempt, Failure(reason, message, retry_useful=elsewhere))

    def _tell_delivered(self, part: Part, receipt_id: str) -> None:
        job = part.job
        if not job.split:
            job.reason, job.message = "", ""
            job.show_state(receipt_id=receipt_id)
            return
        job.show({"receipt_id": receipt_id}, part)
        job.follow(part)

    def _too_late(self, attempt: Attempt) -> None:
        attempt.session.post(
            link.ResultRefused(
                task_id=attempt.granted.task_id,
                reason=JobReason.HEDGED,
                message="another provider delivered this part first",
            )
        )

    def _withdraw_hedge(self, part: Part) -> None:
        if part.want is not None:
            self._hub.matcher.withdraw(part.want)
            part.want = None

    def _release(self, session: ProviderSession, task_id: str) -> None:
        """Nothing more is wanted from the provider; its slot is free when it has let go."""
        if session.holds(task_id):
            session.abandon(task_id)
            asyncio.get_running_loop().call_later(LET_GO_S, self._free, session, task_id)

    def _free(self, session: ProviderSession, task_id: str) -> None:
        session.free_slot(task_id)
        self._hub.provider_changed(session)

    # moving on

    def _change(self, part: Part, *, ended: int = -1) -> TaskChange:
        return TaskChange(
            job_id=part.job.id,
            part=part.index,
            owner=self._hub.process,
            state=part.state,
            job_state=part.job.known_state(),
            at_ms=self._hub.now_ms(),
            reason=part.reason,
            message=part.message,
            ended_attempt=ended,
        )

    async def _to(
        self, part: Part, event: Event, *, reason: str = "", message: str = "", ended: int = -1
    ) -> bool:
        """Move on, on disk first, then for the client's eyes. False: the part is not ours any more."""
        part.enter(event, reason=reason, message=message)
        if not await self._hub.batched(self._hub.store.change_tasks, self._change(part, ended=ended)):
            log.warning("job %s: part %d has been taken over", part.job.id, part.index)
            self._drop(part)
            return False
        part.job.follow(part)
        self._retire_when_over(part.job)
        return True

    def _in_background(self, work: Callable[[], Awaitable[object]], part: Part) -> None:
        task: asyncio.Task[None] = asyncio.create_task(self._guarded(work, part), name=part.job.id)
        self._drivers.add(task)
        task.add_done_callback(self._drivers.discard)

    async def _guarded(self, work: Callable[[], Awaitable[object]], part: Part) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except Exception:
            job = part.job
            log.exception("job %s: a bug of the hub; the job goes on when the hub is started again", job.id)
            part.state = job.state = State.FAILED
            job.reason, job.message = JobReason.HUB_ERROR, "the hub made a mistake"
            job.show_state()
            self._retire_when_over(job)

    def _drop(self, part: Part) -> None:
        """Another process has it, or will have: forget it here, without a word in the store."""
        part.stop_timer()
        job = part.job
        job.parts.pop(part.index, None)
        if not job.parts:
            job.log.close()
            self._live.pop(job.id, None)

    def _retire_when_over(self, job: Job) -> None:
        """The story is told, or goes on with the claim; readers who come late still find it."""
        if not job.over or job.id not in self._live:
            return
        job.log.close()
        del self._live[job.id]
        self._hub.open_jobs -= 1
        self._hub.job_ended(job)
        self._done[job.id] = job
        while len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)

    # from outside

    def cancel(self, job: Job) -> None:
        """Ask the job to stop; refuses once the client has read a part of the answer, which is work to be paid."""
        if job.streamed:
            raise Refused(JobReason.JOB_OVER, "a part of the answer has been sent; it is finished and billed")
        self._stop(job, CancelAsked())

    def hang_up(self, job: Job) -> None:
        """The client has left in the middle: stop, and bill the part of a text that somebody may have read."""
        if not job.log.closed:
            self._stop(job, CancelAsked(bill=job.is_read, unread=not job.is_read))

    def _stop(self, job: Job, signal: CancelAsked) -> None:
        job.stop_asked = signal
        for part in list(job.parts.values()):
            for attempt in part.running.values():
                attempt.stop(signal)
            if not part.running and part.state == State.QUEUED:
                self._end_waiting(part, CANCELED)

    def settled(self, job_id: str, part: int, *, event: Event, reason: str, message: str) -> State:
        """The claim has ended; returns the part's state to write down."""
        state = advance(State.DELIVERED, event)
        assert state in FINAL_STATES, "a claim ends the part"
        job = self.live(job_id)
        if job is not None and part in job.parts:
            own = job.parts[part]
            own.state, own.reason, own.message = state, reason, message
            if not job.split:
                job.state, job.reason, job.message = state, reason, message
        return state

    async def stop(self) -> None:
        """Leave everything as it is on disk; the next run goes on from there."""
        for job in self._live.values():
            for part in job.parts.values():
                part.stop_timer()
        tasks = [*self._drivers, *self._starting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in self._live.values():
            job.log.close()
        self._live.clear()


def _queued_record(quote: Quote, reservation: NewReservation) -> JobRecord:
    return JobRecord(
        quote=quote,
        state=State.QUEUED,
        reason="",
        message="",
        lock=reservation.lock,
        first_task=reservation.first_task,
        randomness=reservation.randomness,
        attempts=0,
    )


def _task_record(job_id: str, task: NewTask, *, seq: int) -> TaskRecord:
    fields = msgspec.structs.asdict(task)
    return TaskRecord(**fields, job_id=job_id, seq=seq, state=State.QUEUED, reason="", message="", attempts=0)
