"""People who use a simulated chain: each sends transactions in nonce order, sends them again when nothing happens, and
remembers what it was told of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from aitbc.core.chain.bad_block import BlockFault, payload_of
from aitbc.core.codec.canonical import jcs, plain_json
from aitbc.core.codec.digests import (
    attestation_digest,
    param_update_digest,
    receipt_core_digest,
    receipt_id_of,
    rotation_digest,
)
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.leaves import TAIL, Leaf, pack_leaves
from aitbc.core.consensus.engine import Fault
from aitbc.core.crypto.merkle import list_root, prove_range
from aitbc.core.ledger.state import Overlay
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.amounts import AIT
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore
from aitbc.core.types.records import Lock
from aitbc.core.types.transactions import Transaction
from aitbc.sim import keys
from aitbc.sim.blocks import START_MS
from aitbc.sim.ledger import (
    CUSTOMERS,
    FEE,
    GOVERNOR,
    HUB,
    LEAST_SET,
    PROVIDER,
    STAKE,
    WATCHMAN,
    Holder,
    may_be_without_one,
    signed,
    validator_at,
)

if TYPE_CHECKING:
    from aitbc.sim.whole_cluster import WholeCluster

WINDOW = 6
"""Transactions that one client has under way."""
PATIENCE_MS = 1_000
"""So long a client waits before it sends again."""
HASH = "sha256:" + "ab" * 32

Wish = tuple[str, dict[str, Any], dict[str, Any] | None]
"""Type, payload, witness of a transaction."""


class Sent(msgspec.Struct):
    id: bytes
    tx: Transaction
    at_ms: int


class Client:
    """One account. What it knows of the chain it reads from the highest node."""

    def __init__(self, cluster: WholeCluster, who: Holder, draw: random.Random) -> None:
        self.cluster = cluster
        self.who = who
        self.draw = draw
        self.under_way: dict[int, Sent] = {}
        """Nonce → what was sent."""
        self.refused: dict[bytes, Rejected] = {}
        """What was answered with a reason, and whether it may come back all the same."""
        self.final = 0

    def wish(self) -> Wish | None:
        """What it would like to do now."""
        others = [who for who in CUSTOMERS if who is not self.who]
        return _transfer(self.draw.choice(others), self.draw.randrange(1, 1_000))

    def act(self) -> None:
        """Once in a while: forget what is done, say again what is not, and want something new."""
        self.settle()
        self.send_again(PATIENCE_MS)
        if len(self.under_way) < WINDOW:
            wish = self.wish()
            if wish is not None:
                self.send(wish)

    def send(self, wish: Wish) -> bytes:
        kind, payload, witness = wish
        nonce = max(self.nonce, *self.under_way, 0) + 1 if self.under_way else self.nonce + 1
        tx_id, tx = signed(
            self.who,
            kind,
            nonce,
            payload,
            genesis_hash=self.cluster.genesis_hash,
            witness=witness,
            fee=FEE * self.draw.choice((1, 1, 2)),
        )
        self.under_way[nonce] = Sent(tx_id, tx, self.cluster.now)
        self.cluster.submit(self, tx_id, tx)
        return tx_id

    @property
    def nonce(self) -> int:
        return self.cluster.checks.nonces.get(self.who.address, 0)

    def settle(self) -> None:
        """What is final, or can no longer be, is over."""
        for nonce in [nonce for nonce in self.under_way if nonce <= self.nonce]:
            sent = self.under_way.pop(nonce)
            if sent.id in self.cluster.checks.placed:
                self.final += 1
        if any(sent.id in self.refused for sent in self.under_way.values()):
            self.under_way.clear()

    def send_again(self, patience_ms: int) -> None:
        for sent in self.under_way.values():
            if self.cluster.now - sent.at_ms >= patience_ms:
                sent.at_ms = self.cluster.now
                self.cluster.submit(self, sent.id, sent.tx)

    def waits(self) -> list[bytes]:
        """Ids that nobody has answered in the end."""
        self.settle()
        return [sent.id for sent in self.under_way.values()]


class Customer(Client):
    """Pays others, and buys work."""

    def wish(self) -> Wish | None:
        if self.draw.randrange(3):
            return super().wish()
        now_ms = START_MS + self.cluster.now
        if self.draw.randrange(3) == 0:
            for key, known in self.cluster.locks():
                if known.client == self.who.address and known.claim_until_ms < now_ms:
                    return ("REFUND", {"lock": key}, None)
        lock: dict[str, Any] = {
            "hub": HUB.address,
            "job_id": f"job-{self.draw.randrange(1000)}",
            "amount": self.draw.randrange(1, 3) * AIT,
            "request_hash": HASH,
            "deliver_by_ms": now_ms + 5_000,
            "claim_until_ms": now_ms + 6_000 + self.draw.randrange(20_000),
            "session": True,
        }
        if self.draw.randrange(2):
            lock["tasks"] = 3
        return ("JOB_LOCK", lock, None)


class Provider(Client):
    """Registers, and then pays its friends."""

    def wish(self) -> Wish | None:
        if Overlay(self.cluster.view).registration("provider", self.who.address) is None:
            return ("REGISTER", {"role": "provider", "models": []}, None)
        return super().wish()


class Hub(Client):
    """Attests work, claims it one by one or puts it into batches and settles them."""

    def __init__(self, cluster: WholeCluster, who: Holder, draw: random.Random) -> None:
        super().__init__(cluster, who, draw)
        self.batches: dict[bytes, dict[str, Any]] = {}
        """Id of a batch → what settles it."""

    def wish(self) -> Wish | None:
        for tx_id, settle in list(self.batches.items()):
            if tx_id in self.cluster.checks.placed:
                del self.batches[tx_id]
                return ("SETTLE", {**settle, "batch": tx_id.hex()}, None)
        open_locks = [
            (key, lock)
            for key, lock in self.cluster.locks()
            if lock.hub == self.who.address and not int(lock.paid_tasks, 16)
        ]
        if not open_locks:
            return super().wish()
        key, lock = self.draw.choice(open_locks)
        return self._batch(key) if self.draw.randrange(3) == 0 else self._claim(key, lock)

    def send(self, wish: Wish) -> bytes:
        settle = wish[1].pop("settle", None)
        tx_id = super().send(wish)
        if settle is not None:
            self.batches[tx_id] = settle
        return tx_id

    def _claim(self, key: str, lock: Lock) -> Wish:
        return claim_of(key, lock, self.cluster.genesis_hash)

    def _batch(self, key: str) -> Wish:
        receipt = self.draw.randbytes(32)
        own = (0).to_bytes(2, "big") + b"\0\1" + (500).to_bytes(8, "big") + (AIT // 10).to_bytes(8, "big")
        leaf = receipt + bytes.fromhex(key) + PROVIDER.address.encode() + own
        assert len(own) == 56 - TAIL
        settle = {
            "start": 0,
            "locks": [key],
            "providers": [PROVIDER.address],
            "leaves": pack_leaves([Leaf(receipt, 0, 0, 0, 0, 1, 500, AIT // 10)]),
            "proof": [node.hex() for node in prove_range([leaf], 0, 1)],
        }
        return ("RECEIPT_BATCH", {"root": list_root([leaf]).hex(), "count": 1, "settle": settle}, None)


def claim_of(key: str, lock: Lock, genesis_hash: bytes, *, forged: bool = False) -> Wish:
    """A receipt of the provider for the first task of a lock, attested; a forged one has a signature of nobody."""
    core = ReceiptCore(
        job_id=lock.job_id,
        client_addr=lock.client,
        miner_addr=PROVIDER.address,
        compute_units=500,
        price=AIT // 10,
        output_hash=HASH,
        lock=key,
        details_hash=HASH,
    )
    payload = msgspec.json.decode(jcs(core))
    payload["receipt_id"] = receipt_id_of(core, genesis_hash)
    digest = receipt_core_digest(core, genesis_hash)
    payload["miner_sig"] = (HUB if forged else PROVIDER).sign(digest).hex()
    said = Attestation(
        receipt_id=payload["receipt_id"],
        lock=key,
        job_id=core.job_id,
        hub=HUB.address,
        client=core.client_addr,
        provider=core.miner_addr,
        task=0,
        attempt=0,
        units=core.compute_units,
        price=core.price,
        output_hash=core.output_hash,
        routed="random",
    )
    sig = HUB.sign(attestation_digest(said, genesis_hash)).hex()
    return ("RECEIPT_CLAIM", payload, {"attestation": msgspec.json.decode(jcs(said)), "sig": sig})


class Governor(Client):
    """Has the authorities approve an update: a parameter, or another list of themselves."""

    def wish(self) -> Wish | None:
        if self.draw.randrange(4) or not self.cluster.ledger.governing:
            return super().wish()
        view = self.cluster.view
        payload: dict[str, Any] = {"number": Overlay(view).number("updates.count") + 1}
        if self.cluster.ledger.mode != "hybrid" and self.draw.randrange(2):
            payload["authorities"] = [{"address": who} for who in self._members()]
        else:
            payload["set"] = {"fee_burn_bp": self.draw.randrange(10_000)}
        digest = param_update_digest(jcs(payload), self.cluster.genesis_hash)
        members = [(member, self.cluster.place_of(member.address)) for member in validators_of(view)]
        signers = [
            (at, member) for at, (member, place) in enumerate(members) if place not in self.cluster.weak
        ]
        witness = {
            "bitmap": sum(1 << at for at, _ in signers),
            "sigs": [keys.sign(member.auth_key, digest).hex() for _, member in signers],
        }
        return ("PARAM_UPDATE", payload, witness)

    def _members(self) -> Iterator[str]:
        """All, in some order, sometimes without one."""
        cluster = self.cluster
        places = list(range(cluster.plan.nodes))
        self.draw.shuffle(places)
        strong = [place for place in places if place not in cluster.weak]
        if self.draw.randrange(2) and may_be_without_one(len(places), cluster.weak):
            places.remove(strong[0])
        return (validator_at(place).address for place in places)


class Validator(Client):
    """Adds to its stake, takes of it, leaves and comes back, and changes its key; who is weak only pays."""

    def __init__(self, cluster: WholeCluster, who: Holder, draw: random.Random, place: int) -> None:
        super().__init__(cluster, who, draw)
        self.place = place

    def wish(self) -> Wish | None:
        if self.place in self.cluster.weak or not self.cluster.plan.changing_sets or self.draw.randrange(3):
            return super().wish()
        choice = self.draw.randrange(4)
        if choice == 0:
            return self._rotate() if self.cluster.ledger.rotating else None
        if self.cluster.ledger.mode != "hybrid":
            return None
        view = Overlay(self.cluster.view)
        bond = view.bond("validator", self.who.address)
        if choice == 1 and bond.unbonding:
            return ("WITHDRAW", {"role": "validator"}, None)
        if choice == 2 and bond.amount and self._may_take(bond.amount):
            amount = bond.amount if self.draw.randrange(2) else bond.amount // 2
            return ("UNSTAKE", {"role": "validator", "amount": amount}, None)
        if bond.amount < 3 * STAKE:
            return ("STAKE", {"role": "validator", "amount": STAKE}, None)
        return None

    def _may_take(self, amount: int) -> bool:
        """Is there still more than three times the weak ones' power, whatever else is under way?"""
        state = self.cluster.view
        strong = weak = 0
        for member in validators_of(state):
            if self.cluster.place_of(member.address) in self.cluster.weak:
                weak += member.power
            else:
                strong += member.power
        others = [one for one in self.cluster.clients if isinstance(one, Validator) and one is not self]
        is_alone = not any(sent.tx.type == "UNSTAKE" for one in others for sent in one.under_way.values())
        members = len(validators_of(state))
        return is_alone and members > LEAST_SET and strong - amount > 3 * weak + STAKE

    def _rotate(self) -> Wish | None:
        """The operator keeps the old key until the set has the new one."""
        node = self.cluster.nodes[self.place]
        if node.generation >= 2 or self.under_way:
            return None
        node.generation += 1
        key = keys.key_of(self.place, node.generation)
        digest = rotation_digest(self.who.address, key, self.cluster.genesis_hash)
        payload = {"pubkey": key_to_text(key), "sig": keys.sign(key, digest).hex()}
        return ("KEY_ROTATE", payload, None)

    def settle(self) -> None:
        super().settle()
        known = self.cluster.view.account(self.who.address).auth
        if known and known != self.who.auth_key:
            self.who = Holder(self.who.name, self.who.address, known)


