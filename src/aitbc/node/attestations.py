"""Where attestations come from when a claim arrives without one: listed hubs, or the devnet's synthetic attester."""

import asyncio
from functools import partial
from typing import Any

import msgspec

from aitbc.core.codec.canonical import convert, jcs, plain_json
from aitbc.core.codec.digests import attestation_digest, receipt_id_of, transaction_id
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import scheme_of, verify
from aitbc.core.ledger.transactions.receipt_claim import synthetic_job_number
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, SignedAttestation
from aitbc.core.types.transactions import Transaction
from aitbc.node.service import NodeService

TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 64 * 1024


class AttestQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seed 000 §7: what a node asks of the coordinator."""

    job_id: str
    client: str
    miner: str
    price: int
    compute_units: int
    output_hash: str
    receipt_id: str = ""


def synthetic_attestation(service: NodeService, question: AttestQuestion) -> SignedAttestation | None:
    """Signed by the devnet's synthetic key for a job number in range; None anywhere else."""
    signer, params = service.config.synthetic_attester, service.runtime.executor.state.params
    if signer is None or not params.devnet or params.synthetic_attester != signer.address:
        return None
    if synthetic_job_number(question.job_id) is None:
        return None
    attestation = convert(
        {
            "receipt_id": question.receipt_id,
            "lock": "",
            "job_id": question.job_id,
            "hub": signer.address,
            "client": question.client,
            "provider": question.miner,
            "task": 0,
            "attempt": 0,
            "units": question.compute_units,
            "price": question.price,
            "output_hash": question.output_hash,
            "routed": "synthetic",
        },
        Attestation,
    )
    digest = attestation_digest(attestation, service.runtime.executor.loaded.hash)
    return SignedAttestation(attestation=attestation, sig=signer.sign(digest).hex())


async def fetch_attestation(service: NodeService, claim: Transaction) -> dict[str, Any]:
    """The witness for a claim in the seed's shape; raises Rejected(attestation_missing) when nobody vouches.

    Nobody is asked for a claim that its sender has not signed.
    """
    payload = plain_json(claim.payload)
    question = _question(service, payload)
    if not payload.get("lock"):
        signed = synthetic_attestation(service, question)
        if signed is not None:
            return _plain(signed)
    reasons = []
    if service.config.attest_urls:
        await service.runtime.check(partial(check_signed, service, service.runtime.with_pubkey(claim)))
    for url in service.config.attest_urls:
        async with service.asking.passed():
            signed, why = await _ask(url, question)
        if signed is not None:
            return _plain(signed)
        reasons.append(f"{url}: {why}")
    detail = "; ".join(reasons) or "no hub is on this node's allow-list"
    raise Rejected(Reason.ATTESTATION_MISSING, f"nobody attests job {question.job_id[:80]!r} ({detail})")


def check_signed(service: NodeService, tx: Transaction) -> None:
    """Refuse what the sender's own key has not signed; nothing else is said of it. Raises Rejected."""
    executor = service.runtime.executor
    known = executor.state.account(tx.sender).auth
    scheme_of(tx.pubkey)
    if not (known == tx.pubkey if known else address_of(tx.pubkey) == tx.sender):
        raise Rejected(Reason.WRONG_KEY, f"the public key is not {tx.sender[:60]}'s")
    if not verify(tx.pubkey, transaction_id(tx, executor.loaded.hash), tx.sig):
        raise Rejected(Reason.BAD_SIGNATURE, "the signature is not good for this claim under its pubkey")


def _plain(signed: SignedAttestation) -> dict[str, Any]:
    plain = msgspec.json.decode(jcs(signed))
    assert isinstance(plain, dict)
    return plain


def _question(service: NodeService, payload: Any) -> AttestQuestion:
    if not isinstance(payload, dict):
        raise Rejected(Reason.WRONG_TYPE, "payload is not an object")
    names = set(ReceiptCore.__struct_fields__)
    core = convert({name: value for name, value in payload.items() if name in names}, ReceiptCore)
    return AttestQuestion(
        job_id=core.job_id,
        client=core.client_addr,
        miner=core.miner_addr,
        price=core.price,
        compute_units=core.compute_units,
        output_hash=core.output_hash,
        receipt_id=receipt_id_of(core, service.runtime.executor.loaded.hash),
    )


async def _ask(url: str, question: AttestQuestion) -> tuple[SignedAttestation | None, str]:
    """Ask one listed hub; no redirects, a short timeout, a bounded answer."""
    import httpx2

    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx2.AsyncClient(follow_redirects=False, timeout=TIMEOUT_S) as client,
            client.stream(
                "POST", f"{url.rstrip('/')}/attest/receipt", json=msgspec.to_builtins(question)
            ) as response,
        ):
            raw = b""
            async for chunk in response.aiter_bytes():
                raw += chunk
                if len(raw) > MAX_ANSWER_BYTES:
                    return None, "its answer is too long"
            if response.status_code != 200:
                return None, f"answered {response.status_code}"
        return _read_answer(raw)
    except httpx2.HTTPError as error:
        return None, f"no answer ({type(error).__name__})"
    except TimeoutError:
        return None, f"no whole answer in {TIMEOUT_S:g} s"


def _read_answer(raw: bytes) -> tuple[SignedAttestation | None, str]:
    try:
        answer = msgspec.json.decode(raw)
        if not isinstance(answer, dict) or not answer.get("exists"):
            return None, "does not know the job"
        if "attestation" not in answer:
            return None, str(answer.get("reason", "has not attested it"))[:200]
        return convert(
            {"attestation": answer["attestation"], "sig": answer.get("sig")}, SignedAttestation
        ), ""
    except (msgspec.DecodeError, Rejected) as error:
        return None, f"its answer cannot be read ({str(error)[:200]})"
