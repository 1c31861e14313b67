"""A light client keeps one hash and believes nobody: chains whose validators change, and a liar for every field."""

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.client.errors import ApiError
from aitbc.client.finality import (
    MAX_ANSWER_BYTES,
    FinalBlock,
    Trust,
    check_votes,
    read_certificate,
    read_finality,
    trust_genesis,
    trust_header,
)
from aitbc.client.light import AsyncLightClient, LightClient, follow
from aitbc.client.state_proofs import account_of
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import certificate_to_plain, header_from_plain, header_to_plain
from aitbc.core.consensus.simplex.certificates import check_certificate
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.blocks import Candidate, Certificate, Validator
from aitbc.core.types.reasons import Reason, Rejected
from support.ledger import Signer, people
from support.people import ALICE, BOB, EVE
from support.voters import AsyncTeller, Teller, VotedLedger

Json = dict[str, Any]
FORM = {
    Reason.MALFORMED, Reason.UNKNOWN_FIELD, Reason.FLOAT, Reason.OUT_OF_RANGE, Reason.WRONG_TYPE, Reason.MISSING_FIELD,
    Reason.NOT_CANONICAL, Reason.BAD_HEX, Reason.UNKNOWN_SCHEME, Reason.BAD_KEY,
}  # fmt: skip

ANN, BEN, CAT, DAN, FAY = MEMBERS = people("member", 5)


def authorities(*who: Signer) -> list[Json]:
    return [{"address": one.address, "pubkey": key_to_text(one.auth_key)} for one in who]


def three_of_poa(**options: Any) -> VotedLedger:
    """Ann, Ben and Cat decide; epochs have 5 blocks."""
    return VotedLedger(
        **{"voters": MEMBERS, "authorities": (ANN, BEN, CAT), "more": MEMBERS, "epoch_length": 5, **options}
    )


@pytest.fixture(scope="module")
def chain() -> VotedLedger:
    """Epochs 0, 1: Ann, Ben, Cat. 2 … 6: Ann, Ben, Dan. 7: the same, Ben with another key. 8 …: Ben, Dan, Fay."""
    chain = three_of_poa()
    chain.go_to(7)
    assert chain.change((ANN, BEN, CAT), authorities=authorities(ANN, BEN, DAN)) == "done"
    chain.go_to(31)
    chain.keys[EVE.auth_key] = EVE
    ben = chain.rotate(BEN, EVE)
    chain.go_to(36)
    assert chain.change((ANN, ben, DAN), authorities=authorities(BEN, DAN, FAY)) == "done"
    chain.go_to(43)
    return chain


def said(act: Callable[[], object]) -> str:
    """`fine`, or the reason with which it was refused; anything else that is raised is a bug."""
    try:
        act()
    except Rejected as rejected:
        return str(rejected.reason)
    return "fine"


# Honest chains


def test_from_genesis_to_the_head_over_every_change_of_the_set(chain: VotedLedger) -> None:
    light, node = LightClient(chain.trust), Teller(chain)
    block = light.follow(node, 43)
    head = chain.executor.head
    assert block == FinalBlock(head.block.header, head.hash, head.block.header, 3, 3)
    assert light.trust.epoch == 8
    way = [int(path.rsplit("/", 1)[1]) for path in node.asked]
    assert way[:5] == [43, 21, 11, 6, 10], (
        "half the way until the first set is met, in epoch 1, and its last block"
    )
    assert way[5:] == [31, 36, 35, 40], "epochs 2 to 6 have one set, Ben's new key decides 7, and others 8"


def test_every_block_is_final_to_who_follows_from_genesis(chain: VotedLedger) -> None:
    for height in range(1, 44):
        light = LightClient(chain.trust)
        assert light.follow(Teller(chain), height).hash == chain.store.head_at(height).hash  # type: ignore[union-attr]
        assert light.trust.epoch == (height - 1) // 5


def test_who_follows_block_by_block_needs_one_answer_for_each_and_one_for_each_change(
    chain: VotedLedger,
) -> None:
    light, node = LightClient(chain.trust), Teller(chain)
    for height in range(1, 44):
        light.follow(node, height)
        light.follow(node, height)
    assert len(node.asked) == 2 * 43 + 3, "three of the seven boundaries have another set behind them"


