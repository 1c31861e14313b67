"""The whole paid flow against a small devnet, and a hub that fails or lies in each way it can."""

import base64
import json

import pytest

from aitbc.client.claims import _claims, find_claim
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
from aitbc.client.hub import HubClient
from aitbc.client.jobs import (
    JobRequest,
    OpenJob,
    add_claim,
    claim_transaction,
    fetch_job,
    final_claim,
    run_job,
)
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress
from aitbc.client.transactions import MAX_FEE, prepare, transfer_payload
from aitbc.client.verify import holds, verify_bundle
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.ledger.genesis import genesis_document
from aitbc.core.types.transactions import Transaction
from support.small_network import PIXELS, PRICE, SmallNetwork
from support.work import work_genesis

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
        "quoted", "paying", "escrowed", "queued", "running", "running", "running", "delivered", "delivered",
        "claimed",
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
    ({"job_id": "../../.bashrc"}, "job_id is no plain word"),
    ({"job_token": ""}, "job_token is no token"),
    ({"job_token": "a\r\nx-evil: 1"}, "job_token is no token"),
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


def test_a_quote_that_pays_another_hub_is_refused_although_quote_and_lock_agree(
    network: SmallNetwork,
) -> None:
    """A man in the middle who forwards everything but wants the escrow for himself."""
    mallory = network.node.signers["carol"].address
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        honest = hub.quote(
            client=network.node.signers["alice"].address, kind="image", request={"prompt": "x"}
        )
        network.hub.quote_lie = {
            "hub": mallory,
            "job_id": honest.job_id,
            "deliver_by_ms": 1,
            "claim_until_ms": 2,
        }
        network.hub.quote_lie["request_hash"] = honest.request_hash
        network.hub.quote_lie["request"] = honest.request
        names = ("hub", "job_id", "request_hash", "deliver_by_ms", "claim_until_ms")
        lock = {name: network.hub.quote_lie[name] for name in names}
        network.hub.quote_lie["lock"] = {**lock, "amount": PRICE}
        with pytest.raises(ApiError, match="its hub is not the one that was asked"):
            run_job(
                node,
                hub,
                network.node.signers["alice"],
                JobRequest(kind="image", request={"prompt": "x"}, max_price=1_000_000),
            )
        assert node.account(network.node.signers["alice"].address)["nonce"] == 0


def test_the_limit_is_on_what_is_locked_away_not_on_the_price(network: SmallNetwork) -> None:
    """A quote of 0.000001 AIT whose lock takes 900 AIT away until its deadline."""
    network.hub.quote_lie = {"price": 1}
    network.hub.lock_amount = 900_000_000
    alice = network.node.signers["alice"]
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(ApiError, match="costs 900 AIT, more than 1 AIT"),
    ):
        run_job(node, hub, alice, RED_CIRCLE)
    assert network.node.account(alice.address)["nonce"] == 0


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


OTHER_JOBS = [
    ({"lock": "11" * 32}, "lock"),
    ({"price": PRICE + 1}, "price"),
    ({"request_hash": hash_text(b"a cheaper request")}, "request"),
    ({"job_id": "job_of_somebody_else"}, "job"),
    ({"client": "ait1t9jhkry5ff6wf7ell32ss220pv80nwqe7sae0v"}, "client"),
    ({"kind": "chat"}, "kind"),
    ({"model": "a-smaller-model"}, "model"),
]


@pytest.mark.parametrize(("other", "fact"), OTHER_JOBS)
def test_a_flawless_receipt_of_another_job_is_refused(
    network: SmallNetwork, other: dict[str, object], fact: str
) -> None:
    """Provider and hub conspire: every signature is good, and one fact is not what was paid for."""
    network.hub.delivers = other
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(ResultRejected, match=f"^the receipt is not for this job: its {fact} is another"),
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)


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


