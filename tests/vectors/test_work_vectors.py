"""Holds agreement by work to nakamoto.json: the node's rules, and those that the client has of its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.client.work_rules import WorkChain, work_chain
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.keytext import key_from_text
from aitbc.core.codec.views import header_from_plain, header_to_plain
from aitbc.core.consensus.nakamoto.authors import Miner, Schedule
from aitbc.core.consensus.nakamoto.headers import HeaderRules, Link, genesis_link
from aitbc.core.consensus.nakamoto.work import (
    next_target,
    open_seal,
    search_digest,
    target_of,
    template_digest,
    work_hash,
    work_of,
)
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import verify
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings, RewardSettings, reward_at
from aitbc.core.types.reasons import Rejected

Json = Any
PUBLISHED = json.loads((Path(__file__).parent / "nakamoto.json").read_bytes())
CHAINS = sorted(PUBLISHED["chains"])


def rules_of(name: str) -> HeaderRules:
    document = PUBLISHED["chains"][name]["document"]
    settings = msgspec.convert(document["consensus"]["work"], NakamotoSettings)
    keys = [key_from_text(text) for text in settings.miners]
    return HeaderRules(
        settings,
        chain_id=document["chain_id"],
        miners=[Miner(address_of(key), key) for key in keys],
        verify=verify,
    )


def clients_chain(name: str) -> WorkChain:
    return work_chain(PUBLISHED["chains"][name]["document"])


def header_of(view: Json) -> Header:
    header = header_from_plain(view)
    assert header_to_plain(header, header_hash(header)) == view
    return header


def first_of(name: str) -> Header:
    return header_of(PUBLISHED["chains"][name]["first"])


def reason_of(act: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as rejected:
        act()
    return str(rejected.value.reason)


@pytest.mark.parametrize("case", PUBLISHED["targets"], ids=lambda case: str(case["difficulty"]))
def test_targets_of_difficulties(case: Json) -> None:
    target = target_of(case["difficulty"])
    assert f"{target:064x}" == case["target"]
    assert str(work_of(target)) == case["work"]


def test_targets_of_children() -> None:
    settings = msgspec.convert(PUBLISHED["next_targets"]["work"], NakamotoSettings)
    for case in PUBLISHED["next_targets"]["cases"]:
        found = next_target(settings, target=int(case["target"], 16), solve_ms=case["solve_ms"])
        assert f"{found:064x}" == case["next"], case


def test_rewards() -> None:
    for case in PUBLISHED["rewards"]:
        terms = msgspec.convert(case["reward"], RewardSettings)
        assert reward_at(terms, case["height"]) == case["amount"], case


def test_turns() -> None:
    settings = msgspec.convert(PUBLISHED["turns"]["work"], NakamotoSettings)
    miners = [Miner(address_of(key_from_text(text)), key_from_text(text)) for text in settings.miners]
    schedule = Schedule(miners, settings)
    for case in PUBLISHED["turns"]["cases"]:
        parent = miners[case["parent"]].address if case["parent"] >= 0 else ""
        leader = schedule.leader_at(1_000 + case["since_ms"], parent_author=parent, parent_ms=1_000)
        assert leader == miners[case["author"]], case


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_headers(name: str) -> None:
    rules, chain, first = rules_of(name), clients_chain(name), first_of(name)
    link, place = genesis_link(first, rules.settings), chain.first(first)
    for step in PUBLISHED["chains"][name]["steps"]:
        header = header_of(step["header"])
        nonce, signature = open_seal(header.seal, is_signed=rules.is_signed)
        template = template_digest(header)
        search = search_digest(template, signature)
        assert (template.hex(), search.hex()) == (step["template"], step["search"])
        assert work_hash(search, nonce).hex() == step["work_hash"]
        assert f"{link.child_target:064x}" == f"{place.child_target:064x}" == step["target"]
        link, place = rules.check(header, link), chain.check(header, place)
        assert link.weight == place.weight == step["weight"]
        assert f"{link.child_target:064x}" == f"{place.child_target:064x}" == step["child_target"]
        assert link.hash == place.hash == header_hash(header)


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name in CHAINS for case in PUBLISHED["refused"][name]],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_refused_headers(name: str, case: Json) -> None:
    rules, chain, first = rules_of(name), clients_chain(name), first_of(name)
    link: Link = genesis_link(first, rules.settings)
    header = header_of(case["header"])
    assert reason_of(lambda: rules.check(header, link)) == case["reason"]
    assert reason_of(lambda: chain.check(header, chain.first(first))) == case["reason"]
