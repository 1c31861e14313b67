"""Who pays, with what, and what happens when it is not enough: keys, deposits, sessions, signatures, budgets."""

import asyncio
import csv
import io
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from aitbc.client.account import signed_headers
from aitbc.hub.accounts.rates import PerMinute
from hub.market import Market, bearer, market, until
from hub.odd_engines import text_of

CHAT = "/v1/chat/completions"


def chat(prompt: str = "a tale", **more: Any) -> dict[str, Any]:
    return {"model": "tiny-lm", "messages": [{"role": "user", "content": prompt}], "seed": 1, **more}


async def post(place: Market, key: str, body: Any, path: str = CHAT, **headers: str) -> httpx2.Response:
    return await place.http.post(path, json=body, headers={"authorization": f"Bearer {key}", **headers})


async def signed(
    place: Market, who: str, method: str, target: str, body: Any = None, **changes: str
) -> httpx2.Response:
    raw = json.dumps(body).encode() if body is not None else b""
    hub = (await place.http.get("/v1/hub")).json()
    headers = signed_headers(
        place.signers[who], hub=hub, method=method, target=target, body=raw, now_ms=int(time.time() * 1000)
    )
    return await place.http.request(method, target, content=raw, headers={**headers, **changes})


def code(answer: httpx2.Response) -> tuple[int, str]:
    body = answer.json()
    return answer.status_code, body["error"]["code"] if "error" in body else body["code"]


async def account(place: Market, key: str) -> dict[str, Any]:
    return dict((await place.http.get("/v1/account", headers={"authorization": f"Bearer {key}"})).json())


def test_no_key_a_wrong_one_and_one_that_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            assert code(await place.http.post(CHAT, json=chat())) == (401, "invalid_api_key")
            assert code(await post(place, "aitk_wrong", chat())) == (401, "invalid_api_key")
            over = await place.key(expires_ms=1)
            assert code(await post(place, over, chat())) == (401, "invalid_api_key")
            good = await place.key(label="mine")
            assert (await post(place, good, chat())).status_code == 200
            keys = (await place.admin("GET", "/admin/keys")).json()["keys"]
            (key_id,) = [key["id"] for key in keys if key["label"] == "mine"]
            assert (await place.admin("DELETE", f"/admin/keys/{key_id}")).status_code == 200
            assert code(await post(place, good, chat())) == (401, "invalid_api_key")
            assert code(await place.admin("DELETE", f"/admin/keys/{key_id}")) == (404, "unknown_api_key")
            assert good not in json.dumps(keys)
            files = list(tmp_path.rglob("*sqlite*"))
            assert files and not any(good.encode() in path.read_bytes() for path in files), (
                "only its hash is kept"
            )

    asyncio.run(story())