def test_where_work_agrees_nothing_is_bought(network: SmallNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """No block has a certificate there, so no receipt file could be checked: it is said before anything is paid."""
    document = json.loads(genesis_document(work_genesis()))
    alice = network.node.signers["alice"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        before = node.balance(alice.address)
        told = {**hub.identity(), "genesis_hash": genesis_hash_of(jcs(document)).hex()}
        monkeypatch.setattr(node, "genesis", lambda: document)
        monkeypatch.setattr(hub, "identity", lambda: told)
        with pytest.raises(ApiError, match="nothing was paid") as refused:
            run_job(node, hub, alice, RED_CIRCLE)
        assert refused.value.code == "no_certificate"
        assert node.balance(alice.address) == before


def test_when_the_hub_does_not_claim_anybody_can(network: SmallNetwork) -> None:
    network.hub.claims = False
    provider = network.node.signers["provider"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        job = run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
        with pytest.raises(TimedOut, match="has not claimed"):
            add_claim(node, hub, job, timeout=0.2)
        assert not holds(verify_bundle(job.bundle, output_bytes=PIXELS))
        before = node.balance(provider.address)
        claim = final_claim(
            node,
            node.send(claim_transaction(node, job.bundle, provider).tx),
            5,
            genesis=job.bundle["genesis"],
        )
        assert node.balance(provider.address) > before + PRICE
        assert holds(verify_bundle({**job.bundle, "claim": claim}, output_bytes=PIXELS))
        with pytest.raises(TransactionFailed) as twice:
            final_claim(
                node,
                node.send(claim_transaction(node, job.bundle, provider).tx),
                5,
                genesis=job.bundle["genesis"],
            )
    assert twice.value.code == "receipt_already_claimed"


def test_ctrl_c_cancels_the_job_at_the_hub(network: SmallNetwork) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "running":
            raise KeyboardInterrupt

    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(Stopped) as stopped,
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE, watch=interrupt)
    assert isinstance(stopped.value, KeyboardInterrupt), "whoever catches Ctrl-C catches it"
    assert f"aitbc refund {network.hub.jobs['job_0']['lock']} --from NAME" in stopped.value.fix
    assert network.hub.canceled == ["job_0"]


def only_lock(network: SmallNetwork) -> str:
    """The id of the JOB_LOCK on the chain, which nobody has told the hub of."""
    locks = [
        tx_id
        for tx_id in network.node.places
        if network.node.transaction(tx_id, proof=False)["tx"]["type"] == "JOB_LOCK"
    ]
    assert len(locks) == 1
    return locks[0]


def test_ctrl_c_while_the_escrow_is_on_its_way_names_it(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is sent and can no longer be called back: without its id the money is hard to find."""

    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    kept = list[OpenJob]()
    monkeypatch.setattr("aitbc.client.jobs.wait_final", interrupted)
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(Stopped) as stopped,
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE, keep=kept.append)
    lock = only_lock(network)
    assert f"aitbc refund {lock} --from NAME" in stopped.value.fix
    assert [job.lock_id for job in kept] == [lock], "known before it was sent"


def test_a_node_that_is_lost_after_the_escrow_does_not_invite_a_second_one(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = NodeClient.send

    def send_and_lose(node: NodeClient, tx: Transaction) -> str:
        real(node, tx)
        raise Unreachable(node.base_url, "try again", "Server disconnected without sending a response.")

    monkeypatch.setattr(NodeClient, "send", send_and_lose)
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(Unreachable) as lost,
    ):
        run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
    lock = only_lock(network)
    assert lost.value.fix.startswith(f"before trying again, look with: aitbc tx {lock}; ")
    assert f"aitbc refund {lock} --from NAME" in lost.value.fix


def test_an_escrow_that_was_refused_promises_no_refund(network: SmallNetwork) -> None:
    dear = JobRequest(kind="image", request={"prompt": "x"}, max_price=10**15)
    network.hub.lock_amount = 10**14
    with (
        NodeClient(network.rpc_url) as node,
        HubClient(network.hub_url) as hub,
        pytest.raises(TransactionFailed) as failed,
    ):
        run_job(node, hub, network.node.signers["alice"], dear)
    assert failed.value.nothing_paid
    assert "refund" not in failed.value.fix


def test_a_hub_that_restarts_after_the_delivery_is_asked_again(network: SmallNetwork) -> None:
    network.hub.away_for = 2
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        job = run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
    assert job.data == PIXELS
    assert network.hub.away_for == 0


def test_a_paid_result_is_fetched_later(network: SmallNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitbc.client.jobs.RESULT_S", 0.2)
    network.hub.away_for = 10**6
    kept = list[OpenJob]()
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        with pytest.raises(ApiError, match="no"):
            run_job(node, hub, network.node.signers["alice"], RED_CIRCLE, keep=kept.append)
        network.hub.away_for = 0
        job = fetch_job(node, hub, kept[0])
        assert job.data == PIXELS
        done = add_claim(node, hub, job)
    assert holds(verify_bundle(done.bundle, output_bytes=PIXELS))
    assert network.hub.canceled == []


def test_a_client_killed_between_escrow_and_start_comes_back_and_starts_its_job(
    network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    kept = list[OpenJob]()
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        with monkeypatch.context() as patch:
            patch.setattr(HubClient, "start", die)
            with pytest.raises(Killed):
                run_job(node, hub, network.node.signers["alice"], RED_CIRCLE, keep=kept.append)
        assert hub.status(kept[0].quote.job_id, kept[0].quote.job_token)["state"] == "quoted"
        assert fetch_job(node, hub, kept[0]).data == PIXELS


def test_a_job_that_was_never_started_is_not_waited_for(network: SmallNetwork) -> None:
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        quote = hub.quote(client=network.node.signers["alice"].address, kind="image", request={"prompt": "x"})
        with pytest.raises(JobFailed, match="was never made") as failed:
            fetch_job(node, hub, OpenJob(quote=quote, lock_id="22" * 32))
    assert f"aitbc refund {'22' * 32}" in failed.value.fix


# Fees


def test_a_fee_that_only_the_node_wants_is_not_signed(network: SmallNetwork) -> None:
    """A node that lies about the fee would be paid it: it proposes the block."""
    alice, bob = network.node.signers["alice"], network.node.signers["bob"]
    payload = transfer_payload(to=bob.address, amount=1)
    with NodeClient(network.rpc_url) as node:
        network.node.asks_fee = MAX_FEE
        assert prepare(node, "TRANSFER", payload, signer=alice).tx.fee == MAX_FEE
        network.node.asks_fee = MAX_FEE + 1
        with pytest.raises(
            ClientError, match=r"asks a fee of 0\.100001 AIT for a TRANSFER, more than 0\.1 AIT"
        ) as refused:
            prepare(node, "TRANSFER", payload, signer=alice)
        assert refused.value.code == "fee_too_high"
        assert "--max-fee" in refused.value.fix
        assert prepare(node, "TRANSFER", payload, signer=alice, max_fee=MAX_FEE + 1).tx.fee == MAX_FEE + 1
        assert prepare(node, "TRANSFER", payload, signer=alice, fee=5 * MAX_FEE).tx.fee == 5 * MAX_FEE
        network.node.asks_fee = -1
        with pytest.raises(ClientError, match="asks a fee of -0"):
            prepare(node, "TRANSFER", payload, signer=alice)


def test_an_escrow_and_a_claim_have_the_same_limit(network: SmallNetwork) -> None:
    alice = network.node.signers["alice"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        network.hub.claims = False
        job = run_job(node, hub, alice, RED_CIRCLE)
        before, network.node.asks_fee = node.balance(alice.address), 500_000_000_000
        with pytest.raises(ClientError, match="500,000 AIT for a JOB_LOCK"):
            run_job(node, hub, alice, RED_CIRCLE)
        with pytest.raises(ClientError, match="500,000 AIT for a RECEIPT_CLAIM"):
            claim_transaction(node, job.bundle, alice)
        assert node.balance(alice.address) == before


# Claims of others


def test_the_claim_of_another_is_found_in_its_block(network: SmallNetwork) -> None:
    alice, bob = network.node.signers["alice"], network.node.signers["bob"]
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        run_job(node, hub, bob, RED_CIRCLE)
        job = run_job(node, hub, alice, RED_CIRCLE)
        late = node.send(claim_transaction(node, job.bundle, bob).tx)
        with pytest.raises(TransactionFailed):
            final_claim(node, late, 5, genesis=job.bundle["genesis"])
        claim = find_claim(node, job.bundle, timeout=5)
        assert claim["outcome"]["txHash"] == network.hub.jobs["job_1"]["claim_tx"]
        assert holds(verify_bundle({**job.bundle, "claim": claim}, output_bytes=PIXELS))


def test_a_claim_that_nobody_made_is_not_found(network: SmallNetwork) -> None:
    network.hub.claims = False
    with NodeClient(network.rpc_url) as node, HubClient(network.hub_url) as hub:
        job = run_job(node, hub, network.node.signers["alice"], RED_CIRCLE)
        with pytest.raises(ApiError, match="names nothing that paid rcpt_"):
            find_claim(node, job.bundle, timeout=5)


CLAIM = {"status": "final", "tx": {"type": "RECEIPT_CLAIM", "payload": {"receipt_id": "rcpt_1"}}}
NOT_THE_CLAIM = [
    {**CLAIM, "status": "failed"},
    {**CLAIM, "tx": {"type": "TRANSFER", "payload": {"receipt_id": "rcpt_1"}}},
    {**CLAIM, "tx": {"type": "RECEIPT_CLAIM", "payload": {"receipt_id": "rcpt_2"}}},
    {**CLAIM, "tx": None},
]


def test_only_the_good_claim_of_this_receipt_is_taken() -> None:
    assert _claims(CLAIM, "rcpt_1")
    assert not any(_claims(answer, "rcpt_1") for answer in NOT_THE_CLAIM)