def test_a_client_goes_on_where_it_stopped(chain: VotedLedger) -> None:
    light = LightClient(chain.trust)
    light.follow(Teller(chain), 23)
    later = LightClient(light.trust)
    node = Teller(chain)
    assert later.follow(node, 24).header.height == 24
    assert node.asked == ["/rpc/finality/24"]


def test_from_a_header_whose_hash_is_known(chain: VotedLedger) -> None:
    """Any header: it names who decides the next block. The last of an epoch names the next epoch's."""
    name = chain.trust.chain
    for height in (0, 4, 5, 9, 10, 33, 35, 39, 40, 42):
        known = chain.store.head_at(height)
        assert known is not None
        view = header_to_plain(known.header, known.hash)
        trust = trust_header(view, block_hash=known.hash, chain=name)
        assert trust.epoch == height // 5
        assert LightClient(trust).follow(Teller(chain), 43).header.height == 43
        assert said(lambda: trust_header(view, block_hash=bytes(32), chain=name)) == "bad_proof"  # noqa: B023


def test_one_validator_and_an_unchanged_set_take_one_answer() -> None:
    chain = VotedLedger(epoch_length=3)
    chain.go_to(100)
    node = Teller(chain)
    assert LightClient(chain.trust).follow(node, 100).signers == 1
    assert node.asked == ["/rpc/finality/100"]
    node = Teller(chain)
    LightClient(chain.trust).follow(node, 99)
    assert node.asked == ["/rpc/finality/99", "/rpc/finality/97"], (
        "the last of an epoch, from inside its epoch"
    )


def test_epochs_of_one_block_lead_one_to_the_next() -> None:
    chain = three_of_poa(epoch_length=1)
    chain.go_to(3)
    assert chain.change((ANN, BEN, CAT), authorities=authorities(ANN, BEN)) == "done"
    chain.go_to(9)
    node = Teller(chain)
    assert LightClient(chain.trust).follow(node, 9).members == 2
    assert len(node.asked) <= 2 * 9


def test_a_chain_of_version_1_takes_one_answer_at_any_height() -> None:
    """Its sets never change, so even the last block of an epoch says who decided it."""
    chain = VotedLedger(epoch_length=4, version=1)
    chain.go_to(40)
    node = Teller(chain)
    assert LightClient(chain.trust).follow(node, 40).header.version == 1
    assert node.asked == ["/rpc/finality/40"]


def test_power_is_stake_and_comes_and_goes() -> None:
    """Cat has 8 of 12 and is no quorum alone; each epoch hears some more of Dan."""
    chain = VotedLedger(
        voters=MEMBERS,
        mode="hybrid",
        authorities=(ANN, BEN, CAT),
        stakes=(100, 300, 800),
        more=MEMBERS,
        epoch_length=4,
    )
    chain.stake(DAN, 5_000)
    chain.go_to(22)
    light = LightClient(chain.trust)
    assert light.follow(Teller(chain), 22).members == 4
    powers = [member["power"] for member in Teller(chain).finality(22)["validators"]]
    assert powers[0] > 800 and len(set(powers)) == 4, "Dan has come in, heavier than anybody"
    poor = liar(chain, 22, votes([1, 2, 3]))
    assert said(lambda: LightClient(chain.trust).follow(poor, 22)) == "bad_certificate", (
        "three of four, too little power"
    )


def test_a_block_is_final_through_one_above_it_and_through_a_later_slot() -> None:
    chain = three_of_poa()
    chain.go_to(6)
    chain.block(certified=False)
    chain.block(certified=False, carried=1)
    chain.block(carried=3)
    chain.block(carried=2)
    answer = Teller(chain).finality(7)
    assert [header["height"] for header in answer["headers"]] == [7, 8, 9]
    light = LightClient(chain.trust)
    block = light.follow(Teller(chain), 7)
    assert (block.header.height, block.certified.height) == (7, 9)
    assert light.follow(Teller(chain), 10).certified.height == 10


# What hangs below a final header


def test_a_record_of_the_head_and_one_that_is_not_there(chain: VotedLedger) -> None:
    light, node = LightClient(chain.trust), Teller(chain)
    alice = light.record(node, "accounts", ALICE.address)
    assert alice.data is not None and account_of(alice.data).balance == chain.balance(ALICE)
    assert alice.block.header.height == 43
    nobody = light.record(node, "registry", f"provider:{BOB.address}", height=41)
    assert (nobody.data, nobody.block.header.height) == (None, 41)


