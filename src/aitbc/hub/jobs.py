"""The jobs that are under way: each has one task that walks it through `core.jobs.lifecycle`.

A job hears everything through its inbox (a provider was drawn, said something or vanished; the client wants to stop)
and its state is written before anybody is told. docs/spec/jobs.md
"""

import asyncio
import logging
import sqlite3
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aitbc.core.codec.digests import attestation_digest
from aitbc.core.jobs import link
from aitbc.core.jobs.draw import candidates_hash
from aitbc.core.jobs.lifecycle import FINAL_STATES, Event, State, advance, after_failed_attempt
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Delivery, Offer, build_attestation, check_delivery
from aitbc.core.jobs.units import price_of
from aitbc.core.types.receipts import SignedAttestation
from aitbc.hub.chain import check_lock, final_lock
from aitbc.hub.events import EventLog
from aitbc.hub.matcher import Want
from aitbc.hub.providers import (
    MAX_INBOX,
    CancelAsked,
    FromProvider,
    Granted,
    Inbox,
    ProviderLost,
    ProviderSession,
)
from aitbc.hub.records import AttemptRecord, JobRecord, Quote, ReceiptEntry

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

LET_GO_S = 5
"""A provider that was told to stop has this long before its slot counts as free again."""
MAX_REMEMBERED = 200
"""Event logs of finished jobs that are kept in memory for late readers; older ones are told from the disk."""
MAX_STREAMED_CHARACTERS = 256 * 1024
"""A thousand for each token of the longest answer; a provider that streams more is not answering."""
STOP_S = 2
"""A provider that was told to stop in the middle of a text hands in what it has within this time, or gets nothing:
engines stop within a second."""

_RETRY_ELSEWHERE = frozenset({JobReason.PROVIDER_GONE, JobReason.PROVIDER_SILENT, JobReason.HUB_RESTARTED})
"""Failures that say nothing against the provider: it may be asked again when nobody else is there."""


class Failure(NamedTuple):
    """Why an attempt ended without a delivery."""

    reason: JobReason
    message: str
    retry_useful: bool = True


class Job:
    """A job under way, in memory."""

    def __init__(self, record: JobRecord, *, event_limit: int) -> None:
        self.quote: Quote = record.quote
        self.state = record.state
        self.reason = record.reason
        self.message = record.message
        self.lock = record.lock
        self.randomness = record.randomness
        self.attempts = record.attempts
        self.progress: tuple[int, int] = (0, 0)
        self.log = EventLog(limit=event_limit)
        self.inbox: Inbox = asyncio.Queue(MAX_INBOX)
        self.avoid: set[str] = set()
        self.lost: set[str] = set()
        self.is_read = False
        """Somebody follows its events."""
        self.stopping = False
        """The client reads no further; what it was shown is to be billed."""
        self.streamed = ""
        """Text that the client has been shown, over all attempts."""
        self.receipt: ReceiptEntry | None = None
        self.bytes_out = 0
        self.began_ms = record.quote.created_ms

    @property
    def id(self) -> str:
        return self.quote.job_id

    def enter(self, event: Event, *, reason: str = "", message: str = "") -> State:
        """Move on. Only the table decides where to."""
        state = advance(self.state, event)
        assert state is not None, f"{event} cannot happen to a job that is {self.state}"
        self.state, self.reason, self.message = state, reason, message
        return state

    def show(self, event: dict[str, Any]) -> None:
        if not self.log.full:
            self.log.append(event)

    def show_state(self, **more: str) -> None:
        event: dict[str, Any] = {"state": self.state, **more}
        if self.reason:
            event.update(reason=self.reason, message=self.message)
        self.log.append(event)


