"""The whole paid flow: quote, escrow, run, check what came, wait for the claim, keep the proof.

Nothing that a hub says is believed: the quote must be for what was asked, the result must hold what its
receipt says, and the receipt must be for this job. docs/howto/use-a-hub.md
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic, sleep
from typing import Any, TypeVar

from aitbc.client.errors import (
    ApiError,
    ClientError,
    JobFailed,
    ResultRejected,
    Stopped,
    TimedOut,
    TransactionFailed,
    Unreachable,
)
from aitbc.client.finality import trust_genesis
from aitbc.client.hub import TERMINAL_STATES, HubClient, JobResult, Quote
from aitbc.client.light import Followed, follow
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress, Watch
from aitbc.client.transactions import (
    MAX_FEE,
    Prepared,
    Signer,
    claim_witness,
    job_lock_payload,
    prepare,
    receipt_claim_payload,
)
from aitbc.client.verify import BUNDLE_VERSION, verify_receipt
from aitbc.client.work_rules import agrees_by_work
from aitbc.core.codec.canonical import convert, jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, SignedAttestation

Json = dict[str, Any]
T = TypeVar("T")

LOCK_FINAL_S = 30
"""A lock is final after one block; half a minute covers a node that is catching up."""
LOCK_LOOK_S = 3.0
"""For an escrow that may just be on its way into a block."""
HUB_LAG_S = 10
"""How long a hub may take to see a lock that our node calls final."""
TRY_AGAIN = frozenset({"lock_not_final", "queue_full", "chain_unreachable"})
"""Refusals of a start that pass by themselves; the lock stays good."""
POLL_S = 0.1
RESULT_S = 60
"""How long a paid result is asked for again when the hub does not answer: longer than a restart takes."""
MAX_PAUSE_S = 5.0
"""The longest pause between two such questions; they begin with POLL_S and double."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""A hub's job id is shown to people and names a file, so it is a plain word."""
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}\Z")
"""What an Authorization header can carry; RFC 6750."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a client wants computed, and the most it will put in escrow for it (base units)."""

    kind: str
    request: Json
    max_price: int
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedJob:
    """A result that was checked against its receipt."""

    quote: Quote = field(repr=False)
    lock_id: str
    data: bytes = field(repr=False)
    media_type: str
    bundle: Json = field(repr=False)
    """The receipt file; its `claim` is added by `add_claim`."""


@dataclass(frozen=True, kw_only=True)
class OpenJob:
    """What is needed to come back to a job that was or may be paid for; keep it private, it holds the token."""

    quote: Quote = field(repr=False)
    lock_id: str


def run_job(
    node: NodeClient,
    hub: HubClient,
    signer: Signer,
    wanted: JobRequest,
    *,
    watch: Watch = lambda _: None,
    timeout: float = 120,
    max_fee: int = MAX_FEE,
    keep: Callable[[OpenJob], None] = lambda _: None,
) -> FinishedJob:
    """From a request to a checked result. Whatever fails after the escrow says how the money comes back.

    `keep` is called before the escrow is sent: with what it gets, `fetch_job` finds the job again.
    """
    genesis = _genesis_of_both(node, hub)
    quote = hub.quote(client=signer.address, kind=wanted.kind, request=wanted.request, model=wanted.model)
    check_quote(quote, wanted, client=signer.address, hub=hub.identity()["address"])
    watch(Progress("quoted", f"{quote.units} compute units for {format_ait(quote.price)} on {quote.model}"))
    lock = prepare(node, "JOB_LOCK", quote.lock, signer=signer, max_fee=max_fee)
    job = OpenJob(quote=quote, lock_id=lock.tx_id)
    keep(job)
    with _money_comes_back(hub, job):
        amount, fee = format_ait(quote.lock["amount"]), format_ait(lock.tx.fee)
        watch(Progress("paying", f"{amount} into escrow {lock.tx_id}, fee {fee}"))
        _make_escrow(node, lock)
        watch(Progress("escrowed", f"{amount} in escrow {lock.tx_id}"))
        _start(hub, quote, lock.tx_id)
        _follow(hub, quote, watch, timeout)
        return _delivered(hub, job, genesis, watch)


def fetch_job(
    node: NodeClient, hub: HubClient, job: OpenJob, *, watch: Watch = lambda _: None, timeout: float = 120
) -> FinishedJob:
    """The checked result of a job that was paid for earlier; starts or follows it where that is still to be done."""
    genesis = _genesis_of_both(node, hub)
    with _money_comes_back(hub, job, cancel=False):
        status = _patiently(lambda: hub.status(job.quote.job_id, job.quote.job_token))
        if status.get("state") == "quoted":
            if _transaction_or_none(node, job.lock_id, LOCK_LOOK_S, False) is None:
                raise JobFailed("not_started", f"the escrow of job {job.quote.job_id} was never made", "")
            _start(hub, job.quote, job.lock_id)
            status = {}
        if status.get("state") in TERMINAL_STATES:
            _require_delivered(status)
        else:
            _follow(hub, job.quote, watch, timeout)
        return _delivered(hub, job, genesis, watch)