def test_an_old_block_of_an_epoch_that_is_behind(chain: VotedLedger) -> None:
    light, node = LightClient(chain.trust), Teller(chain)
    light.follow(node, 43)
    assert said(lambda: light.follow(node, 12)) == "bad_proof", "its set is forgotten"
    for height in (0, 1, 12, 40, 42):
        assert header_hash(light.ancestor(node, height)) == chain.store.head_at(height).hash  # type: ignore[union-attr]


def test_the_same_on_an_event_loop(chain: VotedLedger) -> None:
    async def ask() -> tuple[bytes, int, int]:
        light, node = AsyncLightClient(chain.trust), AsyncTeller(chain)
        block = await light.follow(node, 43)
        record = await light.record(node, "accounts", ALICE.address)
        old = await light.ancestor(node, 3)
        return block.hash, account_of(record.data or b"").balance, old.height

    assert asyncio.run(ask()) == (chain.executor.head.hash, chain.balance(ALICE), 3)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("another record", lambda a: a["leaf"].update(value="00" * 16)),
        ("another state root", lambda a: a["header"].update(stateRoot="00" * 32)),
        ("another header", lambda a: a.update(header=a["header"] | {"height": 42})),
        ("no header", lambda a: a.pop("header")),
        ("no leaf", lambda a: a.pop("leaf")),
    ],
)
def test_a_lie_about_a_record(chain: VotedLedger, name: str, change: Callable[[Json], Any]) -> None:
    def twist(path: str, answer: Json) -> Json:
        if "/proof/" in path:
            change(answer)
        return answer

    node = Teller(chain, twist)
    assert said(lambda: LightClient(chain.trust).record(node, "accounts", ALICE.address)) in {
        "bad_proof", "not_canonical", "missing_field"
    }, name  # fmt: skip


def test_a_proof_of_another_height_than_was_asked(chain: VotedLedger) -> None:
    def older(path: str, answer: Json) -> Json:
        if path.startswith("/rpc/proof/accounts"):
            return prove(40)
        if path.startswith("/rpc/proof/history"):
            return history(3)
        return answer

    def prove(height: int) -> Json:
        return Teller(chain)._answer(["proof", "accounts", ALICE.address], {"height": height})

    def history(height: int) -> Json:
        return Teller(chain)._answer(["proof", "history", str(height)], {})

    light, node = LightClient(chain.trust), Teller(chain, older)
    assert said(lambda: light.record(node, "accounts", ALICE.address, height=41)) == "wrong_height"
    assert said(lambda: light.ancestor(node, 2)) == "wrong_height"


# Liars


def read_and_check(trust: Trust, answer: Any, height: int) -> FinalBlock:
    return trust.check(read_finality(answer), height=height)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field, of objects and lists too."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def others(value: Any) -> list[Any]:
    """Values near this one that are not it."""
    match value:
        case int():
            return [
                value + 1,
                value - 1,
                -value or 7,
                2**53,
                2**70,
                float(value),
                str(value),
                value == 1,
                None,
            ]
        case str():
            last = "0" if value[-1:] != "0" else "1"
            return [value + "0", value + "00", value[:-1], value[:-2], value[:-1] + last, last + value[1:],
                    value.upper() + "X", "", "\x00", "é", 7, None, [value]]  # fmt: skip
        case list():
            return [[], value + value[:1], value[:-1], value[::-1], {}, None, [[]]]
        case _:
            return [{}, value | {"more": 1}, None, [], "x"]


@pytest.fixture(scope="module")
def final_through_another() -> tuple[Trust, Json]:
    """Block 6 of four members, final through block 8."""
    chain = VotedLedger(voters=MEMBERS, authorities=MEMBERS[:4], more=MEMBERS, epoch_length=20)
    chain.go_to(5)
    chain.block(certified=False)
    chain.block(certified=False)
    chain.block()
    return chain.trust, Teller(chain).finality(6)


