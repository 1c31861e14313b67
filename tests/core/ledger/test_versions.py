"""What came with version 2 does not exist on a chain of version 1, and such a chain replays to the same roots.
docs/spec/params.md, docs/spec/execution.md"""

import lzma
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.wire import unpack
from aitbc.core.crypto.schemes import SCHEMES
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount, genesis_document, parse_genesis
from aitbc.core.ledger.params import Activation
from aitbc.core.ledger.state import Overlay, check_whole_supply
from aitbc.core.types.amounts import AIT, MAX_SIGNED, MAX_TOTAL
from aitbc.core.types.blocks import Block, Certificate, CommittedBlock, Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Lock, ReceiptRecord
from aitbc.core.types.transactions import Outcome, Transaction
from support.chain import VERSION_2, genesis
from support.ledger import DAY_MS, MINUTE_MS, Batches, Ledger, Work, people
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, VALIDATOR, person
from support.schemes import every_scheme

STORED = Path(__file__).parents[2] / "vectors" / "chains" / "0.1.0"


def chain_of(version: int) -> Ledger:
    chain = Ledger(version=version, epoch_length=4, more=[PROVIDER])
    assert chain.do(PROVIDER, "REGISTER", {"role": "provider", "models": []}).ok
    return chain


def new_types() -> dict[str, Callable[[Ledger], tuple[dict[str, Any], dict[str, Any] | None]]]:
    """A transaction of each type that came with version 2, well-formed."""
    empty = Batches([Work("00" * 32, PROVIDER.address)])
    empty.id = "00" * 32
    stake = {"role": "hub", "amount": 1}
    return {
        "STAKE": lambda _: (stake, None),
        "UNSTAKE": lambda _: (stake, None),
        "WITHDRAW": lambda _: ({"role": "hub"}, None),
        "RECEIPT_BATCH": lambda _: (empty.payload, None),
        "SETTLE": lambda _: (empty.settle(), None),
        "PARAM_UPDATE": lambda chain: chain.update({"set": {"base_fee": 3}}, VALIDATOR),
        "KEY_ROTATE": lambda chain: (chain.rotation(HUB, person("new")), None),
        "EVIDENCE": lambda chain: (chain.double_vote(VALIDATOR), None),
        "EVIDENCE about a block": lambda chain: (chain.bad_block(VALIDATOR), None),
    }


@pytest.mark.parametrize("kind", new_types())
def test_a_new_type_is_invalid_on_a_chain_of_version_1(kind: str) -> None:
    """On one of version 2 it is at least judged."""
    old, new = chain_of(1), chain_of(2)
    payload, witness = new_types()[kind](old)
    root, kind_name = old.executor.state.root(), kind.split(" ")[0]
    assert old.said(HUB, kind_name, payload, witness=witness, fee=1_000) == "invalid not_active"
    assert old.executor.state.root() == root
    payload, witness = new_types()[kind](new)
    assert new.said(HUB, kind_name, payload, witness=witness, fee=1_000) != "invalid not_active"


def session(chain: Ledger) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    return (
        "JOB_LOCK",
        {
            "hub": HUB.address,
            "job_id": "job-1",
            "amount": AIT,
            "request_hash": "sha256:" + "cd" * 32,
            "deliver_by_ms": chain.now_ms + MINUTE_MS,
            "claim_until_ms": chain.now_ms + MINUTE_MS,
            "session": True,
        },
        None,
    )


def claim_with_a_key(chain: Ledger) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    return "RECEIPT_CLAIM", payload, {**witness, "pubkey": key_to_text(HUB.auth_key)}


def calibration(chain: Ledger) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    return "RECEIPT_CLAIM", *chain.calibration(PROVIDER)


def word_with_a_key(chain: Ledger) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    witness = {**chain.countersignature(BOB, HUB), "pubkey": key_to_text(HUB.auth_key)}
    return "REGISTER", {"role": "provider", "models": []}, witness


def validators_word(chain: Ledger) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    payload = {"role": "provider", "models": [], "validator": VALIDATOR.address}
    return "REGISTER", payload, chain.countersigned(BOB, VALIDATOR)


NEW_FIELDS = [session, claim_with_a_key, calibration, word_with_a_key, validators_word]


@pytest.mark.parametrize("make", NEW_FIELDS)
def test_a_new_field_is_invalid_on_a_chain_of_version_1(make: Callable[[Ledger], Any]) -> None:
    for version, outcome in ((1, "invalid not_active"), (2, "")):
        chain = chain_of(version)
        kind, payload, witness = make(chain)
        assert chain.said(BOB, kind, payload, witness=witness).startswith(outcome)
        assert version == 1 or chain.view.account(BOB.address).nonce == 1, "version 2 judges it"


@pytest.mark.parametrize("name", [scheme.name for scheme in SCHEMES.values()])
def test_only_ed25519_is_of_version_1(name: str) -> None:
    key = every_scheme()[name]
    for version in (1, 2):
        chain = chain_of(version)
        assert chain.do(ALICE, "TRANSFER", {"to": key.address, "amount": AIT}).ok
        expected = "done" if version == 2 or name == "ed25519" else "invalid not_active"
        assert chain.said(key, "TRANSFER", {"to": BOB.address, "amount": 1}, fee=1_000) == expected


