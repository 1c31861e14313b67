"""`aitbc image`, `chat`, `result` and `refund`: AI jobs, paid from an escrow, with a receipt that anybody can check."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from aitbc.cli import saved_jobs
from aitbc.cli.accounts import complete_account, signer_of
from aitbc.cli.errors import CliError
from aitbc.cli.files import receipt_path, require_writable, write_bytes, write_json
from aitbc.cli.hashes import hash_id
from aitbc.cli.image_api import ask_server
from aitbc.cli.money import amount
from aitbc.cli.sending import Sending, perform, sending_options
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, job_progress, lines_on_stderr, note, printable, table
from aitbc.cli.submit import max_fee_option
from aitbc.client.errors import ClientError, JobFailed, Stopped
from aitbc.client.hub import HubClient
from aitbc.client.jobs import FinishedJob, JobRequest, OpenJob, add_claim, fetch_job, run_job
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress, Watch
from aitbc.client.transactions import refund_payload
from aitbc.core.types.amounts import format_ait

MAX_PRICE = "5ait"
"""Five pictures of the tiny engine at a devnet's prices; more needs the user's word."""

_sender = click.option(
    "--from",
    "sender",
    metavar="NAME",
    shell_complete=complete_account,
    required=True,
    help="The key that pays.",
)
_model = click.option("--model", help="A model of the hub; its default for this kind when left out.")
_max_price = click.option(
    "--max-price", type=amount, default=MAX_PRICE, show_default=True, help="Refuse a quote above this."
)
_seed = click.option("--seed", type=click.IntRange(min=0, max=2**53 - 1), help="Same seed, same output.")
_timeout = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120,
    show_default=True,
    help="Most seconds for the job.",
)


@click.command(cls=AitbcCommand)
@click.argument("prompt")
@click.option(
    "-o", "output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The picture."
)
@click.option("--size", type=click.IntRange(64, 1024), help="Width and height in pixels.")
@click.option("--steps", type=click.IntRange(min=1), help="Denoising steps.")
@_seed
@click.option("--from", "sender", metavar="NAME", shell_complete=complete_account, help="The key that pays.")
@click.option(
    "--api",
    metavar="URL",
    help="Ask a server of seed 003 with the key in API_KEY; nothing is paid from a wallet.",
)
@click.option(
    "--guidance", type=click.FloatRange(0, 25), help="With --api: how closely to follow the prompt."
)
@_model
@_max_price
@max_fee_option
@_timeout
@click.pass_obj
def image(
    settings: Settings,
    prompt: str,
    output: Path,
    size: int | None,
    steps: int | None,
    seed: int | None,
    sender: str | None,
    api: str | None,
    guidance: float | None,
    model: str | None,
    max_price: int,
    max_fee: int,
    timeout: float,
) -> None:
    """Have a picture made of PROMPT; its receipt lies next to it as FILE.receipt.json."""
    require_writable(output)
    if api is not None:
        fields = _given(prompt=prompt, width=size, height=size, steps=steps, seed=seed, guidance=guidance)
        ask_server(settings, api, fields, output, timeout=timeout)
        return
    if sender is None:
        raise click.UsageError(
            "Missing option '--from': the key that pays, or --api: a server that has your key"
        )
    request = _given(prompt=prompt, width=size, height=size, steps=steps, seed=seed)
    wanted = JobRequest(kind="image", request=request, max_price=max_price, model=model)
    with NodeClient(settings.rpc) as node, HubClient(settings.hub) as hub:
        signer = signer_of(settings, node, sender)
        with job_progress(settings) as watch:
            with _kept(settings, output) as keep:
                job = run_job(
                    node, hub, signer, wanted, watch=watch, timeout=timeout, max_fee=max_fee, keep=keep
                )
                job = _with_receipt_file(job, output)
            job = _with_claim(node, hub, job, output, watch)
    answer(settings, _view(job, output), _files_and_price(job, output))


@click.command(cls=AitbcCommand)
@click.argument("prompt")
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="Keep text and receipt.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens to generate.")
@_seed
@_sender
@_model
@_max_price
@max_fee_option
@_timeout
@click.pass_obj
def chat(
    settings: Settings,
    prompt: str,
    output: Path | None,
    max_tokens: int | None,
    seed: int | None,
    sender: str,
    model: str | None,
    max_price: int,
    max_fee: int,
    timeout: float,
) -> None:
    """Have PROMPT continued; tokens come as they are made. With -o, text and receipt are kept in files."""
    if output is not None:
        require_writable(output)
    request = _given(prompt=prompt, max_tokens=max_tokens, seed=seed)
    wanted = JobRequest(kind="chat", request=request, max_price=max_price, model=model)
    stream = _TextStream(quiet=settings.json)
    with NodeClient(settings.rpc) as node, HubClient(settings.hub) as hub:
        signer = signer_of(settings, node, sender)
        with _kept(settings, output) as keep:
            job = run_job(
                node, hub, signer, wanted, watch=stream.watch, timeout=timeout, max_fee=max_fee, keep=keep
            )
            if output is not None:
                job = _with_receipt_file(job, output)
        stream.finish(job.data.decode("utf-8", "replace"))
        if output is not None:
            job = _with_claim(node, hub, job, output, stream.watch)
    _tell_text(settings, job, output)


@click.command(cls=AitbcCommand)
@click.argument("job_id", metavar="JOB", required=False)
@click.option(
    "-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead."
)
@_timeout
@click.pass_obj
def result(settings: Settings, job_id: str | None, output: Path | None, timeout: float) -> None:
    """Fetch the output and receipt of JOB, which was paid for and interrupted; without JOB, list such jobs."""
    if job_id is None:
        _list_saved(settings)
        return
    saved = saved_jobs.load(settings, job_id)
    output = output or (Path(saved.output) if saved.output else None)
    if output is not None:
        require_writable(output)
    with NodeClient(settings.rpc) as node, HubClient(saved.hub_url) as hub, job_progress(settings) as watch:
        with _kept(settings, output, saved.open_job):
            job = fetch_job(node, hub, saved.open_job, watch=watch, timeout=timeout)
            if output is not None:
                job = _with_receipt_file(job, output)
        if output is not None:
            job = _with_claim(node, hub, job, output, watch)
    if output is not None:
        answer(settings, _view(job, output), _files_and_price(job, output))
        return
    if not settings.json:
        click.echo(printable(job.data.decode("utf-8", "replace")))
    _tell_text(settings, job, None)


@click.command(cls=AitbcCommand)
@click.argument("lock", type=hash_id)
@sending_options
@click.pass_obj
def refund(settings: Settings, lock: str, sending: Sending) -> None:
    """Return what was not earned of the escrow LOCK to its client, once its claim time is over; anyone may ask."""
    with NodeClient(settings.rpc) as node:
        perform(settings, node, "REFUND", refund_payload(lock=lock), f"refund of escrow {lock}", sending)


class _TextStream:
    """Writes tokens to stdout as they come."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = ""

    def watch(self, progress: Progress) -> None:
        if self._quiet:
            return
        if progress.stage == "text":
            self._shown += progress.text
            click.echo(printable(progress.text), nl=False)
        elif progress.stage != "delivered":
            lines_on_stderr(progress)

    def finish(self, text: str) -> None:
        """End the line. The receipt is for `text`: what the stream left out, or said otherwise, is told."""
        if self._quiet:
            return
        if text.startswith(self._shown):
            click.echo(printable(text[len(self._shown) :]))
        else:
            click.echo()
            note("the stream was not what was delivered; the text of the receipt is:")
            click.echo(printable(text))


