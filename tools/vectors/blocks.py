"""Vectors of headers, outcomes, Merkle structures, ledger records and the genesis block."""

import json
from typing import Any

import by_the_book as book
import fixtures
import nakamoto
from fixtures import AIT, NOW_MS, h, keys, sha

Json = Any


def _header(**more: Any) -> dict[str, Any]:
    base = {
        "version": 1,
        "chain_id": "ait-devnet",
        "height": 1_234,
        "parent": h("parent"),
        "timestamp_ms": NOW_MS,
        "proposer": keys()["validator"].address,
        "txs_root": h("txs"),
        "outcomes_root": h("outcomes"),
        "state_root": h("state"),
        "next_validators_hash": h("validators"),
        "history_root": h("history"),
        "extra": b"",
        "seal": b"",
    }
    return base | more


def headers() -> Json:
    changes: dict[str, Any] = {
        "version": 2, "chain_id": "ait-devnet2", "height": 1_235, "parent": h("x"), "timestamp_ms": NOW_MS + 1,
        "proposer": keys()["alice"].address, "txs_root": h("x"), "outcomes_root": h("x"), "state_root": h("x"),
        "next_validators_hash": h("x"), "history_root": h("x"), "extra": b"x", "seal": b"x",
    }  # fmt: skip
    good = [
        _header(),
        _header(extra=bytes(range(256)), height=2**32, timestamp_ms=2**53 - 1),
        _header(extra=b"ab", seal=b""),
        _header(extra=b"a", seal=b"b"),
        *[_header(**{name: value}) for name, value in changes.items()],
    ]
    plain = book.header_json(_header())
    refused: dict[str, tuple[Json, str]] = {
        "without stateRoot": ({k: v for k, v in plain.items() if k != "stateRoot"}, "malformed"),
        "root of 31 bytes": (plain | {"txsRoot": plain["txsRoot"][2:]}, "bad_hex"),
        "root in capitals": (plain | {"txsRoot": plain["txsRoot"].upper()}, "bad_hex"),
        "height -1": (plain | {"height": -1}, "out_of_range"),
        "height 2^53": (plain | {"height": 2**53}, "out_of_range"),
        "height as truth": (plain | {"height": True}, "out_of_range"),
        "chainId as a number": (plain | {"chainId": 1}, "wrong_type"),
        "parent null": (plain | {"parent": None}, "malformed"),
    }
    return {
        "spec": "docs/spec/blocks.md",
        "headers": [
            {
                "json": book.header_json(header),
                "preimage": book.header_preimage(header).hex(),
                "hash": book.header_hash(header).hex(),
                "wire": book.msgpack([header[name] for name in book.HEADER_FIELDS]).hex(),
            }
            for header in good
        ],
        "refused": [{"name": n, "json": view, "reason": why} for n, (view, why) in refused.items()],
        "outcomes": _outcomes(),
    }


def _outcomes() -> Json:
    bob, hub = keys()["bob"].address, keys()["hub"].address
    outcomes: list[tuple[bytes, bool, str, int, list[tuple[str, str, int]]]] = [
        (h("tx 0"), True, "", 10, [("transferred", bob, 25 * AIT)]),
        (h("tx 1"), False, "insufficient_balance", 10, []),
        (h("tx 2"), True, "", 40, [("paid", bob, 1_900_000), ("returned", bob, 1), ("minted", bob, 1_900_000), ("minted", hub, 95_000)]),
        (h("tx 3"), True, "", 0, [("registered", f"provider:{bob}", 0)]),
    ]  # fmt: skip
    leaves = [book.outcome_leaf(*outcome) for outcome in outcomes]
    return {
        "list": [
            {
                "tx_id": tx_id.hex(),
                "ok": ok,
                "reason": reason,
                "fee": fee,
                "events": events,
                "leaf": leaf.hex(),
            }
            for (tx_id, ok, reason, fee, events), leaf in zip(outcomes, leaves, strict=True)
        ],
        "outcomes_root": book.list_root(leaves).hex(),
    }


def _leaves(count: int) -> list[bytes]:
    return [f"leaf {i}".encode() for i in range(count)]