class Watchman(Client):
    """Brings to the ledger what honest nodes found out."""

    def __init__(self, cluster: WholeCluster, who: Holder, draw: random.Random) -> None:
        super().__init__(cluster, who, draw)
        self.faults: list[Fault | BlockFault] = []

    def wish(self) -> Wish | None:
        if not self.faults:
            return None
        fault = self.faults.pop()
        if isinstance(fault, BlockFault):
            return ("EVIDENCE", plain_json(payload_of(fault, self.cluster.genesis_hash)), None)
        votes = {
            "validator": fault.validator,
            "epoch": fault.epoch,
            "slot": fault.slot,
            "first": _vote(fault.first),
            "second": _vote(fault.second),
        }
        return ("EVIDENCE", {"votes": votes}, None)


def _vote(statement: Any) -> dict[str, str]:
    return {
        "kind": statement.kind,
        "candidate": statement.candidate.hex(),
        "sig": statement.signature.hex(),
    }


def _transfer(to: Holder, amount: int) -> Wish:
    return ("TRANSFER", {"to": to.address, "amount": amount}, None)


def everybody(cluster: WholeCluster) -> list[Client]:
    draw = random.Random(f"{cluster.plan.seed}/clients")  # noqa: S311 - a simulation repeats, it does not hide
    validators = [Validator(cluster, validator_at(place), draw, place) for place in range(cluster.plan.nodes)]
    return [
        *[Customer(cluster, who, draw) for who in CUSTOMERS],
        Provider(cluster, PROVIDER, draw),
        Hub(cluster, HUB, draw),
        Governor(cluster, GOVERNOR, draw),
        *validators,
        Watchman(cluster, WATCHMAN, draw),
    ]