@contextmanager
def _kept(settings: Settings, output: Path | None, job: OpenJob | None = None) -> Iterator[Any]:
    """Between escrow and saved result the job is on disk, and whatever goes wrong says how to come back to it."""
    kept = [job] if job else []

    def keep(opened: OpenJob) -> None:
        saved_jobs.save(settings, opened, output)
        kept.append(opened)

    try:
        yield keep
    except (ClientError, Stopped) as error:
        for opened in kept:
            if isinstance(error, JobFailed) or getattr(error, "nothing_paid", False):
                saved_jobs.forget(settings, opened.quote.job_id)
            else:
                error.fix = f"a result is fetched with: aitbc result {opened.quote.job_id}; {error.fix}"
        raise
    except OSError as error:
        if not kept or isinstance(error, BrokenPipeError):
            raise
        raise CliError(
            f"{error.filename}: {error.strerror}",
            f"the job is paid; fetch its result with: aitbc result {kept[0].quote.job_id} -o FILE",
            code="file_error",
        ) from None
    for opened in kept:
        saved_jobs.forget(settings, opened.quote.job_id)


def _list_saved(settings: Settings) -> None:
    """Everything but the tokens."""
    saved = saved_jobs.saved_jobs(settings)
    data = [
        {"job_id": job.quote.job_id, "lock": job.lock_id, "hub": job.hub_url, "output": job.output}
        for job in saved
    ]
    rows = [(job.quote.job_id, job.quote.model, job.output or "-", f"escrow {job.lock_id}") for job in saved]
    answer(settings, data, *(printable(line) for line in table(rows) or ["no job waits for its result here"]))