def lists() -> Json:
    five = _leaves(5)
    proof = {"index": 3, "count": 5, "path": [node.hex() for node in book.list_path(five, 3)]}
    path, leaf = proof["path"], five[3].hex()
    bad = {
        "another leaf": (five[2].hex(), proof),
        "another index": (leaf, proof | {"index": 2}),
        "another count": (leaf, proof | {"count": 6}),
        "index at the count": (leaf, proof | {"index": 5}),
        "negative index": (leaf, proof | {"index": -1}),
        "nothing in the list": (leaf, proof | {"count": 0}),
        "path too short": (leaf, proof | {"path": path[:-1]}),
        "path too long": (leaf, proof | {"path": [*path, "00" * 32]}),
        "path in another order": (leaf, proof | {"path": path[::-1]}),
        "a node of 31 bytes": (leaf, proof | {"path": [path[0][2:], *path[1:]]}),
        "an inner node as a leaf": (
            (b"" + book.list_top(five[2:4])).hex(),
            {"index": 1, "count": 3, "path": path[1:]},
        ),
    }
    return {
        "spec": "docs/spec/blocks.md",
        "lists": [
            {
                "leaves": [leaf.hex() for leaf in leaves],
                "root": book.list_root(leaves).hex(),
                "proofs": [
                    {"index": i, "count": len(leaves), "path": [n.hex() for n in book.list_path(leaves, i)]}
                    for i in range(len(leaves))
                ],
            }
            for leaves in map(_leaves, range(10))
        ],
        "refused": {
            "root": book.list_root(five).hex(),
            "cases": [{"name": n, "leaf": leaf, "proof": proof} for n, (leaf, proof) in bad.items()],
        },
    }


def mountains() -> Json:
    hashes = [h(f"block {i}") for i in range(17)]
    return {
        "spec": "docs/spec/blocks.md",
        "leaves": [leaf.hex() for leaf in hashes],
        "ranges": [
            {
                "count": count,
                "peaks": [[height, node.hex()] for height, node in book.mountains(hashes[:count])],
                "root": book.history_root(hashes[:count]).hex(),
            }
            for count in range(18)
        ],
        "proofs": [
            _history_proof(hashes[:count], index)
            for count in (1, 2, 3, 7, 8, 11, 17)
            for index in range(count)
        ],
        "refused": _bad_history_proofs(hashes[:11]),
    }


def _history_proof(leaves: list[bytes], index: int) -> dict[str, Json]:
    return {
        "index": index,
        "count": len(leaves),
        "leaf": leaves[index].hex(),
        "nodes": [node.hex() for node in book.history_proof(leaves, index)],
    }


def _bad_history_proofs(leaves: list[bytes]) -> Json:
    """Of a range of 8 + 2 + 1; index 9 has one sibling and two other peaks."""
    good = _history_proof(leaves, 9)
    nodes = good["nodes"]
    changed: dict[str, dict[str, Json]] = {
        "another leaf": {"leaf": leaves[8].hex()},
        "another index": {"index": 8},
        "another count": {"count": 12},
        "index at the count": {"index": 11},
        "negative index": {"index": -1},
        "nothing in the range": {"count": 0},
        "a node too few": {"nodes": nodes[:-1]},
        "a node too many": {"nodes": [*nodes, "00" * 32]},
        "peaks in another order": {"nodes": [nodes[0], nodes[2], nodes[1]]},
        "a node of 31 bytes": {"nodes": [nodes[0][2:], *nodes[1:]]},
        "a peak as a leaf": {"leaf": nodes[1], "index": 0},
        "a pair as a leaf": {"leaf": nodes[0] + leaves[9].hex(), "index": 4},
    }
    return {
        "root": book.history_root(leaves).hex(),
        "cases": [{"name": name, "proof": good | change} for name, change in changed.items()],
    }


