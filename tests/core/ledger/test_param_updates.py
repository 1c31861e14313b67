"""The authorities change parameters together, for the next epoch. docs/spec/params.md"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.core.chain.builder import UnknownVersion
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.ledger.params import Params
from aitbc.core.types.amounts import AIT, MAX_SIGNED
from aitbc.core.types.blocks import PROTOCOL_VERSION, Block
from aitbc.core.types.records import Param
from support.ledger import MINUTE_MS, Ledger, people
from support.people import ALICE, BOB, EVE, HUB, VALIDATOR, person

LENGTH = 4
CHAPTER = Path(__file__).parents[3] / "docs" / "spec" / "params.md"


@pytest.fixture
def chain() -> Ledger:
    return Ledger(epoch_length=LENGTH)


def test_an_update_waits_for_the_boundary(chain: Ledger) -> None:
    update, witness = chain.update({"set": {"base_fee": 9}}, VALIDATOR)
    outcome = chain.do(ALICE, "PARAM_UPDATE", update, witness=witness)
    assert outcome.events == [("queued", "update:1", 0)]
    queued = chain.executor.state.get("params", f"queued:{1:016}")
    assert queued == Param(value='{"number":1,"set":{"base_fee":9}}')
    assert (chain.param("base_fee"), chain.number("updates.count")) == (2, 1)
    chain.close_epoch()
    assert (chain.param("base_fee"), chain.count("params", "queued:")) == (9, 0)
    assert chain.executor.state.get("params", "base_fee") == Param(value="9")
    assert chain.number("updates.count") == 1, "numbers are never used again"


def test_an_update_in_the_closing_block_takes_effect_with_it(chain: Ledger) -> None:
    for _ in range(LENGTH - 1):
        chain.block()
    assert chain.change(set={"base_fee": 9}) == "done"
    assert chain.height == LENGTH
    assert (chain.param("base_fee"), chain.count("params", "queued:")) == (9, 0)


def test_the_later_of_two_updates_wins_and_the_rest_of_the_earlier_stays(chain: Ledger) -> None:
    assert chain.change(set={"base_fee": 9, "fee_per_kib": 1}) == "done"
    assert chain.change(set={"base_fee": 5}) == "done"
    chain.close_epoch()
    assert (chain.param("base_fee"), chain.param("fee_per_kib")) == (5, 1)


# Bounds: the table of the chapter, both sides of each.


def update_column() -> dict[str, str]:
    """Parameter → what the chapter says that an update may set it to."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", CHAPTER.read_text(), re.M)
    return {name: column.strip() for name, column in rows}


def number(text: str) -> int:
    text = text.replace(",", "").replace(" ", "")
    return MAX_SIGNED if text == "2^53−1" else int(text)


COLUMN = update_column()
RANGES = {
    name: (number(text.split("…")[0]), number(text.split("…")[1]))
    for name, text in COLUMN.items()
    if "…" in text
}
FIXED = [name for name, text in COLUMN.items() if text == "no"]


def test_the_chapter_names_every_parameter() -> None:
    assert list(COLUMN) == list(Params.__struct_fields__)
    assert set(COLUMN) == {*RANGES, *FIXED, "treasury", "hubs", "activations"}


@pytest.mark.parametrize("name", RANGES)
def test_a_parameter_is_set_up_to_its_bounds_and_no_further(name: str) -> None:
    least, most = RANGES[name]
    chain = Ledger(epoch_length=2)
    for value in (least, most):
        assert chain.change(set={name: value}) == "done"
        if chain.height % 2:
            chain.block()
        assert chain.param(name) == value
    fresh = Ledger(epoch_length=LENGTH)
    for value in (least - 1, most + 1, -1, 2**64, -(2**64)):
        assert fresh.change(set={name: value}) == "invalid out_of_range", value
    for value in (True, None, str(least), [least], {"is": least}):
        assert fresh.change(set={name: value}) == "invalid wrong_type", value
    for value in (float(least), least + 0.5, -0.0):
        assert fresh.change(set={name: value}) == "invalid float_not_allowed", value
    assert fresh.height == 0, "no block holds any of them"


@pytest.mark.parametrize(
    "name",
    [*FIXED, "consensus.mode", "consensus.epoch_length", "supply.minted", "epoch.seed", "updates.count", ""],
)
def test_what_genesis_made_for_ever_and_what_is_no_parameter(chain: Ledger, name: str) -> None:
    assert chain.change(set={name: 1}) == "invalid unknown_param"
    assert chain.change(set={"base_fee": 3, name: 1}) == "invalid unknown_param"