def _delivered(hub: HubClient, job: OpenJob, genesis: Json, watch: Watch) -> FinishedJob:
    result = _patiently(lambda: hub.result(job.quote.job_id, job.quote.job_token))
    finished = _checked(result, job.quote, genesis, job.lock_id)
    size = f"{len(finished.data)} bytes of {finished.media_type}"
    watch(Progress("delivered", f"{size}, receipt {result.receipt_id}"))
    return finished


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again while the hub is away or busy: what it has was paid for."""
    deadline, pause = monotonic() + RESULT_S, POLL_S
    while True:
        try:
            return ask()
        except ClientError as error:
            passes = isinstance(error, Unreachable) or (
                isinstance(error, ApiError) and (error.status >= 500 or error.status == 429)
            )
            if not passes or monotonic() + pause > deadline:
                raise
        sleep(pause)
        pause = min(2 * pause, MAX_PAUSE_S)


def add_claim(
    node: NodeClient, hub: HubClient, job: FinishedJob, *, watch: Watch = lambda _: None, timeout: float = 30
) -> FinishedJob:
    """Wait until the hub's claim of this job is final and put its proof into the receipt file."""
    deadline = monotonic() + timeout
    claim_tx = _claim_transaction(hub, job.quote, deadline)
    claim = final_claim(node, claim_tx, deadline - monotonic(), genesis=job.bundle["genesis"])
    watch(Progress("claimed", f"claim {claim_tx} is final in block {claim['header']['height']}"))
    return replace(job, bundle={**job.bundle, "claim": claim})


def final_claim(node: NodeClient, claim_tx: str, timeout: float, *, genesis: Json) -> Json:
    """What paid a receipt with its proofs, once it is final and good, and with all that leads from the genesis
    validators to the certificate of its block; of a SETTLE with its batch. Raises TransactionFailed when it failed."""
    deadline = monotonic() + timeout
    claim, height = claim_of_answer(claim_tx, wait_final(node, claim_tx, timeout, proof=True))
    proved = {**claim, **finality_from_genesis(node, genesis, height)}
    batch = batch_of(proved)
    if batch is None:
        return proved
    return {**proved, "batch": final_claim(node, batch, deadline - monotonic(), genesis=genesis)}


def batch_of(claim: Json) -> str | None:
    """The RECEIPT_BATCH from which a claim pays; None when it is a RECEIPT_CLAIM."""
    tx = claim["tx"]
    batch = tx.get("payload", {}).get("batch") if tx.get("type") == "SETTLE" else None
    return batch if isinstance(batch, str) else None


def claim_of_answer(claim_tx: str, answer: Json) -> tuple[Json, int]:
    """What a node says of a final claim, as a receipt file keeps it, without why its block is final; and its height."""
    proof, height = answer.get("proof"), answer.get("height")
    if not isinstance(proof, dict) or type(height) is not int:
        raise _proof_missing(f"the node gives no proof of {claim_tx}")
    claim = {
        "tx": answer["tx"],
        "outcome": answer["receipt"],
        "txProof": proof.get("txProof"),
        "outcomeProof": proof.get("outcomeProof"),
    }
    return claim, height


def finality_from_genesis(node: NodeClient, genesis: Json, height: int) -> Json:
    """The part of a receipt file's claim that makes its block final; checked."""
    try:
        followed = follow(node, trust_genesis(genesis), height)
    except Rejected as rejected:
        raise _proof_missing(
            f"the node's proof of block {height} does not hold: {rejected.message}"
        ) from None
    return finality_fields(followed)


def finality_fields(followed: Followed) -> Json:
    """The same part, of a block that was followed."""
    return {
        "header": followed.answer["headers"][0],
        "finality": followed.answer,
        "epochs": followed.way,
    }


def _proof_missing(message: str) -> ApiError:
    return ApiError("proof_missing", message, "ask another node with --rpc")


def claim_transaction(
    node: NodeClient, bundle: Json, signer: Signer, *, fee: int | None = None, max_fee: int = MAX_FEE
) -> Prepared:
    """The claim of a receipt file that nobody has claimed: anyone may send it, the provider is paid."""
    core = convert(bundle["core"], ReceiptCore)
    signed = SignedAttestation(
        attestation=convert(bundle["attestation"], Attestation), sig=bundle["attestation_sig"]
    )
    payload = receipt_claim_payload(
        core=core, receipt_id=bundle["receipt_id"], provider_sig=bundle["provider_sig"]
    )
    witness = claim_witness(signed)
    return prepare(node, "RECEIPT_CLAIM", payload, signer=signer, fee=fee, max_fee=max_fee, witness=witness)