def indexed_tree() -> Json:
    tree = book.IndexedTree("accounts")
    order = [11, 3, 7, 19, 1, 13, 5, 17, 2, 23, 29, 4, 31, 37, 41, 6, 43, 47, 8, 53]
    puts = [(f"key {number:02}", f"value {number}") for number in order]
    puts[6:6] = [("key 07", "value 7 again"), ("key 11", "")]
    puts += [("key", "a prefix of others"), ("key 53", "value 53 again"), ("\u00e9", "not ASCII")]
    steps = [{"key": "", "value": "", "index": 0, "root": tree.root().hex()}]
    for key, value in puts:
        index = tree.put(key.encode(), value.encode())
        steps.append({"key": key, "value": value, "index": index, "root": tree.root().hex()})
    present = ["key", "key 01", "key 07", "key 11", "key 53", "\u00e9"]
    absent = ["a", "key 00", "key 09", "key 1", "key 54", "zzz", "\u00ff"]
    proof = tree.prove(b"key 07")
    hole = tree.prove(b"key 09")
    return {
        "spec": "docs/spec/state.md",
        "store": "accounts",
        "steps": steps,
        "inclusion": [{"key": key.encode().hex(), "proof": tree.prove(key.encode())} for key in present],
        "absence": [{"key": key.encode().hex(), "proof": tree.prove(key.encode())} for key in absent],
        "refused_inclusion": _bad_inclusions(proof),
        "refused_absence": [
            {"name": "the key is there", "key": b"key 08".hex(), "proof": hole},
            {"name": "a key beyond the next", "key": b"key 12".hex(), "proof": hole},
            {"name": "a key below", "key": b"key 07".hex(), "proof": hole},
            {
                "name": "next key changed",
                "key": b"key 09".hex(),
                "proof": hole | {"next_key": b"key 10".hex()},
            },
            {"name": "next key emptied", "key": b"key 54".hex(), "proof": hole | {"next_key": ""}},
        ],
        "blocks": _tree_blocks(),
    }


def _tree_blocks() -> Json:
    """What blocks do to a tree: several keys at once, removals, slots that are taken again, fewer levels."""
    named = {number: f"key {number:02}" for number in range(40)}

    def put(*numbers: int, value: str = "value") -> dict[str, str | None]:
        return {named[number]: f"{value} {number}" for number in numbers}

    def drop(*numbers: int) -> dict[str, str | None]:
        return {named[number]: None for number in numbers}

    steps: list[tuple[str, dict[str, str | None]]] = [
        ("new keys take slots in key order", put(9, 2, 14, 5, 1, 16, 12, 3, 7, 10, 15, 6, 13, 4, 11, 8)),
        ("nothing", {}),
        ("removed from the middle", drop(6, 3, 11)),
        ("the lowest free slot is taken first", put(31, 30)),
        ("a slot freed by the same block is taken, then one is appended", drop(1) | put(22, 20, 21)),
        ("removed and changed", drop(5) | put(4, 31, value="again")),
        ("what is not there is removed", drop(5, 39)),
        ("a value becomes empty", {named[4]: ""}),
        ("a free slot is taken and one appended", put(5, 17)),
        ("the slot at the end is given up", drop(17)),
        ("free slots in front of it go with it, and a level", drop(13, 14, 15, 16) | drop(22)),
        ("one slot is taken again, the one at the end given up", drop(12, 10) | put(23)),
        ("the greatest key goes", drop(31)),
        ("one group is left", drop(2, 4, 5, 7, 8, 9, 20, 21, 23)),
        ("nothing is left", drop(30)),
        (
            "keys compare as UTF-8, not as UTF-16",
            {"\U00010000": "a plane above", "\uffff": "the last below", "\uff5e": "~", "z": ""},
        ),
        (
            "a prefix comes before what extends it",
            {"\uffff\uffff": "longer", "\uffff": None, "zz": "", "z": "changed"},
        ),
    ]
    tree, listed = book.IndexedTree("locks"), []
    for name, changes in steps:
        tree.update({key.encode(): None if v is None else v.encode() for key, v in changes.items()})
        asked = sorted({*changes, named[7], named[30], named[0]})
        listed.append(
            {
                "name": name,
                "changes": [{"key": key, "value": value} for key, value in changes.items()],
                "count": tree.count(),
                "slots": {key.decode(): slot for slot, (key, _) in sorted(tree.slots.items())},
                "root": tree.root().hex(),
                "proofs": [{"asked": key, "proof": tree.prove(key.encode())} for key in asked[::2]],
            }
        )
    return listed