def test_a_liar_for_every_field(final_through_another: tuple[Trust, Json]) -> None:
    trust, answer = final_through_another
    assert read_and_check(trust, answer, 6).signers == 3
    found: dict[str, set[str]] = {}
    for path in places(answer):
        for other in others(at(answer, path)):
            if other == at(answer, path) and type(other) is type(at(answer, path)):
                continue
            lie = copy.deepcopy(answer)
            at(lie, path[:-1])[path[-1]] = other
            reason = said(lambda: read_and_check(trust, lie, 6))  # noqa: B023
            assert reason != "fine", (path, other)
            field = ".".join(str(key) for key in path if isinstance(key, str))
            found.setdefault(field, set()).add(reason)
    assert {field: reasons - FORM for field, reasons in found.items() if reasons - FORM} == {
        "headers": {"bad_certificate", "wrong_height"},
        "validators": {"bad_proof"},
        "validators.address": {"bad_proof"},
        "validators.pubkey": {"bad_proof"},
        "validators.power": {"bad_proof"},
        "certificate.kind": {"bad_certificate"},
        "certificate.epoch": {"bad_certificate"},
        "certificate.slot": {"bad_certificate"},
        "certificate.parentSlot": {"bad_certificate"},
        "certificate.parentId": {"bad_certificate"},
        "certificate.blockHash": {"bad_certificate"},
        "certificate.bitmap": {"bad_certificate"},
        "certificate.signatures": {"bad_certificate"},
    }, "a header's own fields are held by its hash: not_canonical"


def test_a_liar_who_hashes_his_header_again(final_through_another: tuple[Trust, Json]) -> None:
    """Each field of each header, with the hash that it then has."""
    trust, answer = final_through_another
    reasons = []
    for number in range(3):
        row = set()
        for name, value in answer["headers"][number].items():
            if name in ("hash", "timestamp"):
                continue
            other = (
                value + 1
                if isinstance(value, int)
                else value + "aa"
                if name in ("extra", "seal")
                else "x" + value
            )
            other = "77" * 32 if isinstance(value, str) and len(value) == 64 else other
            lie = copy.deepcopy(answer)
            changed = header_from_plain(lie["headers"][number] | {name: other})
            lie["headers"][number] = header_to_plain(changed, header_hash(changed))
            row.add(said(lambda: read_and_check(trust, lie, 6)))  # noqa: B023
        reasons.append(row)
    assert reasons[0] == {"wrong_height", "wrong_parent"}
    assert reasons[1] == {"wrong_height", "wrong_parent"}
    last = {"wrong_height", "wrong_parent", "wrong_chain", "wrong_version", "bad_proof", "bad_certificate"}
    assert reasons[2] == last


def test_one_flipped_digit_anywhere_in_hexadecimal(final_through_another: tuple[Trust, Json]) -> None:
    trust, answer = final_through_another
    for path in places(answer["certificate"]):
        text = at(answer["certificate"], path)
        for place in range(0, len(text) if isinstance(text, str) else 0, 5):
            lie = copy.deepcopy(answer)
            flipped = "0" if text[place] != "0" else "1"
            at(lie["certificate"], path[:-1])[path[-1]] = text[:place] + flipped + text[place + 1 :]
            assert said(lambda: read_and_check(trust, lie, 6)) == "bad_certificate", (path, place)  # noqa: B023


Lie = Callable[[VotedLedger, Json], Any]
"""Of a chain and the honest answer about one of its blocks, what the liar says instead."""


def votes(
    signers: list[int] | None = None, members: Any = None, *, kind: str = "final", **candidate: Any
) -> Lie:
    """Votes that are really cast: by others, for other fields of the candidate, or of another kind."""

    def lie(chain: VotedLedger, answer: Json) -> Json:
        honest = read_certificate(answer["certificate"]).candidate
        fields = {name: getattr(honest, name) for name in Candidate.__struct_fields__}
        voters = members or read_finality(answer).validators
        forged = chain.certificate(Candidate(**fields | candidate), voters, kind=kind, signers=signers)
        return answer | {"certificate": certificate_to_plain(forged), "validators": plain_members(voters)}

    return lie


def certificate(**change: Callable[[Any], Any]) -> Lie:
    def lie(_chain: VotedLedger, answer: Json) -> Json:
        changed = {name: make(answer["certificate"][name]) for name, make in change.items()}
        return answer | {"certificate": answer["certificate"] | changed}

    return lie


def answer_about(height: int) -> Lie:
    return lambda chain, _answer: Teller(chain).finality(height)


def notar_votes_sold_as_final(chain: VotedLedger, answer: Json) -> Json:
    notarised = votes(kind="notar")(chain, answer)
    return notarised | {"certificate": notarised["certificate"] | {"kind": "final"}}


def one_epoch_after_another(chain: VotedLedger, answer: Json) -> Json:
    following = Teller(chain).finality(6)
    return following | {"headers": answer["headers"] + following["headers"]}