HUNDRED = [one.address for one in people("hub", 101)]

TEXTS: list[tuple[str, dict[str, Any], str]] = [
    ("a treasury", {"treasury": BOB.address}, "done"),
    ("no treasury", {"treasury": ""}, "done"),
    ("a treasury that is no address", {"treasury": "ait1bob"}, "invalid bad_address"),
    ("a treasury that is a number", {"treasury": 0}, "invalid wrong_type"),
    ("no treasury, said wrongly", {"treasury": None}, "invalid wrong_type"),
    ("another hub", {"hubs": [BOB.address]}, "done"),
    ("two hubs in any order", {"hubs": [HUB.address, BOB.address]}, "done"),
    ("no hubs", {"hubs": []}, "done"),
    ("a hundred hubs", {"hubs": HUNDRED[:100]}, "done"),
    ("a hundred and one", {"hubs": HUNDRED}, "invalid out_of_range"),
    ("a hub twice", {"hubs": [BOB.address, BOB.address]}, "invalid out_of_range"),
    ("a hub that is no address", {"hubs": [BOB.address.upper()]}, "invalid bad_address"),
    ("a hub that is a number", {"hubs": [1]}, "invalid wrong_type"),
    ("a hub instead of a list", {"hubs": BOB.address}, "invalid wrong_type"),
    ("nothing at all", {}, "invalid missing_field"),
]


@pytest.mark.parametrize(("story", "values", "outcome"), TEXTS, ids=[row[0] for row in TEXTS])
def test_texts_and_lists(chain: Ledger, story: str, values: dict[str, Any], outcome: str) -> None:
    payload = {"set": values} if values else {}
    update, witness = chain.update(payload, VALIDATOR)
    assert chain.said(ALICE, "PARAM_UPDATE", update, witness=witness, fee=1_000) == outcome
    if outcome == "done":
        chain.close_epoch()
        for name, value in values.items():
            assert chain.param(name) == value


def test_a_new_hub_is_heard_and_the_old_one_is_not() -> None:
    chain = Ledger(epoch_length=LENGTH)
    assert chain.change(set={"hubs": [BOB.address]}) == "done"
    chain.close_epoch()
    wish = {"role": "provider", "models": []}
    for hub, outcome in ((HUB, "invalid fee_too_low"), (BOB, "done")):
        assert chain.said(EVE, "REGISTER", wish, fee=0, witness=chain.countersignature(EVE, hub)) == outcome


# Numbers.


def test_numbers_follow_one_another_and_a_failed_update_uses_none(chain: Ledger) -> None:
    for wrong in (2, 7, MAX_SIGNED):
        assert chain.change(number=wrong, set={"base_fee": 3}) == "failed wrong_update_number"
    assert chain.change(number=0, set={"base_fee": 3}) == "invalid out_of_range"
    update, witness = chain.update({"set": {"base_fee": 3}}, VALIDATOR)
    assert chain.said(ALICE, "PARAM_UPDATE", update, witness=witness) == "done"
    assert chain.said(BOB, "PARAM_UPDATE", update, witness=witness) == "failed wrong_update_number"
    assert chain.change(number=1, set={"base_fee": 4}) == "failed wrong_update_number"
    assert chain.change(number=2, set={"base_fee": 4}) == "done"


def test_sixteen_updates_wait_and_no_more() -> None:
    chain = Ledger(epoch_length=40)
    for at in range(16):
        assert chain.change(set={"base_fee": at}) == "done"
    assert chain.change(set={"base_fee": 16}) == "failed too_many_queued"
    chain.close_epoch()
    assert chain.param("base_fee") == 15
    assert chain.change(set={"base_fee": 16}) == "done"


# Approvals.

FOUR = people("authority", 4)
A, B, C, D = FOUR


def council(**params: Any) -> Ledger:
    return Ledger(authorities=FOUR, epoch_length=LENGTH, **params)