def test_admin_routes_want_the_token_of_the_hubs_folder(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            token = (tmp_path / "hub" / "admin.token").read_text().strip()
            assert (tmp_path / "hub" / "admin.token").stat().st_mode & 0o077 == 0
            for method, path in [
                ("POST", "/admin/keys"),
                ("GET", "/admin/keys"),
                ("DELETE", "/admin/keys/x"),
                ("GET", "/admin/accounts/x"),
                ("POST", "/admin/accounts/x/credit"),
                ("GET", "/admin/usage"),
            ]:
                for shown in ({}, {"authorization": "Bearer " + token[:-1]}, {"authorization": token}):
                    answer = await place.http.request(method, path, json={}, headers=shown)
                    assert code(answer) == (403, "not_admin")
            answer = await place.http.get("/admin/keys", headers={"authorization": f"Bearer {token}"})
            assert answer.json() == {"keys": []}

    asyncio.run(story())


def test_without_money_the_answer_says_how_to_pay(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            poor = await place.key(credit=1)
            answer = await post(place, poor, chat())
            assert code(answer) == (402, "insufficient_quota")
            ways = answer.json()["error"]["terms"]["ways"]
            assert [way["way"] for way in ways] == ["deposit", "session", "lock"]
            submitted = await post(place, poor, {"kind": "chat", "request": {"prompt": "x"}}, "/v1/jobs")
            assert code(submitted) == (402, "payment_required")
            assert submitted.json()["terms"]["hub"] == place.signers["hub"].address
            assert (await account(place, poor))["free"] == 1

    asyncio.run(story())


def test_a_budget_holds_even_when_everything_comes_at_once(tmp_path: Path) -> None:
    """Each request reserves its worst case, so ten at once cannot spend more than one after the other."""

    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            one = (await post(place, await place.key(), chat(max_tokens=10))).json()["aitbc"]
            worst = (await place.quote("a tale", max_tokens=10))["price"]
            key = await place.key(budget=2 * worst)
            answers = await asyncio.gather(*[post(place, key, chat(max_tokens=10)) for _ in range(10)])
            done = [answer.json()["aitbc"]["price"] for answer in answers if answer.status_code == 200]
            refused = [code(answer) for answer in answers if answer.status_code != 200]
            assert 2 <= len(done) <= 10 and set(refused) <= {(402, "budget_exceeded")}
            assert refused
            seen = (await account(place, key))["key"]
            assert (seen["spent"], seen["held"]) == (sum(done), 0) and sum(done) <= 2 * worst
            assert done[0] == one["price"]
            books = await place.sum_of_books()
            assert books.get("held:", 0) == 0

    asyncio.run(story())


def test_requests_tokens_and_models_of_a_key_are_limited(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            key = await place.key(rpm=2)
            codes = [(await post(place, key, chat())).status_code for _ in range(3)]
            assert codes == [200, 200, 429]
            place.hub.accounts._rates = PerMinute(lambda: 0.0)
            few = await place.key(tpm=50)
            first, second = (
                await post(place, few, chat(max_tokens=30)),
                await post(place, few, chat(max_tokens=30)),
            )
            assert first.status_code == 200
            assert second.status_code == 200, "what the first did not use was given back"
            assert code(await post(place, few, chat(max_tokens=30))) == (429, "rate_limit_exceeded")
            other = await place.key(models=["tiny-diffusion"])
            assert code(await post(place, other, chat())) == (403, "model_not_allowed")

    asyncio.run(story())


def test_a_deposit_counts_once_and_for_its_sender(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            hub, alice = place.signers["hub"].address, place.signers["alice"].address
            tx = await asyncio.to_thread(
                place.node.send, "alice", "TRANSFER", {"to": hub, "amount": 5_000_000}
            )
            body = {"tx": tx}
            assert code(await signed(place, "bob", "POST", "/v1/account/deposits", body)) == (
                409,
                "deposit_mismatch",
            )
            first = await signed(place, "alice", "POST", "/v1/account/deposits", body)
            again = await signed(place, "alice", "POST", "/v1/account/deposits", body)
            assert [first.json()["new"], again.json()["new"]] == [True, False]
            elsewhere = await asyncio.to_thread(
                place.node.send, "alice", "TRANSFER", {"to": place.signers["bob"].address, "amount": 5}
            )
            answer = await signed(place, "alice", "POST", "/v1/account/deposits", {"tx": elsewhere})
            assert code(answer) == (409, "deposit_mismatch")

            spent = (await signed(place, "alice", "POST", CHAT, chat())).json()["aitbc"]
            assert spent["receipt"]["core"]["client_addr"] == hub, "the hub's own lock pays the provider"
            left = (await signed(place, "alice", "GET", "/v1/account")).json()
            assert (left["account"], left["free"], left["held"]) == (alice, 5_000_000 - spent["price"], 0)
            books = await place.sum_of_books()
            assert (books["chain:"], books["income:"]) == (-5_000_000, spent["price"])

    asyncio.run(story())


def session_terms(place: Market, **changes: Any) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    return {
        "hub": place.signers["hub"].address,
        "job_id": "my-session",
        "amount": 3_000_000,
        "request_hash": "sha256:" + "0" * 64,
        "deliver_by_ms": now_ms + 600_000,
        "claim_until_ms": now_ms + 900_000,
        "tasks": 3,
        "session": True,
        **changes,
    }


def test_a_clients_own_session_pays_its_jobs_and_nobody_elses(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            alice = place.signers["alice"].address
            lock = await asyncio.to_thread(place.node.send, "alice", "JOB_LOCK", session_terms(place))
            answer = await signed(place, "alice", "POST", "/v1/account/deposits", {"tx": lock})
            assert answer.json() == {"tx": lock, "amount": 3_000_000, "new": True}
            assert not (await signed(place, "alice", "POST", "/v1/account/deposits", {"tx": lock})).json()[
                "new"
            ]
            paid = []
            for place_in_lock in range(3):
                proof = (await signed(place, "alice", "POST", CHAT, chat(max_tokens=10))).json()["aitbc"]
                core = proof["receipt"]["core"]
                assert (core["lock"], core.get("task", 0), core["client_addr"]) == (
                    lock,
                    place_in_lock,
                    alice,
                )
                paid.append(proof)
            full = await signed(place, "alice", "POST", CHAT, chat(max_tokens=10))
            assert code(full) == (402, "insufficient_quota"), "three places, three jobs"
            for proof in paid:
                await until(partial(place.node.minted_for, proof["receipt_id"]))
            chain = place.node.executor.state.get("locks", lock)
            assert (chain.paid, chain.status) == (sum([proof["price"] for proof in paid]), "settled")
            books = await place.sum_of_books()
            assert books[f"free:{lock}"] == 3_000_000 - chain.paid
            assert books["escrow:"] == chain.paid - 3_000_000

    asyncio.run(story())


@pytest.mark.parametrize(
    "changes",
    [{"session": False, "tasks": 1}, {"claim_until_ms": 0}],
    ids=["no session", "no time to claim"],
)
def test_a_lock_that_cannot_pay_many_jobs_is_no_deposit(tmp_path: Path, changes: dict[str, Any]) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            terms = session_terms(place, **changes)
            if not terms["claim_until_ms"]:
                terms["claim_until_ms"] = terms["deliver_by_ms"] + 1
            if not terms["session"]:
                del terms["session"], terms["tasks"]  # a field at its default is left out
            lock = await asyncio.to_thread(place.node.send, "alice", "JOB_LOCK", terms)
            answer = await signed(place, "alice", "POST", "/v1/account/deposits", {"tx": lock})
            assert code(answer) == (409, "deposit_mismatch")

    asyncio.run(story())


def test_a_session_does_not_pay_a_quote(tmp_path: Path) -> None:
    """Else its first place could be spent twice."""

    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            quote = await place.quote()
            answer = await place.start(quote, await place.lock(quote, session=True, tasks=2))
            assert code(answer) == (409, "lock_mismatch")

    asyncio.run(story())


def test_a_signed_request_is_good_once_here_and_now(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            hub = (await place.http.get("/v1/hub")).json()
            now_ms = int(time.time() * 1000)

            def headers(
                who: str = "alice", target: str = "/v1/account", at_ms: int = now_ms, **of_hub: Any
            ) -> Any:
                return signed_headers(
                    place.signers[who],
                    hub={**hub, **of_hub},
                    method="GET",
                    target=target,
                    body=b"",
                    now_ms=at_ms,
                )

            good = headers()
            assert (await place.http.get("/v1/account", headers=good)).status_code == 200
            assert code(await place.http.get("/v1/account", headers=good)) == (409, "replayed")
            bob = place.signers["bob"].address
            for wrong in [
                headers(at_ms=now_ms - 120_000),
                headers(at_ms=now_ms + 120_000),
                headers(target="/v1/usage"),
                headers(address=bob),
                headers(genesis_hash="00" * 32),
                {**headers(), "aitbc-address": bob},
                {**headers(), "aitbc-nonce": "ab" * 32},
                {**headers(), "aitbc-nonce": "short"},
                {**headers(), "aitbc-pubkey": "no key"},
                {**headers(), "aitbc-signature": "00" * 64},
                {**headers(), "aitbc-timestamp": "soon"},
            ]:
                assert code(await place.http.get("/v1/account", headers=wrong)) == (
                    401,
                    "bad_request_signature",
                )

    asyncio.run(story())


def test_a_replay_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            hub = (await place.http.get("/v1/hub")).json()
            used = signed_headers(
                place.signers["alice"],
                hub=hub,
                method="GET",
                target="/v1/account",
                body=b"",
                now_ms=int(time.time() * 1000),
            )
            assert (await place.http.get("/v1/account", headers=used)).status_code == 200
            await place.close_hub()
            await place.open_hub()
            assert code(await place.http.get("/v1/account", headers=used)) == (409, "replayed")

    asyncio.run(story())


def test_the_same_idempotency_key_is_the_same_job(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            key = await place.key()
            same = {"idempotency-key": "order-1"}
            both = await asyncio.gather(post(place, key, chat(), **same), post(place, key, chat(), **same))
            later = await post(place, key, chat(), **same)
            assert {answer.status_code for answer in (*both, later)} == {200}
            assert len({answer.json()["aitbc"]["receipt_id"] for answer in (*both, later)}) == 1
            assert code(await post(place, key, chat("another"), **same)) == (409, "idempotency_mismatch")
            stranger = await place.key()
            assert (await post(place, stranger, chat("another"), **same)).status_code == 200
            stream = await post(place, key, chat(stream=True), **{"idempotency-key": "order-2"})
            assert "[DONE]" in stream.text
            assert place.providers[0].worker.jobs_done == 3
            assert len(await rows(place, key)) == 2

    asyncio.run(story())


async def rows(place: Market, key: str) -> list[dict[str, Any]]:
    answer = await place.http.get("/v1/usage", headers={"authorization": f"Bearer {key}"})
    return list(answer.json()["rows"])


def test_usage_as_json_and_csv(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            key, other = await place.key(), await place.key()
            for prompt in ("one", "two"):
                await post(place, key, chat(prompt))
            await post(place, other, chat())
            own = await rows(place, key)
            assert [(row["route"], row["kind"], row["state"]) for row in own] == [
                (CHAT, "chat", "complete")
            ] * 2
            assert own[0]["receipt_id"].startswith("rcpt_") and own[0]["price"] > 0
            headers = {"authorization": f"Bearer {key}"}
            table = await place.http.get(f"/v1/usage?format=csv&from_ms={own[1]['at_ms']}", headers=headers)
            assert table.headers["content-type"].startswith("text/csv")
            (row,) = csv.DictReader(io.StringIO(table.text))
            assert row["job_id"] == own[1]["job_id"] and int(row["price"]) == own[1]["price"]
            assert len((await place.admin("GET", "/admin/usage")).json()["rows"]) == 3
            assert code(await place.http.get("/v1/usage?from_ms=x", headers=headers)) == (400, "bad_request")

    asyncio.run(story())


def test_a_job_of_an_account_can_be_submitted_followed_and_fetched(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            key = await place.key()
            headers = {"authorization": f"Bearer {key}"}
            submitted = await post(
                place, key, {"kind": "chat", "request": {"prompt": "hi", "seed": 4}}, "/v1/jobs"
            )
            assert submitted.status_code == 202
            path = f"/v1/jobs/{submitted.json()['job_id']}"
            events = (await place.http.get(path + "/events", headers=headers)).text
            assert '"delivered"' in events
            result = (await place.http.get(path + "/result", headers=headers)).json()
            assert result["details"]["output_hash"] == result["core"]["output_hash"]
            assert text_of({"prompt": "hi", "seed": 4}).encode()
            stranger = {"authorization": f"Bearer {await place.key()}"}
            assert code(await place.http.get(path, headers=stranger)) == (401, "bad_token")
            locked = await place.begin()
            mine = await place.http.get(f"/v1/jobs/{locked['job_id']}", headers=headers)
            assert code(mine) == (401, "bad_token"), "a job with a lock of its own belongs to its token"

    asyncio.run(story())


def test_why_a_job_waits(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            provider = await place.add_provider()
            busy = await place.begin("crawl " * 30)
            await place.until_state(busy, "running")
            first, second = await place.begin("a tale"), await place.begin("a tale")

            async def why(quote: dict[str, Any]) -> tuple[str, int]:
                answer = await place.http.get(f"/v1/jobs/{quote['job_id']}/why", headers=bearer(quote))
                return answer.json()["reason"], answer.json()["ahead"]

            assert [await why(quote) for quote in (busy, first, second)] == [
                ("not_waiting", 0),
                ("all_busy", 0),
                ("all_busy", 1),
            ]
            await place.drop(provider)
            await place.until_state(busy, "queued")
            assert await why(second) == ("no_provider", 2), (
                "what was begun goes back to its place before them"
            )

    asyncio.run(story())


def test_a_hub_that_was_killed_settles_what_it_left(tmp_path: Path) -> None:
    """Holds of jobs that never began, that ended while nobody looked, and that go on."""

    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            key = await place.key()
            assert (await post(place, key, chat())).status_code == 200
            accounts = place.hub.accounts
            settle = accounts._settle

            async def dies(*_: Any, **__: Any) -> None:
                raise RuntimeError("killed before it could write")

            accounts._settle = dies
            answer = await post(place, key, chat("ended unseen"))
            assert answer.status_code == 200
            running = await post(place, key, {"kind": "chat", "request": {"prompt": "crawl on"}}, "/v1/jobs")
            assert running.status_code == 202
            accounts._settle = settle
            assert (await account(place, key))["held"] > 0
            place.hub.jobs._hub = place.hub
            await place.close_hub()
            for provider in place.providers:
                await provider.stop()
            place.providers.clear()
            await place.open_hub()
            await place.add_provider()
            await until(lambda: not place.hub.jobs.under_way, within=15)
            await until(lambda: not place.hub.accounts._settling)
            seen = await rows(place, key)
            assert [row["state"] for row in seen] == ["complete"] * 3
            assert (await account(place, key))["held"] == 0
            books = await place.sum_of_books()
            assert books["income:"] == sum([row["price"] for row in seen])

    asyncio.run(story())


def test_the_hubs_session_comes_back_when_it_is_over(tmp_path: Path) -> None:
    async def story() -> None:
        options = {"session_s": 2, "session_claim_s": 1, "deliver_s": 1, "claim_s": 1}
        async with market(tmp_path, **options) as place:
            await place.add_provider()
            before = place.balance("hub")
            price = (await post(place, await place.key(), chat())).json()["aitbc"]["price"]
            (session,) = place.hub.accounts.store.sessions("")
            place.node.ahead_ms = 60_000
            place.hub.now_ms = lambda: session.claim_until_ms + 1_000
            await place.hub.accounts.keeper._close_those_over()
            assert place.node.executor.state.get("locks", session.lock).status == "refunded"
            assert before - place.balance("hub") <= price + 1_000, "the price and fees"
            assert session.lock not in [open_.lock for open_ in place.hub.accounts.store.sessions("")]

    asyncio.run(story())


def test_a_hub_without_money_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            everything = {"to": place.signers["bob"].address, "amount": place.balance("hub") - 1_000_500}
            await asyncio.to_thread(place.node.send, "hub", "TRANSFER", everything)
            place.hub.sender.doubt()
            assert code(await post(place, await place.key(), chat())) == (503, "no_session")

    asyncio.run(story())