def wait_final(
    node: NodeClient, tx_id: str, timeout: float, *, proof: bool = False, included: bool = False
) -> Json:
    """A transaction's answer once it is final, or with `included` once it is in a block; raises when it failed (with
    its reason) or time is up."""
    enough = ("final", "included") if included else ("final",)
    deadline = monotonic() + timeout
    while True:
        left = max(0.0, deadline - monotonic())
        answer = _transaction_or_none(node, tx_id, left, proof, wait="included" if included else "final")
        is_for_good = answer is not None and (included or answer.get("final", True))
        if answer is not None and is_for_good and answer["status"] in ("failed", "dropped"):
            raise _refusal(tx_id, answer)
        if answer is not None and answer["status"] in enough:
            return answer
        if monotonic() >= deadline:
            what = "in a block" if included else "final"
            raise TimedOut(f"{tx_id} is not {what} after {timeout:g} s", f"look later with: aitbc tx {tx_id}")
        sleep(POLL_S)


def _refusal(tx_id: str, answer: Json) -> ClientError:
    """What the chain said: failed is in a block and has cost its fee, dropped left no trace."""
    outcome = answer.get("receipt") or {}
    reason, message = outcome.get("reason") or answer["status"], outcome.get("message") or ""
    if answer["status"] == "failed":
        return TransactionFailed(tx_id, reason, message)
    return ApiError(reason, message or "the node dropped the transaction", "send it again", 400)


def check_quote(quote: Quote, wanted: JobRequest, *, client: str, hub: str) -> None:
    """Refuse a quote that is not for what was asked, or that costs too much; nothing was paid yet."""
    lock = job_lock_payload(
        hub=quote.hub,
        job_id=quote.job_id,
        amount=quote.lock.get("amount", 0),
        request_hash=quote.request_hash,
        deliver_by_ms=quote.deliver_by_ms,
        claim_until_ms=quote.claim_until_ms,
    )
    facts = {
        "its job_id is no plain word": _JOB_ID.match(quote.job_id) is not None,
        "its job_token is no token": _TOKEN.match(quote.job_token) is not None,
        "its hub is not the one that was asked": quote.hub == hub,
        "it is for another client": quote.client == client,
        "it is for another kind of job": quote.kind == wanted.kind,
        "it is for another model": wanted.model in (None, quote.model),
        "it changes what was asked": all(
            quote.request.get(key) == value for key, value in wanted.request.items()
        ),
        "request_hash is not its request's": quote.request_hash == hash_text(jcs(quote.request)),
        "the lock is not the quote's": quote.lock == lock,
        "its price is above its lock": 0 <= quote.price <= lock["amount"],
    }
    for wrong, holds in facts.items():
        if not holds:
            raise ApiError("bad_quote", f"the hub's quote is refused: {wrong}", "use another hub with --hub")
    if lock["amount"] > wanted.max_price:
        amount, most = format_ait(lock["amount"]), format_ait(wanted.max_price)
        raise ApiError(
            "too_expensive", f"the job costs {amount}, more than {most}", "allow more with --max-price"
        )


def _genesis_of_both(node: NodeClient, hub: HubClient) -> Json:
    """The genesis document, after node and hub turned out to be on the same chain."""
    genesis = node.genesis()
    ours, theirs = genesis_hash_of(jcs(genesis)).hex(), hub.identity()["genesis_hash"]
    if ours != theirs:
        message = f"{hub.base_url} serves the chain {theirs[:16]}…, {node.base_url} the chain {ours[:16]}…"
        raise ApiError("wrong_chain", message, "give a node and a hub of one chain with --rpc and --hub")
    if agrees_by_work(genesis):
        raise ApiError(
            "no_certificate",
            "work agrees on this chain: no block has the certificate by which a receipt is checked; nothing was paid",
            "buy where votes agree; payments here: aitbc send",
        )
    return genesis


def _make_escrow(node: NodeClient, lock: Prepared) -> None:
    """Send the lock and wait until it is final; a hub dispatches nothing before."""
    try:
        node.send(lock.tx)
    except ApiError as error:
        error.nothing_paid = 400 <= error.status < 500
        raise
    try:
        wait_final(node, lock.tx_id, LOCK_FINAL_S)
    except TransactionFailed as error:
        error.nothing_paid = True
        raise


