"""The devnet's client: buys one AI job and shows the mint; on demand claims synthetic jobs (seed 000 §14)."""

import sys
from collections.abc import Mapping

from aitbc.client.hub import HubClient
from aitbc.client.jobs import JobRequest, add_claim, run_job, wait_final
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import prepare_transaction, receipt_claim_payload
from aitbc.core.codec.digests import receipt_core_digest, receipt_id_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.types.amounts import AIT, format_ait
from aitbc.core.types.receipts import ReceiptCore

DEMO = {"prompt": "Once upon", "max_tokens": 48, "seed": 7}
SYNTHETIC_UNITS = 1_000
SYNTHETIC_PRICE = AIT


def run_client(
    rpc_url: str, hub_url: str, signers: Mapping[str, KeySigner], *, demo: bool, synthetic: int
) -> int:
    """Exit code 0 when all went well; what happens is told line by line."""
    with NodeClient(rpc_url) as node:
        if demo:
            with HubClient(hub_url) as hub:
                _demo(node, hub, signers)
        if synthetic:
            _synthetic(node, signers["provider"], signers["alice"], synthetic)
    return 0


def _say(text: str) -> None:
    print(f"[demo] {text}", flush=True)


def _demo(node: NodeClient, hub: HubClient, signers: Mapping[str, KeySigner]) -> None:
    """alice buys the continuation of a story; the provider is paid and coins come into being."""
    alice, provider, operator = (signers[name] for name in ("alice", "provider", "hub"))
    before = {who.address: node.balance(who.address) for who in (alice, provider, operator)}
    wanted = JobRequest(kind="chat", request=dict(DEMO), max_price=5 * AIT)

    def watch(progress: Progress) -> None:
        if progress.message:
            _say(f"{progress.stage:<10} {progress.message}")

    job = run_job(node, hub, alice, wanted, watch=watch)
    _say(f"text       {job.data.decode(errors='replace')!r}")
    claimed = add_claim(node, hub, job, watch=watch).bundle["claim"]
    for event in claimed["outcome"]["events"]:
        _say(f"{event['kind']:<10} {format_ait(event['amount'])} to {_name(signers, event['key'])}")
    for name, who in (("alice", alice), ("provider", provider), ("hub", operator)):
        change = node.balance(who.address) - before[who.address]
        _say(f"{name:<10} {'+' if change >= 0 else ''}{format_ait(change)}")
    _say(f"supply     {format_ait(int(node.supply()['total']))}")


def _name(signers: Mapping[str, KeySigner], address: str) -> str:
    return next((name for name, signer in signers.items() if signer.address == address), address)


def _synthetic(node: NodeClient, miner: KeySigner, client: KeySigner, count: int) -> None:
    """SYNTHETIC claims in the seed's shape; the devnet's labelled attester vouches for them, nothing was computed."""
    from aitbc.core.codec.canonical import jcs
    from aitbc.core.codec.digests import genesis_hash_of

    genesis_hash = genesis_hash_of(jcs(node.genesis()))
    before = node.balance(miner.address)
    last = ""
    for number in range(1, count + 1):
        core = ReceiptCore(
            job_id=f"job_{number}",
            client_addr=client.address,
            miner_addr=miner.address,
            compute_units=SYNTHETIC_UNITS,
            price=SYNTHETIC_PRICE,
            output_hash=hash_text(f"synthetic {number}".encode()),
        )
        payload = receipt_claim_payload(
            core=core,
            receipt_id=receipt_id_of(core, genesis_hash),
            provider_sig=miner.sign(receipt_core_digest(core, genesis_hash)).hex(),
        )
        last = node.submit_receipt(prepare_transaction(node, "RECEIPT_CLAIM", payload, signer=miner))
        if number % 32 == 0 or number == count:
            wait_final(node, last, 30)
            _say(f"synthetic  {number} of {count} claims are final (SYNTHETIC: nothing was computed)")
    _say(f"synthetic  minted {format_ait(node.balance(miner.address) - before)} to provider, net of fees")
    sys.stdout.flush()