def a_friendly_next_set(_chain: VotedLedger, answer: Json) -> Json:
    """The last block of an epoch with the liar's own set as the next one."""
    changed = header_from_plain(answer["headers"][0] | {"nextValidatorsHash": "77" * 32})
    return answer | {"headers": [header_to_plain(changed, header_hash(changed))]}


def repeated(name: str, times: int) -> Lie:
    return lambda _chain, answer: answer | {name: answer[name] * times}


def plain_members(members: list[Validator]) -> list[Json]:
    return [{"address": m.address, "pubkey": key_to_text(m.auth_key), "power": m.power} for m in members]


def members_of(*who: Signer, power: int = 1) -> list[Validator]:
    return [Validator(one.address, one.auth_key, power) for one in who]


def liar(chain: VotedLedger, height: int, lie: Lie) -> Teller:
    """A node that lies about the finality of one block."""
    about = f"/rpc/finality/{height}"
    return Teller(chain, lambda path, answer: lie(chain, answer) if path == about else answer)


FIRST = members_of(ANN, BEN, CAT)
CERT, PROOF = "bad_certificate", "bad_proof"
WHOLE_LIES: list[tuple[str, int, Lie, str, str]] = [
    # what, about the finality of which block, how, reason, message
    ("of another epoch", 3, votes(epoch=1), CERT, "is of epoch 1"),
    ("two of three", 3, votes([0, 1]), CERT, "signed by power 2; 3 are needed"),
    ("nobody", 3, votes([]), CERT, "signed by power 0"),
    ("a bit beyond the set", 3, certificate(bitmap=lambda b: b | 8), CERT, "do not match"),
    ("a bit far beyond the set", 3, certificate(bitmap=lambda b: b | 1 << 52), CERT, "do not match"),
    ("a bit too few", 3, certificate(bitmap=lambda b: b & 3), CERT, "do not match"),
    ("one signature three times", 3, certificate(signatures=lambda s: s[:1] * 3), CERT, "has not signed"),
    ("one signature more", 3, certificate(signatures=lambda s: [*s, s[0]]), CERT, "do not match"),
    ("signatures in another order", 3, certificate(signatures=lambda s: s[::-1]), CERT, "has not signed"),
    ("only notarised", 3, votes(kind="notar"), CERT, "is not final"),
    ("notar votes sold as final", 3, notar_votes_sold_as_final, CERT, "has not signed"),
    ("skip votes", 3, votes(kind="skip"), CERT, "is not final"),
    ("votes for another block", 3, votes(block_hash=bytes(32)), CERT, "another block"),
    ("strangers as the set", 3, votes(members=members_of(DAN, FAY)), PROOF, "not those that are trusted"),
    (
        "a member with all the power",
        3,
        votes(members=members_of(ANN, power=9)),
        PROOF,
        "not those that are trusted",
    ),
    ("the old set in the new epoch", 13, votes(members=FIRST), PROOF, "names another validator set"),
    ("a gap over a boundary, by the old set", 15, votes(members=FIRST), PROOF, "not those that are trusted"),
    ("a friendly next set", 10, a_friendly_next_set, CERT, "another block"),
    ("another block's answer", 3, answer_about(4), "wrong_height", "block 4 where 3"),
    ("an answer of another epoch", 3, answer_about(43), "wrong_height", "block 43 where 3"),
    ("headers out of the epoch", 5, one_epoch_after_another, PROOF, "from epoch 0 into epoch 1"),
    ("nothing", 3, lambda *_: {}, "missing_field", "headers"),
    ("a long text", 3, lambda *_: {"headers": ["x" * MAX_ANSWER_BYTES]}, "too_large", "at most"),
    ("65 headers", 3, repeated("headers", 65), "out_of_range", "<= 64"),
    ("no header", 3, repeated("headers", 0), "out_of_range", ">= 1"),
    ("54 members", 3, repeated("validators", 18), "out_of_range", "<= 53"),
    ("no member", 3, repeated("validators", 0), "out_of_range", ">= 1"),
]


