"""The hub carries receipts to the chain through a node that forgets to answer, lies about fees or is too late."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aitbc.client.errors import ApiError, ClientError, Unreachable
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.transactions import Transaction
from aitbc.hub.store import JobStore
from hub.market import LedgerNode, Market, MemoryChain, market, transaction_hash, until

FULL, NORMAL = 2, 1
"""What `PRAGMA synchronous` answers."""


def claims_on_chain(place: Market) -> list[dict[str, Any]]:
    views = [place.node.transaction(tx, proof=False) for tx in place.node.places]
    return [view for view in views if view["tx"]["type"] == "RECEIPT_CLAIM"]


class OddNode(MemoryChain):
    """Answers the first claims with an error, each time before or after it has taken them."""

    def __init__(self, node: LedgerNode, error: ClientError, *, takes: bool, times: int) -> None:
        super().__init__(node)
        self.error = error
        self.takes = takes
        self.times = times
        self.before_sending: Callable[[Transaction], Any] = lambda _tx: None

    async def send(self, tx: Transaction) -> str:
        await asyncio.to_thread(self.before_sending, tx)
        odd, self.times = self.times > 0, self.times - 1
        if odd and not self.takes:
            raise self.error
        tx_id = await super().send(tx)
        if odd:
            raise self.error
        return tx_id


LOST = Unreachable("http://memory", "start it", "the answer was lost")
GARBLED = ApiError("bad_answer", "no JSON", "", 200)
KNOWN = ApiError("already_known", "the transaction waits in the mempool already", "", 409)
FULL_POOL = ApiError("mempool_full", "no place", "", 503)


@pytest.mark.parametrize(
    ("error", "takes"),
    [(LOST, True), (GARBLED, True), (KNOWN, True), (LOST, False), (FULL_POOL, False)],
    ids=["taken, answer lost", "taken, answer garbled", "known already", "never arrived", "refused"],
)
def test_whatever_the_node_answers_one_claim_is_made_and_paid_for(
    tmp_path: Path, error: ClientError, takes: bool
) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            place.hub.chain = OddNode(place.node, error, takes=takes, times=1)
            paid = []
            for prompt in ("one tale", "and another"):
                status = await place.until_state(await place.begin(prompt), "settled")
                paid.append(("final", status["claim_tx"]))
            assert [(claim["status"], claim["txHash"]) for claim in claims_on_chain(place)] == paid

    asyncio.run(story())


def test_a_claim_is_written_down_before_it_is_sent(tmp_path: Path) -> None:
    """So that a hub which is killed in the moment of sending looks for it instead of making another."""
    known: list[tuple[str, str]] = []

    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()

            def look(tx: Transaction) -> None:
                (entry,) = place.hub.store.open_receipts()
                known.append((entry.claim_tx, transaction_hash(tx, place.node.genesis_hash)))

            place.hub.chain = OddNode(place.node, LOST, takes=True, times=0)
            place.hub.chain.before_sending = look
            await place.until_state(await place.begin(), "settled")

    asyncio.run(story())
    ((on_disk, sent),) = known
    assert on_disk == sent


@pytest.mark.parametrize("asked", [100_001, 10**18, -1])
def test_a_node_that_lies_about_the_fee_gets_nothing_signed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, asked: int
) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            honest = place.chain.estimate_fee
            place.chain.estimate_fee = lying(asked)  # type: ignore[method-assign]
            quote = await place.begin()
            limit = ", more than 0.1 AIT" if asked > 0 else ""
            words = f"a fee of {format_ait(asked)} for a RECEIPT_CLAIM{limit}; nothing was signed"
            await until(lambda: caplog.text.count(words) >= 2)
            assert claims_on_chain(place) == []
            assert (await place.status(quote))["claim_tx"] == ""
            place.chain.estimate_fee = honest  # type: ignore[method-assign]
            await place.until_state(quote, "settled")

    with caplog.at_level(logging.WARNING, "aitbc.hub"):
        asyncio.run(story())
    named = {100_001: "0.100001 AIT", 10**18: "1,000,000,000,000 AIT", -1: "-0.000001 AIT"}[asked]
    assert f"a fee of {named} for a RECEIPT_CLAIM" in caplog.text


def test_the_highest_fee_that_is_signed(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            place.chain.estimate_fee = lying(100_000)  # type: ignore[method-assign]
            await place.until_state(await place.begin(), "settled")
            (claim,) = claims_on_chain(place)
            assert claim["tx"]["fee"] == 100_000

    asyncio.run(story())


def lying(fee: int) -> Any:
    async def estimate_fee(_type: str, _payload: Any) -> int:
        return fee

    return estimate_fee


def test_a_claim_that_is_too_late_lapses_at_once_and_says_why(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            place.node.hold = lambda tx: tx.type == "RECEIPT_CLAIM"
            quote = await place.begin()
            await until(lambda: place.node._held)
            place.node.ahead_ms = 10 * 60 * 1000
            await asyncio.to_thread(place.node.release)
            status = await place.until_state(quote, "expired", within=3)
            assert status["reason"] == "claim_lapsed"
            assert status["message"].startswith("claim_too_late: claims counted until block time")
            (claim,) = claims_on_chain(place)
            assert claim["status"] == "failed", "and its fee was the last one"

    asyncio.run(story())


def test_an_attestation_is_on_the_disk_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A debt survives a power cut; other states need not, so they do not wait for the disk."""
    synced: dict[str, int] = {}
    tell = JobStore._tell

    def noted(store: JobStore, session: Any, stories: Any) -> None:
        for _, _, event in stories:
            synced[event["state"]] = session.rows("PRAGMA synchronous")[0][0]
        tell(store, session, stories)

    monkeypatch.setattr(JobStore, "_tell", noted)

    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider()
            await place.until_state(await place.begin(), "settled")

    asyncio.run(story())
    assert synced.pop("running") in (NORMAL, FULL), "on a busy machine it shares the delivery's transaction"
    assert synced == {
        "quoted": NORMAL,
        "reserved": NORMAL,
        "queued": NORMAL,
        "leased": NORMAL,
        "delivered": FULL,
        "settled": NORMAL,
    }
