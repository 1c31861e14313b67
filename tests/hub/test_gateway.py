"""The unmodified `openai` package against the hub: chat, streams, hanging up, pictures, each with its receipt."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from aitbc.client.verify import verify_bundle, verify_receipt
from aitbc.core.ledger.genesis import genesis_document
from hub.market import PAINTER, STORY_TELLER, Market, market, until
from hub.odd_engines import png_of, text_of

TINY = ("aitbc.adapters.engines.tiny_lm:TinyLm", "aitbc.adapters.engines.tiny_diffusion:TinyDiffusion")


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@asynccontextmanager
async def gateway(folder: Path, **options: Any) -> AsyncIterator[tuple[Market, AsyncOpenAI]]:
    """A market with both kinds of models, and OpenAI's client with a key."""
    engines = options.pop("engines", (STORY_TELLER, PAINTER))
    async with market(folder, heartbeat_ms=5_000, **options) as place:  # a busy machine is no lost provider
        await place.add_provider(engines=engines)
        key = await place.key()
        async with AsyncOpenAI(base_url=place.url + "/v1", api_key=key, max_retries=0) as client:
            yield place, client


def holds(place: Market, receipt: dict[str, Any], data: bytes) -> bool:
    bundle = {
        "version": 1,
        "genesis": json.loads(genesis_document(place.node.genesis)),
        "output_file": "",
        **receipt,
    }
    return all(check.ok for check in verify_receipt(bundle, output_bytes=data))


