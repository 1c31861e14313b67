"""The hub is gone after it attested: the provider claims for itself. Nothing owed is forgotten, nothing is doubled."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.client.errors import ApiError, Unreachable
from aitbc.client.signing import KeySigner
from aitbc.core.codec.digests import attestation_digest, receipt_core_digest, transaction_id
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.receipts import Computed, build_attestation, build_core, build_details
from aitbc.core.types.receipts import SignedAttestation
from aitbc.provider.claims import ClaimKeeper, UnclaimedQueue
from aitbc.provider.joblog import EarningsLog
from hub.market import Market, market, until
from provider.test_offers import OFFER
from support.people import EVE, HUB, PROVIDER

GENESIS_HASH = bytes(32)


async def attested_but_unclaimed(place: Market, **options: Any) -> tuple[Any, str]:
    """A delivered job whose hub died before its claim reached the chain."""
    hub_address = place.signers["hub"].address
    place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM" and tx.sender == hub_address
    provider = await place.add_provider(**options)
    quote = await place.begin()
    await place.until_state(quote, "delivered")
    receipt_id = (await place.result(quote)).json()["receipt_id"]
    await until(lambda: provider.claims and provider.claims.unclaimed == 1)
    await place.close_hub()
    return provider, receipt_id


def test_the_hub_is_gone_and_the_provider_claims(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider, receipt_id = await attested_but_unclaimed(place, claim_after_s=0.2)
            await until(lambda: provider.claims.unclaimed == 0)
            record = place.node.minted_for(receipt_id)
            assert record.provider == provider.config.signer.address
            assert place.balance("provider") > record.price, "price and mint, less the fee"
            (earned,) = provider.earnings.read()
            assert (earned["receipt_id"], earned["minted"]) == (receipt_id, record.minted)
            assert list((tmp_path / "provider" / "unclaimed").iterdir()) == []

    asyncio.run(story())


def test_the_queue_survives_a_restart_of_the_provider_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider, receipt_id = await attested_but_unclaimed(place)
            await place.drop(provider)
            assert place.node.minted_for(receipt_id) is None
            again = await place.add_provider(claim_after_s=0, wait=False)
            await until(lambda: place.node.minted_for(receipt_id) is not None)
            await until(lambda: again.claims is not None and again.claims.unclaimed == 0)
            assert len(again.earnings.read()) == 1

    asyncio.run(story())


def test_when_the_hub_claims_the_provider_only_notes_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider = await place.add_provider(claim_after_s=30)
            quote = await place.begin()
            await place.until_state(quote, "settled")
            await until(lambda: provider.claims and provider.claims.unclaimed == 0)
            assert len(provider.earnings.read()) == 1
            claims = [
                tx
                for tx in place.node.places
                if place.node.transaction(tx, proof=False)["tx"]["type"] == "RECEIPT_CLAIM"
            ]
            assert len(claims) == 1

    asyncio.run(story())


def test_the_provider_was_first_and_the_hub_takes_it_for_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            hub_address = place.signers["hub"].address
            place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM" and tx.sender == hub_address
            await place.add_provider(claim_after_s=0)
            quote = await place.begin()
            await place.until_state(quote, "delivered")
            receipt_id = (await place.result(quote)).json()["receipt_id"]
            await until(lambda: place.node.minted_for(receipt_id) is not None)
            await asyncio.to_thread(place.node.release)
            status = await place.until_state(quote, "settled")
            assert status["claim_tx"] == place.node.claims[receipt_id], "the provider's, which has paid"

    asyncio.run(story())


def test_the_hub_tells_again_what_it_owes_after_a_reconnect(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM"
            provider = await place.add_provider()
            quote = await place.begin()
            await place.until_state(quote, "delivered")
            await until(lambda: provider.claims and provider.claims.unclaimed == 1)
            await place.drop(provider)
            for path in (tmp_path / "provider" / "unclaimed").iterdir():
                path.unlink()  # the provider's disk is lost
            again = await place.add_provider()
            await until(lambda: again.claims is not None and again.claims.unclaimed == 1)
            assert list((tmp_path / "provider" / "unclaimed").glob("rcpt_*.json"))
            await asyncio.to_thread(place.node.release)

    asyncio.run(story())


def test_an_attestation_that_is_not_the_hubs_is_not_kept(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider, receipt_id = await attested_but_unclaimed(place)
            assert provider.claims is not None
            (path,) = (tmp_path / "provider" / "unclaimed").iterdir()
            attested = msgspec.json.decode(path.read_bytes(), type=link.Attested)
            fresh = ClaimKeeper(
                chain=place.chain,
                signer=provider.config.signer,
                genesis_hash=place.node.genesis_hash,
                queue=UnclaimedQueue(tmp_path / "fresh"),
                earnings=EarningsLog(tmp_path / "fresh.jsonl"),
                claim_after_s=1,
                poll_s=1,
                max_fee=100_000,
            )
            with pytest.raises(Refused, match="not signed by the hub"):
                fresh.add(attested, hub_key=EVE.auth_key)
            core = msgspec.structs.replace(attested.core, miner_addr=EVE.address)
            with pytest.raises(Refused, match="not our receipt"):
                fresh.add(msgspec.structs.replace(attested, core=core), hub_key=place.signers["hub"].auth_key)
            assert fresh.unclaimed == 0
            fresh.add(attested, hub_key=place.signers["hub"].auth_key)
            fresh.add(attested, hub_key=place.signers["hub"].auth_key)
            assert fresh.unclaimed == 1
            assert receipt_id in UnclaimedQueue(tmp_path / "fresh").entries()

    asyncio.run(story())


def attested_for(
    provider: KeySigner = PROVIDER, *, signed_by: KeySigner = PROVIDER, claim_until_ms: int = 2**53 - 1
) -> tuple[link.Attested, str]:
    """A receipt of `provider` with a genuine attestation, whoever signed the receipt itself."""
    offer = msgspec.structs.replace(OFFER, provider=provider.address, claim_until_ms=claim_until_ms)
    computed = Computed(
        data=b" a story",
        counts={"in": 1, "out": 2},
        transcript=[bytes(32)],
        notes={},
        started_ms=1_000,
        finished_ms=1_001,
        engine_ms=1,
    )
    core = build_core(offer, build_details(offer, computed))
    attestation = build_attestation(offer, core, genesis_hash=GENESIS_HASH)
    attested = link.Attested(
        core=core,
        provider_sig=signed_by.sign(receipt_core_digest(core, GENESIS_HASH)).hex(),
        signed=SignedAttestation(
            attestation=attestation, sig=HUB.sign(attestation_digest(attestation, GENESIS_HASH)).hex()
        ),
        claim_until_ms=claim_until_ms,
    )
    return attested, attestation.receipt_id


class QuietChain:
    """Knows no receipt until it is told of one, and keeps what it is sent waiting for a block."""

    def __init__(self) -> None:
        self.paid: dict[str, dict[str, Any]] = {}
        self.asked = 0
        self.sent: list[Any] = []
        self.lost = False
        """Its answers to `send` do not arrive."""
        self.outcome: dict[str, Any] | None = None
        """How every claim has failed, if it has."""

    async def receipt(self, receipt_id: str) -> dict[str, Any] | None:
        self.asked += 1
        return self.paid.get(receipt_id)

    async def estimate_fee(self, _type: str, _payload: Any) -> int:
        return 47

    async def account(self, _address: str) -> dict[str, Any]:
        return {"nextNonce": len(self.sent) + 1}

    async def send(self, tx: Any) -> str:
        self.sent.append(tx)
        if self.lost:
            raise Unreachable("http://memory", "start it", "the answer was lost")
        return transaction_id(tx, GENESIS_HASH).hex()

    async def transaction(self, tx_id: str, **_: Any) -> dict[str, Any]:
        if tx_id not in [transaction_id(tx, GENESIS_HASH).hex() for tx in self.sent]:
            raise ApiError("unknown_transaction", "unknown", "", 404)
        if self.outcome is not None:
            return {"status": "failed", "receipt": self.outcome}
        return {"status": "pending", "receipt": None}


@asynccontextmanager
async def keeping(folder: Path, chain: Any, *, claim_after_s: float = 60) -> AsyncIterator[ClaimKeeper]:
    """A keeper that looks every few milliseconds."""
    keeper = ClaimKeeper(
        chain=chain,
        signer=PROVIDER,
        genesis_hash=GENESIS_HASH,
        queue=UnclaimedQueue(folder / "unclaimed"),
        earnings=EarningsLog(folder / "earnings.jsonl"),
        claim_after_s=claim_after_s,
        poll_s=0.005,
        max_fee=100_000,
    )
    running = asyncio.create_task(keeper.run())
    try:
        yield keeper
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_only_our_own_receipts_that_we_have_signed_are_kept(tmp_path: Path) -> None:
    async def story() -> None:
        async with keeping(tmp_path, QuietChain()) as keeper:
            with pytest.raises(Refused, match="is not our receipt"):
                keeper.add(attested_for(EVE)[0], hub_key=HUB.auth_key)
            with pytest.raises(Refused, match="was not signed by us"):
                keeper.add(attested_for(signed_by=EVE)[0], hub_key=HUB.auth_key)
            assert keeper.unclaimed == 0
            keeper.add(attested_for()[0], hub_key=HUB.auth_key)
            assert keeper.unclaimed == 1

    asyncio.run(story())


def test_a_claim_that_lands_in_the_grace_time_is_earned(tmp_path: Path) -> None:
    """The time to claim is over and a claim of the hub's may be in the very last block: wait, but spend nothing."""

    async def story() -> None:
        chain = QuietChain()
        attested, receipt_id = attested_for(claim_until_ms=int(time.time() * 1000) - 50_000)
        async with keeping(tmp_path, chain, claim_after_s=0) as keeper:
            keeper.add(attested, hub_key=HUB.auth_key)
            await until(lambda: chain.asked > 3)
            assert keeper.unclaimed == 1
            chain.paid[receipt_id] = {"price": 5}
            await until(lambda: keeper.unclaimed == 0)
        assert chain.sent == [], "a claim made now would only cost its fee"
        (earned,) = EarningsLog(tmp_path / "earnings.jsonl").read()
        assert earned["price"] == 5

    asyncio.run(story())


