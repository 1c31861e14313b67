"""A long chain in which everything happens: the same blocks for the same seed, on every Python.

Most transactions succeed, some fail, none is invalid. Retentions are short, so that records come and go.
"""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import (
    attestation_digest,
    param_update_digest,
    receipt_core_digest,
    receipt_id_of,
    rotation_digest,
    transaction_id,
)
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.leaves import Leaf, committed_leaves, leaf_bytes_of, pack_leaves
from aitbc.core.crypto.merkle import list_root, prove_range
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount
from aitbc.core.types.amounts import AIT
from aitbc.core.types.receipts import Attestation, ReceiptCore
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import OUTPUT, REQUEST, START_MS, VERSION_2, Chain, genesis
from support.people import FAUCET, HUB, SYNTHETIC, VALIDATOR, person

CLIENTS = [person(f"client {number}") for number in range(12)]
PROVIDERS = [person(f"provider {number}") for number in range(6)]
Json = dict[str, Any]


def busy_genesis() -> Any:
    funded = [*CLIENTS, HUB]
    unfunded = [FAUCET, SYNTHETIC]
    return genesis(
        activations=VERSION_2,
        accounts=[
            GenesisAccount(address=who.address, balance=10**6 * AIT, pubkey=key_to_text(who.auth_key))
            for who in funded
        ]
        + [
            GenesisAccount(address=who.address, balance=0, pubkey=key_to_text(who.auth_key))
            for who in unfunded
        ],
        consensus=ConsensusSettings(epoch_length=20),
        mint_price_cap_bp=10_000,
        mint_budget_per_day=200 * AIT,
        treasury=CLIENTS[0].address,
        treasury_ratio_bp=100,
        max_lock_ms=120_000,
        lock_retention_ms=60_000,
        receipt_retention_ms=60_000,
        unbonding_ms=30_000,
        jail_ms=60_000,
    )


