"""Jobs that were or may be paid for and whose result is not saved yet: one private file each, in the --home folder.

Written before the escrow is sent, removed when the result is saved; `aitbc result` reads it. It holds the job's
token: who has it can read the result.
"""

import re
from pathlib import Path
from typing import Literal

import msgspec

from aitbc.adapters.keystore.folders import private_folder
from aitbc.cli.errors import NOT_FOUND, CliError
from aitbc.cli.files import write_private
from aitbc.cli.settings import Settings
from aitbc.cli.show import note
from aitbc.client.hub import Quote
from aitbc.client.jobs import OpenJob

MAX_JOB_BYTES = 1024 * 1024
"""A quote repeats its request, whose prompt a hub cuts off long before."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class SavedJob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hub_url: str
    lock_id: str
    output: str
    """Where the user wanted it; empty for a text that is only shown."""
    quote: Quote
    version: Literal[1] = 1

    @property
    def open_job(self) -> OpenJob:
        return OpenJob(quote=self.quote, lock_id=self.lock_id)


def save(settings: Settings, job: OpenJob, output: Path | None) -> None:
    saved = SavedJob(
        hub_url=settings.hub,
        lock_id=job.lock_id,
        output=str(output.absolute()) if output else "",
        quote=job.quote,
    )
    private_folder(settings.jobs_folder)
    write_private(_path(settings, job.quote.job_id), msgspec.json.encode(saved))


def forget(settings: Settings, job_id: str) -> None:
    _path(settings, job_id).unlink(missing_ok=True)


def load(settings: Settings, job_id: str) -> SavedJob:
    path = _path(settings, job_id)
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_JOB_BYTES), type=SavedJob)
    except FileNotFoundError:
        raise _unknown(job_id) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise CliError(f"{path} is no saved job", "it was changed or cut off", code="bad_file") from None


def saved_jobs(settings: Settings) -> list[SavedJob]:
    """The oldest first."""
    paths = sorted(settings.jobs_folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    found = []
    for path in paths:
        try:
            found.append(load(settings, path.stem))
        except CliError as error:
            note(f"{error.message}: {error.fix}")
    return found


def _path(settings: Settings, job_id: str) -> Path:
    if not _NAME.match(job_id):
        raise _unknown(job_id)
    return settings.jobs_folder / f"{job_id}.json"


def _unknown(job_id: str) -> CliError:
    return CliError(
        f"no job {job_id[:64]!r} waits for its result here",
        "see: aitbc result",
        code="unknown_job",
        exit_code=NOT_FOUND,
    )