class JobService:
    """Starts, drives, cancels and remembers jobs."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._live: dict[str, Job] = {}
        self._done: OrderedDict[str, Job] = OrderedDict()
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._drivers: set[asyncio.Task[None]] = set()

    def live(self, job_id: str) -> Job | None:
        """A job in memory, under way or recently finished."""
        return self._live.get(job_id) or self._done.get(job_id)

    @property
    def under_way(self) -> int:
        return len(self._live)

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
            self._refuse_when_full(record.quote)
            running = asyncio.create_task(self._start(record.quote, lock_id))
            self._starting[job_id] = running
            running.add_done_callback(lambda task: self._started(job_id, task))
        await asyncio.shield(running)
        started = await self._hub.db(self._hub.store.job, job_id)
        assert started is not None, "a job that is starting is not forgotten"
        return self._already(started, lock_id)

    def _started(self, job_id: str, task: asyncio.Task[None]) -> None:
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

    def _refuse_when_full(self, quote: Quote) -> None:
        if len(self._live) + len(self._starting) >= self._hub.config.max_jobs:
            raise Refused(JobReason.QUEUE_FULL, f"{len(self._live)} jobs are under way; try again soon")
        if self._hub.now_ms() > quote.expires_ms:
            raise Refused(JobReason.QUOTE_EXPIRED, "this quote is over; a lock made for it can be refunded")

    async def _start(self, quote: Quote, lock_id: str) -> None:
        hub = self._hub
        lock = await final_lock(hub.chain, lock_id, wait_s=hub.config.lock_wait_s)
        check_lock(lock, client=quote.client, terms=quote.lock_terms(hub.signer.address))
        now_ms = hub.now_ms()
        if now_ms + hub.config.dispatch_margin_ms > quote.deliver_by_ms:
            raise Refused(JobReason.TOO_LATE, "the lock became final too late to deliver before its deadline")
        await hub.db(hub.store.reserve, quote.job_id, lock=lock_id, randomness=lock.block_hash, at_ms=now_ms)
        record = await hub.db(hub.store.job, quote.job_id)
        assert record is not None and record.state == State.RESERVED, "the reservation is on disk"
        self._drive_in_background(self._make_live(record))
        hub.quote_taken(quote.job_id)

    async def enqueue(self, quote: Quote, *, lock: str, first_task: int, randomness: bytes) -> None:
        """Begin a job whose money is set aside already, by a place in a final session lock."""
        assert quote.first_task == first_task, "the place is on disk with the quote"
        if len(self._live) + len(self._starting) >= self._hub.config.max_jobs:
            raise Refused(JobReason.QUEUE_FULL, f"{len(self._live)} jobs are under way; try again soon")
        record = JobRecord(
            quote=quote,
            state=State.RESERVED,
            reason="",
            message="",
            lock=lock,
            randomness=randomness,
            attempts=0,
        )
        await self._hub.db(
            self._hub.store.add_session_job,
            quote,
            lock=lock,
            randomness=randomness,
            at_ms=self._hub.now_ms(),
        )
        job = self._make_live(record)
        self._drive_in_background(job)

    def _make_live(self, record: JobRecord) -> Job:
        job = Job(record, event_limit=self._hub.config.max_events_per_job)
        self._live[job.id] = job
        job.show_state()
        return job

    def resume(self, record: JobRecord, attempts: list[AttemptRecord]) -> None:
        """Take up a job that an earlier run of the hub left behind. What was running there is lost."""
        job = self._make_live(record)
        job.avoid = {a.offer.provider for a in attempts if a.reason and a.reason not in _RETRY_ELSEWHERE}
        self._drive_in_background(job)

    # driving

    def _drive_in_background(self, job: Job) -> None:
        task = asyncio.create_task(self._drive(job), name=job.id)
        self._drivers.add(task)
        task.add_done_callback(self._drivers.discard)

    async def _drive(self, job: Job) -> None:
        """From reserved to delivered or to an end."""
        try:
            if job.state in (State.LEASED, State.RUNNING):
                lost = Failure(JobReason.HUB_RESTARTED, "the hub was restarted while this ran")
                await self._attempt_failed(job, job.attempts - 1, lost)
            if job.state == State.RESERVED:
                await self._to(job, Event.ENQUEUED)
            while job.state == State.QUEUED:
                granted = await self._next_provider(job)
                if granted is not None:
                    await self._attempt(job, granted)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("job %s: a bug of the hub; the job goes on when the hub is started again", job.id)
            job.state, job.reason, job.message = State.FAILED, JobReason.HUB_ERROR, "the hub made a mistake"
            job.show_state()
        self._retire(job)

    def _retire(self, job: Job) -> None:
        """The story is told, or goes on with the claim; readers who come late still find it."""
        job.log.close()
        self._live.pop(job.id, None)
        self._hub.job_ended(job)
        self._done[job.id] = job
        while len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)

    async def _to(self, job: Job, event: Event, *, reason: str = "", message: str = "") -> None:
        """Move on, on disk first, then for the client's eyes."""
        job.enter(event, reason=reason, message=message)
        await self._hub.db(
            self._hub.store.set_state,
            job.id,
            job.state,
            reason=reason,
            message=message,
            at_ms=self._hub.now_ms(),
        )
        job.show_state()

    async def _next_provider(self, job: Job) -> Granted | None:
        """Wait for the draw; None when the job ended meanwhile."""
        hub = self._hub
        hub.matcher.ask(
            Want(
                job_id=job.id,
                model=job.quote.model,
                price_per_kilounit=job.quote.price_per_kilounit,
                lock=job.lock,
                task=job.quote.first_task,
                attempt=job.attempts,
                randomness=job.randomness,
                avoid=job.avoid,
                lost=job.lost,
                inbox=job.inbox,
            )
        )
        retry_until_ms = hub.now_ms() + int(hub.config.retry_wait_s * 1000) if job.attempts else None
        while True:
            signal = await self._hear(job, self._queue_timeout_s(job, retry_until_ms))
            if isinstance(signal, Granted):
                return signal
            if isinstance(signal, CancelAsked):
                end = (Event.CANCEL_ASKED, JobReason.CANCELED, "the client has canceled it")
            elif signal is None and self._undeliverable(job):
                message = job.message or f"no provider for {job.quote.model} was free before the deadline"
                end = (Event.DEADLINE_PASSED, JobReason.DEADLINE_MISSED, message)
            elif signal is None and not hub.matcher.feasible(
                job.quote.model, job.quote.price_per_kilounit, job.avoid
            ):
                end = (Event.ATTEMPTS_EXHAUSTED, JobReason(job.reason or JobReason.NO_PROVIDER), job.message)
            else:
                continue
            hub.matcher.withdraw(job.id)
            self._return_late_grant(job)
            await self._to(job, end[0], reason=end[1], message=end[2])
            return None

    def _queue_timeout_s(self, job: Job, retry_until_ms: int | None) -> float:
        now_ms = self._hub.now_ms()
        until_ms = job.quote.deliver_by_ms - self._hub.config.dispatch_margin_ms
        if retry_until_ms is not None and now_ms < retry_until_ms:
            until_ms = min(until_ms, retry_until_ms)
        return max(0.001, (until_ms - now_ms) / 1000)

    def _undeliverable(self, job: Job) -> bool:
        return self._hub.now_ms() + self._hub.config.dispatch_margin_ms >= job.quote.deliver_by_ms

    def _return_late_grant(self, job: Job) -> None:
        """A provider drawn in the very moment in which the job ended gets its slot back."""
        while not job.inbox.empty():
            signal = job.inbox.get_nowait()
            if isinstance(signal, Granted):
                signal.session.free_slot(signal.task_id)
                self._hub.directory.changed()

    async def _hear(self, job: Job, timeout_s: float) -> Any:
        """The next signal, or None when the time is over.

        Not `wait_for`: in Python 3.11 that forgets a cancellation in the moment in which a signal comes.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await job.inbox.get()
        except TimeoutError:
            return None

    # one attempt

    async def _attempt(self, job: Job, granted: Granted) -> None:
        """Put the draw on record, send the task, follow it to its end."""
        session, offer = granted.session, self._offer(job, granted)
        record = AttemptRecord(offer=offer, table=granted.table, randomness=job.randomness, reason="")
        job.enter(Event.DISPATCHED)
        job.attempts += 1
        await self._hub.db(self._hub.store.begin_attempt, record, at_ms=self._hub.now_ms())
        job.show_state()
        lease_s = max(self._hub.config.lease_least_s, 3 * job.quote.units / 1000)
        session.post(link.Task(task_id=granted.task_id, lease_ms=int(lease_s * 1000), offer=offer))
        try:
            failure = await self._followed(job, session, offer, granted.task_id, lease_s=lease_s)
            if failure is not None and job.stopping:
                await self._canceled(job)
            elif failure is not None:
                session.recent_failures += 1
                await self._attempt_failed(job, offer.attempt, failure, provider=offer.provider)
        finally:
            self._release(session, granted.task_id)

    def _offer(self, job: Job, granted: Granted) -> Offer:
        quote, per_kilounit = job.quote, granted.winner.price_per_kilounit
        return Offer(
            chain_id=self._hub.chain_id,
            job_id=job.id,
            lock=job.lock,
            task=job.quote.first_task,
            attempt=job.attempts,
            ticket=granted.ticket,
            client=quote.client,
            provider=granted.winner.address,
            hub=self._hub.signer.address,
            kind=quote.kind,
            model=quote.model,
            model_digest=granted.winner.model_digest,
            request=quote.request,
            request_hash=quote.request_hash,
            candidates_hash=candidates_hash(granted.table),
            units=quote.units,
            price_per_kilounit=per_kilounit,
            price=price_of(quote.units, per_kilounit),
            deliver_by_ms=quote.deliver_by_ms,
            claim_until_ms=quote.claim_until_ms,
        )

    async def _followed(
        self, job: Job, session: ProviderSession, offer: Offer, task_id: str, *, lease_s: float
    ) -> Failure | None:
        """A fault of ours that one provider's words bring out must not cost the client its job."""
        try:
            return await self._follow(job, session, offer, task_id, lease_s=lease_s)
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("job %s: a bug of the hub while %s worked", job.id, offer.provider)
            session.post(link.Cancel(task_id=task_id, reason=JobReason.HUB_ERROR))
            return Failure(JobReason.HUB_ERROR, "the hub made a mistake with this provider's messages")

    async def _follow(
        self, job: Job, session: ProviderSession, offer: Offer, task_id: str, *, lease_s: float
    ) -> Failure | None:
        """Listen until the attempt is over. None: delivered, or the job itself has ended."""
        told = ""
        silent_after = asyncio.get_running_loop().time() + self._hub.config.accept_s
        while True:
            timeout_s = self._attempt_timeout_s(job, silent_after)
            signal = await self._hear(job, timeout_s)
            match signal:
                case FromProvider(task_id=about, message=message, data=data) if about == task_id:
                    pass
                case ProviderLost(task_id=about, message=text) if about == task_id:
                    return Failure(JobReason.PROVIDER_GONE, text)
                case CancelAsked(bill=True) if job.streamed and not job.stopping:
                    job.stopping = True
                    session.post(link.Cancel(task_id=task_id, reason=JobReason.CANCELED))
                    silent_after = asyncio.get_running_loop().time() + STOP_S
                    continue
                case CancelAsked(unread=unread) if unread or not job.streamed:
                    session.post(link.Cancel(task_id=task_id, reason=JobReason.CANCELED))
                    await self._canceled(job)
                    return None
                case None:
                    return await self._out_of_time(job, session, task_id)
                case _:
                    continue
            match message:
                case link.Accepted() if job.state == State.LEASED:
                    job.enter(Event.STARTED)
                    self._hub.db_soon(
                        self._hub.store.set_state,
                        job.id,
                        job.state,
                        reason="",
                        message="",
                        at_ms=self._hub.now_ms(),
                    )
                    job.show_state()
                case link.Progress(done=done, total=total):
                    if (done, total) <= job.progress:
                        continue
                    job.progress = (done, total)
                    job.show({"progress": [done, total]})
                case link.Text(text=text) if offer.kind == "chat" and text:
                    told += text
                    if len(told) > MAX_STREAMED_CHARACTERS:
                        return Failure(JobReason.STREAM_MISMATCH, f"{len(told)} characters were streamed")
                    self._show_text(job, told)
                case link.Declined(reason=why, message=text):
                    return Failure(
                        JobReason.PROVIDER_REFUSED, f"{offer.provider} declined ({why}): {text}"[:500]
                    )
                case link.AttemptFailed(reason=why, message=text):
                    return _engine_failure(why, text)
                case link.Result(delivery=_) if job.state == State.RUNNING:
                    return await self._deliver(job, session, offer, message, data, told)
                case _:
                    session.post(_unexpected(task_id, message))
                    continue
            if not job.stopping:
                silent_after = asyncio.get_running_loop().time() + lease_s

    async def _canceled(self, job: Job) -> None:
        """The end of a job that the client has stopped and nobody is paid for."""
        message = "the client has canceled it"
        await self._to(job, Event.CANCEL_ASKED, reason=JobReason.CANCELED, message=message)

    def _attempt_timeout_s(self, job: Job, silent_after: float) -> float:
        silence_s = silent_after - asyncio.get_running_loop().time()
        deadline_s = (job.quote.deliver_by_ms - self._hub.now_ms()) / 1000
        return max(0.001, min(silence_s, deadline_s))

    async def _out_of_time(self, job: Job, session: ProviderSession, task_id: str) -> Failure | None:
        """Either the lock's deadline has come or the provider has been silent for too long."""
        late = self._hub.now_ms() >= job.quote.deliver_by_ms
        reason = JobReason.DEADLINE_MISSED if late else JobReason.PROVIDER_SILENT
        session.post(link.Cancel(task_id=task_id, reason=reason))
        if not late:
            return Failure(reason, f"{session.address} showed no progress in time")
        await self._to(
            job, Event.DEADLINE_PASSED, reason=reason, message="not delivered before the lock's deadline"
        )
        return None

    def _show_text(self, job: Job, told: str) -> None:
        """Show what is new. A second attempt repeats the first one's text, which nobody wants to read twice."""
        if told.startswith(job.streamed) and len(told) > len(job.streamed):
            job.show({"text": told[len(job.streamed) :]})
            job.streamed = told

    async def _deliver(
        self, job: Job, session: ProviderSession, offer: Offer, result: link.Result, data: bytes, told: str
    ) -> Failure | None:
        """Check, attest, write down, and only then tell provider and client."""
        hub, delivery = self._hub, result.delivery
        try:
            check_delivery(
                offer,
                delivery,
                data,
                provider_key=session.auth_key,
                genesis_hash=hub.genesis_hash,
                stopped=job.stopping,
            )
            _check_stream(offer, data, told, partial=delivery.details.status == "partial")
        except Refused as error:
            log.warning("job %s: refused the delivery of %s: %s", job.id, offer.provider, error)
            session.post(
                link.ResultRefused(task_id=result.task_id, reason=error.reason, message=error.message)
            )
            return Failure(error.reason, error.message)
        entry = self._attest(offer, session, delivery)
        job.enter(Event.ATTESTED)
        await hub.db(hub.store.save_delivery, entry, data, at_ms=hub.now_ms())
        job.receipt, job.bytes_out = entry, len(data)
        session.recent_failures //= 2
        session.post(attested_message(entry))
        if offer.kind == "chat":
            self._show_text(job, data.decode())
        job.show_state(receipt_id=entry.receipt_id)
        hub.claims.add(entry)
        return None

    def _attest(self, offer: Offer, session: ProviderSession, delivery: Delivery) -> ReceiptEntry:
        genesis_hash = self._hub.genesis_hash
        attestation = build_attestation(offer, delivery.core, genesis_hash=genesis_hash)
        sig = self._hub.signer.sign(attestation_digest(attestation, genesis_hash)).hex()
        return ReceiptEntry(
            receipt_id=attestation.receipt_id,
            job_id=offer.job_id,
            provider=offer.provider,
            provider_pubkey=session.pubkey,
            delivery=delivery,
            signed=SignedAttestation(attestation=attestation, sig=sig),
            claim_until_ms=offer.claim_until_ms,
            claim_tx="",
            state="attested",
        )

    async def _attempt_failed(self, job: Job, attempt: int, failure: Failure, *, provider: str = "") -> None:
        """Back to the queue, or the end."""
        if provider:
            (job.lost if failure.reason in _RETRY_ELSEWHERE else job.avoid).add(provider)
        event = after_failed_attempt(attempts_made=job.attempts, retry_useful=failure.retry_useful)
        job.enter(event, reason=failure.reason, message=failure.message)
        log.info("job %s: attempt %d failed, %s: %s", job.id, attempt, failure.reason, failure.message)
        await self._hub.db(
            self._hub.store.end_attempt,
            job.id,
            attempt,
            state=job.state,
            reason=failure.reason,
            message=failure.message,
            at_ms=self._hub.now_ms(),
        )
        job.progress = (0, 0)
        job.show_state()

    def _release(self, session: ProviderSession, task_id: str) -> None:
        """Nothing more is wanted from the provider; its slot is free when it has let go."""
        session.abandon(task_id)
        asyncio.get_running_loop().call_later(LET_GO_S, self._free, session, task_id)

    def _free(self, session: ProviderSession, task_id: str) -> None:
        session.free_slot(task_id)
        self._hub.directory.changed()

    # from outside

    def cancel(self, job: Job) -> None:
        """Ask the job to stop; refuses once the client has read a part of the answer, which is work to be paid."""
        if job.streamed:
            raise Refused(JobReason.JOB_OVER, "a part of the answer has been sent; it is finished and billed")
        job.inbox.put_nowait(CancelAsked())

    def hang_up(self, job: Job) -> None:
        """The client has left in the middle: stop, and bill the part of a text that somebody may have read."""
        if not job.log.closed:
            job.inbox.put_nowait(CancelAsked(bill=job.is_read, unread=not job.is_read))

    def settled(self, job_id: str, *, event: Event, reason: str, message: str) -> State:
        """The claim has ended; returns the state to write down."""
        state = advance(State.DELIVERED, event)
        assert state in FINAL_STATES, "a claim ends the job"
        job = self._done.get(job_id)
        if job is not None:
            job.state, job.reason, job.message = state, reason, message
        return state

    async def stop(self) -> None:
        """Leave everything as it is on disk; the next run goes on from there."""
        tasks = [*self._drivers, *self._starting.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in self._live.values():
            job.log.close()
        self._live.clear()


def attested_message(entry: ReceiptEntry) -> link.Attested:
    return link.Attested(
        core=entry.delivery.core,
        provider_sig=entry.delivery.sig,
        signed=entry.signed,
        claim_until_ms=entry.claim_until_ms,
    )


def _engine_failure(why: str, message: str) -> Failure:
    """A request that one engine calls bad is bad everywhere; anything else is worth another provider."""
    if why == "bad_request":
        return Failure(JobReason.BAD_REQUEST, message, retry_useful=False)
    if why == "out_of_memory":
        return Failure(JobReason.OUT_OF_MEMORY, message)
    return Failure(JobReason.ENGINE_FAILED, f"{why}: {message}"[:500])


def _check_stream(offer: Offer, data: bytes, told: str, *, partial: bool) -> None:
    """What the client was shown must be what is delivered and hashed; nobody pays for a part that was not shown."""
    if offer.kind != "chat":
        return
    text = data.decode()
    if not text.startswith(told) or (partial and text != told):
        raise Refused(
            JobReason.STREAM_MISMATCH, "the streamed text is not the beginning of the delivered text"
        )


def _unexpected(task_id: str, message: msgspec.Struct) -> link.LinkError:
    name = type(message).__name__
    return link.LinkError(
        reason=JobReason.UNEXPECTED_MESSAGE, message=f"{name} makes no sense for {task_id} now"
    )
