"""Forms with one fault each: the reference gives the same reason, from the tables of docs/spec/transactions.md."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import pytest

from aitbc.core.codec.keytext import key_to_text
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.types.reasons import Rejected
from reference.forms import Invalid, check_form
from reference.world import NO_KEYS, SETTINGS, World
from support.chain import REQUEST
from support.people import ALICE, HUB, person

H = HUB.address
ZERO, ONE = "0" * 64, "1" * 64
APPROVALS = {"bitmap": 1, "sigs": ["00" * 64]}

VALUES: dict[str, Sequence[Any]] = {
    "base_fee": [-1, 0, 10**6, 10**6 + 1, 2**60, -(2**60), "x", True, None, [], {}, 1.5],
    "treasury": [5, None, "ait1x", "x", "", True],
    "hubs": [[5], [H, H], ["x"], [], "x", {}, [""], [H], 1.5],
    "activations": [
        *(5, [], [{}], [5], [{"version": 1, "height": 5}], [{"version": 3}], [{"version": 3, "height": -1}]),
        *([{"version": "3", "height": 5}], [{"version": 3, "height": 5, "x": 1}]),
        *(
            [{"version": 2**53, "height": 5}],
            [{"version": 3, "height": 2**53}],
            [{"version": 3, "height": 5}],
        ),
    ],
    **dict.fromkeys(("devnet", "faucet_limit", "nonsense", "", "consensus.mode", "supply.burned"), (0,)),
    **dict.fromkeys(("lock_retention_ms", "unbonding_ms"), (59_999, 60_000, 31_536_000_000, 31_536_000_001)),
    "jail_ms": [0, 31_536_000_001],
    **dict.fromkeys(("mint_price_cap_bp", "min_validator_stake", "evidence_epochs"), (0, 1)),
    **dict.fromkeys(("max_validators", "governance_threshold"), (0, 1, 50, 51)),
    **dict.fromkeys(("hub_bond", "mint_budget_per_day", "calibration_until_ms"), (0, 2**53 - 1, 2**53)),
    **dict.fromkeys(("slash_bp", "score_decay_bp", "fee_burn_bp"), (0, 10_000, 10_001)),
    **dict.fromkeys(("coordinator_ratio_bp", "treasury_ratio_bp"), (0, 5_000, 5_001)),
}


def updates() -> Iterator[tuple[Any, Any]]:
    for name, values in VALUES.items():
        yield from [({"number": 1, "set": {name: value}}, APPROVALS) for value in values]
    yield from [({"number": 1, "set": value}, APPROVALS) for value in ([], {}, 0, "x")]
    key = key_to_text(HUB.auth_key)
    lists: list[Any] = [
        *([], [{}], [5], [{"address": "x"}], [{"address": H}, {"address": H}], [{"address": H}]),
        *([{"address": H, "pubkey": key_to_text(ALICE.auth_key)}], [{"address": H, "pubkey": "zz"}]),
        *([{"address": H, "pubkey": ""}], [{"address": H, "x": 1}], [{"address": H, "pubkey": key}]),
        *[[{"address": person(str(i)).address} for i in range(n)] for n in (50, 51)],
    ]
    yield from [({"number": 1, "authorities": members}, APPROVALS) for members in lists]
    witnesses: list[Any] = [
        *(None, {"bitmap": 0, "sigs": []}, {"bitmap": 1, "sigs": ["0"]}, {"bitmap": 1}, {"sigs": []}),
        *({"bitmap": -1, "sigs": []}, {"bitmap": 2**53, "sigs": []}, {"bitmap": 1, "sigs": ["zz"]}),
        *({"bitmap": 1, "sigs": [5]}, {"bitmap": 1, "sigs": ["00"] * 50}, {"bitmap": 1, "sigs": ["00"] * 51}),
        *({"bitmap": 1, "sigs": "x"}, {"bitmap": 1, "sigs": [], "x": 1}, {"bitmap": "1", "sigs": []}),
    ]
    yield from [({"number": 1, "set": {"base_fee": 1}}, witness) for witness in witnesses]
    yield from [({"number": 1}, APPROVALS), ({"number": 0, "set": {"base_fee": 1}}, APPROVALS)]


def registers() -> Iterator[tuple[Any, Any]]:
    witnesses: list[Any] = [
        *(
            {},
            {"hub": H},
            {"sig": "00"},
            {"hub": H, "sig": "00"},
            {"hub": "x", "sig": "00"},
            {"hub": H, "sig": "0"},
        ),
        *({"pubkey": "00", "validator_sig": "00"}, {"validator_sig": "0"}, {"validator_sig": "00"}),
        *(
            {"hub": H, "sig": "00", "pubkey": "zz"},
            {"hub": "", "sig": "00"},
            {"hub": H, "validator_sig": "00"},
        ),
        *({"hub": 5, "sig": "00"}, {"hub": H, "sig": "00", "x": 1}),
    ]
    yield from [({"role": "provider", "models": []}, witness) for witness in witnesses]
    offer = {"model": "a", "kind": "", "price_per_kilounit": 0}
    hub = {"role": "hub", "models": []}
    payloads: list[Any] = [
        *({"role": "x", "models": []}, {"role": "hub"}, {**hub, "payout": "x"}, {**hub, "validator": "x"}),
        *(
            {**hub, "endpoint": "x" * 257},
            {**hub, "endpoint": ""},
            {**hub, "payout": ""},
            {**hub, "models": [5]},
        ),
        *[{**hub, "models": [{**offer, "model": str(i)} for i in range(n)]} for n in (64, 65)],
        *[
            {**hub, "models": [one]}
            for one in ({}, offer, {**offer, "digest": ""}, {**offer, "price_per_kilounit": -1})
        ],
        {**hub, "models": [offer, offer]},
    ]
    yield from [(payload, None) for payload in payloads]


def evidence() -> Iterator[tuple[Any, Any]]:
    vote = {"kind": "notar", "candidate": ZERO, "sig": "00"}
    other = {**vote, "candidate": ONE}
    both = {"validator": H, "epoch": 0, "slot": 1, "first": vote, "second": other}
    changes: list[Any] = [
        *({}, {"epoch": -1}, {"slot": 2**53}, {"validator": "x"}, {"first": {**vote, "kind": "x"}}),
        *({"first": {**vote, "sig": "0"}}, {"second": vote}, {"first": {**vote, "kind": "skip"}}),
        *({"first": other, "second": vote}, {"first": {**vote, "kind": "final"}}, {"epoch": 2**53 - 1}),
        *[
            {"first": {**vote, "kind": first}, "second": {**other, "kind": second}}
            for first in ("candidate", "notar", "final", "skip")
            for second in ("candidate", "notar", "final", "skip")
        ],
        {"first": {**vote, "kind": "final"}, "second": {**vote, "kind": "skip"}},
    ]
    yield from [({"votes": {**both, **change}}, None) for change in changes]
    nothing: list[Any] = [
        {},
        {"votes": None},
        {"votes": {}},
        {"attestations": {}},
        {"votes": both, "attestations": None},
    ]
    yield from [(payload, None) for payload in nothing]


def rotations() -> Iterator[tuple[Any, Any]]:
    texts = (
        *NO_KEYS,
        "",
        "zz",
        "multisig:",
        "secp256k1:02" + "ff" * 32,
        "x" * 3_000,
        "rsa-pss:" + "ff" * 256,
    )
    yield from [({"pubkey": text, "sig": "00"}, None) for text in texts]
    yield from [({"pubkey": ZERO, "sig": sig}, None) for sig in ("0", "00" * 4_097, "")]


def others() -> Iterator[tuple[str, Any]]:
    for kind in ("STAKE", "UNSTAKE"):
        for change in (
            {"role": "x"},
            {"amount": 0},
            {"amount": 2**53},
            {"amount": True},
            {"amount": 1.5},
            {},
        ):
            yield kind, {"role": "hub", "amount": 1, **change}
    for root, count in (
        (ZERO, 0),
        (ZERO, 1_048_577),
        (ZERO[1:], 1),
        ("A" * 64, 1),
        (ZERO + "\n", 1),
        (ZERO, 1),
    ):
        yield "RECEIPT_BATCH", {"root": root, "count": count}
    lock = {
        "hub": H,
        "job_id": "a",
        "amount": 1,
        "request_hash": REQUEST,
        "deliver_by_ms": 0,
        "claim_until_ms": 0,
    }
    for name, values in {
        "tasks": [0, 1, 4_096, 4_097],
        "job_id": ["", "x" * 128, "x" * 129, "😀" * 128],
        "session": [False, True, 0, 1],
        "hub": ["x", H.upper(), 5],
        "request_hash": ["sha256:", REQUEST + "\n", REQUEST.upper()],
    }.items():
        yield from [("JOB_LOCK", {**lock, name: value}) for value in values]
    for kind in ("TRANSFER", "FAUCET"):
        for to in (H, H.upper(), H[:-1] + "q", ""):
            yield kind, {"to": to, "amount": 1}


CASES = [
    *[("PARAM_UPDATE", *case) for case in updates()],
    *[("REGISTER", *case) for case in registers()],
    *[("EVIDENCE", *case) for case in evidence()],
    *[("KEY_ROTATE", *case) for case in rotations()],
    *[(kind, payload, None) for kind, payload in others()],
]


@pytest.fixture(scope="module")
def world() -> World:
    return World(Random(0), SETTINGS[0])


def reasons(world: World, kind: str, payload: Any, witness: Any) -> tuple[str, str]:
    """The ledger's and the reference's; empty when the form is good."""
    tx = world.sign(ALICE.address, kind, payload, witness=witness, fee=100)
    theirs = ours = ""
    try:
        verify_transaction(tx, world.genesis_hash)
    except Rejected as error:
        theirs = str(error.reason)
    try:
        check_form(tx, world.genesis_hash)
    except Invalid as error:
        ours = error.reason
    return theirs, ours


def test_one_fault_has_one_reason(world: World) -> None:
    found = [
        (kind, payload, witness, *reasons(world, kind, payload, witness)) for kind, payload, witness in CASES
    ]
    assert [case for case in found if case[3] != case[4]] == []
    assert len({case[3] for case in found}) > 12


@pytest.mark.parametrize(
    ("name", "value"), [*[("base_fee", value) for value in ("x", True, None, [], {}, 1.5)], ("treasury", 1.5)]
)
def test_a_value_of_an_update_of_another_type(world: World, name: str, value: Any) -> None:
    """encoding.md: another type is `wrong_type`, a fraction `float_not_allowed`."""
    theirs, ours = reasons(world, "PARAM_UPDATE", {"number": 1, "set": {name: value}}, APPROVALS)
    assert theirs == ours
