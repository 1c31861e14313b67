"""Many receipts go to the chain under one root and are paid in netted ranges; each is paid once, whatever happens."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from aitbc.client.errors import ApiError
from aitbc.core.types.transactions import Transaction
from aitbc.hub.batches import SETTLE_BYTES, settlements
from hub.market import Market, market, until
from hub.store.made import delivery, quote
from hub.test_split_jobs import begin_split

PROMPTS = [f"tale {number}" for number in range(6)]
BATCHING: Any = {"batch_least": 2, "batch_s": 0.6}


def kinds(place: Market) -> list[str]:
    """What the hub has sent to the chain."""
    hub = place.signers["hub"].address
    txs = [place.node.transaction(tx, proof=False)["tx"] for tx in place.node.places]
    return [tx["type"] for tx in txs if tx["sender"] == hub and tx["type"] != "REGISTER"]


async def fund(place: Market) -> None:
    """A batch costs its hub a fee, which no receipt pays."""
    await asyncio.to_thread(
        place.node.send, "alice", "TRANSFER", {"to": place.signers["hub"].address, "amount": 1_000_000}
    )


def test_six_parts_and_a_job_are_paid_by_one_settlement(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, **BATCHING) as place:
            await fund(place)
            provider = await place.add_provider()
            before = place.balance("alice")
            split = await begin_split(place, prompts=PROMPTS)
            single = await place.begin("one more")
            for quote_ in (split, single):
                await place.until_state(quote_, "settled", within=20)
            assert kinds(place) == ["RECEIPT_BATCH", "SETTLE"]
            store = place.hub.store
            entries = [*store.receipts_of_job(split["job_id"]), store.receipt_of_job(single["job_id"])]
            assert sorted([entry.leaf for entry in entries]) == list(range(7))
            assert len({entry.batch for entry in entries}) == len({entry.claim_tx for entry in entries}) == 1
            price = sum([entry.signed.attestation.price for entry in entries])
            locks = [(await place.status(each))["lock"] for each in (split, single)]
            fees = sum([place.node.transaction(lock, proof=False)["tx"]["fee"] for lock in locks])
            assert place.balance("alice") == before - price - fees
            await until(lambda: place.balance("provider") >= price)
            assert provider.config.signer.address == place.signers["provider"].address
            assert place.hub.claims.open == 0

    asyncio.run(story())


def test_a_hub_without_money_for_a_batch_claims_one_by_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, **BATCHING) as place:
            await place.add_provider()
            drain = place.chain.send

            async def poor(tx: Transaction) -> str:
                if tx.type == "RECEIPT_BATCH":
                    raise ApiError("insufficient_balance", "no money for the fee", "", 400)
                return await drain(tx)

            place.chain.send = poor  # type: ignore[method-assign]
            split = await begin_split(place, prompts=PROMPTS[:3])
            await place.until_state(split, "settled", within=20)
            assert sorted(kinds(place)) == ["RECEIPT_CLAIM"] * 3
            assert {entry.batch for entry in place.hub.store.receipts_of_job(split["job_id"])} == {""}

    asyncio.run(story())


def test_what_a_provider_claimed_itself_is_skipped_and_not_paid_twice(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, batch_least=2, batch_s=3) as place:
            await fund(place)
            await place.add_provider(claim_after_s=0.2)
            before = place.balance("alice")
            split = await begin_split(place, prompts=PROMPTS[:3])
            await place.until_state(split, "settled", within=25)
            entries = place.hub.store.receipts_of_job(split["job_id"])
            price = sum([entry.signed.attestation.price for entry in entries])
            lock = (await place.status(split))["lock"]
            fee = place.node.transaction(lock, proof=False)["tx"]["fee"]
            assert place.balance("alice") == before - price - fee
            assert {entry.state for entry in entries} == {"claimed"}

    asyncio.run(story())


def test_a_batch_that_was_begun_before_a_stop_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, **BATCHING) as place:
            await fund(place)
            await place.add_provider()
            place.node.hold = lambda tx: tx.type == "SETTLE"
            split = await begin_split(place, prompts=PROMPTS[:3])
            await until(lambda: kinds(place) == ["RECEIPT_BATCH"])
            await until(lambda: place.node._held)
            await place.close_hub()
            place.node._held.clear()
            place.node.hold = lambda _tx: False
            for provider in list(place.providers):
                await place.drop(provider)
            await place.open_hub()
            await place.until_state(split, "settled", within=20)
            assert kinds(place) == ["RECEIPT_BATCH", "SETTLE"]

    asyncio.run(story())


@pytest.mark.parametrize("same_lock", [False, True], ids=["a lock each", "one lock"])
def test_a_thousand_receipts_are_cut_into_ranges_that_fit(same_lock: bool) -> None:
    from aitbc.core.codec.canonical import jcs

    names = ["job" if same_lock else f"job {number:04}" for number in range(400)]
    entries = [delivery(quote(name), "p").entry for name in names]
    cut = list(settlements(entries))
    assert [entry for part in cut for entry in part.entries] == entries
    everything = [leaf for part in cut for leaf in part.committed()]
    sizes = [len(jcs(part.payload("ab" * 32, everything))) for part in cut]
    assert max(sizes) <= SETTLE_BYTES
    assert len(cut) == (3 if same_lock else 5)
