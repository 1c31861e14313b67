"""A receipt file holds only when every byte of it does: each field is changed, and some check must say so."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.client.jobs import BUNDLE_VERSION
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.verify import Check, holds, verify_bundle
from aitbc.core.codec.digests import candidate_id, header_hash, vote_digest
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import certificate_to_plain, header_from_plain, header_to_plain
from aitbc.core.types.blocks import Candidate, Certificate
from support.fields import at, changed, containers, places
from support.small_network import PIXELS, SmallNetwork, make_result, small_network

Json = dict[str, Any]


@pytest.fixture(scope="module")
def network() -> Iterator[SmallNetwork]:
    with small_network() as running:
        yield running


@pytest.fixture(scope="module")
def bundle(network: SmallNetwork) -> Json:
    """A receipt of real work, claimed in a final block."""
    node, hub = network.node, network.hub
    alice = node.signers["alice"]
    quote = hub._quote({"client": alice.address, "kind": "image", "request": {"prompt": "a red circle"}})
    lock = node.send("alice", "JOB_LOCK", quote["lock"])
    result = make_result(node, quote, lock)
    claim = {**result["core"], "receipt_id": result["receipt_id"], "miner_sig": result["provider_sig"]}
    witness = {"attestation": result["attestation"], "sig": result["attestation_sig"]}
    tx_id = node.send("hub", "RECEIPT_CLAIM", claim, witness=witness)
    with NodeClient(network.rpc_url) as client:
        answer = client.transaction(tx_id, proof=True)
        genesis = client.genesis()
    for other in ("job_id", "media_type", "data_base64", "claim_tx"):
        del result[other]
    return {
        "version": BUNDLE_VERSION,
        "genesis": genesis,
        **result,
        "output_file": "out.png",
        "claim": {"tx": answer["tx"], "outcome": answer["receipt"], **answer["proof"]},
    }


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


def test_an_honest_receipt_holds(bundle: Json, network: SmallNetwork) -> None:
    checks = verify_bundle(bundle, output_bytes=PIXELS, trusted_genesis_hash=network.node.genesis_hash)
    assert failed(checks) == []
    assert [check.name for check in checks] == [
        "form", "genesis", "receipt_id", "details", "provider", "attestation", "hub", "output",
        "claim", "claim_signature", "transaction_proof", "outcome_proof", "outcome", "certificate",
    ]  # fmt: skip
    assert [check.message for check in checks if check.name == "outcome"] == [
        "0.5 AIT paid from escrow, 2.1 AIT minted"
    ]


def test_it_holds_after_a_trip_through_a_file(bundle: Json) -> None:
    assert holds(verify_bundle(json.loads(json.dumps(bundle)), output_bytes=PIXELS))


def test_what_was_not_checked_is_said(bundle: Json) -> None:
    checks = verify_bundle({**bundle, "genesis": {**bundle["genesis"], "chain_id": "elsewhere"}})
    notes = {check.name: check.message for check in checks if check.warning}
    assert notes["output"].startswith("not checked")
    assert notes["genesis"].startswith("self-declared")
    assert [check.message for check in verify_bundle(bundle) if check.name == "genesis"] == [
        "chain ait-devnet: the built-in devnet; its keys are public, so anybody could have made this receipt"
    ]


def test_another_pinned_genesis_is_a_failure(bundle: Json) -> None:
    assert failed(verify_bundle(bundle, output_bytes=PIXELS, trusted_genesis_hash="00" * 32)) == ["genesis"]


def test_another_output_is_a_failure(bundle: Json) -> None:
    assert failed(verify_bundle(bundle, output_bytes=PIXELS + b"!")) == ["output"]


def test_a_receipt_that_nobody_has_claimed_does_not_hold(bundle: Json) -> None:
    unclaimed = {key: value for key, value in bundle.items() if key != "claim"}
    assert failed(verify_bundle(unclaimed, output_bytes=PIXELS)) == ["claim"]


# Every field


def test_every_changed_field_fails_a_check(bundle: Json) -> None:
    """Only `output_file`, which is a name for people, may be anything."""
    survivors = []
    for path in places(bundle):
        for value in changed(at(bundle, path)):
            mutant = copy.deepcopy(bundle)
            at(mutant, path[:-1])[path[-1]] = value
            if mutant != bundle and holds(verify_bundle(mutant, output_bytes=PIXELS)):
                survivors.append((path, value))
    assert {path for path, _ in survivors} <= {("output_file",)}, survivors


def test_every_removed_or_added_field_fails_a_check(bundle: Json) -> None:
    survivors = []
    for path in containers(bundle):
        target = at(bundle, path)
        for key in list(target) if isinstance(target, dict) else range(len(target)):
            mutant = copy.deepcopy(bundle)
            del at(mutant, path)[key]
            if holds(verify_bundle(mutant, output_bytes=PIXELS)):
                survivors.append(("removed", *path, key))
        mutant = copy.deepcopy(bundle)
        if isinstance(target, dict):
            at(mutant, path)["unheard_of"] = 1
        else:
            at(mutant, path).append(target[0] if target else "x")
        if holds(verify_bundle(mutant, output_bytes=PIXELS)):
            survivors.append(("added", *path))
    assert survivors == [("removed", "output_file")]


# Whole lies, each by someone with a key


def test_a_hub_that_genesis_does_not_list(bundle: Json, network: SmallNetwork) -> None:
    """The provider attests its own work."""
    mallory = network.node.signers["provider"]
    attestation = {**bundle["attestation"], "hub": mallory.address}
    lie = {**bundle, "attestation": attestation, "hub_pubkey": key_to_text(mallory.auth_key)}
    assert set(failed(verify_bundle(lie, output_bytes=PIXELS))) == {"details", "hub", "claim"}


def test_a_block_that_nobody_of_the_authorities_signed(bundle: Json, network: SmallNetwork) -> None:
    """A stranger makes a block with the claim in it and signs it as if he were the validator."""
    lie = copy.deepcopy(bundle)
    certify(lie, network.node.signers["bob"], network.node.genesis_hash, stateRoot="77" * 32)
    assert failed(verify_bundle(lie, output_bytes=PIXELS)) == ["certificate"]


def test_the_authority_could_have_signed_it(bundle: Json, network: SmallNetwork) -> None:
    """The same with the validator's key holds: the test above fails for the key and for nothing else."""
    other = copy.deepcopy(bundle)
    certify(other, network.node.signers["validator"], network.node.genesis_hash, stateRoot="77" * 32)
    assert failed(verify_bundle(other, output_bytes=PIXELS)) == []


