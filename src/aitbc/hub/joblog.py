"""One log line for each job that has ended, with seed 003's fields: hashes, never prompts or answers."""

import logging
from typing import TYPE_CHECKING

from aitbc.core.jobs.requests import prompt_hash_of

if TYPE_CHECKING:
    from aitbc.hub.parts import Job

log = logging.getLogger("aitbc.hub.jobs")


def write_job_log(job: "Job", *, now_ms: int) -> None:
    quote, delivered = job.quote, [entry.delivery.details for entry in job.receipts]
    log.info(
        "job",
        extra={
            "job_id": quote.job_id,
            "kind": quote.kind,
            "model": quote.model,
            "account": quote.account,
            "provider": ",".join(sorted({details.provider for details in delivered})),
            "duration_ms": max(0, now_ms - job.began_ms),
            "gpu_seconds": sum([details.gpu_ms for details in delivered]) / 1000,
            "bytes_out": job.bytes_out,
            "prompt_hash": prompt_hash_of(quote.request),
            "exit_code": job.outcome if delivered else str(job.reason or job.state),
        },
    )
