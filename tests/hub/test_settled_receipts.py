"""A receipt that went to the chain in a batch is as good as one that was claimed: its file proves it offline."""

import asyncio
import copy
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.client.claims import find_claim
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.verify import Check, holds, verify_bundle
from aitbc.core.codec.digests import receipt_core_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.receipts import ReceiptCore
from hub.market import Market, market, served
from hub.test_hub_batches import fund
from hub.test_split_jobs import begin_split
from support.fields import at, changed, containers, places

Json = dict[str, Any]
PROMPTS = [f"tale {number}" for number in range(5)]


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


async def receipt_file(place: Market, receipt_id: str) -> Json:
    answer = await place.http.get(f"/v1/receipts/{receipt_id}?proof=1")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


class Told(threading.Thread):
    """A story with a loop of its own, for fixtures that many tests share."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.files: list[Json] = []
        self.outputs: list[bytes] = []
        self.found: Json = {}
        self.genesis_hash = b""

    def run(self) -> None:
        asyncio.run(self.story())

    async def story(self) -> None:
        async with market(self.folder, batch_least=2, batch_s=0.6) as place:
            await fund(place)
            await place.add_provider()
            split = await begin_split(place, prompts=PROMPTS)
            single = await place.begin("one more")
            for quote in (split, single):
                await place.until_state(quote, "settled", within=20)
            store = place.hub.store
            for quote in (split, single):
                for entry in store.receipts_of_job(quote["job_id"]):
                    self.files.append(await receipt_file(place, entry.receipt_id))
                    self.outputs.append(store.result_data(quote["job_id"], entry.part))
            self.genesis_hash = place.node.genesis_hash
            with served(place.node) as url:
                bare = {name: value for name, value in self.files[2].items() if name != "claim"}
                self.found = await asyncio.to_thread(self._find, url, bare)

    def _find(self, url: str, bare: Json) -> Json:
        with NodeClient(url) as node:
            return find_claim(node, bare, timeout=5)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
        teller = Told(tmp_path_factory.mktemp("market"))
        teller.start()
        teller.join()
    assert teller.found, "the story was told to its end"
    return teller


def test_every_receipt_of_a_batch_holds_offline(told: Told) -> None:
    assert len(told.files) == len(PROMPTS) + 1
    for file, output in zip(told.files, told.outputs, strict=True):
        checks = verify_bundle(file, output_bytes=output, trusted_genesis_hash=told.genesis_hash)
        assert failed(checks) == []
        assert [check.name for check in checks] == [
            "form", "genesis", "receipt_id", "details", "provider", "attestation", "hub", "output",
            "claim", "claim_signature", "transaction_proof", "outcome_proof", "outcome", "certificate",
            "batch", "batch_block",
        ]  # fmt: skip
        assert not [check for check in checks if check.warning]
    assert {file["claim"]["tx"]["type"] for file in told.files} == {"SETTLE"}


def test_whoever_has_the_receipt_finds_the_same_proof_at_a_node(told: Told) -> None:
    assert told.found == told.files[2]["claim"]


def test_another_receipt_is_not_proved_by_this_ones_leaf(told: Told) -> None:
    """Same batch, same settlement, same block; with the leaf left out, or swapped for its neighbour's."""
    first, second = told.files[0], told.files[1]
    mixed = {**first, "claim": second["claim"]}
    assert holds(verify_bundle(mixed)), "they share one settlement"
    foreign = copy.deepcopy(first)
    foreign["core"]["nonce"] = second["core"]["nonce"]
    assert "receipt_id" in failed(verify_bundle(foreign))
    assert "claim" in failed(verify_bundle({**first, "claim": _without_leaf(first["claim"])}))


def _without_leaf(claim: Json) -> Json:
    cut = copy.deepcopy(claim)
    payload = cut["tx"]["payload"]
    leaves = payload["leaves"]
    payload["leaves"] = leaves[: len(leaves) // 4]
    return cut


def test_without_its_batch_nothing_is_proved(told: Told) -> None:
    file = copy.deepcopy(told.files[0])
    del file["claim"]["batch"]
    assert failed(verify_bundle(file)) == ["batch", "batch_block"]


def test_a_provider_whose_key_does_not_make_its_address_is_not_believed(told: Told) -> None:
    """A settlement vouches for no provider's key: the chain has not looked at it."""
    thief = KeySigner(b"t" * 32)
    file = copy.deepcopy(told.files[0])
    core = ReceiptCore(**file["core"])
    file["provider_pubkey"] = key_to_text(thief.auth_key)
    file["provider_sig"] = thief.sign(receipt_core_digest(core, told.genesis_hash)).hex()
    assert failed(verify_bundle(file)) == ["provider"]


def test_every_changed_field_fails_a_check(told: Told) -> None:
    file, output = told.files[-1], told.outputs[-1]
    survivors = []
    for path in places(file):
        for value in changed(at(file, path)):
            mutant = copy.deepcopy(file)
            at(mutant, path[:-1])[path[-1]] = value
            if mutant != file and holds(verify_bundle(mutant, output_bytes=output)):
                survivors.append((path, value))
    assert {path for path, _ in survivors} <= {("output_file",)}, survivors


def test_every_removed_field_fails_a_check(told: Told) -> None:
    file = told.files[-1]
    survivors = []
    for path in containers(file):
        target = at(file, path)
        for key in list(target) if isinstance(target, dict) else range(len(target)):
            mutant = copy.deepcopy(file)
            del at(mutant, path)[key]
            if holds(verify_bundle(mutant)):
                survivors.append((*path, key))
    empty = {("claim", "epochs"), ("claim", "batch", "epochs")}  # nothing leads anywhere in the first epoch
    assert set(survivors) <= {("output_file",), *empty}, survivors


def test_what_a_provider_claimed_itself_is_proved_by_its_own_claim(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path, batch_least=2, batch_s=3) as place:
            await fund(place)
            await place.add_provider(claim_after_s=0.2)
            split = await begin_split(place, prompts=PROMPTS[:3])
            await place.until_state(split, "settled", within=25)
            for entry in place.hub.store.receipts_of_job(split["job_id"]):
                file = await receipt_file(place, entry.receipt_id)
                assert failed(verify_bundle(file)) == []
                assert file["claim"]["tx"]["type"] == "RECEIPT_CLAIM"
                assert file["claim"]["tx"]["sender"] == entry.provider

    asyncio.run(story())


def test_a_receipt_of_a_rotated_key_is_claimed_alone(tmp_path: Path) -> None:
    """Only a claim proves, to who has the file alone, whose key that was."""

    async def story() -> None:
        async with market(tmp_path, batch_least=1, batch_s=0.05) as place:
            await fund(place)
            await place.add_provider()
            quote = await place.begin("a tale")
            await place.until_state(quote, "settled", within=20)
            entry = place.hub.store.receipt_of_job(quote["job_id"])
            assert entry.batch, "an own key goes into batches"
            alone: list[str] = []
            place.hub.claims.claim_alone = lambda entry: alone.append(entry.receipt_id)
            other = key_to_text(KeySigner(b"o" * 32).auth_key)
            place.hub.claims.add(msgspec.structs.replace(entry, provider_pubkey=other, claim_tx=""))
            assert alone == [entry.receipt_id]

    asyncio.run(story())