def _start(hub: HubClient, quote: Quote, lock_id: str) -> None:
    """A hub that follows another node may see the lock a moment later."""
    deadline = monotonic() + HUB_LAG_S
    while True:
        try:
            hub.start(quote.job_id, quote.job_token, lock_id)
            return
        except ApiError as error:
            if error.code not in TRY_AGAIN or monotonic() >= deadline:
                raise
        sleep(POLL_S)


def _follow(hub: HubClient, quote: Quote, watch: Watch, timeout: float) -> None:
    """Show events until the job was delivered; raises JobFailed when it ended otherwise."""
    state = ""
    for event in hub.events(quote.job_id, quote.job_token, timeout=timeout):
        state = event.get("state", state)
        watch(_progress_of(event))
    if state in ("delivered", "settled"):
        return
    _require_delivered(_patiently(lambda: hub.status(quote.job_id, quote.job_token)))


def _require_delivered(status: Json) -> None:
    state = status.get("state")
    if state not in ("delivered", "settled"):
        reason = status.get("reason") or str(state)
        raise JobFailed(reason, status.get("message") or f"the job ended as {state}: {reason}")


def _progress_of(event: Json) -> Progress:
    if "text" in event:
        return Progress("text", text=str(event["text"]))
    counts = event.get("progress")
    if isinstance(counts, list) and len(counts) == 2 and all(type(count) is int for count in counts):
        return Progress("running", done=counts[0], total=counts[1])
    return Progress(str(event.get("state", "running")))


def _checked(result: JobResult, quote: Quote, genesis: Json, lock_id: str) -> FinishedJob:
    """The result, if it holds what its receipt says and the receipt is for this job."""
    bundle = {
        "version": BUNDLE_VERSION,
        "genesis": genesis,
        "details": result.details,
        "core": result.core,
        "receipt_id": result.receipt_id,
        "provider_sig": result.provider_sig,
        "provider_pubkey": result.provider_pubkey,
        "attestation": result.attestation,
        "attestation_sig": result.attestation_sig,
        "hub_pubkey": result.hub_pubkey,
        "output_file": "",
    }
    for check in verify_receipt(bundle, output_bytes=result.data):
        if not check.ok:
            raise ResultRejected(f"{check.name}: {check.message}")
    facts = {
        "lock": result.core.get("lock") == lock_id,
        "job": result.core["job_id"] == quote.job_id,
        "client": result.core["client_addr"] == quote.client,
        "price": result.core["price"] <= quote.price,
        "hub": result.attestation["hub"] == quote.hub,
        "request": result.details["request_hash"] == quote.request_hash,
        "kind": result.details["kind"] == quote.kind,
        "model": result.details["model"] == quote.model,
    }
    for name, holds in facts.items():
        if not holds:
            raise ResultRejected(f"the receipt is not for this job: its {name} is another")
    return FinishedJob(
        quote=quote, lock_id=lock_id, data=result.data, media_type=result.media_type, bundle=bundle
    )


@contextmanager
def _money_comes_back(hub: HubClient, job: OpenJob, *, cancel: bool = True) -> Iterator[None]:
    """Whatever goes wrong between escrow and result: say when and how the escrow can be taken back."""
    when = datetime.fromtimestamp(job.quote.claim_until_ms / 1000).strftime("%H:%M:%S")
    back = f"take the escrow back with: aitbc refund {job.lock_id} --from NAME"
    refund = f"if the job is not paid by {when}, {back}"
    try:
        yield
    except (JobFailed, ResultRejected) as error:
        error.fix = refund
        raise
    except ClientError as error:
        if not error.nothing_paid:
            first = f"before trying again, look with: aitbc tx {job.lock_id}"
            first = first if isinstance(error, Unreachable) or not error.fix else error.fix
            error.fix = f"{first}; {refund}"
        raise
    except KeyboardInterrupt:
        with suppress(ClientError, KeyboardInterrupt):
            if cancel:
                hub.cancel(job.quote.job_id, job.quote.job_token)
        raise Stopped(f"if the escrow was made and the job is not paid by {when}, {back}") from None


def _claim_transaction(hub: HubClient, quote: Quote, deadline: float) -> str:
    while True:
        status = hub.status(quote.job_id, quote.job_token)
        if status.get("claim_tx"):
            return str(status["claim_tx"])
        if monotonic() >= deadline:
            raise TimedOut(
                f"the hub has not claimed job {quote.job_id} yet",
                "anyone can do it with the receipt file: aitbc claim FILE",
            )
        sleep(POLL_S)


def _transaction_or_none(
    node: NodeClient, tx_id: str, timeout: float, proof: bool, *, wait: str = "final"
) -> Json | None:
    """None while this node has not heard of it: it may come from another one."""
    try:
        return node.transaction(tx_id, wait=wait, timeout=timeout, proof=proof)
    except ApiError as error:
        if error.code != "unknown_transaction":
            raise
        return None