class BusyChain(Chain):
    """Draws the transactions of each block from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(busy_genesis())
        self.random = random.Random(seed)
        self.signers: dict[str, KeySigner] = {}
        """Address → the key that signs for it now."""
        self.open_locks: list[tuple[str, KeySigner, int, int]] = []
        """(id, client, height, next task): sessions of 64 tasks."""
        self.batches: list[tuple[str, list[Leaf], list[str], list[str]]] = []
        self._nonces: dict[str, int] = {}

    def next_block(self) -> Any:
        self._nonces.clear()
        if not self.executor.head.block.header.height:
            return self.block(*[self._register(provider) for provider in PROVIDERS])
        draw = self.random
        txs = [tx for _ in range(draw.randrange(4)) if (tx := self._something()) is not None]
        built = self.block(*txs, after_ms=draw.randrange(500, 2_500))
        assert not built.refused, built.refused[0]
        self._look(built)
        return built

    def _something(self) -> VerifiedTransaction | None:
        draw = self.random
        kind = draw.choices(
            [self._transfer, self._lock, self._claim, self._batch, self._settle, self._refund, self._stake,
             self._unstake, self._withdraw, self._rotate, self._update, self._faucet],
            [30, 12, 30, 4, 8, 4, 4, 2, 2, 1, 1, 2],
        )[0]  # fmt: skip
        return kind()

    def _tx(
        self, who: KeySigner, kind: str, payload: Json, *, fee: int = 5_000, **more: Any
    ) -> VerifiedTransaction:
        nonce = self._nonces.get(who.address, self.nonce(who)) + 1
        self._nonces[who.address] = nonce
        signer = self.signers.get(who.address, who)
        tx = self.sign(who, kind, payload, nonce=nonce, fee=fee, **more)
        if signer is not who:
            tx = msgspec.structs.replace(tx, pubkey=signer.auth_key, sig=b"")
            tx = msgspec.structs.replace(tx, sig=signer.sign(transaction_id(tx, self.genesis_hash)))
        return self.executor.transactions.verify(tx)

    def _register(self, provider: KeySigner) -> VerifiedTransaction:
        nonce = self._nonces[provider.address] = 1
        payload = {"role": "provider", "models": []}
        tx = self.sign(
            provider, "REGISTER", payload, nonce=nonce, fee=0, witness=self.countersignature(provider, HUB)
        )
        return self.executor.transactions.verify(tx)

    def _transfer(self) -> VerifiedTransaction:
        draw = self.random
        to = draw.choice([*CLIENTS, *PROVIDERS, person(f"somebody {draw.randrange(2_000)}")])
        amount = draw.choice([1, AIT, 10**9 * AIT])
        return self._tx(draw.choice(CLIENTS), "TRANSFER", {"to": to.address, "amount": amount})

    def _lock(self) -> VerifiedTransaction:
        client = self.random.choice(CLIENTS)
        payload = {
            "hub": HUB.address,
            "job_id": "session",
            "amount": 100 * AIT,
            "request_hash": REQUEST,
            "deliver_by_ms": self.now_ms + 60_000,
            "claim_until_ms": self.now_ms + 90_000,
            "tasks": 64,
            "session": True,
        }
        return self._tx(client, "JOB_LOCK", payload)

    def _claim(self) -> VerifiedTransaction | None:
        if not self.open_locks:
            return None
        draw = self.random
        place = draw.randrange(len(self.open_locks))
        lock, client, height, task = self.open_locks[place]
        self.open_locks[place] = (lock, client, height, task + 1)
        provider = draw.choice(PROVIDERS)
        payload, witness = self._parts(provider, client, lock, task, price=draw.randrange(3 * AIT))
        return self._tx(draw.choice(CLIENTS), "RECEIPT_CLAIM", payload, witness=witness)

    def _parts(
        self, provider: KeySigner, client: KeySigner, lock: str, task: int, *, price: int
    ) -> tuple[Json, Json]:
        core = ReceiptCore(
            job_id=f"job {task}",
            client_addr=client.address,
            miner_addr=provider.address,
            compute_units=1_000 + task,
            price=price,
            output_hash=OUTPUT,
            lock=lock,
            task=task % 64,
        )
        payload = msgspec.json.decode(jcs(core))
        payload["receipt_id"] = receipt_id_of(core, self.genesis_hash)
        payload["miner_sig"] = provider.sign(receipt_core_digest(core, self.genesis_hash)).hex()
        said = Attestation(
            receipt_id=payload["receipt_id"],
            lock=lock,
            job_id=core.job_id,
            hub=HUB.address,
            client=client.address,
            provider=provider.address,
            task=core.task,
            attempt=0,
            units=core.compute_units,
            price=price,
            output_hash=OUTPUT,
            routed="random",
        )
        sig = HUB.sign(attestation_digest(said, self.genesis_hash)).hex()
        return payload, {"attestation": msgspec.json.decode(jcs(said)), "sig": sig}

    def _batch(self) -> VerifiedTransaction | None:
        if len(self.open_locks) < 2:
            return None
        draw = self.random
        chosen = sorted(draw.sample(range(len(self.open_locks)), 2), key=lambda i: self.open_locks[i][0])
        locks = [self.open_locks[place][0] for place in chosen]
        providers = sorted(provider.address for provider in draw.sample(PROVIDERS, 2))
        leaves = []
        for number in range(16):
            place = chosen[number % 2]
            lock, client, height, task = self.open_locks[place]
            self.open_locks[place] = (lock, client, height, task + 1)
            leaves.append(
                Leaf(draw.randbytes(32), number % 2, number // 2 % 2, task % 64, 0, 1, 1_500, AIT // 2)
            )
        tables = ([bytes.fromhex(lock) for lock in locks], [name.encode() for name in providers])
        root = list_root(committed_leaves(leaf_bytes_of(pack_leaves(leaves)), *tables))
        tx = self._tx(HUB, "RECEIPT_BATCH", {"root": root.hex(), "count": len(leaves)})
        self.batches.append((tx.id.hex(), leaves, locks, providers))
        return tx

    def _settle(self) -> VerifiedTransaction | None:
        if not self.batches:
            return None
        batch, leaves, locks, providers = self.random.choice(self.batches[-6:])
        tables = ([bytes.fromhex(lock) for lock in locks], [name.encode() for name in providers])
        committed = committed_leaves(leaf_bytes_of(pack_leaves(leaves)), *tables)
        start = self.random.choice((0, 8))
        payload = {
            "batch": batch,
            "start": start,
            "locks": locks,
            "providers": providers,
            "leaves": pack_leaves(leaves[start : start + 8]),
            "proof": [node.hex() for node in prove_range(committed, start, start + 8)],
        }
        return self._tx(self.random.choice(CLIENTS), "SETTLE", payload)

    def _refund(self) -> VerifiedTransaction | None:
        if not self.open_locks:
            return None
        lock = self.random.choice(self.open_locks[:3])[0]
        return self._tx(self.random.choice(CLIENTS), "REFUND", {"lock": lock})

    def _stake(self) -> VerifiedTransaction:
        role = self.random.choice(("validator", "provider", "hub"))
        return self._tx(self.random.choice([*CLIENTS, HUB]), "STAKE", {"role": role, "amount": 10 * AIT})

    def _unstake(self) -> VerifiedTransaction:
        role = self.random.choice(("validator", "provider", "hub"))
        return self._tx(self.random.choice(CLIENTS), "UNSTAKE", {"role": role, "amount": 3 * AIT})

    def _withdraw(self) -> VerifiedTransaction:
        role = self.random.choice(("validator", "provider", "hub"))
        return self._tx(self.random.choice(CLIENTS), "WITHDRAW", {"role": role})

    def _rotate(self) -> VerifiedTransaction | None:
        who = self.random.choice(CLIENTS)
        if who.address in self._nonces:
            return None  # it has signed in this block with the key of now
        new = person(f"{who.address} {self.random.randrange(10**9)}")
        sig = new.sign(rotation_digest(who.address, new.auth_key, self.genesis_hash)).hex()
        tx = self._tx(who, "KEY_ROTATE", {"pubkey": key_to_text(new.auth_key), "sig": sig})
        self.signers[who.address] = new
        return tx

    def _update(self) -> VerifiedTransaction:
        number = self.executor.state.get("params", "updates.count")
        payload = {
            "number": int(getattr(number, "value", "0")) + 1,
            "set": {"mint_budget_per_day": self.random.randrange(100, 400) * AIT},
        }
        sig = VALIDATOR.sign(param_update_digest(jcs(payload), self.genesis_hash)).hex()
        return self._tx(
            self.random.choice(CLIENTS), "PARAM_UPDATE", payload, witness={"bitmap": 1, "sigs": [sig]}
        )

    def _faucet(self) -> VerifiedTransaction:
        return self._tx(FAUCET, "FAUCET", {"to": CLIENTS[1].address, "amount": AIT}, fee=0)

    def _look(self, built: Any) -> None:
        """Keep what later transactions can use."""
        height = built.block.header.height
        for tx, outcome in zip(built.block.txs, built.outcomes, strict=True):
            if tx.type == "JOB_LOCK" and outcome.ok:
                client = next(who for who in CLIENTS if who.address == tx.sender)
                self.open_locks.append((outcome.tx_id.hex(), client, height, 0))
        self.open_locks = [lock for lock in self.open_locks if lock[2] > height - 60]
        del self.batches[:-40]


def busy_blocks(seed: int, count: int) -> Iterator[Any]:
    chain = BusyChain(seed)
    for _ in range(count):
        yield chain.next_block()


__all__ = ["START_MS", "BusyChain", "busy_blocks", "busy_genesis"]
