"""Chains that agree by work: their genesis, what an author earns, and what their receipts do not mint."""

from typing import Any

import msgspec
import pytest

from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.executor import Executor
from aitbc.core.ledger.genesis import genesis_document, load_genesis, parse_genesis
from aitbc.core.ledger.state import Overlay, check_whole_supply
from aitbc.core.ledger.transactions.interface import Event
from aitbc.core.types.amounts import AIT, MAX_TOTAL
from aitbc.core.types.blocks import MAX_EXTRA_BYTES, Block
from aitbc.core.types.nakamoto import MAX_FINALITY_DEPTH, NakamotoSettings, RewardSettings
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.records import Param
from aitbc.ports import UNDO_DEPTH
from support.chain import Chain
from support.people import ALICE, BOB, EVE, HUB, PROVIDER, person
from support.schemes import every_scheme
from support.work import FAST, REWARD, sealed, work_genesis

MINER = person("miner")


class WorkChain(Chain):
    """Authored by one miner. Seals are agreement's, and not looked at here."""

    def block(self, *txs: Any, after_ms: int = 1_000) -> Any:
        self.now_ms += after_ms
        built = self.executor.build(list(txs), proposer=MINER.address, timestamp_ms=self.now_ms)
        self.executor.publish(built, self.executor.seal(built, None).block)
        check_whole_supply(self.executor.state)
        return built


# Genesis


def test_a_genesis_says_how_work_agrees_and_nothing_of_votes() -> None:
    document = genesis_document(work_genesis())
    plain = msgspec.json.decode(document)
    assert plain["consensus"] == {
        "mode": "pow",
        "epoch_length": 600,
        "work": msgspec.to_builtins(FAST),
    }
    loaded = load_genesis(parse_genesis(document))
    assert loaded.document == document
    assert loaded.validators == []
    names = [key for key, _ in loaded.state.items("params", "consensus.")]
    assert names == ["consensus.epoch_length", "consensus.mode", "consensus.work"]
    work = loaded.state.get("params", "consensus.work")
    assert isinstance(work, Param)
    assert msgspec.json.decode(work.value, type=NakamotoSettings) == FAST


def test_what_is_left_out_has_its_default_and_no_hash_of_its_own() -> None:
    plain = msgspec.json.decode(genesis_document(work_genesis(NakamotoSettings())))
    plain["consensus"] = {"mode": "pow", "work": {}}
    short = genesis_document(parse_genesis(msgspec.json.encode(plain)))
    assert genesis_hash_of(short) == genesis_hash_of(genesis_document(work_genesis(NakamotoSettings())))


KEY = key_to_text(ALICE.auth_key)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("consensus", "work"), None, Reason.BAD_GENESIS),
        (("consensus", "mode"), "poa", Reason.BAD_GENESIS),
        (("consensus", "mode"), "poa-pow", Reason.BAD_GENESIS),
        (("consensus", "block_time_ms"), 999, Reason.BAD_GENESIS),
        (("consensus", "idle_ms"), 999, Reason.BAD_GENESIS),
        (("consensus", "work", "miners"), [KEY], Reason.BAD_GENESIS),
        (("consensus", "work", "finality_depth"), 65, Reason.OUT_OF_RANGE),
        (("consensus", "work", "least_difficulty"), 5, Reason.BAD_GENESIS),
        (("consensus", "work", "speed"), 5, Reason.UNKNOWN_FIELD),
        (("authorities",), [{"pubkey": KEY}], Reason.BAD_GENESIS),
        (("params", "activations"), [], Reason.BAD_GENESIS),
        (("params", "calibration_budget"), 1, Reason.BAD_GENESIS),
        (("params", "mint_budget_per_day"), 1, Reason.BAD_GENESIS),
        (("params", "synthetic_attester"), EVE.address, Reason.BAD_GENESIS),
    ],
)
def test_a_genesis_that_cannot_be_kept_is_refused(path: tuple[str, ...], value: Any, reason: Reason) -> None:
    plain = msgspec.json.decode(genesis_document(work_genesis()))
    place = plain
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(Rejected) as rejected:
        parse_genesis(msgspec.json.encode(plain))
    assert rejected.value.reason == reason


