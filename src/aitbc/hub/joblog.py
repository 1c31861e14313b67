"""One log line for each job that has ended, with seed 003's fields: hashes, never prompts or answers."""

import logging
from typing import TYPE_CHECKING

from aitbc.core.jobs.requests import prompt_hash_of

if TYPE_CHECKING:
    from aitbc.hub.jobs import Job

log = logging.getLogger("aitbc.hub.jobs")


def write_job_log(job: "Job", *, now_ms: int) -> None:
    quote, details = job.quote, job.receipt.delivery.details if job.receipt else None
    log.info(
        "job",
        extra={
            "job_id": quote.job_id,
            "kind": quote.kind,
            "model": quote.model,
            "account": quote.account,
            "provider": details.provider if details else "",
            "duration_ms": max(0, now_ms - job.began_ms),
            "gpu_seconds": details.gpu_ms / 1000 if details else 0,
            "bytes_out": job.bytes_out,
            "prompt_hash": prompt_hash_of(quote.request),
            "exit_code": details.status if details else str(job.reason or job.state),
        },
    )
