"""A fault becomes EVIDENCE: when the account pays, when it cannot, when its owner uses it too."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.adapters.agreement.memory import MemoryGuard, MemoryLog
from aitbc.adapters.signer.remote import SignerAway
from aitbc.adapters.storage.memory import MemoryStore
from aitbc.core.chain.bad_block import BlockFault
from aitbc.core.codec.digests import candidate_id, header_hash, vote_digest, wid_of
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.consensus.engine import Fault, SignedStatement
from aitbc.core.crypto.merkle import list_root
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Block, Candidate
from aitbc.core.types.transactions import Transaction
from aitbc.node import evidence
from aitbc.node.agreement import OwnKey, Scribe
from aitbc.node.evidence import Progress
from aitbc.node.runtime import NodeRuntime, SystemClock
from aitbc.ports import TransactionSigner
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, VALIDATOR

Story = Callable[[NodeRuntime, Chain], Any]


def chain_with(balance: int) -> Chain:
    """A chain of one validator with some coins, which earns no fees; blocks come at once."""
    document = genesis(activations=VERSION_2, fee_burn_bp=10_000)
    account = GenesisAccount(
        address=VALIDATOR.address, balance=balance, pubkey=key_to_text(VALIDATOR.auth_key)
    )
    return Chain(
        msgspec.structs.replace(
            document,
            accounts=[*document.accounts, account],
            consensus=ConsensusSettings(block_time_ms=0, idle_ms=600_000),
        )
    )


def fault_of_bob(chain: Chain) -> Fault:
    """BOB, who has a stake, signed two notarizations."""

    def signed(candidate: bytes) -> SignedStatement:
        digest = vote_digest(
            kind="notar",
            epoch=0,
            slot=5,
            candidate=candidate,
            chain_id=chain.executor.head.block.header.chain_id,
            genesis_hash=chain.genesis_hash,
        )
        return SignedStatement(kind="notar", candidate=candidate, signature=BOB.sign(digest))

    return Fault(
        validator=BOB.address, epoch=0, slot=5, first=signed(b"\x01" * 32), second=signed(b"\x02" * 32)
    )


class SignerWhoComesLate(OwnKey):
    """In another process that is started again meanwhile."""

    away = 3

    def sign_transaction(self, tx: Transaction, genesis_hash: bytes) -> bytes:
        if self.away:
            self.away -= 1
            raise SignerAway("nothing answers")
        return super().sign_transaction(tx, genesis_hash)


def play(chain: Chain, story: Story, transactions: TransactionSigner | None = None) -> None:
    async def run() -> None:
        store = MemoryStore(chain.genesis_hash)
        store.commit(chain.executor.loaded.first)
        scribe = Scribe(
            log=MemoryLog(),
            guard=MemoryGuard(chain.genesis_hash),
            signer=VALIDATOR,
            genesis_hash=chain.genesis_hash,
            now_ms=0,
            transactions=transactions,
        )
        node = NodeRuntime(chain.executor, store, scribe=scribe, clock=SystemClock())
        node.start()
        try:
            await story(node, chain)
        finally:
            await node.stop()

    asyncio.run(run())


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "RETRY_S", 0.02)


async def bond_bob(node: NodeRuntime, chain: Chain) -> None:
    """With a stake BOB is one whom EVIDENCE can punish."""
    stake = chain.sign(BOB, "STAKE", {"role": "validator", "amount": 500 * AIT}, nonce=1)
    await node.submit(stake)
    await until(lambda: node.executor.state.account(BOB.address).nonce == 1)


def test_an_offence_is_punished_once() -> None:
    async def story(node: NodeRuntime, chain: Chain) -> None:
        await bond_bob(node, chain)
        fault = fault_of_bob(chain)
        await asyncio.gather(node.accuser.report(fault), node.accuser.report(fault))
        (charge,) = node.accuser.charges.values()
        assert charge.progress is Progress.PUNISHED
        assert node.executor.state.account(VALIDATOR.address).nonce == 1

    play(chain_with(AIT), story)


def block_fault_of_bob(chain: Chain, *, extra: int = 0) -> BlockFault:
    """BOB led with a block in which ALICE pays and has not signed."""
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=1)
    forged = msgspec.structs.replace(tx, sig=bytes(64), payload=tx.payload + b" " * extra)
    root = list_root([wid_of(forged, chain.genesis_hash)])
    header = msgspec.structs.replace(chain.executor.loaded.block.block.header, txs_root=root)
    candidate = Candidate(0, 5, 4, bytes(32), header_hash(header))
    names = {"chain_id": header.chain_id, "genesis_hash": chain.genesis_hash}
    digest = vote_digest(
        kind="candidate", epoch=0, slot=5, candidate=candidate_id(candidate, **names), **names
    )
    return BlockFault(
        validator=BOB.address,
        candidate=candidate,
        signature=BOB.sign(digest),
        block=Block(header, [forged]),
        index=0,
    )


def test_who_led_with_an_invalid_transaction_is_jailed_beside_being_slashed_for_votes() -> None:
    async def story(node: NodeRuntime, chain: Chain) -> None:
        await bond_bob(node, chain)
        await asyncio.gather(
            node.accuser.report(block_fault_of_bob(chain)), node.accuser.report(fault_of_bob(chain))
        )
        block, votes = node.accuser.charges.values()
        assert (block.kinds, block.progress) == (["candidate"], Progress.PUNISHED)
        assert (votes.kinds, votes.progress) == (["notar", "notar"], Progress.PUNISHED)
        kept = 500 * AIT - 500 * AIT * node.executor.state.params.slash_bp // 10_000
        bond = Overlay(node.executor.state).bond("validator", BOB.address)
        assert (bond.amount, bond.offences) == (kept, 2), "slashed once, for the votes"

    play(chain_with(AIT), story)


def test_what_is_too_large_to_be_shown_is_told_to_the_operator_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(node: NodeRuntime, chain: Chain) -> None:
        await node.accuser.report(block_fault_of_bob(chain, extra=9_000))
        (charge,) = node.accuser.charges.values()
        assert charge.progress is Progress.NOT_OURS
        assert "does not fit into evidence" in caplog.text

    play(chain_with(AIT), story)


def test_a_signer_that_is_away_is_asked_again() -> None:
    async def story(node: NodeRuntime, chain: Chain) -> None:
        await bond_bob(node, chain)
        await node.accuser.report(fault_of_bob(chain))
        (charge,) = node.accuser.charges.values()
        assert charge.progress is Progress.PUNISHED

    late = SignerWhoComesLate(VALIDATOR)
    play(chain_with(AIT), story, late)
    assert late.away == 0


def test_who_cannot_pay_waits_until_it_can() -> None:
    async def story(node: NodeRuntime, chain: Chain) -> None:
        await bond_bob(node, chain)
        work = asyncio.ensure_future(node.accuser.report(fault_of_bob(chain)))
        await until(lambda: bool(node.accuser.charges))
        (charge,) = node.accuser.charges.values()
        await until(lambda: charge.progress is Progress.UNPAID)
        payload = {"to": VALIDATOR.address, "amount": AIT}
        await node.submit(chain.sign(ALICE, "TRANSFER", payload, nonce=1))
        await work
        assert charge.progress is Progress.PUNISHED

    play(chain_with(0), story)


def test_a_nonce_that_the_owner_took_meanwhile_is_not_taken_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner's transfer comes in while the evidence is being verified: it stays, and the next nonce is taken."""
    asked: list[int] = []
    original = NodeRuntime.submit_next

    async def owner_is_faster(self: NodeRuntime, tx: Any) -> bytes | None:
        asked.append(tx.nonce)
        if len(asked) == 1:
            payload = {"to": BOB.address, "amount": 7}
            await self.submit(chain.sign(VALIDATOR, "TRANSFER", payload, nonce=tx.nonce))
        return await original(self, tx)

    monkeypatch.setattr(NodeRuntime, "submit_next", owner_is_faster)
    chain = chain_with(10 * AIT)

    async def story(node: NodeRuntime, chain: Chain) -> None:
        await bond_bob(node, chain)
        bob = node.executor.state.account(BOB.address).balance
        await node.accuser.report(fault_of_bob(chain))
        assert node.executor.state.account(BOB.address).balance == bob + 7
        assert asked[0] == 1
        assert asked[-1] == 2
        assert node.executor.state.account(VALIDATOR.address).nonce == 2

    play(chain, story)


def test_nobody_accuses_itself() -> None:
    async def story(node: NodeRuntime, chain: Chain) -> None:
        fault = msgspec.structs.replace(fault_of_bob(chain), validator=VALIDATOR.address)
        await node.accuser.report(fault)
        (charge,) = node.accuser.charges.values()
        assert charge.progress is Progress.NOT_OURS
        assert node.executor.state.account(VALIDATOR.address).nonce == 0

    play(chain_with(AIT), story)
