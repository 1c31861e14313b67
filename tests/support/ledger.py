"""A chain of version 2 with the verbs that its tests need: stakes, batches, votes, updates, epochs.

Every block is built by one node and checked by a second one, which must come to the same hash.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import (
    candidate_id,
    compute_for_digest,
    header_hash,
    param_update_digest,
    receipt_core_digest,
    rotation_digest,
    vote_digest,
    wid_of,
)
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.leaves import TAIL, Leaf, pack_leaves
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.merkle import list_root, prove_item, prove_range
from aitbc.core.executor import Executor
from aitbc.core.ledger.calibration import calibration_job, calibration_nonce
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount, parse_genesis
from aitbc.core.ledger.state import Overlay, State, check_whole_supply
from aitbc.core.ledger.transactions.receipt_claim import core_of
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import ReceiptCore
from aitbc.core.types.records import STORES, Bond, Role
from aitbc.core.types.transactions import Outcome, Transaction
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, EVE, HUB, VALIDATOR, person

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
FEE = 100
"""Of every transaction here that names no other."""


class Signer(Protocol):
    @property
    def address(self) -> str: ...

    @property
    def auth_key(self) -> bytes: ...

    def sign(self, digest: bytes) -> bytes: ...


class Holder(NamedTuple):
    """Who signs for an address with a key that need not be the one it was made of."""

    address: str
    auth_key: bytes
    sign: Callable[[bytes], bytes]


def holding(owner: Signer, key: Signer) -> Holder:
    """The owner's address with another's key."""
    return Holder(owner.address, key.auth_key, key.sign)


def people(name: str, count: int) -> list[Any]:
    return [person(f"{name} {number}") for number in range(count)]


def funded(*who: Signer, balance: int = 1_000 * AIT) -> list[GenesisAccount]:
    """Accounts for a genesis, with their keys."""
    return [
        GenesisAccount(address=one.address, balance=balance, pubkey=key_to_text(one.auth_key)) for one in who
    ]


class Ledger(Chain):
    """`params` override those of a devnet of version 2; `more` are funded besides Alice, Bob and the hub."""

    def __init__(
        self,
        *,
        epoch_length: int = 10,
        mode: str = "poa",
        authorities: Sequence[Signer] = (VALIDATOR,),
        stakes: Sequence[int] = (),
        accounts: list[GenesisAccount] | None = None,
        more: Sequence[Signer] = (),
        version: int = 2,
        **params: Any,
    ) -> None:
        consensus = ConsensusSettings(mode=mode, epoch_length=epoch_length)  # type: ignore[arg-type]
        if version == 2:
            params = {"activations": VERSION_2, **params}
        document = genesis(
            authorities=tuple(authorities),  # type: ignore[arg-type]
            stakes=tuple(stakes),
            consensus=consensus,
            accounts=accounts,
            **params,
        )
        if more:
            document = msgspec.structs.replace(document, accounts=[*document.accounts, *funded(*more)])
        super().__init__(document)
        parse_genesis(self.document)
        self.epoch_length = epoch_length
        self.second = Executor(self.document, None)
        """Another node, which checks every block."""

    # Blocks

    def block(self, *txs: Any, after_ms: int = 1_000) -> BuiltBlock:
        """Build, check on the second node, publish on both; the supply is counted from scratch each time."""
        self.now_ms += after_ms
        proposer = validators_of(self.executor.state.tip())[0].address
        built = self.executor.build(list(txs), proposer=proposer, timestamp_ms=self.now_ms)
        candidate = Candidate(0, built.block.header.height, 0, bytes(32), built.hash)
        committed = self.executor.seal(built, Certificate("final", candidate, 1, [bytes(64)])).block
        theirs = self.second.apply(built.block)
        assert (theirs.hash, theirs.outcomes) == (built.hash, built.outcomes)
        self.executor.publish(built, committed)
        self.second.publish(theirs, committed)
        check_whole_supply(self.executor.state)
        return built

    def endow(self, who: Signer, amount: int) -> None:
        """More coins than the rules let anybody have, on both nodes."""
        for node in (self.executor, self.second):
            overlay = Overlay(node.state)
            overlay.credit(who.address, amount)
            overlay.add_supply("genesis", amount)
            node.state.stage(overlay.writes)
            node.state.publish()

    @property
    def height(self) -> int:
        return self.executor.head.block.header.height

    @property
    def epoch(self) -> int:
        """Of the next block."""
        return self.height // self.epoch_length

    def close_epoch(self) -> None:
        """Empty blocks until the boundary is behind."""
        self.block()
        while self.height % self.epoch_length:
            self.block()

    def said(self, *args: Any, **options: Any) -> str:
        """What became of one transaction: `done`, `failed <reason>` or `invalid <reason>`."""
        try:
            outcome = self.do(*args, **options)
        except Rejected as rejection:
            return f"invalid {rejection.reason}"
        return "done" if outcome.ok else f"failed {outcome.reason}"

    # What the state says

    @property
    def view(self) -> Overlay:
        return Overlay(self.executor.state)

    def bond(self, who: Signer, role: Role = "validator") -> Bond:
        return self.view.bond(role, who.address)

    def number(self, name: str) -> int:
        return self.view.number(name)

    def param(self, name: str) -> Any:
        return getattr(self.executor.state.params, name)

    def validators(self) -> list[tuple[str, int]]:
        """(address, power) of the set that decides the next block."""
        return [(member.address, member.power) for member in validators_of(self.executor.state)]

    def count(self, store: str, prefix: str = "") -> int:
        """How many records a store has under a prefix."""
        return len(self.executor.state.items(store, prefix))

    def slots(self) -> dict[str, int]:
        """Places in each tree, free ones and the sentinel's included."""
        return slots_of(self.executor.state)

    # Stakes

    def stake(self, who: Signer, amount: int, role: Role = "validator") -> None:
        outcome = self.do(who, "STAKE", {"role": role, "amount": amount})
        assert outcome.ok, outcome

    # Keys

    def rotation(self, owner: Signer, key: Signer) -> dict[str, str]:
        """The payload that gives an owner another key."""
        digest = rotation_digest(owner.address, key.auth_key, self.genesis_hash)
        return {"pubkey": key_to_text(key.auth_key), "sig": key.sign(digest).hex()}

    def rotate(self, owner: Signer, key: Signer, *, fee: int = FEE) -> Holder:
        """Give the owner's account another key; returns who signs for it from now on."""
        outcome = self.do(owner, "KEY_ROTATE", self.rotation(owner, key), fee=fee)
        assert outcome.ok, outcome
        return holding(owner, key)

    # Registrations

    def countersigned(self, provider: Signer, validator: Signer, hub: Signer | None = None) -> dict[str, str]:
        """A validator's word, and a hub's if one is named."""
        digest = compute_for_digest(provider.address, validator.address, self.genesis_hash)
        word = {"validator_sig": validator.sign(digest).hex()}
        return word if hub is None else {**word, **self.countersignature(provider, hub)}  # type: ignore[arg-type]

    # Updates

    def update(
        self, payload: dict[str, Any], *signers: Signer, places: Sequence[int] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(payload, witness) of a PARAM_UPDATE that some members of the set approve; its number is the next one."""
        payload = {"number": self.number("updates.count") + 1, **payload}
        members = [address for address, _ in self.validators()]
        at = [members.index(who.address) for who in signers] if places is None else list(places)
        digest = param_update_digest(jcs(payload), self.genesis_hash)
        in_order = [who for _, who in sorted(zip(at, signers, strict=True), key=lambda pair: pair[0])]
        return payload, {
            "bitmap": sum(1 << place for place in set(at)),
            "sigs": [who.sign(digest).hex() for who in in_order],
        }

    def change(
        self,
        signers: Sequence[Signer] = (VALIDATOR,),
        *,
        sender: Signer = ALICE,
        fee: int = FEE,
        **payload: Any,
    ) -> str:
        """Send an approved update; returns what became of it."""
        update, witness = self.update(payload, *signers)
        return self.said(sender, "PARAM_UPDATE", update, witness=witness, fee=fee)

    # Evidence

    def vote(
        self, who: Signer, kind: str, candidate: str, *, epoch: int = 0, slot: int = 7, **other: Any
    ) -> dict[str, str]:
        """A signed vote as evidence carries it; `other` chain_id or genesis_hash makes one of another chain."""
        digest = vote_digest(
            kind=kind,
            epoch=epoch,
            slot=slot,
            candidate=bytes.fromhex(candidate),
            **{"chain_id": "ait-test", "genesis_hash": self.genesis_hash, **other},
        )
        return {"kind": kind, "candidate": candidate, "sig": who.sign(digest).hex()}

    def double_vote(self, who: Signer, *, epoch: int = 0, slot: int = 7) -> dict[str, Any]:
        """Evidence of two notar votes."""
        first, second = (self.vote(who, "notar", c, epoch=epoch, slot=slot) for c in (A, B))
        return {
            "votes": {
                "validator": who.address,
                "epoch": epoch,
                "slot": slot,
                "first": first,
                "second": second,
            }
        }

    def forged(self, sender: Signer = ALICE) -> Transaction:
        """A transfer that its sender has not signed."""
        tx = self.sign(sender, "TRANSFER", {"to": EVE.address, "amount": 5})  # type: ignore[arg-type]
        return msgspec.structs.replace(tx, sig=bytes(64))

    def bad_block(
        self,
        who: Signer,
        tx: Transaction | None = None,
        *,
        epoch: int = 0,
        slot: int = 7,
        kind: str = "candidate",
        **other: Any,
    ) -> dict[str, Any]:
        """Evidence of a candidate whose block of three holds a forged transfer, or `tx`, in the middle.

        `other` fields of the candidate, or a chain_id, make it sign another one than it says.
        """
        tx = tx or self.forged()
        sound = [self.sign(BOB, "TRANSFER", {"to": ALICE.address, "amount": n}) for n in (1, 2)]
        wids = [wid_of(one, self.genesis_hash) for one in (sound[0], tx, sound[1])]
        header = msgspec.structs.replace(self.executor.head.block.header, txs_root=list_root(wids))
        said = Candidate(epoch, slot, slot - 1, bytes(32), header_hash(header))
        chain_id = other.pop("chain_id", "ait-test")
        signed = msgspec.structs.replace(said, **other)
        digest = vote_digest(
            kind=kind,
            epoch=signed.epoch,
            slot=signed.slot,
            candidate=candidate_id(signed, chain_id, self.genesis_hash),
            chain_id=chain_id,
            genesis_hash=self.genesis_hash,
        )
        return {
            "block": {
                "validator": who.address,
                "epoch": epoch,
                "slot": slot,
                "parent_slot": said.parent_slot,
                "parent_id": said.parent_id.hex(),
                "sig": who.sign(digest).hex(),
                "header": pack(header).hex(),
                "tx": pack(tx).hex(),
                "index": 1,
                "count": 3,
                "path": [node.hex() for node in prove_item(wids, 1).path],
            }
        }

    # Claims without a lock

    def calibration(
        self,
        provider: Signer,
        *,
        hub: Signer = HUB,
        with_key: bool = False,
        lock: str = "",
        **fields: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(payload, witness) of the calibration claim that the chain drew for the next block's epoch."""
        seed = self.executor.state.get("params", "epoch.seed")
        drawn = {
            "job_id": calibration_job(self.epoch, provider.address),
            "nonce": calibration_nonce(
                self.genesis_hash,
                self.epoch,
                seed.value if seed else "",  # type: ignore[union-attr]
                provider.address,
            ),
            "price": 0,
            "attempt": 0,
            "details_hash": "",
        }
        payload, witness = self.claim_parts(
            provider,  # type: ignore[arg-type]
            lock,
            hub=hub,  # type: ignore[arg-type]
            routed="calibration",
            **{**drawn, **fields},
        )
        if with_key:
            witness["pubkey"] = key_to_text(hub.auth_key)
        return payload, witness

    def claim(self, provider: Signer, lock: str, *, sender: Signer = HUB, **fields: Any) -> Outcome:
        """One receipt, paid on its own."""
        payload, witness = self.claim_parts(provider, lock, **fields)  # type: ignore[arg-type]
        return self.do(sender, "RECEIPT_CLAIM", payload, witness=witness)


def slots_of(state: State) -> dict[str, int]:
    """Places in each tree of a state, as every proof says them."""
    return {store: state.prove(store, "~")[0].count for store in STORES}


A, B = "aa" * 32, "bb" * 32
"""Ids of two candidates, the lower one first."""


def resigned(chain: Chain, claim: dict[str, Any], signer: Signer) -> dict[str, Any]:
    """A claim with the provider's signature made again, by another key."""
    core = core_of(msgspec.convert(claim, _claim_class()))
    digest = receipt_core_digest(ReceiptCore(**msgspec.structs.asdict(core)), chain.genesis_hash)
    return {**claim, "miner_sig": signer.sign(digest).hex()}


def _claim_class() -> Any:
    from aitbc.core.ledger.transactions.receipt_claim import ReceiptClaim

    return ReceiptClaim


class Work(NamedTuple):
    """One receipt of a batch, before it has a place."""

    lock: str
    provider: str
    task: int = 0
    attempt: int = 0
    routed: int = 1
    units: int = 2_000
    price: int = 2 * AIT
    receipt: str = "11" * 32


class Batches:
    """What a hub puts under one root, and how anybody settles a range of it."""

    def __init__(self, works: Sequence[Work]) -> None:
        self.works = list(works)
        self.leaves = [committed(work) for work in self.works]
        self.id = ""

    @property
    def payload(self) -> dict[str, Any]:
        return {"root": list_root(self.leaves).hex(), "count": len(self.leaves)}

    def send(self, chain: Chain, hub: Signer = HUB) -> "Batches":
        """Put the batch on the chain."""
        outcome = chain.do(hub, "RECEIPT_BATCH", self.payload)
        assert outcome.ok, outcome
        self.id = outcome.tx_id.hex()
        return self

    def settle(self, start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """The SETTLE of the leaves start … stop − 1."""
        stop = len(self.works) if stop is None else stop
        works = self.works[start:stop]
        locks = sorted({work.lock for work in works})
        providers = sorted({work.provider for work in works})
        leaves = [
            Leaf(
                bytes.fromhex(work.receipt),
                locks.index(work.lock),
                providers.index(work.provider),
                work.task,
                work.attempt,
                work.routed,
                work.units,
                work.price,
            )
            for work in works
        ]
        return {
            "batch": self.id,
            "start": start,
            "locks": locks,
            "providers": providers,
            "leaves": pack_leaves(leaves),
            "proof": [node.hex() for node in prove_range(self.leaves, start, stop)],
        }


def committed(work: Work) -> bytes:
    """What the root covers of a receipt, from docs/spec/batches.md."""
    own = b"".join(
        (
            work.task.to_bytes(2, "big"),
            bytes([work.attempt, work.routed]),
            work.units.to_bytes(8, "big"),
            work.price.to_bytes(8, "big"),
        )
    )
    assert len(own) == 56 - TAIL
    return bytes.fromhex(work.receipt) + bytes.fromhex(work.lock) + work.provider.encode() + own