def test_on_a_chain_of_version_1_nothing_leaves_the_state_and_no_epoch_closes() -> None:
    chain = chain_of(1)
    lock = chain.lock()
    assert chain.claim(PROVIDER, lock).ok
    forgotten = chain.lock()
    records = {store: len(rows) for store, rows in chain.executor.state.data.items()}
    for _ in range(9):
        chain.block(after_ms=10 * DAY_MS)
    assert {store: len(rows) for store, rows in chain.executor.state.data.items()} == records
    kept, settled = (chain.executor.state.get("locks", key) for key in (forgotten, lock))
    assert isinstance(kept, Lock) and isinstance(settled, Lock)
    assert (kept.status, settled.status, settled.closed_ms) == ("open", "settled", 0)
    (receipt,) = [record for _, record in chain.executor.state.items("receipts")]
    assert isinstance(receipt, ReceiptRecord) and receipt.claimed_ms == 0
    assert chain.executor.head.block.header.version == 1
    assert chain.executor.state.get("params", "epoch.seed") is None


def test_a_registration_begins_anew_on_a_chain_of_version_1_and_goes_on_with_version_2() -> None:
    heights = {}
    for version in (1, 2):
        chain = chain_of(version)
        again = {"role": "provider", "models": [], "validator": EVE.address if version == 1 else ""}
        chain.block()
        assert chain.do(
            PROVIDER, "REGISTER", again if version == 1 else {"role": "provider", "models": []}
        ).ok
        registration = chain.view.registration("provider", PROVIDER.address)
        assert registration is not None
        heights[version] = registration.height
    assert heights == {1: 3, 2: 1}


@pytest.mark.parametrize(("version", "claimed"), [(1, 2), (2, 1), (2, 3), (1, 0)])
def test_a_block_has_the_version_of_its_height(version: int, claimed: int) -> None:
    chain = chain_of(version)
    built = chain.executor.build([], proposer=VALIDATOR.address, timestamp_ms=chain.now_ms + 1)
    header = msgspec.structs.replace(built.block.header, version=claimed)
    with pytest.raises(Rejected) as caught:
        chain.second.apply(Block(header, []))
    assert caught.value.reason == Reason.WRONG_VERSION


# Genesis.

GENESES: list[tuple[str, dict[str, Any], str]] = [
    ("version 1", {}, ""),
    ("version 2", {"activations": VERSION_2}, ""),
    ("version 2 later", {"activations": [Activation(version=2, height=10)]}, Reason.BAD_GENESIS),
    ("a version to come", {"activations": [Activation(version=3, height=0)]}, Reason.WRONG_VERSION),
    ("a version to come, later", {"activations": [*VERSION_2, Activation(version=3, height=9)]}, ""),
    (
        "versions that fall",
        {"activations": [*VERSION_2, Activation(version=2, height=9)]},
        Reason.BAD_GENESIS,
    ),
    ("two at one height", {"activations": [*VERSION_2, Activation(version=3, height=0)]}, Reason.BAD_GENESIS),
    ("a later parameter on version 1", {"slash_bp": 1}, Reason.BAD_GENESIS),
    ("a later parameter at its default", {"slash_bp": 500}, ""),
    ("a later parameter on version 2", {"activations": VERSION_2, "slash_bp": 1}, ""),
]


@pytest.mark.parametrize(("story", "params", "reason"), GENESES, ids=[row[0] for row in GENESES])
def test_a_genesis_names_its_version(story: str, params: dict[str, Any], reason: str) -> None:
    document = genesis(**params)
    plain = msgspec.to_builtins(document)
    raw = msgspec.json.encode(plain)
    if reason:
        with pytest.raises(Rejected) as caught:
            parse_genesis(raw)
        assert caught.value.reason == reason
    else:
        assert Executor(raw, None).loaded.document == genesis_document(document)


STAKED: list[tuple[str, dict[str, Any], str]] = [
    ("everybody has enough", {"stakes": (10, 11)}, ""),
    ("one has a base unit too little", {"stakes": (10, 9)}, Reason.BAD_GENESIS),
    ("one has nothing", {"stakes": (10, 0)}, Reason.BAD_GENESIS),
    ("one owes", {"stakes": (10, -1)}, Reason.OUT_OF_RANGE),
    ("the most", {"stakes": (10, MAX_SIGNED)}, ""),
    ("more than the most", {"stakes": (10, MAX_SIGNED + 1)}, Reason.OUT_OF_RANGE),
    ("on a chain of votes", {"stakes": (10, 10), "mode": "poa"}, Reason.BAD_GENESIS),
    ("nobody on a chain of votes", {"mode": "cbp"}, ""),
    ("in version 1", {"stakes": (10**9, 10**9), "activations": []}, Reason.BAD_GENESIS),
    ("as much as there can be", {"stakes": (10, 10), "others": MAX_TOTAL - 20}, ""),
    ("more than there can be", {"stakes": (10, 10), "others": MAX_TOTAL - 19}, Reason.BAD_GENESIS),
]


