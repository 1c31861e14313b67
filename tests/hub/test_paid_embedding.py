"""An embedding from quote to receipt: real hub, real child, the real tiny model; also eight pictures in one child."""

import asyncio
import base64
from pathlib import Path
from typing import Any

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from hub.market import Market, market

EMBED = "aitbc.adapters.engines.tiny_embed:TinyEmbed"
PAINTER = "aitbc.adapters.engines.tiny_diffusion:TinyDiffusion"
TEXTS = ["a fox", "the river at night"]


async def ask(place: Market, kind: str, request: dict[str, Any]) -> dict[str, Any]:
    body = {"client": place.signers["alice"].address, "kind": kind, "request": request}
    response = await place.http.post("/v1/quotes", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def output_of(place: Market, quote: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    await place.until_state(quote, "delivered", "settled", within=30)
    result = (await place.result(quote)).json()
    return base64.b64decode(result["data_base64"]), result


def test_texts_become_vectors_and_the_receipt_says_how_many_tokens(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider(engines=(EMBED,))
            quote = await ask(place, "embedding", {"input": TEXTS, "dimensions": 32})
            await place.start(quote, await place.lock(quote))
            data, result = await output_of(place, quote)
            request = {"kind": "embedding", "model": "tiny-embed", "input": TEXTS, "dimensions": 32}
            expected = TinyEmbed().run("tiny-embed", request, lambda _event: None, lambda: False)
            assert data == expected.data and result["media_type"] == "application/octet-stream"
            details = result["details"]
            assert (details["kind"], details["unit_type"], details["seed"]) == ("embedding", "tokens", "0")
            assert details["counts"] == {"in": 6, "inputs": 2} and details["units"] == 1

    asyncio.run(story())


def test_pictures_that_share_their_steps_are_delivered_and_paid_one_by_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            owner = await place.add_provider(engines=(PAINTER,), slots=4)
            quotes = [
                await ask(place, "image", {"prompt": "a red circle", "seed": seed}) for seed in range(4)
            ]
            locks = [await place.lock(quote) for quote in quotes]
            await asyncio.gather(
                *[place.start(quote, lock) for quote, lock in zip(quotes, locks, strict=True)]
            )
            for seed, quote in enumerate(quotes):
                data, result = await output_of(place, quote)
                request = {"kind": "image", "model": "tiny-diffusion", "prompt": "a red circle", "seed": seed}
                alone = TinyDiffusion().run("tiny-diffusion", request, lambda _event: None, lambda: False)
                assert data == alone.data and result["details"]["units"] == 1_000
            assert owner.worker.jobs_done == 4

    asyncio.run(story())
