"""One task from the hub's offer to the signed delivery."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aitbc.core.codec.digests import receipt_core_digest
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import (
    MAX_NOTE_CHARACTERS,
    MAX_NOTES,
    MAX_OUTPUT_BYTES,
    MAX_TRANSCRIPT,
    Computed,
    Delivery,
    Offer,
    build_core,
    build_details,
)
from aitbc.core.jobs.requests import engine_request, prompt_hash_of
from aitbc.ports import EngineError, EngineOutput
from aitbc.provider.chain import Chain, check_calibration, check_lock
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine import EngineProcess
from aitbc.provider.joblog import JsonLog
from aitbc.provider.measures import OTHER_MODEL, Measures
from aitbc.provider.offers import check_offer

log = logging.getLogger("aitbc.provider")

SendText = Callable[[link.FromProvider], None]
SendResult = Callable[[link.Result, bytes], Awaitable[None]]

MAX_TEXT = 16_000
"""Characters in one text message; more go into several."""


class Worker:
    """Does as many tasks at once as there are slots, with one engine child."""

    def __init__(
        self, config: ProviderConfig, *, chain: Chain, engine: EngineProcess, joblog: JsonLog
    ) -> None:
        self._config = config
        self._chain = chain
        self._engine = engine
        self._joblog = joblog
        self._tasks: set[str] = set()
        self._cancelled: set[str] = set()
        self.closed_for = ""
        """Why no new task is taken; empty while they are welcome."""
        self.chain_id = ""
        self.genesis_hash = b""
        self.genesis: dict[str, Any] = {}
        self.measures = Measures()

    @property
    def running(self) -> list[str]:
        return sorted(self._tasks)

    @property
    def jobs_done(self) -> int:
        return self.measures.done

    @property
    def jobs_failed(self) -> int:
        return self.measures.failed

    def cancel(self, task_id: str) -> None:
        if task_id in self._tasks:
            self._cancelled.add(task_id)
            self._engine.cancel(task_id)

    async def do(self, task: link.Task, *, hub: str, send: SendText, send_result: SendResult) -> None:
        """Accept or decline, run, deliver or say why not. Every task gets one last word."""
        if refused := self._why_not(task.task_id):
            send(_declined(task, Refused(JobReason.BUSY, refused)))
            return
        self._tasks.add(task.task_id)
        entry = _Entry(offer=task.offer, began_ns=time.monotonic_ns())
        try:
            await self._check(task, hub)
            send(link.Accepted(task_id=task.task_id))
            result, data = await self._compute(task, send)
            await send_result(result, data)
            entry.exit_code, entry.bytes_out = "ok", len(data)
            entry.units = result.delivery.core.compute_units
            entry.engine_ms = result.delivery.details.gpu_ms
        except Refused as error:
            entry.exit_code = error.reason
            send(_declined(task, error))
        except EngineError as error:
            entry.exit_code = error.reason
            send(link.AttemptFailed(task_id=task.task_id, reason=error.reason, message=error.message[:400]))
        finally:
            self._tasks.discard(task.task_id)
            self._cancelled.discard(task.task_id)
            self._write_down(entry)

    def _why_not(self, task_id: str) -> str:
        if self.closed_for:
            return self.closed_for
        if not self._engine.ready:
            return "the engine is being restarted"
        if task_id in self._tasks or len(self._tasks) >= self._config.slots:
            return f"all {self._config.slots} slots are taken"
        return ""

    async def _check(self, task: link.Task, hub: str) -> None:
        check_offer(
            task,
            provider=self._config.signer.address,
            hub=hub,
            chain_id=self.chain_id,
            cards=self._engine.cards,
            price_per_kilounit=self._config.price_per_kilounit,
            now_ms=_now_ms(),
        )
        if not task.offer.lock:
            await check_calibration(self._chain, task.offer, genesis=self.genesis, now_ms=_now_ms())
        elif self._config.check_locks:
            await check_lock(self._chain, task.offer)

    async def _compute(self, task: link.Task, send: SendText) -> tuple[link.Result, bytes]:
        offer, started_ms = task.offer, _now_ms()
        if task.task_id in self._cancelled:
            raise EngineError("cancelled", "canceled before it began")
        left_s = (offer.deliver_by_ms - started_ms) / 1000
        try:
            async with asyncio.timeout(left_s):
                output, engine_ms = await self._engine.run(
                    run_id=task.task_id,
                    model=offer.model,
                    request=engine_request(offer.request),
                    on_event=lambda event: _pass_on(task.task_id, event, send),
                )
        except TimeoutError:
            raise EngineError("failed", "not finished before the deadline") from None
        _check_output(output)
        computed = Computed(
            data=output.data,
            counts=output.counts,
            transcript=output.transcript,
            notes=output.notes,
            started_ms=started_ms,
            finished_ms=max(started_ms, _now_ms()),
            engine_ms=engine_ms,
            partial=output.partial,
        )
        return self._sign(task, computed, output.media_type), output.data

    def _sign(self, task: link.Task, computed: Computed, media_type: str) -> link.Result:
        try:
            details = build_details(task.offer, computed)
        except Refused as error:
            raise EngineError("failed", f"the engine's counts are impossible: {error.message}") from None
        core = build_core(task.offer, details)
        sig = self._config.signer.sign(receipt_core_digest(core, self.genesis_hash)).hex()
        delivery = Delivery(details=details, core=core, sig=sig, media_type=media_type)
        return link.Result(task_id=task.task_id, size=len(computed.data), delivery=delivery)

    def _write_down(self, entry: "_Entry") -> None:
        """Seed 003's fields, and what the metrics count."""
        offer, duration_ns = entry.offer, time.monotonic_ns() - entry.began_ns
        model = offer.model if offer.model in self._engine.cards else OTHER_MODEL
        self.measures.job_ended(
            model,
            entry.exit_code,
            seconds=duration_ns / 1e9,
            engine_s=entry.engine_ms / 1000,
            units=entry.units,
            bytes_out=entry.bytes_out,
        )
        self._joblog.write(
            {
                "job_id": offer.job_id,
                "task": offer.task,
                "attempt": offer.attempt,
                "model": offer.model[:128],
                "duration_ms": duration_ns // 1_000_000,
                "gpu_seconds": entry.engine_ms / 1000,
                "units": entry.units,
                "bytes_out": entry.bytes_out,
                "prompt_hash": prompt_hash_of(offer.request) if _names_a_prompt(offer) else "",
                "exit_code": entry.exit_code,
            }
        )


