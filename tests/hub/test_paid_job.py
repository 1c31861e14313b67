"""The happy path, end to end: quote, lock, draw, run, check, attest, claim, mint."""

import asyncio
import base64
import json
from pathlib import Path

import msgspec

from aitbc.client.verify import verify_receipt
from aitbc.core.jobs.draw import Candidate, candidates_hash, draw
from aitbc.core.jobs.requests import request_hash_of
from aitbc.core.jobs.units import actual_units, price_of, profile_of
from aitbc.core.ledger.genesis import genesis_document
from aitbc.hub.routes import ROUTES
from hub.market import PAINTER, STORY_TELLER, bearer, market
from hub.odd_engines import png_of, text_of


def test_a_story_is_paid_for_and_minted(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider = await place.add_provider()
            before = place.balance("alice")
            quote = await place.begin("a tale of two cities", seed=7)
            events = await place.events(quote)

            expected = text_of({"prompt": "a tale of two cities", "seed": 7})
            assert "".join([event["text"] for event in events if "text" in event]) == expected
            assert [event["state"] for event in events if "state" in event] == [
                "reserved",
                "queued",
                "leased",
                "running",
                "delivered",
            ]
            assert {"progress": [8, 8]} in events

            status = await place.until_state(quote, "settled")
            result = (await place.result(quote)).json()
            assert base64.b64decode(result["data_base64"]).decode() == expected
            assert result["claim_tx"] == status["claim_tx"] != ""

            counts = result["details"]["counts"]
            units = actual_units(profile_of("tiny-lm"), quote["request"], counts)
            assert result["core"]["compute_units"] == units < quote["units"]
            assert result["core"]["price"] == price_of(units, 1_000_000) <= quote["price"]
            assert place.balance("provider") > result["core"]["price"], "the price and the mint"
            assert place.balance("alice") == before - result["core"]["price"] - 100, (
                "price and the lock's fee"
            )
            assert place.node.minted_for(result["receipt_id"]).units == units

            assert provider.worker.jobs_done == 1
            log = json.loads((tmp_path / "provider" / "jobs.jsonl").read_text())
            assert log["exit_code"] == "ok"
            assert log["units"] == units
            assert "tale" not in json.dumps(log)

    asyncio.run(story())


def test_the_receipt_stands_offline(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider(engines=(STORY_TELLER, PAINTER))
            quote = await place.begin("a grey square", kind="image", seed=200, width=128, height=128)
            await place.events(quote)
            result = (await place.result(quote)).json()
            data = base64.b64decode(result["data_base64"])
            assert data == png_of(128, 128, 200)
            assert result["details"]["notes"] == {"upscale": "nearest 64x64 -> 128x128"}
            bundle = {
                **result,
                "version": 1,
                "genesis": json.loads(genesis_document(place.node.genesis)),
                "output_file": "",
            }
            for name in ("job_id", "media_type", "data_base64", "claim_tx"):
                del bundle[name]
            assert [check for check in verify_receipt(bundle, output_bytes=data) if not check.ok] == []

    asyncio.run(story())


def test_anybody_can_repeat_the_draw(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            for name in ("provider", "second", "third"):
                await place.add_provider(name)
            quote = await place.begin()
            await place.until_state(quote, "delivered", "settled")
            path = f"/v1/jobs/{quote['job_id']}/candidates"
            (told,) = (await place.http.get(path, headers=bearer(quote))).json()["draws"]
            table = msgspec.convert(told["candidates"], list[Candidate])
            winner = draw(table=table, ticket=told["ticket"], randomness=bytes.fromhex(told["randomness"]))
            details = (await place.result(quote)).json()["details"]
            assert len(table) == 3
            assert winner.address == told["winner"] == details["provider"]
            assert candidates_hash(table) == told["candidates_hash"] == details["candidates_hash"]

    asyncio.run(story())


def test_the_same_request_asked_twice_is_two_requests(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            one, two = await place.quote("same"), await place.quote("same")
            assert one["request_hash"] == request_hash_of(one["request"])
            assert one["request_hash"] != two["request_hash"], (
                "the hub's nonce keeps old results from being sold again"
            )
            without_nonce = [{**quote["request"], "nonce": ""} for quote in (one, two)]
            assert without_nonce[0] == without_nonce[1]

    asyncio.run(story())


def test_starting_twice_is_harmless_and_many_jobs_share_one_provider(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quotes = [await place.quote(f"story {number}") for number in range(5)]
            locks = [await place.lock(quote) for quote in quotes]
            answers = await asyncio.gather(
                *[
                    place.start(quote, lock)
                    for quote, lock in zip(quotes, locks, strict=True)
                    for _ in range(2)
                ]
            )
            assert {answer.status_code for answer in answers} == {202}
            for quote in quotes:
                await place.until_state(quote, "settled")
            assert place.providers[0].worker.jobs_done == 5

    asyncio.run(story())


def test_the_hub_says_what_it_is(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            assert (await place.http.get("/v1/health")).json()["providers"] == 0
            await place.add_provider()
            health = (await place.http.get("/v1/health")).json()
            assert (health["status"], health["model"], health["gpu"], health["providers"]) == (
                "ok",
                "tiny-lm",
                "cpu",
                1,
            )
            (model,) = (await place.http.get("/v1/models")).json()["data"]
            assert (model["id"], model["object"], model["price_per_kilounit"]) == (
                "tiny-lm",
                "model",
                1_000_000,
            )
            hub = (await place.http.get("/v1/hub")).json()
            assert hub["address"] == place.signers["hub"].address
            assert hub["genesis_hash"] == place.node.genesis_hash.hex()
            document = (await place.http.get("/openapi.json")).json()
            described = {
                (method.upper(), path) for path, entry in document["paths"].items() for method in entry
            }
            assert ("POST", "/v1/quotes") in described
            assert ("GET", "/v1/jobs/{job_id}/candidates") in described
            assert len(described) == len(ROUTES)

    asyncio.run(story())