def test_votes_for_notarisation_are_no_finality(bundle: Json, network: SmallNetwork) -> None:
    lie = copy.deepcopy(bundle)
    certify(lie, network.node.signers["validator"], network.node.genesis_hash, kind="notar")
    assert failed(verify_bundle(lie, output_bytes=PIXELS)) == ["certificate"]


def test_the_proof_of_another_transaction(bundle: Json, network: SmallNetwork) -> None:
    """Outcome and proof of the lock's block, with the claim of this receipt."""
    lock = bundle["core"]["lock"]
    with NodeClient(network.rpc_url) as client:
        other = client.transaction(lock, proof=True)
    lie = {**bundle, "claim": {**bundle["claim"], "outcome": other["receipt"], **other["proof"]}}
    assert failed(verify_bundle(lie, output_bytes=PIXELS)) == ["transaction_proof", "outcome_proof"]


def certify(
    bundle: Json, signer: KeySigner, genesis_hash: bytes, *, kind: str = "final", **header_fields: Any
) -> None:
    """Change the claim's header and certify it again."""
    claim = bundle["claim"]
    header = header_from_plain({**claim["header"], **header_fields})
    block_hash = header_hash(header)
    candidate = Candidate(0, header.height, header.height - 1, bytes(32), block_hash)
    digest = vote_digest(
        kind=kind,
        epoch=candidate.epoch,
        slot=candidate.slot,
        candidate=candidate_id(candidate, header.chain_id, genesis_hash),
        chain_id=header.chain_id,
        genesis_hash=genesis_hash,
    )
    claim["header"] = header_to_plain(header, block_hash)
    claim["certificate"] = certificate_to_plain(Certificate(kind, candidate, 1, [signer.sign(digest)]))


# Garbage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values | st.binary() | st.sets(st.integers()) | st.just(object()) | st.just({1: 2}))
def test_garbage_is_a_failed_check(garbage: Any) -> None:
    assert failed(verify_bundle(garbage)) == ["form"]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), value=json_values)
def test_garbage_anywhere_is_a_failed_check(bundle: Json, data: st.DataObject, value: Any) -> None:
    path = data.draw(st.sampled_from([path for path in containers(bundle) if path] + list(places(bundle))))
    mutant = copy.deepcopy(bundle)
    at(mutant, path[:-1])[path[-1]] = value
    if mutant != bundle and path != ("output_file",):
        assert not holds(verify_bundle(mutant, output_bytes=PIXELS))


def test_deep_nesting_is_a_failed_check() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}
    assert failed(verify_bundle(deep)) == ["form"]