def test_listed_miners_sign_with_ed25519() -> None:
    rsa = every_scheme()["rsa-pss"]
    genesis = work_genesis(miners=(MINER,))
    work = msgspec.structs.replace(FAST, miners=[key_to_text(rsa.auth_key)])
    consensus = msgspec.structs.replace(genesis.consensus, work=work)
    with pytest.raises(Rejected, match="Ed25519"):
        parse_genesis(genesis_document(msgspec.structs.replace(genesis, consensus=consensus)))


def test_no_finality_is_deeper_than_a_store_takes_blocks_back() -> None:
    assert MAX_FINALITY_DEPTH == UNDO_DEPTH


# The reward


def test_an_author_earns_the_reward_of_its_height_and_its_part_of_the_fees() -> None:
    reward = RewardSettings(initial=1_000, era_blocks=2, kept=5_000)
    chain = WorkChain(work_genesis(msgspec.structs.replace(FAST, reward=reward)))
    assert chain.do(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}).fee == 100
    assert chain.balance(MINER) == 1_000 + 50
    for _ in range(4):
        chain.block()
    assert chain.balance(MINER) == 50 + 1_000 + 1_000 + 500 + 500 + 250
    assert Overlay(chain.executor.state).supply("rewards") == 3_250
    assert chain.supply() == 2_010 * AIT + 3_250 - 50


def test_a_reward_is_not_spent_in_its_own_block() -> None:
    chain = WorkChain(work_genesis())
    spend = chain.verified(MINER, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=1)
    built = chain.block(spend)
    assert [str(rejection.reason) for _, rejection in built.refused] == ["fee_not_covered"]
    assert chain.do(MINER, "TRANSFER", {"to": BOB.address, "amount": 5}).ok


def test_the_last_rewards_fill_the_supply_and_then_there_are_none() -> None:
    chain = WorkChain(work_genesis())
    chain.endow(person("whale"), MAX_TOTAL - chain.supply() - REWARD - 7)
    for expected in (REWARD, REWARD + 7, REWARD + 7):
        chain.block()
        assert chain.balance(MINER) == expected
    assert chain.supply() == MAX_TOTAL


def test_a_block_that_pays_its_author_more_is_refused() -> None:
    """Attack 4 of the seed: nobody reads a reward from a block; one that counted more has another state root."""
    greedy = WorkChain(work_genesis(msgspec.structs.replace(FAST, reward=RewardSettings(initial=2 * REWARD))))
    honest = WorkChain(work_genesis())
    built = greedy.executor.build([], proposer=MINER.address, timestamp_ms=greedy.now_ms + 1)
    header = msgspec.structs.replace(built.block.header, parent=honest.executor.head.hash)
    ours = honest.executor.build([], proposer=MINER.address, timestamp_ms=honest.now_ms + 1)
    honest.executor.abandon()
    lie = msgspec.structs.replace(
        header, history_root=ours.block.header.history_root, seal=bytes(8), state_root=header.state_root
    )
    with pytest.raises(Rejected) as rejected:
        honest.executor.apply(Block(lie, []))
    assert (rejected.value.reason, "state_root" in rejected.value.message) == (Reason.ROOT_MISMATCH, True)


def test_who_gets_the_reward_has_an_address() -> None:
    chain = WorkChain(work_genesis())
    built = chain.executor.build([], proposer=MINER.address, timestamp_ms=chain.now_ms + 1)
    chain.executor.abandon()
    for proposer in ("", "me", MINER.address[:-1] + "q"):
        header = msgspec.structs.replace(built.block.header, proposer=proposer)
        with pytest.raises(Rejected) as rejected:
            chain.executor.apply(Block(header, []))
        assert rejected.value.reason == Reason.BAD_ADDRESS


def test_an_author_says_what_it_likes_in_extra_and_everybody_keeps_it() -> None:
    chain, other = WorkChain(work_genesis()), WorkChain(work_genesis())
    extra = bytes(range(256))
    assert len(extra) == MAX_EXTRA_BYTES
    built = chain.executor.build([], proposer=MINER.address, timestamp_ms=chain.now_ms + 1, extra=extra)
    block = Block(sealed(built.block.header, 2**255), [])
    assert other.executor.apply(block).block == block
    other.executor.abandon()
    too_long = msgspec.structs.replace(block.header, extra=extra + b"!")
    with pytest.raises(Rejected) as rejected:
        other.executor.apply(Block(too_long, []))
    assert rejected.value.reason == Reason.TOO_LARGE


