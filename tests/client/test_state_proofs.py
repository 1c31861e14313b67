"""What a node proves holds for a client that has only SHA-256; an answer with anything bent in it proves nothing."""

import contextlib
import copy
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.client.state_proofs import (
    AccountRecord,
    BadProof,
    account_of,
    check_ancestor,
    check_state_proof,
    header_hash_of,
)
from aitbc.core.codec.digests import header_hash
from aitbc.core.codec.views import header_to_plain
from aitbc.core.ledger.state import State, root_of_stores
from aitbc.core.types.blocks import Candidate, Certificate, Header
from aitbc.core.types.records import Account
from aitbc.node.proofs import prove_ancestor, prove_record
from support.chain import Chain
from support.people import ALICE, BOB, HUB, VALIDATOR
from support.second_implementation import book

Json = dict[str, Any]

NOBODY = "ait1nobody"
LAST = "zzz"


class KeptChain(Chain):
    """A chain with a store, so that a node's own functions answer."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore(self.genesis_hash)
        self.store.commit(self.executor.loaded.first)

    def transfer(self, amount: int) -> None:
        tx = self.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": amount})
        self.now_ms += 1_000
        built = self.executor.build([tx], proposer=VALIDATOR.address, timestamp_ms=self.now_ms)
        assert not built.refused
        candidate = Candidate(0, built.block.header.height, 0, bytes(32), built.hash)
        commit = self.executor.seal(built, Certificate("final", candidate, 1, [bytes(64)]))
        self.store.commit(commit)
        self.executor.publish(built, commit.block)

    def prove(self, store: str, key: str, height: int | None = None) -> Json:
        return through_json(prove_record(self.executor, self.store, store, key, height))

    def prove_ancestor(self, height: int) -> Json:
        return through_json(prove_ancestor(self.executor, self.store, height))


def through_json(answer: Json) -> Json:
    return dict(json.loads(json.dumps(answer)))


@pytest.fixture(scope="module")
def chain() -> KeptChain:
    """Alice has sent Bob 1, 2, … 11 base units, in as many blocks."""
    chain = KeptChain()
    for amount in range(1, 12):
        chain.transfer(amount)
    return chain


def state_root(answer: Json) -> str:
    """In the tests the answer's own header is the one that is trusted."""
    return str(answer["header"]["stateRoot"])


def history_root(answer: Json) -> str:
    return str(answer["head"]["historyRoot"])


# A node's answers


def test_an_account_is_proved_at_every_height(chain: KeptChain) -> None:
    for height in range(12):
        answer = chain.prove("accounts", BOB.address, height)
        record = check_state_proof(answer, state_root(answer), store="accounts", key=BOB.address)
        assert record is not None
        sent = sum(range(1, height + 1))
        assert account_of(record) == AccountRecord(1_000_000_000 + sent, 0, BOB.auth_key)


@pytest.mark.parametrize(
    ("store", "key"), [("accounts", NOBODY), ("accounts", LAST), ("locks", "0"), ("params", "base_fee2")]
)
def test_absence_is_proved(chain: KeptChain, store: str, key: str) -> None:
    answer = chain.prove(store, key)
    assert check_state_proof(answer, state_root(answer), store=store, key=key) is None


def test_a_parameter_is_proved(chain: KeptChain) -> None:
    answer = chain.prove("params", "base_fee")
    record = check_state_proof(answer, state_root(answer), store="params", key="base_fee")
    assert record == b'{"value":"2"}'


def test_every_block_is_proved_to_be_an_ancestor(chain: KeptChain) -> None:
    for height in range(11):
        answer = chain.prove_ancestor(height)
        check_ancestor(answer, history_root(answer))
        assert answer["header"]["height"] == height


def test_an_answer_to_another_question_proves_nothing(chain: KeptChain) -> None:
    answer = chain.prove("accounts", BOB.address)
    for store, key in (("accounts", ALICE.address), ("locks", BOB.address), ("nowhere", BOB.address)):
        with pytest.raises(BadProof):
            check_state_proof(answer, state_root(answer), store=store, key=key)
    nothing = chain.prove("accounts", NOBODY)
    with pytest.raises(BadProof, match=r"^key is not"):
        check_state_proof(nothing, state_root(nothing), store="accounts", key=BOB.address)


def test_a_leaf_that_jumps_to_a_key_does_not_jump_over_it(chain: KeptChain) -> None:
    """Given the honest proof of the leaf before Bob's, when it is shown for Bob, then he is not absent."""
    answer = chain.prove("accounts", BOB.address[:-1])
    assert answer["leaf"]["next"] == BOB.address
    with pytest.raises(BadProof, match="neither that of"):
        check_state_proof(
            {**answer, "key": BOB.address}, state_root(answer), store="accounts", key=BOB.address
        )


