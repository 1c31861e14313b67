"""One request, many providers: parts are drawn, done, paid one by one and gathered in order."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec

from aitbc.core.codec.keytext import key_from_text
from aitbc.core.crypto.schemes import verify
from aitbc.core.jobs import link
from aitbc.core.jobs.splitting import ParentReceipt, parent_digest
from aitbc.hub.gather import why_waiting
from hub.market import PAINTER, Market, market, until
from hub.odd_engines import text_of
from hub.strange_provider import StrangeProvider


async def begin_split(place: Market, *, kind: str = "chat", **fields: Any) -> Any:
    body = {"client": place.signers["alice"].address, "kind": kind, "request": fields}
    response = await place.http.post("/v1/quotes", json=body)
    assert response.status_code == 200, response.text
    quote = response.json()
    started = await place.start(quote, await place.lock(quote))
    assert started.status_code == 202, started.text
    return quote


def test_prompts_are_done_by_several_and_paid_by_part(tmp_path: Path) -> None:
    prompts = [f"tale {number}" for number in range(5)]

    async def story() -> None:
        async with market(tmp_path) as place:
            for name in ("provider", "second"):
                await place.add_provider(name)
            before = place.balance("alice")
            quote = await begin_split(place, prompts=prompts, seed=3)
            assert quote["lock"]["tasks"] == 5
            events = await place.events(quote)
            assert events[-1]["state"] == "delivered"
            status = await place.until_state(quote, "settled")
            assert status["state"] == "settled"
            result = (await place.result(quote)).json()
            texts = [base64.b64decode(part["data_base64"]).decode() for part in result["parts"]]
            assert texts == [text_of({"prompt": prompt, "seed": 3}) for prompt in prompts]
            for number, prompt in enumerate(prompts):
                told = "".join([event.get("text", "") for event in events if event.get("part") == number])
                assert told == text_of({"prompt": prompt, "seed": 3})

            parent = msgspec.convert(result["parent"], ParentReceipt)
            digest = parent_digest(parent, place.node.genesis_hash)
            assert verify(key_from_text(result["hub_pubkey"]), digest, bytes.fromhex(result["parent_sig"]))
            assert parent.units == sum([part["core"]["compute_units"] for part in result["parts"]])
            assert {line.provider for line in parent.delivered} == {
                provider.config.signer.address for provider in place.providers
            }
            fee = place.node.transaction(status["lock"], proof=False)["tx"]["fee"]
            assert place.balance("alice") == before - parent.price - fee

    asyncio.run(story())


def test_pictures_are_split_by_index(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider(engines=(PAINTER,))
            quote = await begin_split(place, kind="image", prompt="a boat", n=3, seed=10)
            await place.until_state(quote, "settled")
            result = (await place.result(quote)).json()
            assert [part["details"]["seed"] for part in result["parts"]] == ["10", "11", "12"]
            draws = (
                await place.http.get(f"/v1/jobs/{quote['job_id']}/candidates", headers=_bearer(quote))
            ).json()
            assert [draw["part"] for draw in draws["draws"]] == [0, 1, 2]

    asyncio.run(story())


def test_what_cannot_be_done_returns_and_the_rest_is_paid(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quote = await begin_split(place, prompts=["a tale", "refuse"])
            await place.until_state(quote, "settled", within=20)
            result = (await place.result(quote)).json()
            assert [part["part"] for part in result["parts"]] == [0]
            assert (result["parent"]["parts"], len(result["parent"]["delivered"])) == (2, 1)
            tasks = place.hub.store.tasks(quote["job_id"])
            assert [(str(task.state), task.reason) for task in tasks] == [
                ("settled", ""),
                ("failed", "bad_request"),
            ]

    asyncio.run(story())


def test_a_waiting_job_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place, StrangeProvider(place) as strange:
            first = await place.begin("first")
            await strange.take_task()
            quotes = [await place.begin(f"next {number}") for number in range(2)]
            record = place.hub.store.job(quotes[1]["job_id"])
            why = await why_waiting(place.hub, record)
            assert (why.state, why.waiting_parts, why.ahead) == ("queued", 1, 1)
            assert (why.who.feasible, why.who.connected, why.who.free) == (True, 1, 0)
            assert why.who.wait_ms
            assert first["job_id"] != quotes[0]["job_id"]

    asyncio.run(story())


def test_what_nobody_could_ever_do_is_refused_at_once_and_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            for wishes, words in (
                ({"provider": {"min_vram_mb": 80_000}}, "removed by vram 1); instead: min_vram_mb 0"),
                (
                    {"provider": {"policies": ["no-log"]}},
                    "removed by policy 1); instead: without_policies ['no-log']",
                ),
                ({"max_price_per_kilounit": 1}, "removed by price 1); instead: price_per_kilounit"),
            ):
                body = {
                    "client": place.signers["alice"].address,
                    "kind": "chat",
                    "request": {"prompt": "a"},
                    **wishes,
                }
                response = await place.http.post("/v1/quotes", json=body)
                problem = response.json()
                assert (response.status_code, problem["code"]) == (409, "infeasible"), problem
                assert words in problem["detail"]

    asyncio.run(story())


def test_a_straggler_is_hedged_and_the_first_delivery_wins(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, heartbeat_ms=5_000) as place, StrangeProvider(place) as slow:
            for _ in range(10):
                place.hub.speeds.note("tiny-lm", units=1_000, took_ms=1)
            quote = await place.quote("a tale")
            body = {"client": place.signers["alice"].address, "kind": "chat", "request": {"prompt": "a tale"}}
            quote = (await place.http.post("/v1/quotes", json={**body, "priority": "interactive"})).json()
            await place.start(quote, await place.lock(quote))
            task = await slow.take_task()
            quick = await place.add_provider("provider", price_per_kilounit=1_000_000)
            status = await place.until_state(quote, "settled")
            assert status["attempts"] == 2
            cancel = await slow.hear(link.Cancel)
            assert (cancel.task_id, cancel.reason) == (task.task_id, "hedged")
            entry = place.hub.store.receipt_of_job(quote["job_id"])
            assert entry.provider == quick.config.signer.address
            await until(
                lambda: [a.reason for a in place.hub.store.attempts(quote["job_id"])] == ["hedged", ""]
            )

    asyncio.run(story())


def _bearer(quote: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {quote['job_token']}"}


def test_a_node_can_ask_about_every_part(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quote = await begin_split(place, prompts=["a", "longer tale"])
            await place.until_state(quote, "settled")
            for part in (await place.result(quote)).json()["parts"]:
                core = part["core"]
                asked = {
                    "job_id": quote["job_id"],
                    "client": core["client_addr"],
                    "miner": core["miner_addr"],
                    "price": core["price"],
                    "compute_units": core["compute_units"],
                    "output_hash": core["output_hash"],
                }
                for more in ({}, {"receipt_id": part["receipt_id"]}):
                    answer = (await place.http.post("/attest/receipt", json={**asked, **more})).json()
                    assert (answer["exists"], answer["paid"], answer["not_double_spent"]) == (
                        True,
                        True,
                        False,
                    )
                    assert answer["attestation"]["receipt_id"] == part["receipt_id"]
                wrong = (
                    await place.http.post("/attest/receipt", json={**asked, "price": core["price"] + 1})
                ).json()
                assert (wrong["exists"], wrong["reason"]) == (False, "price_differs")

    asyncio.run(story())
