"""Receipt files of chains whose validators and keys are not those of genesis any more."""

import copy
from typing import Any

import pytest

from aitbc.client.claims import with_finality
from aitbc.client.errors import ApiError
from aitbc.client.finality import read_certificate
from aitbc.client.jobs import finality_from_genesis
from aitbc.client.verify import NOT_PROVED, Check, holds, verify_bundle
from aitbc.core.codec.digests import header_hash, validators_hash
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import certificate_to_plain, header_from_plain, header_to_plain
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.blocks import Candidate, Validator
from support.fields import at, changed, containers, places
from support.ledger import Holder, Signer, people
from support.paid_work import paid_work
from support.people import BOB, HUB, PROVIDER, person
from support.small_network import PIXELS
from support.voters import Teller, VotedLedger

Json = dict[str, Any]
ANN, BEN, CAT, DAN = MEMBERS = people("member", 4)
EPOCH = 6


def chain_of_two_sets() -> VotedLedger:
    """Ann, Ben and Cat decide epoch 0; Ann, Ben and Dan all others."""
    chain = VotedLedger(
        voters=MEMBERS, authorities=(ANN, BEN, CAT), more=[*MEMBERS, PROVIDER], epoch_length=EPOCH
    )
    chain.register(PROVIDER)
    named = [{"address": who.address, "pubkey": key_to_text(who.auth_key)} for who in (ANN, BEN, DAN)]
    assert chain.change((ANN, BEN, CAT), authorities=named) == "done"
    chain.go_to(3 * EPOCH)
    return chain


def with_proof(chain: VotedLedger, bundle: Json, height: int) -> Json:
    """What `aitbc image`, `chat` and `claim` write."""
    node: Any = Teller(chain)
    return {**bundle, "claim": {**bundle["claim"], **finality_from_genesis(node, bundle["genesis"], height)}}


def without_epochs(bundle: Json) -> Json:
    return {**bundle, "claim": {**bundle["claim"], "epochs": []}}


@pytest.fixture(scope="module")
def voted() -> tuple[VotedLedger, Json]:
    chain = chain_of_two_sets()
    bundle = paid_work(chain, PROVIDER, certified=False)
    height = chain.height
    chain.block()
    chain.go_to(5 * EPOCH)
    return chain, with_proof(chain, bundle, height)


def check(bundle: Any, chain: VotedLedger) -> list[Check]:
    return verify_bundle(bundle, output_bytes=PIXELS, trusted_genesis_hash=chain.genesis_hash)


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


def notes(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.message for check in checks if check.warning}


# Another set