def test_a_proof_of_another_state_proves_nothing(chain: KeptChain) -> None:
    old, new = chain.prove("accounts", BOB.address, 3), chain.prove("accounts", BOB.address, 4)
    with pytest.raises(BadProof, match=r"^stateRoot is not"):
        check_state_proof(old, state_root(new), store="accounts", key=BOB.address)
    with pytest.raises(BadProof, match=r"^storeRoots do not make"):
        check_state_proof(
            {**old, "header": new["header"], "certificate": None},
            state_root(new),
            store="accounts",
            key=BOB.address,
        )


def test_a_proof_in_another_history_proves_nothing(chain: KeptChain) -> None:
    """Given an honest answer, when its head is not the one that is trusted, then it is refused."""
    answer = chain.prove_ancestor(4)
    for other in (answer["header"]["historyRoot"], "00" * 32, answer["head"]["stateRoot"]):
        with pytest.raises(BadProof, match=r"^historyRoot is not"):
            check_ancestor(answer, other)


def test_a_block_is_no_ancestor_of_itself(chain: KeptChain) -> None:
    answer = chain.prove_ancestor(4)
    with pytest.raises(BadProof, match="cannot prove block 11"):
        check_ancestor({**answer, "header": answer["head"]}, history_root(answer))


def test_bytes_moved_from_one_node_to_its_neighbour_are_noticed(chain: KeptChain) -> None:
    """Nodes are joined before they are hashed, so where one ends must be fixed."""
    record = chain.prove("accounts", BOB.address)
    for group in range(len(record["groups"])):
        moved = copy.deepcopy(record)
        nodes = moved["groups"][group]
        nodes[:2] = [nodes[0] + nodes[1][:2], nodes[1][2:]]
        with pytest.raises(BadProof, match="group is not of 32 bytes"):
            check_state_proof(moved, state_root(record), store="accounts", key=BOB.address)
    ancestor = chain.prove_ancestor(0)
    assert ancestor["count"] == 11, "the last two nodes are peaks"
    nodes = ancestor["nodes"]
    moved = {**ancestor, "nodes": [*nodes[:-2], nodes[-2] + nodes[-1][:2], nodes[-1][2:]]}
    with pytest.raises(BadProof, match="nodes is not of 32 bytes"):
        check_ancestor(moved, history_root(ancestor))


def test_the_sentinel_is_no_record(chain: KeptChain) -> None:
    """Given a node that shows the leaf below all keys, when it is asked for the empty key, then that is no record."""
    answer = chain.prove("accounts", "a")
    assert answer["leaf"]["index"] == 0
    with pytest.raises(BadProof):
        check_state_proof({**answer, "key": ""}, state_root(answer), store="accounts", key="")


# Bent answers


def bent(value: Any) -> Iterator[Any]:
    """What a field may be instead; as near as possible, and as far."""
    if isinstance(value, str):
        for at in range(len(value)):
            yield value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
        yield from (value + "0", value + "00", value[:-1], value[2:], value.upper() + "A", " " + value)
    if isinstance(value, int):
        yield from (
            value + 1,
            value - 1,
            -value - 1,
            value + 2**64,
            2**63,
            10**5_000,
            float(value),
            str(value),
            *(value + 4**levels for levels in range(8)),
        )
    if isinstance(value, list):
        yield from (
            value[:-1],
            [*value, *value[:1]],
            [*value, None],
            value[::-1],
            [value],
            dict.fromkeys("ab"),
        )
    if isinstance(value, dict):
        yield from ({}, [value], list(value))
    yield from (None, True, 0.5, "", "\ud800", [], b"", 10**5_000)


