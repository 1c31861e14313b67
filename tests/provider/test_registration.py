"""How a provider without a coin gets onto the chain, and what the hub gives it meanwhile."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from hub.market import PAINTER, STORY_TELLER, Market, market, until


def registers(place: Market) -> list[dict[str, Any]]:
    views = [place.node.transaction(tx, proof=False)["tx"] for tx in place.node.places]
    return [view for view in views if view["type"] == "REGISTER"]


def test_the_first_registration_is_free_with_the_hubs_word(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            (tx,) = registers(place)
            assert tx["fee"] == 0
            assert tx["witness"]["hub"] == place.signers["hub"].address
            assert [offer["model"] for offer in tx["payload"]["models"]] == ["tiny-lm"]

    asyncio.run(story())


def test_who_has_money_pays_the_fee(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider("bob")
            (tx,) = registers(place)
            assert tx["fee"] > 0
            assert "witness" not in tx

    asyncio.run(story())


def test_a_node_that_lies_about_the_fee_gets_no_registration_signed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fees = [100_001, 10**15, 100_000]

    async def story() -> None:
        async with market(tmp_path) as place:

            async def estimate_fee(_type: str, _payload: Any) -> int:
                return fees.pop(0)

            place.chain.estimate_fee = estimate_fee  # type: ignore[method-assign]
            await place.add_provider("bob")
            (tx,) = registers(place)
            assert tx["fee"] == 100_000

    with caplog.at_level(logging.WARNING, "aitbc.provider"):
        asyncio.run(story())
    for named in ("0.100001 AIT", "1,000,000,000 AIT"):
        assert f"a fee of {named} for a REGISTER, more than 0.1 AIT; nothing was signed" in caplog.text


def test_the_same_provider_registers_once_and_a_changed_one_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider = await place.add_provider("bob")
            await place.drop(provider)
            await place.drop(await place.add_provider("bob"))
            assert len(registers(place)) == 1
            await place.add_provider("bob", engines=(STORY_TELLER, PAINTER), price_per_kilounit=5)
            assert len(registers(place)) == 2
            assert (await place.quote())["price"] == 5 * (await place.quote())["units"] // 1000 + 1

    asyncio.run(story())


def test_a_registration_on_its_way_can_be_quoted_but_not_worked_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            place.node.hold = lambda tx: tx.type == "REGISTER"
            provider = await place.add_provider(wait=False)
            await until(lambda: place.hub.directory.serving("tiny-lm"))
            assert (await place.http.get("/v1/health")).json()["providers"] == 1
            quote = await place.begin()
            await asyncio.sleep(0.2)
            assert (await place.status(quote))["state"] == "queued"
            assert provider.worker.running == []
            await asyncio.to_thread(place.node.release)
            await place.until_state(quote, "settled")

    asyncio.run(story())


def test_a_node_that_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            genesis = await place.chain.genesis()
            place.node.reachable = False
            provider = await place.add_provider(wait=False, genesis=genesis)
            await until(lambda: provider.link and provider.link.session)
            await asyncio.sleep(0.2)
            place.node.reachable = True
            await until(lambda: provider.eligible == ["tiny-lm"])

    asyncio.run(story())


def test_a_provider_on_another_chain_does_not_link(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            genesis = {**await place.chain.genesis(), "chain_id": "ait-other"}
            provider = await place.add_provider(wait=False, genesis=genesis)
            await until(lambda: provider.link and "another chain" in provider.link.last_error)
            assert place.hub.directory.sessions() == []

    asyncio.run(story())


def test_a_provider_can_insist_on_its_hub(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider = await place.add_provider(wait=False, hub_address=place.signers["bob"].address)
            await until(lambda: provider.link and "not " in provider.link.last_error)
            assert place.hub.directory.sessions() == []

    asyncio.run(story())
