"""Vectors of chains that agree by work: their genesis, targets, rewards, turns, and headers with real work."""

from hashlib import sha256
from typing import Any

import by_the_book as book
import fixtures
from fixtures import AIT, h, keys

Json = Any

DEFAULTS: dict[str, Json] = {
    "miners": [],
    "difficulty": 1_048_576,
    "difficulty_rule": "fixed",
    "least_difficulty": 1,
    "block_time_ms": 60_000,
    "half_life_ms": 3_600_000,
    "min_interval_ms": 0,
    "interval_ms": 0,
    "max_interval_ms": 0,
    "take_over_ms": 5_000,
    "min_transactions": 1,
    "max_transactions": 20_000,
    "empty_blocks": True,
    "max_ahead_ms": 2_000,
    "finality_depth": 60,
    "reward": {"initial": 0, "era_blocks": 0, "kept": 5_000},
}
MINERS = ("alice", "bob", "carol")


def adjusting() -> dict[str, Json]:
    return DEFAULTS | {
        "difficulty": 256,
        "difficulty_rule": "adjusting",
        "least_difficulty": 16,
        "block_time_ms": 1_000,
        "half_life_ms": 10_000,
        "max_ahead_ms": 500,
        "reward": {"initial": 50 * AIT, "era_blocks": 210_000, "kept": 5_000},
    }


def listed() -> dict[str, Json]:
    return DEFAULTS | {
        "miners": [keys()[name].text for name in MINERS],
        "difficulty": 256,
        "min_interval_ms": 100,
        "interval_ms": 1_000,
        "max_interval_ms": 60_000,
        "take_over_ms": 500,
        "min_transactions": 10,
        "max_transactions": 100,
        "max_ahead_ms": 100,
        "reward": {"initial": 100 * AIT, "era_blocks": 0, "kept": 5_000},
    }


def document(work: dict[str, Json]) -> dict[str, Json]:
    """Alice has coins; everything else is at its default."""
    alice = keys()["alice"]
    return {
        "chain_id": "by-work",
        "timestamp": 1_790_000_000,
        "accounts": [{"address": alice.address, "balance": 5 * AIT, "pubkey": alice.text}],
        "params": fixtures.VERSION_2_PARAMS,
        "authorities": [],
        "consensus": {"mode": "poa-pow" if work["miners"] else "pow", "epoch_length": 600, "work": work},
    }


def spelled_short() -> dict[str, Json]:
    """The open chain's document with all defaults left out."""
    work = {name: value for name, value in adjusting().items() if value != DEFAULTS[name]}
    work["reward"] = {"initial": 50 * AIT, "era_blocks": 210_000}
    params = {"activations": fixtures.VERSION_2_PARAMS["activations"]}
    return document(adjusting()) | {"params": params, "consensus": {"mode": "pow", "work": work}}


def refused_documents() -> dict[str, tuple[dict[str, Json], str]]:
    """Changes to the devnet's document."""
    good = document(listed())
    whole = {name: good[name] for name in ("params", "authorities", "consensus", "accounts")}

    def with_work(**changes: Json) -> dict[str, Json]:
        return whole | {"consensus": good["consensus"] | {"work": listed() | changes}}

    def with_params(**changes: Json) -> dict[str, Json]:
        return whole | {"params": good["params"] | changes}

    def of_consensus(**changes: Json) -> dict[str, Json]:
        return whole | {"consensus": good["consensus"] | changes}

    miners = listed()["miners"]
    return {
        "by work, without its settings": (of_consensus(work=None), "bad_genesis"),
        "by work, with the rhythm of votes": (of_consensus(block_time_ms=999), "bad_genesis"),
        "by votes, with settings of work": (of_consensus(mode="poa"), "bad_genesis"),
        "by work, with authorities": (
            whole | {"authorities": [{"pubkey": keys()["validator"].text}]},
            "bad_genesis",
        ),
        "open to all, with miners": (of_consensus(mode="pow"), "bad_genesis"),
        "in turns, with nobody": (with_work(miners=[]), "bad_genesis"),
        "in turns, with one miner twice": (with_work(miners=[*miners, miners[0]]), "bad_genesis"),
        "in turns, with a miner of another scheme": (
            with_work(miners=["secp256k1:02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"]),
            "bad_genesis",
        ),
        "by work, with mint": (with_params(mint_budget_per_day=1), "bad_genesis"),
        "by work, with calibration": (with_params(calibration_budget=1), "bad_genesis"),
        "by work, in version 1": (
            whole
            | {"params": {name: good["params"][name] for name in fixtures.DEFAULT_PARAMS}},
            "bad_genesis",
        ),
        "a difficulty of 0": (with_work(difficulty=0), "out_of_range"),
        "a least difficulty above the first": (with_work(least_difficulty=257), "bad_genesis"),
        "a half life too short": (
            with_work(difficulty_rule="adjusting", block_time_ms=1_001, half_life_ms=10_000),
            "bad_genesis",
        ),
        "an interval below the least": (with_work(interval_ms=99), "bad_genesis"),
        "turns that never come": (with_work(max_interval_ms=2_499), "bad_genesis"),
        "a clock that may take a turn": (with_work(max_ahead_ms=251), "bad_genesis"),
        "open to all, with a clock that may stop miners": (
            of_consensus(mode="pow", work=listed() | {"miners": [], "max_ahead_ms": 30_001}),
            "bad_genesis",
        ),
        "fewer transactions allowed than needed": (with_work(max_transactions=9), "bad_genesis"),
        "blocks of no transaction at most": (with_work(max_transactions=0), "out_of_range"),
        "final deeper than a store goes back": (with_work(finality_depth=65), "out_of_range"),
        "a reward that is kept whole": (
            with_work(reward={"initial": 1, "era_blocks": 1, "kept": 10_000}),
            "out_of_range",
        ),
        "a setting that nobody knows": (with_work(speed=1), "unknown_field"),
    }  # fmt: skip