@pytest.mark.parametrize(
    ("who", "height", "lie", "reason", "message"), WHOLE_LIES, ids=[row[0] for row in WHOLE_LIES]
)
def test_whole_lies(chain: VotedLedger, who: str, height: int, lie: Lie, reason: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as caught:
        LightClient(chain.trust).follow(liar(chain, height, lie), height)
    assert str(caught.value.reason) == reason, caught.value


def test_a_header_chain_with_a_hole(final_through_another: tuple[Trust, Json]) -> None:
    trust, answer = final_through_another
    for kept in ((0, 2), (0, 2, 1), (0, 0, 1, 2), (1, 2)):
        lie = answer | {"headers": [answer["headers"][n] for n in kept]}
        assert said(lambda: read_and_check(trust, lie, 6)) == "wrong_height"  # noqa: B023


def test_a_fork_that_is_hung_under_an_honest_certificate(final_through_another: tuple[Trust, Json]) -> None:
    """Block 6 is replaced by one of the liar's, of the right height; block 7 has another parent."""
    trust, answer = final_through_another
    changed = header_from_plain(answer["headers"][0] | {"stateRoot": "77" * 32})
    forged = header_to_plain(changed, header_hash(changed))
    lie = answer | {"headers": [forged, *answer["headers"][1:]]}
    assert said(lambda: read_and_check(trust, lie, 6)) == "wrong_parent"


def test_votes_of_another_chain_count_nothing(chain: VotedLedger) -> None:
    """The same people, keys and headers on a chain with another genesis."""
    other = three_of_poa(faucet_limit=7)
    other.go_to(3)
    assert said(lambda: LightClient(chain.trust).follow(Teller(other), 3)) == "bad_certificate"


def test_a_liar_in_the_middle_of_the_way_is_found_by_whoever_goes_over_it(chain: VotedLedger) -> None:
    """The set of every answer on the way, replaced by strangers who sign."""
    for height in (43, 21, 11, 6, 10, 36, 26, 31, 35, 40):
        stranger = liar(chain, height, votes(members=members_of(DAN, FAY)))
        got = said(lambda: LightClient(chain.trust).follow(stranger, 43))  # noqa: B023
        assert got == PROOF or (got == "fine" and height not in (43, 10, 35, 40)), height


def test_the_last_block_of_an_epoch_does_not_vouch_for_those_who_signed_it() -> None:
    """Ann alone, then Ann and Ben, then Ann alone again: her vote at the second boundary is no quorum of the two who
    decided it, though the header names the set of genesis."""
    chain = VotedLedger(voters=MEMBERS, authorities=(ANN,), more=MEMBERS, epoch_length=4)
    assert chain.change((ANN,), authorities=authorities(ANN, BEN)) == "done"
    chain.go_to(4)
    assert chain.change((ANN, BEN), authorities=authorities(ANN)) == "done"
    chain.go_to(9)
    lie = votes([0], members_of(ANN))
    alone = lie(chain, Teller(chain).finality(8))
    assert said(lambda: read_and_check(chain.trust, alone, 8)) == PROOF
    assert said(lambda: LightClient(chain.trust).follow(liar(chain, 8, lie), 8)) == PROOF
    assert said(lambda: LightClient(chain.trust).follow(Teller(chain), 9)) == "fine"


def test_block_0_is_decided_by_nobody(chain: VotedLedger) -> None:
    with pytest.raises(Rejected, match="follows from genesis"):
        Teller(chain).finality(0)
    block_0 = chain.store.head_at(0)
    assert block_0 is not None
    answer = Teller(chain).finality(1)
    answer["headers"].insert(0, header_to_plain(block_0.header, block_0.hash))
    assert said(lambda: read_and_check(chain.trust, answer, 0)) == "wrong_height"


def test_genesis_is_pinned_by_its_hash(chain: VotedLedger) -> None:
    document = json.loads(chain.document)
    assert trust_genesis(document, genesis_hash=chain.genesis_hash) == chain.trust
    assert said(lambda: trust_genesis(document, genesis_hash=bytes(32))) == "wrong_chain"
    for broken in (
        {},
        [],
        None,
        document | {"authorities": []},
        document | {"consensus": {"epoch_length": 0}},
    ):
        assert said(lambda: trust_genesis(broken)) in {str(reason) for reason in FORM}  # noqa: B023


def test_a_trusted_header_of_another_chain(chain: VotedLedger) -> None:
    head = chain.executor.head
    changed = header_from_plain(header_to_plain(head.block.header, head.hash) | {"chainId": "ait-other"})
    view = header_to_plain(changed, header_hash(changed))
    act = lambda: trust_header(view, block_hash=header_hash(changed), chain=chain.trust.chain)  # noqa: E731
    assert said(act) == "wrong_chain"


# Garbage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(json_values | st.binary() | st.sets(st.integers()) | st.just(object()) | st.just("\ud800"))
def test_garbage_is_refused(final_through_another: tuple[Trust, Json], garbage: Any) -> None:
    assert said(lambda: read_finality(garbage)) != "fine"


@settings(max_examples=200, deadline=None)
@given(data=st.data(), value=json_values | st.just("\ud800"))
def test_garbage_anywhere_is_refused(
    final_through_another: tuple[Trust, Json], data: st.DataObject, value: Any
) -> None:
    trust, answer = final_through_another
    path = data.draw(st.sampled_from(list(places(answer))))
    lie = copy.deepcopy(answer)
    at(lie, path[:-1])[path[-1]] = value
    if lie != answer or jcs(lie) != jcs(answer):
        assert said(lambda: read_and_check(trust, lie, 6)) != "fine"


def test_deep_nesting_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}
    assert said(lambda: read_finality(deep)) == "malformed"


