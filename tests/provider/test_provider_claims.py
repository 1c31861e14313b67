"""The hub is gone after it attested: the provider claims for itself. Nothing owed is forgotten, nothing is doubled."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import Refused
from aitbc.provider.claims import ClaimKeeper, UnclaimedQueue
from aitbc.provider.joblog import EarningsLog
from hub.market import Market, market, until
from support.people import EVE


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
            assert status["claim_tx"] == "", "the hub's own claim failed and is not the one that paid"

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
