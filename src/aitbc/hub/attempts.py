"""One attempt at one part: send it, follow it, check what comes. Every attempt ends in exactly one outcome."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aitbc.core.codec.digests import attestation_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.jobs import link
from aitbc.core.jobs.lifecycle import Event
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Offer, build_attestation, check_delivery
from aitbc.core.types.receipts import SignedAttestation
from aitbc.hub.parts import Failure, Part
from aitbc.hub.providers import ROUND_ROBIN, CancelAsked, FromProvider, Granted, ProviderLost, ProviderSession
from aitbc.hub.records import ReceiptEntry
from aitbc.ports import StorageError

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

STOP_S = 2
"""A provider that was told to stop in the middle of a text hands in what it has within this time, or gets nothing:
engines stop within a second."""
MAX_STREAMED_CHARACTERS = 256 * 1024
"""A thousand for each token of the longest answer; a provider that streams more is not answering."""


class Ended(msgspec.Struct, frozen=True):
    """Nothing more is wanted: the client has stopped, the deadline has come, another attempt has won."""

    event: Event
    reason: JobReason
    message: str


class Delivered(msgspec.Struct, frozen=True):
    """A delivery that is what was offered; nothing is attested yet."""

    result: link.Result
    data: bytes


Outcome = Failure | Ended | Delivered

CANCELED = Ended(Event.CANCEL_ASKED, JobReason.CANCELED, "the client has canceled it")


class Attempt:
    """A provider at work on a part, or about to be."""

    def __init__(self, hub: "Hub", part: Part, granted: Granted, offer: Offer, *, lease_s: float) -> None:
        self._hub = hub
        self.part = part
        self.granted = granted
        self.offer = offer
        self.lease_s = lease_s
        self.began_ms = hub.now_ms()
        self.stopping = False
        """The client reads no further; what it was shown is to be billed."""
        self._told = ""

    @property
    def session(self) -> ProviderSession:
        return self.granted.session

    def stop(self, signal: CancelAsked) -> None:
        if not self.granted.inbox.full():
            self.granted.inbox.put_nowait(signal)

    async def follow(self) -> Outcome:
        """A fault of ours that one provider's words bring out must not cost the client its job."""
        try:
            outcome = await self._follow()
        except StorageError:
            raise
        except Exception:
            log.exception("job %s: a bug of the hub while %s worked", self.part.job.id, self.offer.provider)
            self._cancel(JobReason.HUB_ERROR)
            return Failure(JobReason.HUB_ERROR, "the hub made a mistake with this provider's messages")
        if self.stopping and isinstance(outcome, Failure):
            return CANCELED
        return outcome

    async def _follow(self) -> Outcome:
        """Listen until the attempt is over."""
        part, task_id = self.part, self.granted.task_id
        clock = asyncio.get_running_loop().time
        silent_after = clock() + self._hub.config.accept_s
        accepted = False
        while True:
            signal = await self._hear(self._timeout_s(silent_after))
            match signal:
                case FromProvider(message=message, data=data):
                    pass
                case ProviderLost(message=text):
                    return Failure(JobReason.PROVIDER_GONE, text)
                case CancelAsked(bill=True) if part.streamed:
                    if not self.stopping:
                        self.stopping = True
                        self._cancel(JobReason.CANCELED)
                        silent_after = clock() + STOP_S
                    continue
                case CancelAsked() if signal.ends_all or not part.streamed:
                    self._cancel(signal.reason)
                    return msgspec.structs.replace(CANCELED, reason=signal.reason)
                case None:
                    return self._out_of_time()
                case _:
                    continue
            match message:
                case link.Accepted() if not accepted:
                    accepted = True
                    self._hub.jobs.started(part)
                case link.Progress(done=done, total=total):
                    if (done, total) <= part.progress:
                        continue
                    part.progress = (done, total)
                    part.job.show({"progress": [done, total]}, part)
                case link.Text(text=text) if self.offer.kind == "chat" and text:
                    self._told += text
                    if len(self._told) > MAX_STREAMED_CHARACTERS:
                        return Failure(
                            JobReason.STREAM_MISMATCH, f"{len(self._told)} characters were streamed"
                        )
                    self.show_text(self._told)
                case link.Declined(reason=why, message=text):
                    return Failure(
                        JobReason.PROVIDER_REFUSED, f"{self.offer.provider} declined ({why}): {text}"[:500]
                    )
                case link.AttemptFailed(reason=why, message=text):
                    return _engine_failure(why, text)
                case link.Result() if accepted:
                    return self._checked(message, data)
                case _:
                    self.session.post(_unexpected(task_id, message))
                    continue
            if not self.stopping:
                silent_after = clock() + self.lease_s

    async def _hear(self, timeout_s: float) -> Any:
        """The next signal, or None when the time is over.

        Not `wait_for`: in Python 3.11 that forgets a cancellation in the moment in which a signal comes.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self.granted.inbox.get()
        except TimeoutError:
            return None

    def _timeout_s(self, silent_after: float) -> float:
        silence_s = silent_after - asyncio.get_running_loop().time()
        deadline_s = (self.offer.deliver_by_ms - self._hub.now_ms()) / 1000
        return max(0.001, min(silence_s, deadline_s))

    def _out_of_time(self) -> Outcome:
        """Either the lock's deadline has come or the provider has been silent for too long."""
        late = self._hub.now_ms() >= self.offer.deliver_by_ms
        reason = JobReason.DEADLINE_MISSED if late else JobReason.PROVIDER_SILENT
        self._cancel(reason)
        if late:
            return Ended(Event.DEADLINE_PASSED, reason, "not delivered before the lock's deadline")
        return Failure(reason, f"{self.session.address} showed no progress in time")

    def _cancel(self, reason: JobReason) -> None:
        self.session.post(link.Cancel(task_id=self.granted.task_id, reason=reason))

    def show_text(self, told: str) -> None:
        """Show what is new. A second attempt repeats the first one's text, which nobody wants to read twice."""
        part = self.part
        if told.startswith(part.streamed) and len(told) > len(part.streamed):
            part.job.show({"text": told[len(part.streamed) :]}, part)
            part.streamed = told

    def _checked(self, result: link.Result, data: bytes) -> Outcome:
        offer, hub = self.offer, self._hub
        try:
            check_delivery(
                offer,
                result.delivery,
                data,
                provider_key=self.session.auth_key,
                genesis_hash=hub.genesis_hash,
                stopped=self.stopping,
            )
            shown = self.part.streamed if result.delivery.details.status == "partial" else None
            _check_stream(offer, data, self._told, shown=shown)
        except Refused as error:
            log.warning("job %s: refused the delivery of %s: %s", offer.job_id, offer.provider, error)
            self.session.post(
                link.ResultRefused(task_id=result.task_id, reason=error.reason, message=error.message)
            )
            return Failure(error.reason, error.message)
        return Delivered(result, data)

    def _routed(self) -> Literal["random", "chosen", "calibration"]:
        """Who chose the provider."""
        quote = self.part.job.quote
        if quote.calibrates:
            return "calibration"
        return "chosen" if quote.wishes.allow or self._hub.config.matching == ROUND_ROBIN else "random"

    def _offered_key(self) -> str:
        """Before there are coins the hub has sent nothing, so the chain knows no key of it."""
        signer = self._hub.signer
        first = address_of(signer.auth_key) == signer.address
        return key_to_text(signer.auth_key) if self.part.job.quote.calibrates and first else ""

    def attest(self, delivered: Delivered) -> ReceiptEntry:
        """From here on the provider is owed money."""
        hub, offer, delivery = self._hub, self.offer, delivered.result.delivery
        attestation = build_attestation(
            offer, delivery.core, genesis_hash=hub.genesis_hash, routed=self._routed()
        )
        sig = hub.signer.sign(attestation_digest(attestation, hub.genesis_hash)).hex()
        return ReceiptEntry(
            receipt_id=attestation.receipt_id,
            job_id=offer.job_id,
            part=self.part.index,
            provider=offer.provider,
            provider_pubkey=self.session.pubkey,
            delivery=delivery,
            signed=SignedAttestation(attestation=attestation, sig=sig, pubkey=self._offered_key()),
            claim_until_ms=offer.claim_until_ms,
            claim_tx="",
            state="attested",
        )


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


def _check_stream(offer: Offer, data: bytes, told: str, *, shown: str | None) -> None:
    """What the client was shown must be what is delivered and hashed; nobody pays for a part that was not shown."""
    if offer.kind != "chat":
        return
    text = data.decode()
    if not text.startswith(told) or (shown is not None and (text != told or not shown.startswith(text))):
        raise Refused(
            JobReason.STREAM_MISMATCH, "the streamed text is not the beginning of the delivered text"
        )


def _unexpected(task_id: str, message: msgspec.Struct) -> link.LinkError:
    name = type(message).__name__
    return link.LinkError(
        reason=JobReason.UNEXPECTED_MESSAGE, message=f"{name} makes no sense for {task_id} now"
    )