# docs/spec/nakamoto.md, "Work" and "Authors"


def target_of(difficulty: int) -> int:
    return 2**256 // difficulty - 1


def next_target(work: dict[str, Json], target: int, solve_ms: int) -> int:
    if work["difficulty_rule"] == "fixed":
        return target
    late = min(solve_ms, 6 * work["block_time_ms"]) - work["block_time_ms"]
    e = late * 65_536 // work["half_life_ms"]
    q = e // 65_536
    f = e - 65_536 * q
    c = 65_536 + (195_766_423_245_049 * f + 971_821_376 * f**2 + 5_127 * f**3 + 2**47) // 2**48
    moved = target * c * 2**q // 65_536 if q >= 0 else target * c // (2**-q * 65_536)
    return min(max(moved, 1), target_of(work["least_difficulty"]))


def leader(work: dict[str, Json], parent: int, since_ms: int) -> int:
    """Position of the author, from that of the parent's and the time between both."""
    passed = max(0, (since_ms - work["interval_ms"]) // work["take_over_ms"])
    return (parent + 1 + passed) % len(work["miners"])  # type: ignore[no-any-return]


def reward(terms: Json, height: int) -> int:
    amount: int = terms["initial"]
    for _ in range((height - 1) // terms["era_blocks"] if terms["era_blocks"] else 0):
        amount = amount * terms["kept"] // 10_000
    return amount


def template_of(header: dict[str, Any]) -> bytes:
    encode = {int: book.u64, str: str.encode, bytes: bytes}
    parts = [encode[type(header[name])](header[name]) for name in book.HEADER_FIELDS[:12]]
    return book.tagged("aitbc/template/1", *parts)


def sealed(header: dict[str, Any], target: int, signer: str = "") -> dict[str, Any]:
    """With the first nonce that is enough."""
    template = template_of(header)
    signature = keys()[signer].sign(template) if signer else b""
    search = book.tagged("aitbc/work/1", template, signature)
    nonce = 0
    while int.from_bytes(sha256(search + book.u64(nonce)).digest(), "big") > target:
        nonce += 1
    return header | {"seal": book.u64(nonce) + signature}


# Chains of headers


def _first(work: dict[str, Json]) -> dict[str, Any]:
    made = document(work)
    return {
        "version": 2,
        "chain_id": made["chain_id"],
        "height": 0,
        "parent": bytes(32),
        "timestamp_ms": made["timestamp"] * 1000,
        "proposer": "",
        "txs_root": book.list_root([]),
        "outcomes_root": book.list_root([]),
        "state_root": h("a state that headers do not show"),
        "next_validators_hash": book.validators_hash([]),
        "history_root": book.history_root([]),
        "extra": fixtures.genesis_hash_of(book.jcs(made)),
        "seal": b"",
    }


def _child(parent: dict[str, Any], after_ms: int, author: str, **more: Any) -> dict[str, Any]:
    return parent | {
        "height": parent["height"] + 1,
        "parent": book.header_hash(parent),
        "timestamp_ms": parent["timestamp_ms"] + after_ms,
        "proposer": keys()[author].address,
        "txs_root": h("txs"),
        "outcomes_root": h("outcomes"),
        "extra": b"",
        "seal": b"",
        **more,
    }


def _chain(work: dict[str, Json], gaps: list[tuple[int, bool]]) -> Json:
    """`gaps`: milliseconds between blocks, and whether the later one is empty."""
    header, target, weight, author = _first(work), target_of(work["difficulty"]), 0, -1
    steps = []
    for after_ms, is_empty in gaps:
        author = leader(work, author, after_ms) if work["miners"] else 1
        name = MINERS[author]
        body = {"txs_root": book.list_root([])} if is_empty else {}
        header = sealed(_child(header, after_ms, name, **body), target, name if work["miners"] else "")
        weight += 2**256 // (target + 1)
        template = template_of(header)
        search = book.tagged("aitbc/work/1", template, header["seal"][8:])
        child = target if header["height"] == 1 else next_target(work, target, after_ms)
        steps.append(
            {
                "header": book.header_json(header),
                "template": template.hex(),
                "search": search.hex(),
                "work_hash": sha256(search + header["seal"][:8]).hexdigest(),
                "target": f"{target:064x}",
                "weight": weight,
                "child_target": f"{child:064x}",
            }
        )
        target = child
    return {"document": document(work), "first": book.header_json(_first(work)), "steps": steps}


def _bad_headers(work: dict[str, Json]) -> Json:
    """On block 0 of a chain, each searched for its target and signed by whom it names."""
    first, target = _first(work), target_of(work["difficulty"])
    in_turns = bool(work["miners"])
    author = "alice" if in_turns else "bob"

    def case(
        name: str, reason: str, after_ms: int = 1_000, *, by: str = "", easy: bool = False, **changes: Any
    ) -> Json:
        header = _child(first, after_ms, author) | changes
        signer = (by or author) if in_turns else ""
        header = header if "seal" in changes else sealed(header, target, signer)
        if easy:
            header = _too_easy(_child(first, after_ms, author), target, signer)
        return {"name": name, "header": book.header_json(header), "reason": reason}

    cases = [
        case("another chain", "wrong_chain", chain_id="by-works"),
        case("extra of 257 bytes", "too_large", extra=bytes(257)),
        case("a proposer of 91 letters", "too_large", proposer="a" * 91),
        case("a seal without a nonce", "malformed", seal=b""),
        case("a seal with a byte too many", "malformed", seal=bytes(73 if in_turns else 9)),
        case("height 2 on block 0", "wrong_height", height=2),
        case("another parent", "wrong_parent", parent=h("parent")),
        case("no later than its parent", "bad_timestamp", 0),
        case("not enough work", "not_enough_work", easy=True),
    ]
    if in_turns:
        cases += [
            case("before the least interval", "bad_timestamp", 99),
            case("after the greatest interval", "bad_timestamp", 60_001),
            case("empty before the interval", "bad_timestamp", 999, txs_root=book.list_root([])),
            case("the second in the first's turn", "wrong_proposer", proposer=keys()["bob"].address),
            case("the first after its turn", "wrong_proposer", 1_500),
            case("somebody who is not listed", "wrong_proposer", proposer=keys()["hub"].address),
            case("signed by somebody else", "bad_signature", by="bob"),
        ]
    return cases


def _too_easy(header: dict[str, Any], target: int, signer: str) -> dict[str, Any]:
    """The first nonce that is not enough."""
    template = template_of(header)
    signature = keys()[signer].sign(template) if signer else b""
    search = book.tagged("aitbc/work/1", template, signature)
    nonce = 0
    while int.from_bytes(sha256(search + book.u64(nonce)).digest(), "big") <= target:
        nonce += 1
    return header | {"seal": book.u64(nonce) + signature}


def nakamoto() -> Json:
    targets = [1, 2, 3, 16**4, 16**5, 2**53 - 1]
    rules = adjusting()
    late = [1, 500, 999, 1_000, 1_001, 1_500, 3_000, 6_000, 6_001, 10**9]
    starts = [target_of(256), target_of(2**40), target_of(16), 1, 2**256 - 1]
    terms = [
        {"initial": 0, "era_blocks": 0, "kept": 5_000},
        {"initial": 100, "era_blocks": 0, "kept": 5_000},
        {"initial": 100, "era_blocks": 10, "kept": 5_000},
        {"initial": 1_000, "era_blocks": 1, "kept": 9_000},
        {"initial": 2**53 - 1, "era_blocks": 1, "kept": 9_900},
        {"initial": 7, "era_blocks": 5, "kept": 0},
    ]
    return {
        "spec": "docs/spec/nakamoto.md",
        "targets": [
            {
                "difficulty": difficulty,
                "target": f"{target_of(difficulty):064x}",
                "work": str(2**256 // (target_of(difficulty) + 1)),
            }
            for difficulty in targets
        ],
        "next_targets": {
            "work": rules,
            "cases": [
                {
                    "target": f"{target:064x}",
                    "solve_ms": solve_ms,
                    "next": f"{next_target(rules, target, solve_ms):064x}",
                }
                for target in starts
                for solve_ms in late
            ],
        },
        "rewards": [
            {"reward": one, "height": height, "amount": reward(one, height)}
            for one in terms
            for height in (1, 2, 5, 6, 10, 11, 21, 71, 400)
        ],
        "turns": {
            "work": listed(),
            "cases": [
                {"parent": parent, "since_ms": since_ms, "author": leader(listed(), parent, since_ms)}
                for parent in (-1, 0, 1, 2)
                for since_ms in (1, 1_000, 1_499, 1_500, 1_999, 2_000, 2_500, 10**9)
            ],
        },
        "chains": {
            "open": _chain(
                adjusting(),
                [(10**9, False), (1_000, False), (20, True), (20, False), (900, True), (30_000, False), (1, False)],
            ),
            "in turns": _chain(
                listed(),
                [(100, False), (1_000, True), (1_500, False), (2_100, True), (999, False), (60_000, True)],
            ),
        },
        "refused": {"open": _bad_headers(adjusting()), "in turns": _bad_headers(listed())},
    }  # fmt: skip