@pytest.mark.parametrize(("story", "fields", "reason"), STAKED, ids=[row[0] for row in STAKED])
def test_under_hybrid_a_genesis_names_stakes(story: str, fields: dict[str, Any], reason: str) -> None:
    others = fields.get("others", 0)
    balances = [MAX_SIGNED] * (others // MAX_SIGNED) + [others % MAX_SIGNED]
    rich = [
        GenesisAccount(address=who.address, balance=balance)
        for who, balance in zip(people("rich", len(balances)), balances, strict=True)
    ]
    version = {"activations": VERSION_2, "min_validator_stake": 10} if fields.get("activations", True) else {}
    document = genesis(
        authorities=(VALIDATOR, BOB),
        stakes=fields.get("stakes", ()),
        consensus=ConsensusSettings(mode=fields.get("mode", "hybrid")),
        accounts=rich,
        **version,
    )
    raw = msgspec.json.encode(msgspec.to_builtins(document))
    if reason:
        with pytest.raises(Rejected) as caught:
            parse_genesis(raw)
        assert caught.value.reason == reason
    else:
        executor = Executor(raw, None)
        check_whole_supply(executor.state)
        assert Overlay(executor.state).total_supply() == others + sum(fields.get("stakes", ()))


def test_a_stake_of_nothing_does_not_change_the_hash_of_a_genesis() -> None:
    plain = msgspec.to_builtins(genesis())
    assert plain["authorities"][0].setdefault("stake", 0) == 0
    assert Executor(msgspec.json.encode(plain), None).loaded.document == genesis_document(genesis())


def test_later_parameters_at_their_defaults_do_not_change_the_hash_of_an_old_genesis() -> None:
    """A new release reads an old document, with or without them, as the old one did."""
    document = genesis()
    short = genesis_document(document)
    assert b"slash_bp" not in short
    long = msgspec.json.encode(msgspec.to_builtins(document))
    assert b"slash_bp" in long
    assert Executor(short, None).loaded.hash == Executor(long, None).loaded.hash


def test_a_chain_whose_next_version_is_to_come_runs_until_then() -> None:
    chain = Ledger(activations=[*VERSION_2, Activation(version=3, height=3)])
    chain.block()
    chain.block()
    with pytest.raises(Exception, match=r"from height 3 on this chain runs protocol version 3"):
        chain.block()


# The chain that release 0.1.0 wrote.


class BlockRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    header: Header
    certificate: Certificate | None


class TransactionRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    tx: Transaction
    outcome: Outcome


def stored_blocks(database: Path) -> list[CommittedBlock]:
    """Blocks out of the tables of 0.1.0, whatever today's store would make of them."""
    with sqlite3.connect(database) as connection:
        heads = connection.execute("select height, hash, raw from blocks order by height").fetchall()
        rows = connection.execute("select height, raw from tx order by height, position").fetchall()
    by_height: dict[int, list[TransactionRow]] = {}
    for height, raw in rows:
        by_height.setdefault(height, []).append(unpack(raw, TransactionRow, limit=1 << 20))
    blocks = []
    for height, name, raw in heads:
        head = unpack(raw, BlockRow, limit=1 << 20)
        items = by_height.get(height, [])
        block = Block(head.header, [item.tx for item in items])
        outcomes = [item.outcome for item in items]
        blocks.append(CommittedBlock(block, bytes.fromhex(name), outcomes, head.certificate))
    return blocks


def test_the_chain_of_release_0_1_0_replays_to_the_same_roots(tmp_path: Path) -> None:
    database = tmp_path / "chain.db"
    database.write_bytes(lzma.decompress((STORED / "chain.db.xz").read_bytes()))
    first, *blocks = stored_blocks(database)
    executor = Executor((STORED / "genesis.json").read_bytes(), None)
    assert executor.head.hash == first.hash
    for stored in blocks:
        built = executor.apply(stored.block)
        assert (built.hash, built.outcomes) == (stored.hash, stored.outcomes)
        assert header_hash(stored.block.header) == stored.hash
        executor.publish(built, stored)
        assert executor.state.root() == stored.block.header.state_root
    check_whole_supply(executor.state)
    kinds = {tx.type for stored in blocks for tx in stored.block.txs}
    assert kinds == {"TRANSFER", "JOB_LOCK", "RECEIPT_CLAIM", "REFUND", "REGISTER", "FAUCET"}
    assert {outcome.ok for stored in blocks for outcome in stored.outcomes} == {True, False}


STORY = """
from support.everything import everything
world = everything()
chain = world.chain
print(chain.second.apply(world.built.block).hash.hex())
chain.second.abandon()
for change in world.built.changes:
    print(change.store, change.key, change.index)
"""


def test_the_order_of_sets_and_dictionaries_decides_nothing() -> None:
    """Three processes in which texts hash differently make the same block of every type of transaction, with the same
    records in the same places."""
    told = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-c", STORY],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        told.add(done.stdout)
    assert len(told) == 1 and len(told.pop().splitlines()) > 30