@dataclass(kw_only=True)
class _Entry:
    """What is written down of a task, however it ends."""

    offer: Offer
    began_ns: int
    exit_code: str = "interrupted"
    units: int = 0
    bytes_out: int = 0
    engine_ms: int = 0


def _names_a_prompt(offer: Offer) -> bool:
    """A request that was declined may be anything."""
    return "prompt" in offer.request or "input" in offer.request


def _check_output(output: EngineOutput) -> None:
    """An engine's output must fit a receipt."""
    if not 0 < len(output.data) <= MAX_OUTPUT_BYTES:
        raise EngineError("failed", f"the engine made {len(output.data)} bytes; 1 to {MAX_OUTPUT_BYTES} fit")
    if len(output.transcript) > MAX_TRANSCRIPT or any(len(item) != 32 for item in output.transcript):
        raise EngineError("failed", f"a transcript has at most {MAX_TRANSCRIPT} hashes of 32 bytes")
    texts = [text for pair in output.notes.items() for text in pair]
    if len(output.notes) > MAX_NOTES or any(len(text) > MAX_NOTE_CHARACTERS for text in texts):
        raise EngineError("failed", f"at most {MAX_NOTES} notes of {MAX_NOTE_CHARACTERS} characters")


def _pass_on(task_id: str, event: dict[str, Any], send: SendText) -> None:
    """An engine's event as messages to the hub; what has no known form is left out."""
    match event:
        case {"progress": [int(done), int(total)]} if 0 <= done <= 2**31 and 0 <= total <= 2**31:
            send(link.Progress(task_id=task_id, done=done, total=total))
        case {"text": str(text)}:
            for start in range(0, len(text), MAX_TEXT):
                send(link.Text(task_id=task_id, text=text[start : start + MAX_TEXT]))
        case _:
            log.warning("the engine emitted something unknown: %s", sorted(event)[:5])


def _declined(task: link.Task, error: Refused) -> link.Declined:
    return link.Declined(task_id=task.task_id, reason=error.reason, message=error.message[:400])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
