"""A receipt file of work that was paid on a voted chain."""

from typing import Any

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import details_hash_of, envelope_id, outcome_leaf
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import outcome_to_plain, transaction_to_plain
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import prove_item
from aitbc.core.types.amounts import AIT
from aitbc.core.types.receipts import ReceiptDetails
from support.chain import REQUEST
from support.ledger import Signer
from support.people import ALICE, BOB, HUB
from support.small_network import PIXELS
from support.voters import VotedLedger

Json = dict[str, Any]


def paid_work(
    chain: VotedLedger, provider: Signer, *, hub: Signer = HUB, sender: Signer = BOB, certified: bool = True
) -> Json:
    """The file without `finality` and `epochs` in its claim; the provider is registered already."""
    lock = chain.lock(ALICE, hub=hub.address)
    details = _details(chain, lock, provider.address, hub.address)
    payload, witness = chain.claim_parts(
        provider,  # type: ignore[arg-type]
        lock,
        hub=hub,  # type: ignore[arg-type]
        attested={"candidates_hash": details.candidates_hash},
        output_hash=details.output_hash,
        details_hash=details_hash_of(details),
    )
    built = chain.block(
        chain.verified(sender, "RECEIPT_CLAIM", payload, witness=witness), certified=certified
    )
    assert not built.refused and built.outcomes[0].ok, (built.refused, built.outcomes)
    tx, outcome = built.block.txs[0], built.outcomes[0]
    core = {name: value for name, value in payload.items() if name not in ("receipt_id", "miner_sig")}
    return {
        "version": 1,
        "genesis": msgspec.json.decode(chain.document),
        "details": msgspec.json.decode(jcs(details)),
        "core": core,
        "receipt_id": payload["receipt_id"],
        "provider_sig": payload["miner_sig"],
        "provider_pubkey": key_to_text(provider.auth_key),
        "attestation": witness["attestation"],
        "attestation_sig": witness["sig"],
        "hub_pubkey": key_to_text(hub.auth_key),
        "output_file": "out.png",
        "claim": {
            "tx": transaction_to_plain(tx),
            "outcome": outcome_to_plain(outcome),
            "txProof": _only(envelope_id(outcome.tx_id, tx)),
            "outcomeProof": _only(outcome_leaf(outcome)),
        },
    }


def _only(leaf: bytes) -> Json:
    proof = prove_item([leaf], 0)
    return {"index": proof.index, "count": proof.count, "path": []}


def _details(chain: VotedLedger, lock: str, provider: str, hub: str) -> ReceiptDetails:
    """What `Chain.claim_parts` claims, told at length."""
    return ReceiptDetails(
        v=1,
        chain_id="ait-test",
        job_id="job-1",
        task=0,
        attempt=1,
        ticket=hash_text(b"ticket"),
        client=ALICE.address,
        provider=provider,
        hub=hub,
        kind="image",
        model="tiny",
        model_digest=hash_text(b"weights"),
        profile=hash_text(b"profile"),
        seed="0",
        request_hash=REQUEST,
        prompt_hash=hash_text(b"a red circle"),
        output_hash=hash_text(PIXELS),
        transcript_root=hash_text(b"transcript"),
        candidates_hash=hash_text(b"candidates"),
        units=2_000,
        unit_type="compute_units",
        counts={"steps": 20},
        notes={},
        gpu_ms=7,
        price=2 * AIT,
        pay={"mode": "lock", "id": lock},
        started_ms=chain.now_ms,
        finished_ms=chain.now_ms + 1,
        status="complete",
        verify="hash",
        nonce="00" * 16,
    )