SIGNERS: list[tuple[str, dict[str, Any], list[Any], list[int] | None, str]] = [
    ("three of four", {}, [A, B, C], None, "done"),
    ("another three", {}, [B, C, D], None, "done"),
    ("all", {}, FOUR, None, "done"),
    ("half of them", {}, [A, C], None, "invalid not_enough_approvals"),
    ("one where one is enough", {"governance_threshold": 1}, [D], None, "done"),
    ("three where four must", {"governance_threshold": 4}, [A, B, C], None, "invalid not_enough_approvals"),
    ("all where more must than there are", {"governance_threshold": 50}, FOUR, None, "done"),
    ("a stranger among them", {}, [A, B, EVE], [0, 1, 2], "invalid bad_approval"),
    ("in another order", {}, [B, A, C], [0, 1, 2], "invalid bad_approval"),
    ("beyond the set", {}, [A, B, C], [0, 1, 4], "invalid bad_approval"),
    ("far beyond the set", {}, [A, B, C], [0, 1, 52], "invalid bad_approval"),
    ("further than a number says", {}, [A, B, C], [0, 1, 53], "invalid out_of_range"),
    ("one of them twice", {}, [A, A, B], [0, 0, 1], "invalid bad_approval"),
    ("nobody", {}, [], None, "invalid out_of_range"),
]


@pytest.mark.parametrize(
    ("story", "params", "signers", "places", "outcome"), SIGNERS, ids=[row[0] for row in SIGNERS]
)
def test_who_must_sign(
    story: str, params: dict[str, Any], signers: list[Any], places: list[int] | None, outcome: str
) -> None:
    chain = council(**params)
    update, witness = chain.update({"set": {"base_fee": 3}}, *signers, places=places)
    assert chain.said(BOB, "PARAM_UPDATE", update, witness=witness) == outcome


Update, Witness = dict[str, Any], dict[str, Any]

SPOILED: list[tuple[str, Callable[[Update, Witness], tuple[Update, Witness | None]], str]] = [
    ("another value than was signed", lambda u, w: ({**u, "set": {"base_fee": 4}}, w), "invalid bad_approval"),
    ("more than was signed", lambda u, w: ({**u, "set": {**u["set"], "slash_bp": 0}}, w), "invalid bad_approval"),
    ("a signature too few", lambda u, w: (u, {**w, "sigs": w["sigs"][:2]}), "invalid bad_approval"),
    ("a signature too many", lambda u, w: (u, {**w, "sigs": [*w["sigs"], w["sigs"][0]]}), "invalid bad_approval"),
    ("another bitmap", lambda u, w: (u, {**w, "bitmap": 0b1101}), "invalid bad_approval"),
    ("an empty signature", lambda u, w: (u, {**w, "sigs": ["", *w["sigs"][1:]]}), "invalid bad_approval"),
    ("a signature that is no number", lambda u, w: (u, {**w, "sigs": ["no", *w["sigs"][1:]]}), "invalid bad_hex"),
    ("no witness", lambda u, _: (u, None), "invalid not_enough_approvals"),
    ("a witness with more in it", lambda u, w: (u, {**w, "more": 1}), "invalid unknown_field"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "spoil", "outcome"), SPOILED, ids=[row[0] for row in SPOILED])
def test_approvals_are_of_this_update_and_no_other(story: str, spoil: Any, outcome: str) -> None:
    chain = council()
    update, witness = spoil(*chain.update({"set": {"base_fee": 3}}, A, B, C))
    assert chain.said(BOB, "PARAM_UPDATE", update, witness=witness) == outcome


def test_fifty_approvals_have_room_and_more_have_not() -> None:
    fifty = people("fifty", 50)
    chain = Ledger(authorities=fifty, governance_threshold=50)
    update, witness = chain.update({"set": {"base_fee": 3}}, *fifty)
    assert 6_000 < len(jcs(witness)) < 8 * 1024
    swollen = {**witness, "sigs": [*witness["sigs"][:-1], witness["sigs"][-1] + "0" * 2_000]}
    for sigs, outcome in (
        (swollen["sigs"], "invalid too_large"),
        ([*witness["sigs"], ""], "invalid out_of_range"),
        (witness["sigs"][:49], "invalid bad_approval"),
        (witness["sigs"], "done"),
    ):
        assert chain.said(BOB, "PARAM_UPDATE", update, witness={**witness, "sigs": sigs}) == outcome


@pytest.mark.parametrize(
    ("size", "outcome"), [(8 * 1024, "invalid bad_approval"), (8 * 1024 + 1, "invalid too_large")]
)
def test_the_last_byte_of_a_witness(size: int, outcome: str) -> None:
    chain = Ledger(authorities=FOUR)
    update, witness = chain.update({"set": {"base_fee": 3}}, A, B, C)
    bare = len(jcs({**witness, "sigs": []}))
    odd = (size - bare - 2) % 2
    sigs = ["0" * (size - bare - 2 - 3 * odd), *["" for _ in range(odd)]]
    assert len(jcs({**witness, "sigs": sigs})) == size
    assert chain.said(BOB, "PARAM_UPDATE", update, witness={**witness, "sigs": sigs}) == outcome