def test_a_chat_is_answered_billed_and_proved(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            raw = await client.chat.completions.with_raw_response.create(
                model="tiny-lm", messages=ask("a tale"), seed=7, temperature=0.7
            )
            answer = raw.parse()
            (choice,) = answer.choices
            expected = text_of({"prompt": "a tale", "seed": 7})
            assert (choice.message.role, choice.message.content, choice.finish_reason) == (
                "assistant",
                expected,
                "stop",
            )
            assert answer.usage is not None and answer.usage.completion_tokens == 5
            proof = (answer.model_extra or {})["aitbc"]
            assert raw.headers["aitbc-receipt"] == proof["receipt_id"]
            assert holds(place, proof["receipt"], expected.encode())
            books = await place.sum_of_books()
            assert books["income:"] == proof["price"] > 0
            assert books["granted:"] == -10_000_000

            receipt = await place.http.get(f"/v1/receipts/{proof['receipt_id']}")
            assert receipt.json()["core"] == proof["receipt"]["core"]
            assert receipt.json()["core"]["client_addr"] == place.signers["hub"].address

    asyncio.run(story())


def test_a_receipt_with_proof_holds_down_to_the_certificate(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            answer = await client.chat.completions.create(model="tiny-lm", messages=ask("a tale"))
            proof = (answer.model_extra or {})["aitbc"]
            path = f"/v1/receipts/{proof['receipt_id']}?proof=1"
            await until(lambda: place.node.minted_for(proof["receipt_id"]))
            job = f"/v1/jobs/{proof['job_id']}"
            headers = {"authorization": f"Bearer {client.api_key}"}
            while (await place.http.get(job, headers=headers)).json()["state"] != "settled":
                await asyncio.sleep(0.02)
            bundle = (await place.http.get(path)).json()
            content = str(answer.choices[0].message.content).encode()
            checks = verify_bundle(bundle, output_bytes=content, trusted_genesis_hash=place.node.genesis_hash)
            assert [check for check in checks if not check.ok] == []
            assert "certificate" in {check.name for check in checks}
            unknown = await place.http.get("/v1/receipts/rcpt_" + "0" * 64)
            assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_receipt")

    asyncio.run(story())


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_brings_the_text_in_pieces_and_the_receipt_last(tmp_path: Path, include_usage: bool) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            more: Any = {"stream_options": {"include_usage": True}} if include_usage else {}
            stream = await client.chat.completions.create(
                model="tiny-lm", messages=ask("a long tale"), seed=1, stream=True, **more
            )
            chunks = [chunk async for chunk in stream]
            *told, last = chunks
            expected = text_of({"prompt": "a long tale", "seed": 1})
            pieces = [chunk.choices[0].delta.content for chunk in told if chunk.choices[0].delta.content]
            assert "".join(pieces) == expected and len(pieces) == 6
            assert told[0].choices[0].delta.role == "assistant"
            assert bool(last.choices) is not include_usage
            ends = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
            assert [chunk.choices[0].finish_reason for chunk in ends] == ["stop"]
            assert last.usage is not None and last.usage.completion_tokens == 6
            assert holds(place, (last.model_extra or {})["aitbc"]["receipt"], expected.encode())

    asyncio.run(story())


def test_hanging_up_stops_the_engine_within_a_second_and_bills_what_was_read(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            words = " ".join(["murmur"] * 100)
            stream = await client.chat.completions.create(
                model="tiny-lm", messages=ask(words), seed=1, stream=True
            )
            read = 0
            async for chunk in stream:
                read += bool(chunk.choices[0].delta.content)
                if read == 2:
                    break
            await stream.close()
            worker = place.providers[0].worker
            await until(lambda: not worker.running, within=1)
            assert place.providers[0].engine.restarts == 0, "it was asked to stop, not killed"
            await until(lambda: not place.hub.jobs.under_way)
            (row,) = await usage(place, client)
            assert row["state"] == "partial"
            assert 0 < row["price"] < 50_000
            books = await place.sum_of_books()
            assert books["income:"] == row["price"]
            receipt = (await place.http.get(f"/v1/receipts/{row['receipt_id']}")).json()
            assert 2 <= receipt["details"]["counts"]["out"] < 20

    asyncio.run(story())


def test_a_client_that_leaves_a_whole_answer_pays_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            asked = client.chat.completions.create(model="tiny-lm", messages=ask("murmur " * 50))
            task = asyncio.create_task(asked)
            await until(lambda: place.providers[0].worker.running)
            task.cancel()
            await until(lambda: not place.providers[0].worker.running)
            await until(lambda: not place.hub.jobs.under_way)
            (row,) = await usage(place, client)
            assert (row["state"], row["price"]) == ("canceled", 0)
            assert (await place.sum_of_books()).get("income:", 0) == 0

    asyncio.run(story())


def test_completions_continue_each_prompt(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            answer = await client.completions.create(model="tiny-lm", prompt=["one", "two"], seed=3)
            told = [choice.text for choice in answer.choices]
            assert told == [text_of({"prompt": prompt, "seed": 3}) for prompt in ("one", "two")]
            proofs = (answer.model_extra or {})["aitbc"]
            assert [proof["seed"] for proof in proofs] == ["3", "3"]
            stream = await client.completions.create(model="tiny-lm", prompt="one", seed=3, stream=True)
            assert "".join([chunk.choices[0].text async for chunk in stream]) == told[0]
            assert len(await usage(place, client)) == 3

    asyncio.run(story())


def test_pictures_are_jobs_with_seeds_that_follow_one_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (_, client):
            answer = await client.images.generate(
                model="tiny-diffusion", prompt="grey", n=3, size="128x128", extra_body={"seed": 100}
            )
            data = [base64.b64decode(str(picture.b64_json)) for picture in answer.data or []]
            assert data == [png_of(128, 128, grey) for grey in (100, 101, 102)]
            proofs = (answer.model_extra or {})["aitbc"]
            assert len({proof["receipt_id"] for proof in proofs}) == 3

    asyncio.run(story())


def test_the_tiny_models_answer(tmp_path: Path) -> None:
    """Real inference behind OpenAI's client."""

    async def story() -> None:
        async with gateway(tmp_path, engines=TINY) as (place, client):
            models = await client.models.list()
            assert [model.id for model in models.data] == ["tiny-diffusion", "tiny-lm"]
            assert (await client.models.retrieve("tiny-lm")).owned_by == "aitbc"
            answer = await client.chat.completions.create(
                model="tiny-lm", messages=ask("Once upon a time"), max_tokens=12, seed=1
            )
            assert answer.choices[0].finish_reason == "length"
            text = str(answer.choices[0].message.content)
            assert holds(place, (answer.model_extra or {})["aitbc"]["receipt"], text.encode())
            stream = await client.chat.completions.create(
                model="tiny-lm", messages=ask("Once upon a time"), max_tokens=12, seed=1, stream=True
            )
            assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text
            image = await client.images.generate(prompt="a red circle", size="64x64", extra_body={"steps": 4})
            assert base64.b64decode(str((image.data or [])[0].b64_json)).startswith(b"\x89PNG")
            long = await client.chat.completions.create(
                model="tiny-lm", messages=ask("Once upon a time"), max_tokens=256, temperature=1, stream=True
            )
            async for chunk in long:
                if chunk.choices[0].delta.content:
                    break
            await long.close()
            await until(lambda: not place.hub.jobs.under_way, within=3)
            rows = await usage(place, client)
            assert rows[-1]["state"] in ("partial", "complete")
            assert place.providers[0].engine.restarts == 0

    asyncio.run(story())


WRONG: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"model": "gpt-17"}, 404, "model_not_found", None),
    ({"n": 2}, 400, "unsupported_parameter", "n"),
    ({"stop": ["x"]}, 400, "unsupported_parameter", "stop"),
    ({"top_p": 0.5}, 400, "unsupported_parameter", "top_p"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "unsupported_parameter", "tools"),
    ({"extra_body": {"colour": "red"}}, 400, "unsupported_parameter", "colour"),
    ({"max_tokens": 100_000}, 400, "bad_request", None),
    ({"max_tokens": "many"}, 400, "bad_request", "max_tokens"),
    ({"temperature": 99}, 400, "bad_request", None),
    ({"messages": []}, 400, "bad_request", "messages"),
    ({"messages": [{"role": "user", "content": ""}]}, 400, "bad_request", None),
    ({"messages": [{"role": "tool", "content": "x"}]}, 400, "bad_request", "messages[0].role"),
]


def test_what_cannot_be_done_is_refused_in_openais_shape(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            for changes, status, code, param in WRONG:
                asked: dict[str, Any] = {"model": "tiny-lm", "messages": ask("hello"), **changes}
                with pytest.raises(openai.APIStatusError) as caught:
                    await client.chat.completions.create(**asked)
                assert (caught.value.status_code, caught.value.code, caught.value.param) == (
                    status,
                    code,
                    param,
                )
            assert await usage(place, client) == []
            assert (await place.sum_of_books()).get("held:", 0) == 0

    asyncio.run(story())


def test_a_job_that_comes_to_nothing_costs_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path, retry_wait_s=0.2) as (place, client):
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(model="tiny-lm", messages=ask("refuse"))
            stream = await client.chat.completions.create(
                model="tiny-lm", messages=ask("refuse again"), stream=True
            )
            with pytest.raises(openai.APIError):
                async for _ in stream:
                    pass
            rows = await usage(place, client)
            assert [(row["state"], row["price"]) for row in rows] == [("bad_request", 0)] * 2
            assert (await place.sum_of_books())["granted:"] == -10_000_000

    asyncio.run(story())


def test_a_policy_is_asked_before_anything_is_paid(tmp_path: Path) -> None:
    async def story() -> None:
        policies = ("hub.test_gateway:no_dragons",)
        async with gateway(tmp_path, policies=policies) as (_, client):
            with pytest.raises(openai.PermissionDeniedError) as caught:
                await client.chat.completions.create(model="tiny-lm", messages=ask("a dragon"))
            assert caught.value.code == "content_policy_violation"
            assert "dragons" in str(caught.value)
            await client.chat.completions.create(model="tiny-lm", messages=ask("a mouse"))

    asyncio.run(story())


def no_dragons(_kind: str, _model: str, request: dict[str, Any]) -> str | None:
    return "this hub tells nothing of dragons" if "dragon" in request["prompt"] else None


async def usage(place: Market, client: AsyncOpenAI) -> list[dict[str, Any]]:
    headers = {"authorization": f"Bearer {client.api_key}"}
    return list((await place.http.get("/v1/usage", headers=headers)).json()["rows"])


def test_seed_003_is_answered_by_a_hub_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            asked = {"api_key": client.api_key, "prompt": "grey", "seed": 9, "width": 256, "height": 256}
            answer = await place.http.post("/v1/generate-image", json=asked)
            made = answer.json()
            data = base64.b64decode(made["image_base64"].partition(",")[2])
            assert data == png_of(256, 256, 9)
            assert made["status"] == "ok" and made["gpu_seconds"] >= 0 and made["duration_ms"] > 0
            assert holds(place, made["aitbc"]["receipt"], data)
            assert answer.headers["aitbc-receipt"] == made["aitbc"]["receipt_id"]
            wrong = await place.http.post("/v1/generate-image", json={**asked, "api_key": "x"})
            assert (wrong.status_code, wrong.json()["detail"]) == (401, "invalid api_key")
            out_of_bounds = await place.http.post("/v1/generate-image", json={**asked, "steps": 4})
            assert out_of_bounds.status_code == 422
            for _ in range(7):
                await place.http.post("/v1/generate-image", json={**asked, "api_key": "x"})
            assert (await place.http.post("/v1/generate-image", json=asked)).status_code == 429

    asyncio.run(story())


def test_a_browser_may_ask_from_the_pages_that_are_named(tmp_path: Path) -> None:
    async def story() -> None:
        async with gateway(tmp_path, cors_origins=("https://app.example",)) as (place, _):
            for origin, allowed in (("https://app.example", True), ("https://other.example", False)):
                headers = {"origin": origin, "access-control-request-method": "POST"}
                asked = await place.http.request("OPTIONS", "/v1/chat/completions", headers=headers)
                assert (asked.headers.get("access-control-allow-origin") == origin) is allowed

    asyncio.run(story())


def test_an_operator_sees_what_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with gateway(tmp_path) as (place, client):
            with caplog.at_level("INFO", logger="aitbc.hub.jobs"):
                await client.chat.completions.create(model="tiny-lm", messages=ask("a secret tale"))
            (record,) = [record for record in caplog.records if record.name == "aitbc.hub.jobs"]
            line = vars(record)
            assert line["exit_code"] == "complete" and line["bytes_out"] > 0
            assert line["prompt_hash"].startswith("sha256:") and line["gpu_seconds"] >= 0
            assert "secret" not in str(line)
            text = (await place.http.get("/metrics")).text
            for wanted in [
                'aitbc_hub_requests_total{route="/v1/chat/completions",status="200"} 1.0',
                'aitbc_hub_jobs_total{model="tiny-lm",outcome="complete"} 1.0',
                'aitbc_hub_request_seconds_count{route="/v1/chat/completions"} 1.0',
                'aitbc_hub_model_providers{model="tiny-lm"} 1.0',
                "aitbc_hub_queue 0.0",
            ]:
                assert wanted in text, wanted
            await place.http.get("/nowhere-in-particular")
            assert "nowhere" not in (await place.http.get("/metrics")).text
            status = (await place.http.get("/v1/status")).json()
            assert status["requests_per_second"] > 0 and status["p95_ms"] > 0
            assert [model["model"] for model in status["models"]] == ["tiny-diffusion", "tiny-lm"]

    asyncio.run(story())


def test_texts_become_vectors(tmp_path: Path) -> None:
    """OpenAI's client asks for base64 by itself and for floats when told; both are the same numbers."""
    pytest.importorskip("aitbc.adapters.engines.tiny_embed", reason="this build has no engine for embeddings")

    async def story() -> None:
        engines = ("aitbc.adapters.engines.tiny_embed:TinyEmbed",)
        async with gateway(tmp_path, engines=engines) as (place, client):
            texts = ["a small red fox", "a little red fox", "the price of steel"]
            answer = await client.embeddings.create(model="tiny-embed", input=texts)
            vectors = [one.embedding for one in answer.data]
            assert [len(vector) for vector in vectors] == [128] * 3
            floats = await client.embeddings.create(model="tiny-embed", input=texts, encoding_format="float")
            assert [one.embedding for one in floats.data] == vectors

            def likeness(one: list[float], other: list[float]) -> float:
                return sum([left * right for left, right in zip(one, other, strict=True)])

            assert likeness(vectors[0], vectors[1]) > likeness(vectors[0], vectors[2])
            few = await client.embeddings.create(model="tiny-embed", input="one text", dimensions=16)
            assert len(few.data[0].embedding) == 16
            assert answer.usage.prompt_tokens > 0
            assert [row["kind"] for row in await usage(place, client)] == ["embedding"] * 3

    asyncio.run(story())
