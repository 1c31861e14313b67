"""The first coins of a chain that begins with none: the hub gives a newcomer the job that the chain has drawn."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.client.verify import verify_receipt
from aitbc.core.jobs.calibration import calibration_request, drawn_job
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.types.amounts import AIT
from aitbc.hub import calibration
from aitbc.provider.chain import check_calibration
from hub.market import LedgerNode, Market, MemoryChain, market, until

LENGTH = 6
BUDGET = 100 * AIT
TINY = ("aitbc.adapters.engines.tiny_lm:TinyLm",)
TWISTED = ("hub.odd_engines:StoryTeller",)
"""Says that it is the model, and tells what it likes."""


def without_premint(devnet: Any, **params: Any) -> Any:
    replace = msgspec.structs.replace
    wanted = {
        "devnet": 0,
        "faucet": "",
        "faucet_limit": 0,
        "synthetic_attester": "",
        "mint_price_cap_bp": 10_000,
    }
    return replace(
        devnet,
        accounts=[],
        consensus=replace(devnet.consensus, epoch_length=LENGTH),
        params=replace(devnet.params, **{**wanted, "calibration_budget": BUDGET, **params}),
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LOOK_S", 0.05)


def next_epoch(node: LedgerNode) -> int:
    """Empty blocks until the next block is the first of an epoch; which one."""
    node.idle()
    while node._head.height % LENGTH:
        node.idle()
    return int(node._head.height) // LENGTH


def supply(node: LedgerNode) -> int:
    return sum([account.balance for _, account in node.executor.state.items("accounts")])


async def newcomer(place: Market, **options: Any) -> Any:
    provider = await place.add_provider(engines=TINY, **options)
    return provider


def test_a_provider_earns_the_first_coins_of_a_chain_and_its_first_reputation(tmp_path: Path) -> None:
    async def story() -> None:
        node = LedgerNode(without_premint)
        async with market(tmp_path, node=node) as place:
            provider = await newcomer(place)
            address = provider.config.signer.address
            assert supply(node) == 0
            assert node.account(address)["balance"] == 0, "its registration was free"
            await asyncio.sleep(0.2)
            assert place.hub.store.job(f"calibration:0:{address}") is None, "the first epoch draws nobody"

            epoch = await asyncio.to_thread(next_epoch, node)
            await until(lambda: node.account(address)["balance"] > 0, within=30)
            job_id = f"calibration:{epoch}:{address}"
            entry = place.hub.store.receipt_of_job(job_id)
            attested = entry.signed.attestation
            assert (attested.routed, attested.lock, attested.price) == ("calibration", "", 0)
            minted = node.minted_for(entry.receipt_id).minted
            assert minted == min(attested.units, 10_000) * node.genesis.params.mint_per_unit
            assert place.balance("hub") > 0, "its share, less the fee of the claim"
            await until(lambda: place.hub.store.receipt_of_job(job_id).state == "claimed")
            standing = place.hub.directory.get(address).standing
            assert (standing.valid, standing.streak) == (1, 1)

            file = (await place.http.get(f"/v1/receipts/{entry.receipt_id}")).json()
            output = place.hub.store.result_data(job_id)
            assert [check for check in verify_receipt(file, output_bytes=output) if not check.ok] == []

            await asyncio.to_thread(next_epoch, node)
            second = f"calibration:{epoch + 1}:{address}"
            await until(lambda: place.hub.store.receipt_of_job(second) is not None, within=30)
            assert place.hub.store.receipt_of_job(second).delivery.core.output_hash != attested.output_hash

    asyncio.run(story())


def test_what_the_reference_does_not_make_earns_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        node = LedgerNode(without_premint)
        async with market(tmp_path, node=node) as place:
            provider = await place.add_provider(engines=TWISTED)
            address = provider.config.signer.address
            epoch = await asyncio.to_thread(next_epoch, node)
            job_id = f"calibration:{epoch}:{address}"
            await until(
                lambda: (job := place.hub.store.job(job_id)) is not None and job.state == "failed", within=30
            )
            assert place.hub.store.job(job_id).reason == "calibration_failed"
            assert place.hub.store.receipt_of_job(job_id) is None
            assert (supply(node), place.hub.directory.get(address).standing.invalid) == (0, 1)

    asyncio.run(story())


@pytest.mark.parametrize(
    "params", [{"calibration_budget": 0}, {"calibration_until_ms": 1}, {"hubs": []}], ids=str
)
def test_where_the_chain_mints_for_nobody_nobody_is_asked(tmp_path: Path, params: dict[str, Any]) -> None:
    async def story() -> None:
        node = LedgerNode(
            lambda devnet: msgspec.structs.replace(
                without_premint(devnet, **params), accounts=devnet.accounts
            )
        )
        async with market(tmp_path, node=node) as place:
            provider = await place.add_provider(engines=TINY, wait=bool(params.get("hubs", True)))
            await asyncio.to_thread(next_epoch, node)
            await place.hub.calibrations.look()
            assert place.hub.store.job(f"calibration:1:{provider.config.signer.address}") is None

    asyncio.run(story())


def test_a_provider_does_nothing_for_nothing(tmp_path: Path) -> None:
    """An offer without a lock must be the chain's own draw for this provider, to the last field."""

    async def story() -> None:
        node = LedgerNode(without_premint)
        async with market(tmp_path, node=node) as place:
            provider = await newcomer(place)
            epoch = await asyncio.to_thread(next_epoch, node)
            address = provider.config.signer.address
            job_id = f"calibration:{epoch}:{address}"
            await until(lambda: place.hub.store.receipt_of_job(job_id) is not None, within=30)
            (attempt,) = place.hub.store.attempts(job_id)
            chain, genesis = MemoryChain(node), provider.worker.genesis
            good = attempt.offer
            await check_calibration(chain, good, genesis=genesis, now_ms=0)
            seed = node.executor.state.get("params", "epoch.seed").value
            other = drawn_job(genesis_hash=node.genesis_hash, epoch=epoch, seed=seed, provider="somebody")
            for change in (
                {"job_id": f"calibration:{epoch + 1}:{address}"},
                {"price": 1},
                {"hub": address},
                {"request": calibration_request("tiny-lm", other.nonce)},
                {"request": {**good.request, "max_tokens": 1}},
            ):
                with pytest.raises(Exception, match=JobReason.LOCK_MISMATCH):
                    await check_calibration(
                        chain, msgspec.structs.replace(good, **change), genesis=genesis, now_ms=0
                    )

    asyncio.run(story())