# The same rules, written twice


@settings(max_examples=150, deadline=None)
@given(
    powers=st.lists(st.integers(1, 9) | st.just(2**50), min_size=1, max_size=5),
    bitmap=st.integers(0, 63),
    dropped=st.integers(-1, 5),
    forged=st.integers(-1, 5),
)
def test_the_light_check_and_the_nodes_agree(
    chain: VotedLedger, powers: list[int], bitmap: int, dropped: int, forged: int
) -> None:
    name: Json = {"chain_id": "ait-test", "genesis_hash": chain.genesis_hash}
    members = [
        Validator(who.address, who.auth_key, power) for who, power in zip(MEMBERS, powers, strict=False)
    ]
    places = [place for place in range(len(members)) if bitmap >> place & 1]
    honest = chain.certificate(Candidate(2, 3, 1, b"p" * 32, b"b" * 32), members, signers=places)
    signatures = [s for place, s in enumerate(honest.signatures) if place != dropped]
    if 0 <= forged < len(signatures):
        signatures[forged] = bytes(64)
    told = Certificate("final", honest.candidate, bitmap, signatures)
    ours = said(lambda: check_votes(told, members, **name))
    assert ours == said(lambda: check_certificate(told, members, **name))


VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "certificates.json").read_text())
NAME = {"chain_id": VECTORS["chain_id"], "genesis_hash": bytes.fromhex(VECTORS["genesis_hash"])}


def vector_members(case: Json) -> list[Validator]:
    return [Validator(m["address"], bytes.fromhex(m["auth_key"]), m["power"]) for m in case["members"]]


@pytest.mark.parametrize("case", VECTORS["sets"], ids=[case["name"] for case in VECTORS["sets"]])
def test_published_certificates_are_good(case: Json) -> None:
    for entry in case["certificates"]:
        check_votes(read_certificate(entry["json"]), vector_members(case), **NAME)


@pytest.mark.parametrize("case", VECTORS["refused"], ids=[case["name"] for case in VECTORS["refused"]])
def test_published_bad_certificates_are_refused(case: Json) -> None:
    four = vector_members(VECTORS["sets"][1])
    reason = said(lambda: check_votes(read_certificate(case["json"]), four, **NAME))
    assert reason in (case["reason"], "out_of_range")
    assert (reason == "out_of_range") == case["name"].startswith("negative"), "a matter of form, here"


def test_a_node_that_refuses_is_no_liar(chain: VotedLedger) -> None:
    """What the node says in words reaches the caller as it is."""

    def refuse(_path: str, _answer: Json) -> Json:
        raise ApiError("unknown_block", "no block 44", "", 404)

    with pytest.raises(ApiError):
        LightClient(chain.trust).follow(Teller(chain, refuse), 43)


def test_the_way_is_all_that_another_client_needs(chain: VotedLedger) -> None:
    followed = follow(Teller(chain), chain.trust, 43)
    heights = [answer["headers"][0]["height"] for answer in followed.way]
    assert heights == [6, 10, 31, 35, 40], "into the last epoch of each set, and over its end"
    trust = chain.trust
    for answer in followed.way:
        trust = trust.after(read_and_check(trust, answer, answer["headers"][0]["height"]))
    assert read_and_check(trust, followed.answer, 43) == followed.block
    assert validators_of(chain.executor.state)[0].address == BEN.address