def test_after_the_grace_time_the_receipt_is_evidence(tmp_path: Path) -> None:
    async def story() -> None:
        attested, receipt_id = attested_for(claim_until_ms=int(time.time() * 1000) - 61_000)
        async with keeping(tmp_path, QuietChain(), claim_after_s=0) as keeper:
            keeper.add(attested, hub_key=HUB.auth_key)
            await until(lambda: keeper.unclaimed == 0)
        assert [path.name for path in (tmp_path / "unclaimed").iterdir()] == [f"{receipt_id}.lapsed"]

    asyncio.run(story())


@pytest.mark.parametrize("lost", [False, True], ids=["a slow block", "a lost answer"])
def test_while_a_claim_waits_for_its_block_no_second_one_is_made(tmp_path: Path, lost: bool) -> None:
    async def story() -> None:
        chain = QuietChain()
        chain.lost = lost
        async with keeping(tmp_path, chain, claim_after_s=0) as keeper:
            keeper.add(attested_for()[0], hub_key=HUB.auth_key)
            await until(lambda: chain.asked > 8)
            assert len(chain.sent) == 1
        async with keeping(tmp_path, chain, claim_after_s=0):
            await until(lambda: chain.asked > 16)
            assert len(chain.sent) == 1, "a restart has not forgotten it"

    asyncio.run(story())