def changed(answer: Any) -> Iterator[tuple[str, Any]]:
    """Every answer with one thing bent or left out, and where."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            yield name, {other: answer[other] for other in answer if other != name}
            yield from ((f"{name}/{path}", {**answer, name: inner}) for path, inner in changed(value))
    if isinstance(answer, list):
        for place, value in enumerate(answer):
            for path, inner in changed(value):
                yield f"{place}/{path}", [*answer[:place], inner, *answer[place + 1 :]]
    for other in bent(answer):
        if not same(other, answer):
            yield str(other)[:40] if not isinstance(other, int) else "a number", other


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def proves_as_much(path: str, answer: Json, other: Any) -> bool:
    """Only the certificate differs, and that in what these checks leave to others."""
    if not path.startswith("certificate/"):
        return False
    left = other["certificate"]
    return left is None or (
        isinstance(left, dict) and same(left.get("blockHash"), answer["certificate"]["blockHash"])
    )


@pytest.mark.parametrize(
    ("store", "key"), [("accounts", BOB.address), ("accounts", NOBODY), ("params", "base_fee")]
)
def test_an_answer_with_one_thing_bent_proves_nothing(chain: KeptChain, store: str, key: str) -> None:
    answer = chain.prove(store, key)
    root = state_root(answer)
    assert answer["certificate"] is not None
    for path, other in changed(answer):
        if not proves_as_much(path, answer, other):
            with pytest.raises(BadProof):
                print(path, check_state_proof(other, root, store=store, key=key))


@pytest.mark.parametrize("height", [0, 7, 10])
def test_an_ancestor_with_one_thing_bent_is_none(chain: KeptChain, height: int) -> None:
    answer = chain.prove_ancestor(height)
    root = history_root(answer)
    for path, other in changed(answer):
        if not proves_as_much(path, answer, other):
            with pytest.raises(BadProof):
                print(path, check_ancestor(other, root))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def answers(chain: KeptChain) -> tuple[Json, Json]:
    return chain.prove("accounts", BOB.address), chain.prove_ancestor(5)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_in_an_answer_nothing_but_bad_proof_is_raised(
    answers: tuple[Json, Json], data: st.DataObject
) -> None:
    roots = state_root(answers[0]), history_root(answers[1])
    for answer in copy.deepcopy(answers):
        where, name = answer, data.draw(st.sampled_from(sorted(answer)))
        while isinstance(where[name], dict) and data.draw(st.booleans()):
            where = where[name]
            name = data.draw(st.sampled_from(sorted(where)))
        where[name] = data.draw(JSON)
        with contextlib.suppress(BadProof):
            check_state_proof(answer, roots[0], store="accounts", key=BOB.address)
        with contextlib.suppress(BadProof):
            check_ancestor(answer, roots[1])


@given(JSON)
def test_what_is_no_answer_is_refused(answer: Any) -> None:
    with pytest.raises(BadProof):
        check_state_proof(answer, "00" * 32, store="accounts", key="a")
    with pytest.raises(BadProof):
        check_ancestor(answer, "00" * 32)
    with pytest.raises(BadProof):
        header_hash_of(answer)


def test_roots_that_are_none_are_refused(chain: KeptChain) -> None:
    answer = chain.prove("accounts", BOB.address)
    for root in (None, b"", "", 5, state_root(answer).upper()):
        with pytest.raises(BadProof):
            check_state_proof(answer, root, store="accounts", key=BOB.address)  # type: ignore[arg-type]


# A state that keys have left


def header_over(root: bytes) -> Json:
    header = Header(
        version=1,
        chain_id="ait-test",
        height=1,
        parent=bytes(32),
        timestamp_ms=1_999,
        proposer="",
        txs_root=bytes(32),
        outcomes_root=bytes(32),
        state_root=root,
        next_validators_hash=bytes(32),
        history_root=bytes(32),
        extra=b"",
        seal=b"",
    )
    return header_to_plain(header, header_hash(header))


def answer_of(state: State, store: str, key: str, back: int) -> Json:
    proof, roots = state.prove(store, key, back=back)
    return {
        "header": header_over(root_of_stores(roots)),
        "certificate": None,
        "store": store,
        "key": key,
        "storeRoots": {name: root.hex() for name, root in roots.items()},
        "leaf": {
            "index": proof.index,
            "count": proof.count,
            "key": proof.key.decode(),
            "value": proof.value.hex(),
            "next": proof.next_key.decode(),
        },
        "groups": [[node.hex() for node in group] for group in proof.groups],
    }


@pytest.mark.parametrize("seed", range(5))
def test_what_came_and_what_went_is_proved_in_every_state_of_the_journal(seed: int) -> None:
    chance, state = random.Random(seed), State()
    keys = [f"ait1{number:02}" for number in range(40)]
    past: list[dict[str, int]] = [{}]
    for _ in range(20):
        written = {
            key: Account(chance.getrandbits(40), 0, b"") if chance.random() < 0.6 else None
            for key in chance.sample(keys, chance.randint(1, 20))
        }
        state.stage({"accounts": written})
        state.publish()
        after = past[-1] | {key: account.balance for key, account in written.items() if account}
        past.append({key: balance for key, balance in after.items() if written.get(key, True)})
    for back, balances in enumerate(reversed(past)):
        for key in keys:
            answer = through_json(answer_of(state, "accounts", key, back))
            record = check_state_proof(answer, state_root(answer), store="accounts", key=key)
            assert (None if record is None else account_of(record).balance) == balances.get(key)


# The helpers


def test_header_hashes_are_those_of_the_chain(chain: KeptChain) -> None:
    for height in range(11):
        header = chain.prove_ancestor(height)["header"]
        assert header_hash_of(header) == header["hash"]
        without = {name: value for name, value in header.items() if name not in ("hash", "timestamp")}
        assert header_hash_of(without) == header["hash"]


def test_account_records() -> None:
    assert account_of(book.account_bytes(2**63 - 1, 7, HUB.auth_key)) == (2**63 - 1, 7, HUB.auth_key)
    assert account_of(bytes(16)) == (0, 0, b"")
    with pytest.raises(BadProof, match="at least 16 bytes, not 15"):
        account_of(bytes(15))


def test_the_checks_share_no_code_with_the_tree() -> None:
    script = (
        "import sys, aitbc.client.state_proofs;"
        "print(*[name for name in sys.modules if name.startswith('aitbc.')], 'msgspec' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["aitbc.client", "aitbc.client.state_proofs", "False"]