def test_approvals_of_another_chain_are_none_here() -> None:
    here, there = council(), council(base_fee=1)
    update, witness = there.update({"set": {"base_fee": 3}}, A, B, C)
    assert here.said(BOB, "PARAM_UPDATE", update, witness=witness) == "invalid bad_approval"


def test_who_sends_it_pays_for_it_and_nothing_else(chain: Ledger) -> None:
    before = chain.balance(BOB)
    assert chain.change(number=5, sender=BOB, set={"base_fee": 3}) == "failed wrong_update_number"
    assert chain.balance(BOB) == before - 100


def test_a_jailed_authority_does_not_count_until_it_is_back() -> None:
    """Dora signs two votes; three are left, and two of them are enough."""
    chain = council(jail_ms=MINUTE_MS)
    assert chain.do(BOB, "EVIDENCE", chain.double_vote(D)).ok
    assert chain.change([A, B, D], set={"base_fee": 3}) == "done", "until the boundary she is in the set"
    chain.close_epoch()
    assert [address for address, _ in chain.validators()] == [A.address, B.address, C.address]
    assert chain.change([A, B], set={"base_fee": 4}) == "done"
    update, witness = chain.update({"set": {"base_fee": 4}}, A, D, places=[0, 3])
    assert chain.said(BOB, "PARAM_UPDATE", update, witness=witness) == "invalid bad_approval"
    chain.block(after_ms=MINUTE_MS)
    chain.close_epoch()
    assert [address for address, _ in chain.validators()] == [one.address for one in FOUR], "in her old place"


# Authorities.


def listed(*who: Any, keys: bool = True) -> list[dict[str, str]]:
    return [
        {"address": one.address, "pubkey": key_to_text(one.auth_key)} if keys else {"address": one.address}
        for one in who
    ]


NINE = people("nine", 9)
NEW, OTHER = person("a new authority"), person("another")

LISTS: list[tuple[str, list[Any], list[dict[str, str]], str]] = [
    ("one more", FOUR, listed(*FOUR, NEW), "done"),
    ("forty-six more", FOUR, listed(*FOUR, *people("many", 46)), "done"),
    ("forty-seven more", FOUR, listed(*FOUR, *people("many", 47)), "invalid out_of_range"),
    ("one less of four", FOUR, listed(A, B, C), "done"),
    ("two less of four", FOUR, listed(A, B), "failed bad_update"),
    ("one for another", FOUR, listed(A, B, C, NEW), "done"),
    ("two for others", FOUR, listed(A, B, NEW, OTHER), "failed bad_update"),
    ("three less of nine", NINE, listed(*NINE[3:]), "done"),
    ("four less of nine", NINE, listed(*NINE[4:]), "failed bad_update"),
    ("the last one for another", [A], listed(NEW), "done"),
    ("one of two", [A, B], listed(B), "done"),
    ("both of two", [A, B], listed(NEW, OTHER), "failed bad_update"),
    ("in another order", FOUR, listed(D, C, B, A), "done"),
    ("one of them twice", FOUR, listed(A, B, C, D, A), "invalid out_of_range"),
    ("a new one without a key", FOUR, [*listed(*FOUR), *listed(NEW, keys=False)], "failed pubkey_required"),
    ("one whose key the chain knows", FOUR, [*listed(*FOUR), *listed(ALICE, keys=False)], "done"),
    ("another's key", FOUR, [*listed(*FOUR), {**listed(NEW)[0], "address": OTHER.address}], "invalid wrong_key"),
    ("no address", FOUR, [*listed(*FOUR), {"address": "new"}], "invalid bad_address"),
    ("a key that is none", FOUR, [*listed(*FOUR), {"address": NEW.address, "pubkey": "ab"}], "invalid bad_hex"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "before", "after", "outcome"), LISTS, ids=[row[0] for row in LISTS])