@pytest.mark.parametrize("reason", ["task_already_paid", "lock_closed", "claim_too_late"])
def test_a_claim_without_hope_is_paid_for_once(tmp_path: Path, reason: str) -> None:
    async def story() -> None:
        chain = QuietChain()
        chain.outcome = {"status": "failed", "reason": reason, "message": "no"}
        attested, receipt_id = attested_for()
        async with keeping(tmp_path, chain, claim_after_s=0) as keeper:
            keeper.add(attested, hub_key=HUB.auth_key)
            await until(lambda: keeper.unclaimed == 0)
            assert len(chain.sent) == 1
        assert [path.name for path in (tmp_path / "unclaimed").iterdir()] == [f"{receipt_id}.lapsed"]

    asyncio.run(story())


@pytest.mark.parametrize("asked", [100_001, -1])
def test_a_node_that_lies_about_the_fee_gets_no_claim_signed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, asked: int
) -> None:
    async def story() -> None:
        chain = QuietChain()
        fees = [asked] * 3 + [100_000]

        async def estimate_fee(_type: str, _payload: Any) -> int:
            return fees.pop(0)

        chain.estimate_fee = estimate_fee  # type: ignore[method-assign]
        async with keeping(tmp_path, chain, claim_after_s=0) as keeper:
            keeper.add(attested_for()[0], hub_key=HUB.auth_key)
            await until(lambda: chain.sent)
        assert [tx.fee for tx in chain.sent] == [100_000]

    with caplog.at_level(logging.WARNING, "aitbc.provider"):
        asyncio.run(story())
    named = {
        100_001: "0.100001 AIT for a RECEIPT_CLAIM, more than 0.1 AIT",
        -1: "-0.000001 AIT for a RECEIPT_CLAIM",
    }
    words = f"a fee of {named[asked]}; nothing was signed"
    assert caplog.text.count(words) == 3


def test_the_owner_says_what_a_claim_may_cost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            _, receipt_id = await attested_but_unclaimed(place, claim_after_s=0, max_fee=30)
            await until(
                lambda: "for a RECEIPT_CLAIM, more than 0.00003 AIT; nothing was signed" in caplog.text
            )
            assert place.node.minted_for(receipt_id) is None

    with caplog.at_level(logging.WARNING, "aitbc.provider"):
        asyncio.run(story())


def test_a_damaged_file_does_not_stop_the_others(tmp_path: Path) -> None:
    queue = UnclaimedQueue(tmp_path)
    (tmp_path / "rcpt_00.json").write_text("{ half a rec")
    assert queue.entries() == {}
    assert (tmp_path / "rcpt_00.json").exists()


def test_a_line_cut_short_is_left_out_of_the_earnings(tmp_path: Path) -> None:
    log = EarningsLog(tmp_path / "earnings.jsonl")
    for receipt_id in ("rcpt_1", "rcpt_2", "rcpt_2"):
        log.write({"receipt_id": receipt_id, "price": 5})
    with (tmp_path / "earnings.jsonl").open("a") as file:
        file.write(json.dumps({"receipt_id": "rcpt_3"})[:10])
    assert [entry["receipt_id"] for entry in log.read()] == ["rcpt_1", "rcpt_2"]