def _bad_inclusions(proof: dict[str, Json]) -> list[Json]:
    groups = proof["groups"]
    flipped = [[groups[0][0], groups[0][1], "00" * 32], *groups[1:]]
    changed: dict[str, dict[str, Json]] = {
        "another value": {"value": b"value 8".hex()},
        "another next key": {"next_key": ""},
        "another index": {"index": proof["index"] ^ 1},
        "another count": {"count": proof["count"] + 1},
        "index at the count": {"index": proof["count"]},
        "negative index": {"index": -1},
        "a sibling changed": {"groups": flipped},
        "a level too few": {"groups": groups[:-1]},
        "a level too many": {"groups": [*groups, groups[-1]]},
        "siblings in another order": {"groups": [groups[0][::-1], *groups[1:]]},
        "a sibling of 31 bytes": {"groups": [[groups[0][0][2:], *groups[0][1:]], *groups[1:]]},
    }
    return [{"name": name, "proof": proof | change} for name, change in changed.items()]


def records() -> Json:
    alice, hub, provider = (keys()[name] for name in ("alice", "hub", "provider"))
    accounts = [(0, 0, b""), (25 * AIT, 7, alice.auth), (2**63 - 1, 2**53 - 1, alice.auth)]
    lock = {
        "client": alice.address, "hub": hub.address, "job_id": "job-7c1f", "amount": 2 * AIT, "paid": 0,
        "tasks": 1, "paid_tasks": "0", "request_hash": sha("request"), "deliver_by_ms": NOW_MS + 1,
        "claim_until_ms": NOW_MS + 2, "height": 12, "status": "open",
    }  # fmt: skip
    receipt = {
        "job_id": "job-7c1f", "client": alice.address, "provider": provider.address, "hub": hub.address,
        "units": 1_900, "price": 1_900_000, "output_hash": sha("output"), "details_hash": sha("details"),
        "lock": h("lock").hex(), "task": 0, "attempt": 1, "minted": 1_900_000, "height": 13,
    }  # fmt: skip
    registration = {
        "role": "provider", "endpoint": "", "payout": provider.address, "validator": "", "height": 2,
        "models": [{"model": "tiny-lm", "kind": "chat", "price_per_kilounit": 1_000_000}],
    }  # fmt: skip
    lock_id, receipt_id = h("lock").hex(), "rcpt_" + h("receipt").hex()
    bond = {
        "amount": 5 * AIT,
        "unbonding": [{"amount": AIT, "free_ms": NOW_MS}],
        "jailed_until_ms": 0,
        "epoch": 0,
        "minted": 0,
    }
    plain: list[tuple[str, str, Json]] = [
        ("locks", lock_id, lock),
        (
            "locks",
            lock_id,
            lock | {"paid": AIT, "tasks": 4096, "paid_tasks": "8" + "0" * 1023, "status": "settled"},
        ),
        ("locks", lock_id, lock | {"status": "refunded", "session": True, "closed_ms": NOW_MS + 3}),
        ("receipts", receipt_id, receipt),
        ("receipts", receipt_id, receipt | {"claimed_ms": NOW_MS + 2}),
        (
            "receipts",
            "batch:" + lock_id,
            {"hub": hub.address, "root": h("root").hex(), "count": 1_000, "height": 20, "expires_ms": NOW_MS},
        ),
        ("validators", hub.address, {"auth_key": keys()["validator"].text, "power": 1, "position": 0}),
        ("validators", hub.address, {"auth_key": keys()["validator"].text, "power": 0, "position": 3}),
        ("validators", "score:" + hub.address, {"score": 10**15, "units": 1_900}),
        ("registry", "provider:" + provider.address, registration),
        (
            "registry",
            "provider:" + provider.address,
            registration | {"epoch": 4, "epoch_units": 10**12, "calibrated_epoch": 4},
        ),
        (
            "registry",
            "hub:" + hub.address,
            registration | {"role": "hub", "models": [], "endpoint": "https://hub.example"},
        ),
        ("registry", "bond:validator:" + hub.address, bond),
        (
            "registry",
            "keys:" + hub.address,
            {"keys": [{"key": alice.text, "until_height": 77, "until_ms": NOW_MS}]},
        ),
        ("registry", "offence:" + lock_id, {"offender": hub.address, "height": 9, "expires_ms": 0}),
        ("params", "mint_per_unit", {"value": "1000"}),
        ("params", "hubs", {"value": json.dumps([hub.address])}),
        ("registry", "bond:hub:" + hub.address, bond | {"jailed_until_ms": NOW_MS, "offences": 3}),
    ]
    return {
        "spec": "docs/spec/state.md",
        "accounts": [
            {"balance": str(b), "nonce": n, "auth": auth.hex(), "bytes": book.account_bytes(b, n, auth).hex()}
            for b, n, auth in accounts
        ],
        "json_records": [
            {"store": store, "key": key, "record": record, "bytes": book.jcs(record).hex()} for store, key, record in plain
        ],
        "refused": [
            {"name": "an account of 15 bytes", "store": "accounts", "key": alice.address, "bytes": "00" * 15, "reason": "malformed"},
            {"name": "a lock with space", "store": "locks", "key": lock_id, "bytes": (book.jcs(lock) + b" ").hex(), "reason": "not_canonical"},
            {"name": "a lock of no status", "store": "locks", "key": lock_id, "bytes": book.jcs(lock | {"status": "lost"}).hex(), "reason": "wrong_type"},
            {"name": "a lock without a hub", "store": "locks", "key": lock_id, "bytes": book.jcs({k: v for k, v in lock.items() if k != "hub"}).hex(), "reason": "missing_field"},
            {"name": "a lock with a default spelled out", "store": "locks", "key": lock_id, "bytes": book.jcs(lock | {"session": False}).hex(), "reason": "not_canonical"},
            {"name": "a key that the registry cannot have", "store": "registry", "key": "nobody:" + hub.address, "bytes": book.jcs(bond).hex(), "reason": "malformed"},
            {"name": "a receipt with a field more", "store": "receipts", "key": receipt_id, "bytes": book.jcs(receipt | {"x": 1}).hex(), "reason": "unknown_field"},
            {"name": "a bond with a default spelled out", "store": "registry", "key": "bond:hub:" + hub.address, "bytes": book.jcs(bond | {"offences": 0}).hex(), "reason": "not_canonical"},
        ],
    }  # fmt: skip