def test_who_may_come_and_go(
    story: str, before: list[Any], after: list[dict[str, str]], outcome: str
) -> None:
    chain = Ledger(authorities=before, epoch_length=LENGTH)
    update, witness = chain.update({"authorities": after}, *before)
    assert chain.said(ALICE, "PARAM_UPDATE", update, witness=witness, fee=1_000) == outcome
    assert [address for address, _ in chain.validators()] == [one.address for one in before]
    chain.close_epoch()
    expected = [one["address"] for one in after] if outcome == "done" else [one.address for one in before]
    assert chain.validators() == [(address, 1) for address in expected]


def test_a_set_may_be_replaced_whole_a_third_at_a_time() -> None:
    chain = Ledger(authorities=NINE, epoch_length=LENGTH)
    coming = people("coming", 9)
    now: list[Any] = list(NINE)
    for at in range(3):
        after = [*now[3:], *coming[3 * at : 3 * at + 3]]
        update, witness = chain.update({"authorities": listed(*after)}, *now)
        assert chain.said(ALICE, "PARAM_UPDATE", update, witness=witness, fee=1_000) == "done"
        chain.close_epoch()
        now = after
    assert [address for address, _ in chain.validators()] == [one.address for one in coming]


def test_one_list_waits_at_a_time() -> None:
    """Otherwise two of them could replace two thirds at one boundary."""
    chain = council()
    assert chain.change([A, B, C], authorities=listed(A, B, C), sender=BOB) == "done"
    assert chain.change([A, B, C], authorities=listed(A, B, D), sender=BOB) == "failed bad_update"
    assert chain.change([A, B, C], set={"base_fee": 1}) == "done", "parameters may still change"


def test_under_hybrid_stake_makes_the_set() -> None:
    chain = Ledger(mode="hybrid", stakes=[AIT], epoch_length=LENGTH)
    assert chain.change(authorities=listed(VALIDATOR, NEW)) == "failed bad_update"


def test_the_new_list_stands_back_when_everybody_on_it_is_jailed() -> None:
    chain = Ledger(authorities=[A], epoch_length=LENGTH, jail_ms=600 * MINUTE_MS)
    chain.stake(ALICE, AIT)
    assert chain.do(BOB, "EVIDENCE", chain.double_vote(ALICE)).ok
    assert chain.change([A], authorities=listed(ALICE), sender=BOB) == "done"
    chain.close_epoch()
    assert chain.validators() == [(A.address, 1)]


def test_a_member_whose_key_genesis_named_needs_no_key_in_a_list() -> None:
    """params.md: pubkey_required for a member whose key neither the chain nor the update knows."""
    chain = Ledger(authorities=[A, B], epoch_length=LENGTH)
    assert chain.change([A, B], authorities=[*listed(A, B, keys=False), *listed(NEW)]) == "done"


# Activations.

KNOWN = {"version": 2, "height": 0}
FIRST = 2 * LENGTH + 1
"""The earliest height for an update that is sent in the first epoch."""


def at(version: int, height: int) -> dict[str, int]:
    return {"version": version, "height": height}


ACTIVATIONS: list[tuple[str, list[dict[str, int]], str]] = [
    ("the next epoch but one", [KNOWN, at(3, FIRST)], "done"),
    ("a later epoch", [KNOWN, at(3, FIRST + 5 * LENGTH)], "done"),
    ("a version that skips some", [KNOWN, at(9, FIRST)], "done"),
    ("two of them", [KNOWN, at(3, FIRST), at(4, FIRST + LENGTH)], "done"),
    ("within an epoch", [KNOWN, at(3, FIRST + 1)], "failed bad_update"),
    ("the last height of an epoch", [KNOWN, at(3, FIRST + LENGTH - 1)], "failed bad_update"),
    ("the very next epoch", [KNOWN, at(3, FIRST - LENGTH)], "failed bad_update"),
    ("long ago", [KNOWN, at(3, 1)], "failed bad_update"),
    ("what is known already", [KNOWN], "failed bad_update"),
    ("nothing", [], "failed bad_update"),
    ("without what is known", [at(3, FIRST)], "failed bad_update"),
    ("what is known, changed", [at(2, 1), at(3, FIRST)], "failed bad_update"),
    ("the same version again", [KNOWN, at(2, FIRST)], "failed bad_update"),
    ("versions that fall", [KNOWN, at(4, FIRST), at(3, FIRST + LENGTH)], "failed bad_update"),
    ("two at one height", [KNOWN, at(3, FIRST), at(4, FIRST)], "failed bad_update"),
    ("a first version", [KNOWN, at(1, FIRST)], "invalid out_of_range"),
    ("a height that is none", [KNOWN, at(3, -1)], "invalid out_of_range"),
    ("without a height", [KNOWN, {"version": 3}], "invalid missing_field"),
    ("with a name", [KNOWN, {**at(3, FIRST), "name": 1}], "invalid unknown_field"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "wanted", "outcome"), ACTIVATIONS, ids=[row[0] for row in ACTIVATIONS])