@pytest.mark.parametrize(
    ("count", "after_ms", "reason"),
    [
        (1, 4_999, Reason.BAD_TIMESTAMP),
        (1, 5_000, None),
        (2, 1, None),
        (3, 1, None),
        (4, 5_000, Reason.TOO_LARGE),
    ],
)
def test_a_block_holds_few_transactions_only_after_the_interval_and_never_too_many(
    count: int, after_ms: int, reason: Reason | None
) -> None:
    bounds = msgspec.structs.replace(FAST, interval_ms=5_000, min_transactions=2, max_transactions=3)
    maker, reader = WorkChain(work_genesis(bounds)), WorkChain(work_genesis(bounds))
    txs = [
        maker.verified(ALICE, "TRANSFER", {"to": BOB.address, "amount": 5}, nonce=nonce)
        for nonce in range(1, count + 1)
    ]
    parent_ms = maker.executor.head.block.header.timestamp_ms
    built = maker.executor.build(txs, proposer=MINER.address, timestamp_ms=parent_ms + after_ms)
    if reason is None:
        assert reader.executor.apply(built.block).hash == built.hash
        return
    with pytest.raises(Rejected) as rejected:
        reader.executor.apply(built.block)
    assert rejected.value.reason == reason


def test_epochs_pass_without_validators() -> None:
    chain = WorkChain(work_genesis(epoch_length=2))
    for _ in range(5):
        chain.block()
    assert chain.executor.head.block.header.height == 5


def test_without_authorities_nobody_changes_the_parameters() -> None:
    chain = WorkChain(work_genesis(epoch_length=2))
    update = {"number": 1, "set": {"base_fee": 0}}
    with pytest.raises(Rejected) as rejected:
        chain.do(ALICE, "PARAM_UPDATE", update, witness={"bitmap": 1, "sigs": ["00" * 64]})
    assert rejected.value.reason == Reason.BAD_APPROVAL


# Receipts


def test_receipts_are_paid_and_mint_nothing() -> None:
    chain = WorkChain(
        work_genesis(hubs=[HUB.address], mint_price_cap_bp=0, hub_mint_per_bond_bp=0, unbonding_ms=60_000)
    )
    chain.do(ALICE, "TRANSFER", {"to": PROVIDER.address, "amount": AIT})
    assert chain.do(PROVIDER, "REGISTER", {"role": "provider", "models": []}).ok
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    outcome = chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness)
    assert outcome.ok
    assert [event for event in outcome.events if kind_of(event) == "minted"] == []
    assert chain.balance(PROVIDER) == AIT - 100 + 2 * AIT
    assert Overlay(chain.executor.state).supply("minted") == 0


def kind_of(event: Event) -> str:
    return event[0]


# Accounts of the seed


@pytest.mark.parametrize("scheme", ["rsa-pss", "secp256k1", "multisig"])
def test_accounts_of_every_scheme_pay_and_are_paid(scheme: str) -> None:
    """ccoin's accounts are RSA keys; a payment names the address, and carries text."""
    chain, holder = WorkChain(work_genesis()), every_scheme()[scheme]
    assert chain.do(ALICE, "TRANSFER", {"to": holder.address, "amount": 50 * AIT, "data": "rent"}).ok
    assert chain.do(holder, "TRANSFER", {"to": BOB.address, "amount": 7, "data": "thanks"}, fee=500).ok
    assert chain.executor.state.account(holder.address).balance == 50 * AIT - 500 - 7
    mined = chain.executor.build([], proposer=holder.address, timestamp_ms=chain.now_ms + 1)
    chain.executor.publish(mined, chain.executor.seal(mined, None).block)
    assert chain.executor.state.account(holder.address).balance == 50 * AIT - 507 + REWARD


def test_a_restarted_node_restores_a_chain_without_certificates() -> None:
    from aitbc.adapters.storage.memory import MemoryStore

    chain = WorkChain(work_genesis())
    store = MemoryStore(chain.genesis_hash)
    store.commit(chain.executor.loaded.first)
    for _ in range(3):
        store.commit(chain.executor.seal(chain.block(), None))
    restored = Executor(chain.document, store.load())
    assert restored.head == chain.executor.head
    assert restored.tip == chain.executor.tip