def test_a_file_carries_the_way_from_genesis_to_the_claims_block(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    checks = check(bundle, chain)
    assert (failed(checks), notes(checks)) == ([], {})
    assert checks[-1].message == "block 20 is final through block 21: signed by 3 of 3 validators"
    assert [answer["headers"][0]["height"] for answer in bundle["claim"]["epochs"]] == [EPOCH]


def test_without_the_way_it_does_not_hold_and_says_what_is_missing(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    checks = check(without_epochs(bundle), chain)
    assert failed(checks) == ["certificate"]
    assert checks[-1].message.startswith(
        f"{NOT_PROVED}: block 20 is final through block 21: signed by 3 of 3"
    )
    assert "--rpc URL" in checks[-1].message


def test_a_node_completes_the_file(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    node: Any = Teller(chain)
    assert with_finality(node, without_epochs(bundle)) == bundle


def test_a_lying_node_completes_nothing(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted

    def forget(_path: str, answer: Json) -> Json:
        answer["certificate"]["signatures"].pop()
        return answer

    node: Any = Teller(chain, forget)
    with pytest.raises(ApiError, match="do not match in number") as caught:
        with_finality(node, without_epochs(bundle))
    assert caught.value.code == "proof_missing"


def test_a_set_that_only_the_file_names_proves_nothing(voted: tuple[VotedLedger, Json]) -> None:
    """Strangers sign a block of their own, and everything in the file fits together."""
    chain, bundle = voted
    lie = without_epochs(copy.deepcopy(bundle))
    strangers = [Validator(DAN.address, DAN.auth_key, 1)]
    certify(chain, lie, strangers, stateRoot="77" * 32, nextValidatorsHash=validators_hash(strangers).hex())
    checks = check(lie, chain)
    assert failed(checks) == ["certificate"]
    assert checks[-1].message.startswith(NOT_PROVED)
    lie["claim"]["epochs"] = bundle["claim"]["epochs"]
    assert "how they followed those of epoch 1" in check(lie, chain)[-1].message


def test_the_set_of_genesis_is_not_believed_in_an_epoch_that_it_does_not_decide(
    voted: tuple[VotedLedger, Json],
) -> None:
    chain, bundle = voted
    lie = without_epochs(copy.deepcopy(bundle))
    certify(chain, lie, [Validator(who.address, who.auth_key, 1) for who in (ANN, BEN, CAT)])
    assert "names another validator set" in check(lie, chain)[-1].message


def test_the_claims_header_is_the_one_that_is_final(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    lie = copy.deepcopy(bundle)
    changed_header = header_from_plain(lie["claim"]["header"] | {"stateRoot": "77" * 32})
    lie["claim"]["header"] = header_to_plain(changed_header, header_hash(changed_header))
    assert failed(check(lie, chain)) == ["certificate"]


def test_a_claim_has_one_way_of_being_final(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    both = copy.deepcopy(bundle)
    both["claim"]["certificate"] = both["claim"]["finality"]["certificate"]
    assert failed(check(both, chain)) == ["form"]
    neither = copy.deepcopy(bundle)
    del neither["claim"]["finality"]
    assert failed(check(neither, chain)) == ["form"]


def test_every_changed_field_fails_a_check(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    survivors = set()
    for path in places(bundle):
        for value in changed(at(bundle, path)):
            mutant = copy.deepcopy(bundle)
            at(mutant, path[:-1])[path[-1]] = value
            if mutant != bundle and holds(check(mutant, chain)):
                survivors.add(path)
    assert survivors == {("output_file",)}


def test_every_removed_or_added_field_fails_a_check(voted: tuple[VotedLedger, Json]) -> None:
    chain, bundle = voted
    survivors = []
    for path in containers(bundle):
        target = at(bundle, path)
        for key in list(target) if isinstance(target, dict) else range(len(target)):
            mutant = copy.deepcopy(bundle)
            del at(mutant, path)[key]
            if holds(check(mutant, chain)):
                survivors.append(("removed", *path, key))
        mutant = copy.deepcopy(bundle)
        inner = at(mutant, path)
        inner.update(unheard_of=1) if isinstance(inner, dict) else inner.append(inner[0] if inner else "x")
        if holds(check(mutant, chain)):
            survivors.append(("added", *path))
    assert survivors == [("removed", "output_file")]


def certify(chain: VotedLedger, bundle: Json, members: list[Validator], **header_fields: Any) -> None:
    """Change the claim's header and let these members sign it as final."""
    claim = bundle["claim"]
    honest = read_certificate(claim["finality"]["certificate"]).candidate
    header = header_from_plain(claim["header"] | header_fields)
    view = header_to_plain(header, header_hash(header))
    candidate = Candidate(honest.epoch, honest.slot, 0, bytes(32), header_hash(header))
    certificate = chain.certificate(candidate, members)
    claim["header"] = view
    claim["finality"] = {
        "headers": [view],
        "certificate": certificate_to_plain(certificate),
        "validators": [
            {"address": m.address, "pubkey": key_to_text(m.auth_key), "power": m.power} for m in members
        ],
    }


# Other keys


NEW_KEY = person("another key")


def rotated(who: str) -> tuple[VotedLedger, Json]:
    """Work that was paid after one of those who signed it had rotated its key."""
    chain = chain_of_two_sets()
    people: dict[str, Signer] = {"provider": PROVIDER, "hub": HUB, "sender": BOB}
    people[who] = chain.rotate(people[who], NEW_KEY)
    bundle = paid_work(chain, people["provider"], hub=people["hub"], sender=people["sender"])
    return chain, with_proof(chain, bundle, chain.height)


@pytest.mark.parametrize(
    ("who", "name"), [("provider", "provider"), ("hub", "hub"), ("sender", "claim_signature")]
)
def test_a_rotated_key_is_a_note_once_the_claim_is_final(who: str, name: str) -> None:
    chain, bundle = rotated(who)
    checks = check(bundle, chain)
    assert failed(checks) == []
    assert list(notes(checks)) == [name]
    assert f"with a key that is not its first: block {chain.height} vouches for it" in notes(checks)[name]


@pytest.mark.parametrize("who", ["provider", "hub"])
def test_a_rotated_key_proves_nothing_as_long_as_the_claim_is_not_final(who: str) -> None:
    chain, bundle = rotated(who)
    unclaimed = {name: value for name, value in bundle.items() if name != "claim"}
    assert failed(check(unclaimed, chain)) == [who, "claim"]
    assert failed(check(without_epochs(bundle), chain)) == [who, "certificate"]


def test_nobody_elses_signature_passes_for_a_rotated_keys() -> None:
    """A stranger signs the receipt again and names his own key: the claim carries another signature."""
    chain, bundle = rotated("provider")
    lie = {**bundle, "provider_pubkey": key_to_text(DAN.auth_key)}
    assert failed(check(lie, chain)) == ["provider"], "the signature of the claim is not good under it"
    assert "provider_sig is not" in {check.name: check.message for check in check(lie, chain)}["provider"]


def test_under_version_1_no_key_changes() -> None:
    """Even a quorum's word does not turn a stranger's key into the provider's."""
    chain, bundle = rotated("provider")
    lie = copy.deepcopy(bundle)
    certify(chain, lie, validators_of(chain.executor.state), version=1)
    assert failed(check(lie, chain)) == ["provider"]
    certify(chain, lie, validators_of(chain.executor.state), version=2)
    assert failed(check(lie, chain)) == [], "for nothing but the version"


def test_a_hub_that_registered_after_genesis_is_the_chains_word() -> None:
    chain = chain_of_two_sets()
    late: Holder | Any = DAN
    assert chain.do(late, "REGISTER", {"role": "hub", "models": [], "endpoint": "https://late"}).ok
    bundle = with_proof(chain, paid_work(chain, PROVIDER, hub=late), chain.height)
    checks = check(bundle, chain)
    assert failed(checks) == []
    assert "not listed in genesis" in notes(checks)["hub"]
    assert failed(check(without_epochs(bundle), chain)) == ["hub", "certificate"]