def genesis() -> Json:
    document = json.loads(fixtures.devnet_document())
    return {
        "spec": "docs/spec/genesis.md",
        "chains": [
            _chain("devnet", document),
            _chain("devnet of version 1", json.loads(fixtures.devnet_document(version=1))),
            _chain("small", _small_document()),
            _chain("small of version 2", _small_document(fixtures.VERSION_2_PARAMS)),
            _chain("small, by stake", _by_stake()),
            _chain("small with its defaults spelled out", _small_document(), given=_small_spelled_out()),
            _chain("by work, open to all", nakamoto.document(nakamoto.adjusting())),
            _chain("by work, in turns", nakamoto.document(nakamoto.listed())),
            _chain(
                "by work, with its defaults left out",
                nakamoto.document(nakamoto.adjusting()),
                given=nakamoto.spelled_short(),
            ),
        ],
        "refused": _bad_documents(document),
    }


def _small_document(params: Json = fixtures.DEFAULT_PARAMS) -> dict[str, Json]:
    """One authority, nobody owns anything, every parameter at its default."""
    return {
        "chain_id": "small",
        "timestamp": 0,
        "accounts": [],
        "params": params,
        "authorities": [{"pubkey": keys()["validator"].text}],
        "consensus": fixtures.CONSENSUS,
    }


def _by_stake() -> dict[str, Json]:
    """Mode hybrid: two authorities, the greater stake second, one of them with an account beside its bond."""
    alice, validator = keys()["alice"], keys()["validator"]
    least = fixtures.VERSION_2_PARAMS["min_validator_stake"]
    return _small_document(fixtures.VERSION_2_PARAMS) | {
        "accounts": [{"address": alice.address, "balance": 5, "pubkey": alice.text}],
        "authorities": [
            {"pubkey": validator.text, "stake": least},
            {"pubkey": alice.text, "stake": 2**53 - 1},
        ],
        "consensus": fixtures.CONSENSUS | {"mode": "hybrid"},
    }