def test_a_version_is_announced_an_epoch_ahead(
    chain: Ledger, story: str, wanted: list[dict[str, int]], outcome: str
) -> None:
    assert chain.change(set={"activations": wanted}) == outcome
    chain.close_epoch()
    now = [msgspec.to_builtins(one) for one in chain.param("activations")]
    assert now == (wanted if outcome == "done" else [KNOWN])


SOON, LATE = at(3, FIRST + LENGTH), at(4, FIRST + 3 * LENGTH)

TAKEN_BACK: list[tuple[str, list[dict[str, int]], str]] = [
    ("the late one", [KNOWN, SOON], "done"),
    ("both", [KNOWN], "done"),
    ("the soon one alone", [KNOWN, LATE], "done"),
    ("the late one for another", [KNOWN, SOON, at(5, FIRST + 2 * LENGTH)], "done"),
    ("the soon one for another too soon", [KNOWN, at(5, FIRST)], "failed bad_update"),
    ("what has begun", [SOON, LATE], "failed bad_update"),
    ("everything", [], "failed bad_update"),
    ("nothing", [KNOWN, SOON, LATE], "failed bad_update"),
]
"""(what is taken back, the list without it, outcome), an epoch after both were announced"""


@pytest.mark.parametrize(("story", "wanted", "outcome"), TAKEN_BACK, ids=[row[0] for row in TAKEN_BACK])
def test_what_was_announced_can_be_taken_back_while_there_is_time(
    chain: Ledger, story: str, wanted: list[dict[str, int]], outcome: str
) -> None:
    assert chain.change(set={"activations": [KNOWN, SOON, LATE]}) == "done"
    chain.close_epoch()
    assert chain.change(set={"activations": wanted}) == outcome
    chain.close_epoch()
    now = [msgspec.to_builtins(one) for one in chain.param("activations")]
    assert now == (wanted if outcome == "done" else [KNOWN, SOON, LATE])


def test_what_begins_before_an_update_can_bind_stays(chain: Ledger) -> None:
    """Nodes are already being upgraded for it: the set may add to it, and not touch it."""
    assert chain.change(set={"activations": [KNOWN, at(3, FIRST)]}) == "done"
    chain.close_epoch()
    assert chain.change(set={"activations": [KNOWN]}) == "failed bad_update"
    assert chain.change(set={"activations": [KNOWN, at(4, FIRST + LENGTH)]}) == "failed bad_update"
    assert chain.change(set={"activations": [KNOWN, at(3, FIRST), at(4, FIRST + LENGTH)]}) == "done"


def test_a_version_that_this_release_does_not_know_stops_the_node_with_what_to_do(chain: Ledger) -> None:
    """Up to the height everything goes on; then neither building nor checking does, and nothing is lost."""
    assert (
        chain.change(set={"activations": [KNOWN, {"version": PROTOCOL_VERSION + 1, "height": FIRST}]})
        == "done"
    )
    while chain.height < FIRST - 1:
        chain.block()
    root, head = chain.executor.state.root(), chain.executor.head
    header = msgspec.structs.replace(head.block.header, parent=head.hash, height=FIRST)
    for act in (chain.block, lambda: chain.second.apply(Block(header, []))):
        with pytest.raises(UnknownVersion) as caught:
            act()
        message = str(caught.value)
        for word in (
            f"height {FIRST} ",
            f"version {PROTOCOL_VERSION + 1};",
            f"knows {PROTOCOL_VERSION}:",
            "install",
        ):
            assert word in message
    assert chain.executor.state.root() == root


def test_two_updates_of_one_epoch_do_not_take_back_each_others_versions() -> None:
    """params.md: one list waits at a time, since each is written against what is known."""
    chain = Ledger(epoch_length=6)
    first, second = {"version": 3, "height": 13}, {"version": 4, "height": 19}
    assert chain.change(set={"activations": [KNOWN, first]}) == "done"
    chain.change(set={"activations": [KNOWN, second]})
    chain.close_epoch()
    assert msgspec.to_builtins(chain.param("activations"))[1] == first
