"""`aitbc image`, `chat` and `refund`: AI jobs, paid from an escrow, with a receipt that anybody can check."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from aitbc.cli.accounts import complete_account, signer_of
from aitbc.cli.files import receipt_path, require_writable, write_bytes, write_json
from aitbc.cli.hashes import hash_id
from aitbc.cli.money import amount
from aitbc.cli.settings import AitbcCommand, Settings
from aitbc.cli.show import answer, job_progress, lines_on_stderr, note
from aitbc.cli.submit import submit, wait_options
from aitbc.client.errors import ClientError
from aitbc.client.hub import HubClient
from aitbc.client.jobs import FinishedJob, JobRequest, add_claim, run_job
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress, Watch
from aitbc.client.transactions import prepare_transaction, refund_payload
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
@click.option("--size", type=click.IntRange(64, 512), help="Width and height in pixels.")
@click.option("--steps", type=click.IntRange(min=1), help="Denoising steps.")
@_seed
@_sender
@_model
@_max_price
@_timeout
@click.pass_obj
def image(
    settings: Settings,
    prompt: str,
    output: Path,
    size: int | None,
    steps: int | None,
    seed: int | None,
    sender: str,
    model: str | None,
    max_price: int,
    timeout: float,
) -> None:
    """Have a picture made of PROMPT; its receipt lies next to it as FILE.receipt.json."""
    require_writable(output)
    request = _given(prompt=prompt, width=size, height=size, steps=steps, seed=seed)
    wanted = JobRequest(kind="image", request=request, max_price=max_price, model=model)
    with NodeClient(settings.rpc) as node, HubClient(settings.hub) as hub:
        signer = signer_of(settings, node, sender)
        with job_progress(settings) as watch:
            job = run_job(node, hub, signer, wanted, watch=watch, timeout=timeout)
            write_bytes(output, job.data)
            job = _with_receipt_file(node, hub, job, output, watch)
    answer(settings, _view(job, output), f"{output} and {receipt_path(output)}, {_price(job)}")


@click.command(cls=AitbcCommand)
@click.argument("prompt")
@click.option("-o", "output", type=click.Path(path_type=Path, dir_okay=False), help="Keep text and receipt.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="Most tokens to generate.")
@_seed
@_sender
@_model
@_max_price
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
        job = run_job(node, hub, signer, wanted, watch=stream.watch, timeout=timeout)
        stream.finish(job.data.decode("utf-8", "replace"))
        if output is not None:
            write_bytes(output, job.data)
            job = _with_receipt_file(node, hub, job, output, stream.watch)
    if settings.json:
        answer(settings, {**_view(job, output), "text": job.data.decode("utf-8", "replace")})
    else:
        note(f"{_price(job)}, receipt {job.bundle['receipt_id']}")


@click.command(cls=AitbcCommand)
@click.argument("lock", type=hash_id)
@click.option(
    "--from",
    "sender",
    shell_complete=complete_account,
    required=True,
    help="The key that signs; anyone's will do.",
)
@wait_options
@click.pass_obj
def refund(settings: Settings, lock: str, sender: str, wait: str, timeout: float) -> None:
    """Return what was not earned of the escrow LOCK to its client, once its claim time is over."""
    with NodeClient(settings.rpc) as node:
        signer = signer_of(settings, node, sender)
        tx = prepare_transaction(node, "REFUND", refund_payload(lock=lock), signer=signer)
        submit(settings, node, tx, f"refund of escrow {lock}", wait=wait, timeout=timeout)


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
            click.echo(progress.text, nl=False)
        elif progress.stage != "delivered":
            lines_on_stderr(progress)

    def finish(self, text: str) -> None:
        """End the line. The receipt is for `text`: what the stream left out, or said otherwise, is told."""
        if self._quiet:
            return
        if text.startswith(self._shown):
            click.echo(text[len(self._shown) :])
        else:
            click.echo()
            note("the stream was not what was delivered; the text of the receipt is:")
            click.echo(text)


def _with_receipt_file(
    node: NodeClient, hub: HubClient, job: FinishedJob, output: Path, watch: Watch
) -> FinishedJob:
    """Write the receipt at once, and again with the claim when it is final."""
    job = replace(job, bundle={**job.bundle, "output_file": output.name})
    write_json(receipt_path(output), job.bundle)
    try:
        job = add_claim(node, hub, job, watch=watch)
    except ClientError as error:
        error.fix = f"{output} and its receipt are written, without the claim; {error.fix}"
        raise
    write_json(receipt_path(output), job.bundle)
    return job


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