def _small_spelled_out() -> dict[str, Json]:
    return _small_document() | {"params": {}, "consensus": {}}


def _chain(name: str, document: dict[str, Json], given: Json = None) -> Json:
    """`given` is a text that means the same document."""
    canonical = book.jcs(document)
    genesis_hash_ = fixtures.genesis_hash_of(canonical)
    authorities = [
        (bytes.fromhex(authority["pubkey"]), authority.get("stake", 1))
        for authority in document["authorities"]
    ]
    trees = {store: book.IndexedTree(store) for store in book.STORES}
    listed = []
    for store, key, data in _genesis_records(document):
        index = trees[store].put(key.encode(), data)
        listed.append({"store": store, "key": key, "index": index, "bytes": data.hex()})
    members = [(_address(key), b"\x00" + key, power) for key, power in authorities]
    header = _header(
        version=2 if "activations" in document["params"] else 1,
        chain_id=document["chain_id"],
        height=0,
        parent=bytes(32),
        timestamp_ms=document["timestamp"] * 1000,
        proposer="",
        txs_root=book.list_root([]),
        outcomes_root=book.list_root([]),
        state_root=book.state_root([trees[store].root() for store in book.STORES]),
        next_validators_hash=book.validators_hash(members),
        history_root=book.history_root([]),
        extra=genesis_hash_,
    )
    return {
        "name": name,
        "document": document if given is None else given,
        "canonical": canonical.hex(),
        "genesis_hash": genesis_hash_.hex(),
        "records": listed,
        "store_roots": {store: trees[store].root().hex() for store in book.STORES},
        "state_root": header["state_root"].hex(),
        "validators_hash": header["next_validators_hash"].hex(),
        "header": book.header_json(header),
        "block_hash": book.header_hash(header).hex(),
        "inclusion": trees["params"].prove(b"base_fee"),
        "absence": trees["accounts"].prove(keys()["provider"].address.encode()),
    }


def _address(public: bytes) -> str:
    return next(key.address for key in keys().values() if key.public == public)


def _genesis_records(document: dict[str, Json]) -> list[tuple[str, str, bytes]]:
    """In the order of their indices: stores in their order, keys in the order of their bytes."""
    accounts = {
        entry["address"]: book.account_bytes(
            entry["balance"], 0, b"\x00" + bytes.fromhex(entry["pubkey"]) if "pubkey" in entry else b""
        )
        for entry in document["accounts"]
    }
    balances = {entry["address"]: entry["balance"] for entry in document["accounts"]}
    for authority in document["authorities"]:
        if "stake" in authority:
            public = bytes.fromhex(authority["pubkey"])
            balance = balances.get(_address(public), 0)
            accounts[_address(public)] = book.account_bytes(balance, 0, b"\x00" + public)
    validators = {
        _address(bytes.fromhex(authority["pubkey"])): book.jcs(
            {"auth_key": authority["pubkey"], "power": authority.get("stake", 1), "position": position}
        )
        for position, authority in enumerate(document["authorities"])
    }
    bonds = {
        f"bond:validator:{_address(bytes.fromhex(authority['pubkey']))}": book.jcs(
            {"amount": authority["stake"], "unbonding": [], "jailed_until_ms": 0, "epoch": 0, "minted": 0}
        )
        for authority in document["authorities"]
        if "stake" in authority
    }
    params = {name: book.jcs({"value": book.jcs_text(value)}) for name, value in document["params"].items()}
    for name, value in document["consensus"].items():
        text = str(value) if name != "work" else book.jcs_text(value)
        params[f"consensus.{name}"] = book.jcs({"value": text})
    supply = sum(entry["balance"] for entry in document["accounts"])
    supply += sum(authority.get("stake", 0) for authority in document["authorities"])
    params["supply.genesis"] = book.jcs({"value": str(supply)})
    stores = {"accounts": accounts, "validators": validators, "registry": bonds, "params": params}
    return [
        (store, key, stores[store][key])
        for store in book.STORES
        if store in stores
        for key in sorted(stores[store])
    ]


