"""The whole paid flow against a small devnet, and a hub that fails or lies in each way it can."""

import base64

import pytest

from aitbc.client.errors import ApiError, JobFailed, ResultRejected, TimedOut, TransactionFailed
from aitbc.client.hub import HubClient
from aitbc.client.jobs import JobRequest, add_claim, claim_transaction, final_claim, run_job
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress
from aitbc.client.verify import holds, verify_bundle
from aitbc.core.crypto.hashing import hash_text
from support.small_network import PIXELS, PRICE, SmallNetwork

RED_CIRCLE = JobRequest(kind="image", request={"prompt": "a red circle"}, max_price=1_000_000)


def test_a_job_is_paid_delivered_checked_and_proven(network: SmallNetwork) -> None:
    alice, seen = network.node.signers["alice"], list[Progress]()
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        before = node.balance(alice.address)
        job = run_job(node, hub, alice, RED_CIRCLE, watch=seen.append)
        done = add_claim(node, hub, job, watch=seen.append)
        fees = before - node.balance(alice.address) - PRICE
    assert job.data == PIXELS
    assert 0 < fees < 100
    assert [step.stage for step in seen] == [
        "quoted", "escrowed", "queued", "running", "running", "running", "delivered", "delivered", "claimed",
    ]  # fmt: skip
    checks = verify_bundle(done.bundle, output_bytes=PIXELS, trusted_genesis_hash=network.node.genesis_hash)
    assert holds(checks), [check for check in checks if not check.ok]


def test_a_broken_event_stream_is_opened_again_and_nothing_is_told_twice(network: SmallNetwork) -> None:
    network.hub.break_stream_after = 3
    seen = list[Progress]()
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE, watch=seen.append)
    assert network.hub.streams == 2
    assert [step.done for step in seen if step.total] == [1, 2]


QUOTE_LIES = [
    ({"hub": "ait1t9jhkry5ff6wf7ell32ss220pv80nwqe7sae0v"}, "hub"),
    ({"client": "ait1t9jhkry5ff6wf7ell32ss220pv80nwqe7sae0v"}, "another client"),
    ({"kind": "chat"}, "another kind"),
    ({"request": {"prompt": "a cheaper circle"}}, "changes what was asked"),
    ({"request_hash": hash_text(b"something else")}, "request_hash"),
    ({"price": PRICE + 1}, "price"),
    ({"claim_until_ms": 2**52}, "lock"),
]


@pytest.mark.parametrize(("lie", "told"), QUOTE_LIES)
def test_a_quote_that_is_not_for_what_was_asked_is_refused_before_money_moves(
    network: SmallNetwork, lie: dict[str, object], told: str
) -> None:
    network.hub.quote_lie = lie
    alice = network.node.signers["alice"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        before = node.balance(alice.address)
        with pytest.raises(ApiError, match=told) as refused:
            run_job(node, hub, alice, RED_CIRCLE)
        assert refused.value.code == "bad_quote"
        assert node.balance(alice.address) == before


def test_a_quote_above_the_limit_is_refused(network: SmallNetwork) -> None:
    cheap = JobRequest(kind="image", request={"prompt": "x"}, max_price=PRICE - 1)
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(ApiError, match=r"costs 0\.5 AIT, more than 0\.499999 AIT") as refused,
    ):
        run_job(node, hub, network.node.signers["alice"], cheap)
    assert refused.value.code == "too_expensive"


RESULT_LIES = [
    ({"data_base64": base64.b64encode(b"another picture").decode()}, "output"),
    ({"provider_sig": "00" * 64}, "provider"),
    ({"attestation_sig": "00" * 64}, "hub"),
    ({"receipt_id": "rcpt_" + "00" * 32}, "receipt_id"),
    ({"provider_pubkey": "00" * 32}, "provider"),
]


@pytest.mark.parametrize(("lie", "check"), RESULT_LIES)
def test_a_result_that_its_receipt_does_not_hold_is_thrown_away(
    network: SmallNetwork, lie: dict[str, object], check: str
) -> None:
    network.hub.result_lie = lie
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(ResultRejected, match=f"^{check}:") as rejected,
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
    assert "aitbc refund" in rejected.value.fix


def test_a_job_of_another_lock_is_not_mine(network: SmallNetwork) -> None:
    """A hub that hands out the (valid) receipt of an earlier job."""
    alice = network.node.signers["alice"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        run_job(node, hub, alice, RED_CIRCLE)
        network.hub.result_lie = network.hub.jobs["job_0"]["result"]
        with pytest.raises(ResultRejected, match="not for this job"):
            run_job(node, hub, alice, RED_CIRCLE)


def test_a_failed_job_says_why_and_how_the_money_comes_back(network: SmallNetwork) -> None:
    network.hub.fails_with = "engine_failed"
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(JobFailed, match="the engine is no more") as failed,
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
    assert failed.value.code == "engine_failed"
    assert f"aitbc refund {network.hub.jobs['job_0']['lock']}" in failed.value.fix


def test_a_hub_of_another_chain_is_noticed_before_anything_else(network: SmallNetwork) -> None:
    genesis_hash, network.node.genesis_hash = network.node.genesis_hash, b"\x01" * 32
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(ApiError, match="serves the chain") as wrong,
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
    assert wrong.value.code == "wrong_chain"
    network.node.genesis_hash = genesis_hash


def test_when_the_hub_does_not_claim_anybody_can(network: SmallNetwork) -> None:
    network.hub.claims = False
    provider = network.node.signers["provider"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        job = run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
        with pytest.raises(TimedOut, match="has not claimed"):
            add_claim(node, hub, job, timeout=0.2)
        assert not holds(verify_bundle(job.bundle, output_bytes=PIXELS))
        before = node.balance(provider.address)
        claim = final_claim(node, node.send(claim_transaction(node, job.bundle, provider)), 5)
        assert node.balance(provider.address) > before + PRICE
        assert holds(verify_bundle({**job.bundle, "claim": claim}, output_bytes=PIXELS))
        with pytest.raises(TransactionFailed) as twice:
            final_claim(node, node.send(claim_transaction(node, job.bundle, provider)), 5)
    assert twice.value.code == "receipt_already_claimed"


def test_ctrl_c_cancels_the_job_at_the_hub(network: SmallNetwork) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "running":
            raise KeyboardInterrupt

    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(KeyboardInterrupt),
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE, watch=interrupt)
    assert network.hub.canceled == ["job_0"]