def _with_receipt_file(job: FinishedJob, output: Path) -> FinishedJob:
    """Save output and receipt at once; the claim is added when it is final."""
    write_bytes(output, job.data)
    job = replace(job, bundle={**job.bundle, "output_file": output.name})
    write_json(receipt_path(output), job.bundle)
    return job


def _with_claim(
    node: NodeClient, hub: HubClient, job: FinishedJob, output: Path, watch: Watch
) -> FinishedJob:
    """Wait for the claim and add it to the receipt file; who does not wait can add it later."""
    receipt = receipt_path(output)
    later = f"{output} and its receipt are written, without the claim; add it with: aitbc claim {receipt} --from NAME"
    try:
        job = add_claim(node, hub, job, watch=watch)
    except ClientError as error:
        error.fix = later
        raise
    except KeyboardInterrupt:
        raise Stopped(later) from None
    write_json(receipt, job.bundle)
    return job


def _tell_text(settings: Settings, job: FinishedJob, output: Path | None) -> None:
    """What a text has cost, on the side; with --json the text itself too."""
    if settings.json:
        answer(settings, {**_view(job, output), "text": job.data.decode("utf-8", "replace")})
    else:
        note(f"{_price(job)}, receipt {job.bundle['receipt_id']}")


def _files_and_price(job: FinishedJob, output: Path) -> str:
    return f"{output} and {receipt_path(output)}, {_price(job)}"


def _given(**options: Any) -> dict[str, Any]:
    """Only what the user said; the hub fills in the rest and the quote says how."""
    return {name: value for name, value in options.items() if value is not None}


def _price(job: FinishedJob) -> str:
    """What the job has cost and, once its claim is known, what was minted for it."""
    core = job.bundle["core"]
    price = f"{format_ait(core['price'])} for {core['compute_units']} compute units"
    minted = sum(event["amount"] for event in _events(job) if event["kind"] == "minted")
    return f"{price}, {format_ait(minted)} minted" if minted else price


def _events(job: FinishedJob) -> list[dict[str, Any]]:
    claim = job.bundle.get("claim")
    return list(claim["outcome"]["events"]) if claim else []


def _view(job: FinishedJob, output: Path | None) -> dict[str, Any]:
    core = job.bundle["core"]
    view = {
        "job_id": job.quote.job_id,
        "lock": job.lock_id,
        "model": job.quote.model,
        "price": core["price"],
        "compute_units": core["compute_units"],
        "receipt_id": job.bundle["receipt_id"],
        "output_hash": core["output_hash"],
    }
    if output is None:
        return view
    files = {"output": str(output), "receipt_file": str(receipt_path(output))}
    return {**view, **files, "events": _events(job)}