def _bad_documents(good: dict[str, Json]) -> list[Json]:
    """Each is the devnet's document with some keys replaced, or one left out."""
    alice, bob = good["accounts"][0], good["accounts"][1]
    params = good["params"]
    least, hybrid = params["min_validator_stake"], good["consensus"] | {"mode": "hybrid"}

    def staked(stake: int) -> Json:
        return good["authorities"][0] | {"stake": stake}

    cases: dict[str, tuple[dict[str, Json], str]] = {
        "an account twice": ({"accounts": [alice, alice]}, "bad_genesis"),
        "a key that makes another address": ({"accounts": [alice | {"pubkey": bob["pubkey"]}]}, "bad_genesis"),
        "an address with a wrong checksum": ({"accounts": [alice | {"address": alice["address"][:-1] + "q"}]}, "bad_address"),
        "balances beyond 2^63 - 1": ({"accounts": [
            {"address": book.bech32(i.to_bytes(20, "big")), "balance": 2**53 - 1} for i in range(1025)
        ]}, "bad_genesis"),
        "a balance of 2^53": ({"accounts": [alice | {"balance": 2**53}]}, "out_of_range"),
        "an authority twice": ({"authorities": good["authorities"] * 2}, "bad_genesis"),
        "no authority": ({"authorities": []}, "out_of_range"),
        "a faucet where there is no devnet": ({"params": params | {"devnet": 0, "synthetic_attester": ""}}, "bad_genesis"),
        "a synthetic attester where there is no devnet": ({"params": params | {"devnet": 0, "faucet": ""}}, "bad_genesis"),
        "a hub that is no address": ({"params": params | {"hubs": ["hub"]}}, "bad_address"),
        "a ratio above one": ({"params": params | {"fee_burn_bp": 10_001}}, "out_of_range"),
        "activations that do not begin at 0": ({"params": params | {"activations": [{"version": 2, "height": 1}]}}, "bad_genesis"),
        "activations out of order": (
            {"params": params | {"activations": [{"version": 3, "height": 0}, {"version": 2, "height": 9}]}}, "bad_genesis",
        ),
        "a version that nobody knows": ({"params": params | {"activations": [{"version": 99, "height": 0}]}}, "wrong_version"),
        "a parameter of version 2 in version 1": ({"params": params | {"activations": [], "hub_bond": 1}}, "bad_genesis"),
        "an unknown parameter": ({"params": params | {"block_reward": 1}}, "unknown_field"),
        "a stake where each has one vote": ({"authorities": [staked(10**9)]}, "bad_genesis"),
        "by stake, and nobody has one": ({"consensus": hybrid}, "bad_genesis"),
        "by stake, and one has too little": ({"consensus": hybrid, "authorities": [staked(least - 1)]}, "bad_genesis"),
        "by stake, and one has 2^53": ({"consensus": hybrid, "authorities": [staked(2**53)]}, "out_of_range"),
        "by stake, and one owes": ({"consensus": hybrid, "authorities": [staked(-1)]}, "out_of_range"),
        "by stake, in version 1": (
            {"consensus": hybrid, "authorities": [staked(10**9)],
             "params": {name: value for name, value in params.items() if name in fixtures.DEFAULT_PARAMS}}, "bad_genesis",
        ),
        "an unknown mode": ({"consensus": good["consensus"] | {"mode": "pos"}}, "wrong_type"),
        "a chain id in capitals": ({"chain_id": "AIT"}, "wrong_type"),
        "a chain id with a line break": ({"chain_id": "ait-devnet\n"}, "wrong_type"),
        "a chain id that begins with a dash": ({"chain_id": "-ait"}, "wrong_type"),
        "a chain id of 65 characters": ({"chain_id": "a" * 65}, "wrong_type"),
        "a timestamp as text": ({"timestamp": "0"}, "wrong_type"),
        "an unknown key": ({"premine": []}, "unknown_field"),
        **nakamoto.refused_documents(),
    }  # fmt: skip
    listed: list[Json] = [
        {"name": name, "change": change, "reason": why} for name, (change, why) in cases.items()
    ]
    return listed + [{"name": f"without {name}", "without": name, "reason": "missing_field"} for name in good]
