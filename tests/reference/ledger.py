"""Execution, retirement and boundaries, written from docs/spec/ (the chapter is named at each part).

Records are plain dictionaries that are never changed in place: a write puts a new one, so a copy of the stores is a
shallow one and what a block has written is what is not the same object any more.
"""

import json
from itertools import pairwise
from typing import Any

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.hashing import fields, tagged, u64
from aitbc.core.crypto.merkle import range_root
from aitbc.core.crypto.schemes import ED25519, is_key, verifications, verify
from aitbc.core.types.blocks import Header
from aitbc.core.types.transactions import Transaction
from reference.forms import (
    ATTESTATION,
    MAX,
    PAYLOADS,
    WITNESSES,
    Invalid,
    attestation_digest,
    check_form,
    core_digest,
    filled,
    header_in,
    leaves_of,
    transaction_id,
    transaction_in,
)
from reference.tree import STORES, move_slots, state_root

TOTAL = 2**63 - 1
RETIRED_AT_ONCE = 2_000
DAY_MS = 86_400_000
SCALE = 10**9
PAYS_AFTERWARDS = ("RECEIPT_CLAIM", "SETTLE", "REFUND")
SINCE_VERSION_2 = (
    "RECEIPT_BATCH",
    "SETTLE",
    "STAKE",
    "UNSTAKE",
    "WITHDRAW",
    "PARAM_UPDATE",
    "KEY_ROTATE",
    "EVIDENCE",
)
PARAMS_OF_VERSION_1: dict[str, Any] = {
    "devnet": 0,
    "base_fee": 2,
    "fee_per_kib": 64,
    "fee_burn_bp": 5000,
    "mint_per_unit": 1000,
    "coordinator_ratio_bp": 500,
    "treasury_ratio_bp": 0,
    "treasury": "",
    "mint_price_cap_bp": 10_000,
    "hubs": [],
    "faucet": "",
    "faucet_limit": 0,
    "synthetic_attester": "",
    "max_lock_ms": 2_592_000_000,
}
PARAMS: dict[str, Any] = {
    **PARAMS_OF_VERSION_1,
    "activations": [],
    "fee_ed25519": 1,
    "fee_secp256k1": 6,
    "fee_rsa_pss": 2,
    "hub_bond": 0,
    "hub_mint_per_bond_bp": 0,
    "mint_budget_per_day": 0,
    "calibration_budget": 0,
    "calibration_until_ms": 0,
    "calibration_units": 10_000,
    "lock_retention_ms": 604_800_000,
    "receipt_retention_ms": 604_800_000,
    "unbonding_ms": 1_209_600_000,
    "governance_threshold": 0,
    "slash_bp": 500,
    "jail_ms": 86_400_000,
    "evidence_epochs": 100,
    "min_validator_stake": 1_000_000_000,
    "max_validators": 50,
    "score_decay_bp": 8750,
    "score_units_per_provider": 0,
}
CONSENSUS: dict[str, Any] = {"mode": "poa", "block_time_ms": 1000, "idle_ms": 10_000, "epoch_length": 600}
BY_WORK = ("pow", "poa-pow")
WORK: dict[str, Any] = {
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
"""docs/spec/nakamoto.md, Settings"""

LATER_FIELDS: dict[str, dict[str, Any]] = {
    "lock": {"session": False, "closed_ms": 0},
    "receipt": {"claimed_ms": 0},
    "validator": {"turns": 0},
    "registration": {"epoch": 0, "epoch_units": 0, "calibrated_epoch": 0},
    "bond": {"offences": 0},
}
"""Fields that came with version 2, left out of the bytes at their default."""

Plain = dict[str, Any]
Event = tuple[str, str, int]
Outcome = tuple[bool, str, int, list[Event]]


class Failed(Exception):
    """In the block; fee and nonce are spent, nothing else."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def need(condition: bool, reason: str) -> None:
    if not condition:
        raise Failed(reason)


def record_bytes(store: str, key: str, record: Plain) -> bytes:
    """docs/spec/state.md, Stores"""
    if store == "accounts":
        return u64(record["balance"]) + u64(record["nonce"]) + record["auth"]  # type: ignore[no-any-return]
    kind = {
        "locks": "lock",
        "receipts": "batch" if key.startswith("batch:") else "receipt",
        "validators": "" if key.startswith("score:") else "validator",
        "registry": "registration" if key.startswith(("provider:", "hub:")) else key.split(":")[0],
    }.get(store, "")
    later = LATER_FIELDS.get(kind, {})
    return jcs({name: value for name, value in record.items() if name not in later or value != later[name]})


class Ledger:
    """One chain: its genesis, then one block after the other."""

    def __init__(self, document: bytes, *, as_the_code: frozenset[str] = frozenset()) -> None:
        """docs/spec/genesis.md; `as_the_code`: known disagreements in which the code is followed instead."""
        self.as_the_code = as_the_code
        genesis = json.loads(document)
        defaults = PARAMS if genesis["params"].get("activations") else PARAMS_OF_VERSION_1
        genesis["params"] = {**defaults, **{k: v for k, v in genesis["params"].items() if k in defaults}}
        genesis["consensus"] = _consensus_of(genesis["consensus"])
        genesis["accounts"] = [
            {name: value for name, value in account.items() if (name, value) != ("pubkey", "")}
            for account in genesis["accounts"]
        ]
        genesis["authorities"] = [
            {name: value for name, value in authority.items() if (name, value) != ("stake", 0)}
            for authority in genesis["authorities"]
        ]
        self.genesis_hash = tagged("aitbc/genesis/1", jcs(genesis))
        self.chain_id: str = genesis["chain_id"]
        self.stores: dict[str, dict[str, Plain]] = {store: {} for store in STORES}
        self.slots: dict[str, dict[str, int]] = {store: {} for store in STORES}
        self.height = 0
        self.time = genesis["timestamp"] * 1000
        self.events: list[Event] = []
        for account in genesis["accounts"]:
            auth = key_from_text(account["pubkey"]) if "pubkey" in account else b""
            self._put("accounts", account["address"], balance=account["balance"], nonce=0, auth=auth)
        for position, authority in enumerate(genesis["authorities"]):
            address, stake = address_of(key_from_text(authority["pubkey"])), authority.get("stake", 0)
            self._put(
                "validators",
                address,
                auth_key=authority["pubkey"],
                power=stake or 1,
                position=position,
                turns=0,
            )
            if stake:
                balance = self.balance(address)
                self._put(
                    "accounts", address, balance=balance, nonce=0, auth=key_from_text(authority["pubkey"])
                )
                self._put_bond("validator", address, amount=stake)
        for name, value in genesis["params"].items():
            self._put_text(name, jcs(value).decode())
        for name, value in genesis["consensus"].items():
            self._put_text(f"consensus.{name}", jcs(value).decode() if name == "work" else str(value))
        self._put_text("supply.genesis", str(self.coins()))
        if self.param("mint_budget_per_day"):
            self._put_text("mint.accrued_ms", str(genesis["timestamp"] * 1000))
        self._take_slots()

    # Reading

    def param(self, name: str) -> Any:
        record = self.stores["params"].get(name)
        return PARAMS[name] if record is None else json.loads(record["value"])

    def consensus(self, name: str) -> str:
        return str(self.stores["params"][f"consensus.{name}"]["value"])

    def counter(self, name: str) -> int:
        record = self.stores["params"].get(name)
        return 0 if record is None else int(record["value"])

    def version_at(self, height: int) -> int:
        """docs/spec/params.md, Versions"""
        return max([1, *[one["version"] for one in self.param("activations") if one["height"] <= height]])

    @property
    def version(self) -> int:
        return self.version_at(self.height)

    @property
    def epoch_length(self) -> int:
        return int(self.consensus("epoch_length"))

    @property
    def epoch(self) -> int:
        return self._epoch_of(self.height)

    def _epoch_of(self, height: int) -> int:
        return (height - 1) // self.epoch_length

    def account(self, address: str) -> Plain:
        return self.stores["accounts"].get(address) or {"balance": 0, "nonce": 0, "auth": b""}

    def balance(self, address: str) -> int:
        return int(self.account(address)["balance"])

    def key_of(self, address: str) -> bytes:
        return bytes(self.account(address)["auth"])

    def key_at(self, address: str, height: int) -> bytes:
        """docs/spec/keys.md, Rotation"""
        for old in self.stores["registry"].get(f"keys:{address}", {"keys": []})["keys"]:
            if height <= old["until_height"]:
                return key_from_text(old["key"])
        return self.key_of(address)

    def registration(self, role: str, address: str) -> Plain | None:
        return self.stores["registry"].get(f"{role}:{address}")

    def payout_of(self, provider: str) -> str:
        registration = self.registration("provider", provider)
        return provider if registration is None else str(registration["payout"])

    def bond(self, role: str, address: str) -> Plain:
        nothing = {"amount": 0, "unbonding": [], "jailed_until_ms": 0, "epoch": 0, "minted": 0, "offences": 0}
        return self.stores["registry"].get(f"bond:{role}:{address}") or nothing

    def jailed(self, role: str, address: str) -> bool:
        return bool(self.bond(role, address)["jailed_until_ms"] > self.time)

    def members(self) -> list[tuple[str, Plain]]:
        """Everybody in the store, also those without power, by position."""
        found = [(k, r) for k, r in self.stores["validators"].items() if not k.startswith("score:")]
        return sorted(found, key=lambda member: int(member[1]["position"]))

    def validator_set(self) -> list[tuple[str, Plain]]:
        return [(address, record) for address, record in self.members() if record["power"] > 0]

    def supply(self) -> int:
        coming = sum(self.counter(f"supply.{name}") for name in ("genesis", "minted", "faucet", "rewards"))
        return coming - self.counter("supply.burned")

    def coins(self) -> int:
        """Counted from scratch: in accounts, open locks and bonds."""
        held = sum(account["balance"] for account in self.stores["accounts"].values())
        held += sum(
            lock["amount"] - lock["paid"]
            for lock in self.stores["locks"].values()
            if lock["status"] == "open"
        )
        for key, record in self.stores["registry"].items():
            if key.startswith("bond:"):
                held += record["amount"] + sum(part["amount"] for part in record["unbonding"])
        return int(held)

    def records(self) -> dict[str, dict[str, bytes]]:
        return {
            store: {key: record_bytes(store, key, record) for key, record in records.items()}
            for store, records in self.stores.items()
        }

    def root(self) -> bytes:
        return state_root(self.records(), self.slots)

    def next_validators_hash(self) -> bytes:
        """docs/spec/finality.md, The set"""
        members = [
            fields(address.encode(), key_from_text(record["auth_key"]), u64(record["power"]))
            for address, record in self.validator_set()
        ]
        return tagged("aitbc/validators/1", *members)

    # Writing

    def _put(self, store: str, key: str, **record: Any) -> None:
        self.stores[store][key] = record

    def _change(self, store: str, key: str, **changes: Any) -> None:
        self.stores[store][key] = {**self.stores[store][key], **changes}

    def _put_text(self, name: str, value: str) -> None:
        self._put("params", name, value=value)

    def _count(self, name: str, amount: int) -> None:
        if amount:
            self._put_text(name, str(self.counter(name) + amount))

    def credit(self, address: str, amount: int) -> None:
        if amount:
            account = self.account(address)
            self._put("accounts", address, **{**account, "balance": account["balance"] + amount})

    def _debit(self, address: str, amount: int) -> None:
        account = self.account(address)
        assert account["balance"] >= amount
        self._put("accounts", address, **{**account, "balance": account["balance"] - amount})

    def _put_bond(self, role: str, address: str, **changes: Any) -> None:
        self._put("registry", f"bond:{role}:{address}", **{**self.bond(role, address), **changes})

    def endow(self, address: str, amount: int) -> None:
        """As if genesis had given more; before the first block only."""
        self.credit(address, amount)
        self._count("supply.genesis", amount)
        self._take_slots()

    def snapshot(self) -> tuple[Any, ...]:
        return self._copy(), dict(self.slots), self.height, self.time

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        stores, slots, self.height, self.time = snapshot
        self.stores, self.slots = {store: dict(records) for store, records in stores.items()}, dict(slots)

    def _copy(self) -> dict[str, dict[str, Plain]]:
        return {store: dict(records) for store, records in self.stores.items()}

    def _take_slots(self) -> None:
        self.slots = {store: move_slots(self.slots[store], set(self.stores[store])) for store in STORES}

    def _event(self, kind: str, key: str, amount: int) -> None:
        self.events.append((kind, key, amount))

    # A block (docs/spec/execution.md)

    def begin(self, timestamp_ms: int) -> None:
        self.before = {store: dict(records) for store, records in self.stores.items()}
        self.height += 1
        self.time = timestamp_ms
        self.due = self._find_due()
        self._burned = self._earned = 0

    def execute(self, tx: Transaction) -> Outcome | str:
        """(ok, reason, fee, events), or why the transaction is invalid and left out of the block."""
        undo = self._copy()
        self.events = []
        try:
            ok, reason = self._execute(tx)
        except Invalid as error:
            self.stores = undo
            return error.reason
        burned = tx.fee * self.param("fee_burn_bp") // 10_000
        self._burned += burned
        self._earned += tx.fee - burned
        return ok, reason, tx.fee, self.events if ok else []

    def end(self, *, proposer: str, parent: bytes) -> None:
        self._count("supply.burned", self._burned)
        self.credit(proposer, self._earned)
        self._reward(proposer)
        if self.version >= 2:
            self._retire()
            if self.height % self.epoch_length == 0:
                self._boundary(parent)
        self._take_slots()

    @property
    def work(self) -> Plain | None:
        """Settings of a chain that agrees by work."""
        found = self.stores["params"].get("consensus.work")
        return None if found is None else json.loads(found["value"])  # type: ignore[no-any-return]

    def _reward(self, author: str) -> None:
        """docs/spec/nakamoto.md, Reward"""
        if self.work is None:
            return
        terms = self.work["reward"]
        reward = terms["initial"]
        for _ in range((self.height - 1) // terms["era_blocks"] if terms["era_blocks"] else 0):
            reward = reward * terms["kept"] // 10_000
        reward = min(reward, TOTAL - self.supply())
        self._count("supply.rewards", reward)
        self.credit(author, reward)

    def _execute(self, tx: Transaction) -> tuple[bool, str]:
        raw = json.loads(tx.payload)
        payload = filled(raw, PAYLOADS[tx.type])
        witness = filled(json.loads(tx.witness), WITNESSES[tx.type]) if tx.witness else None
        later = tx.type in SINCE_VERSION_2 or self._later_fields(tx.type, payload, witness)
        if self.version < 2 and (later or tx.pubkey[0] != ED25519):
            raise Invalid("not_active")
        account = self.account(tx.sender)
        if tx.nonce != account["nonce"] + 1:
            raise Invalid("bad_nonce")
        if (account["auth"] or tx.pubkey) != tx.pubkey or (
            not account["auth"] and address_of(tx.pubkey) != tx.sender
        ):
            raise Invalid("wrong_key")
        if self.version >= 2:
            self._put("accounts", tx.sender, **{**account, "auth": tx.pubkey})
        free = tx.fee < self.least_fee(tx)
        if free and not self._free(tx, payload, witness):
            raise Invalid("fee_too_low")
        if self.version >= 2:
            try:
                self._check_witness(tx, payload, witness)
            except Failed as error:
                raise Invalid(error.reason) from None
        prepaid = account["balance"] >= tx.fee
        if not prepaid and tx.type not in PAYS_AFTERWARDS:
            raise Invalid("fee_not_covered")
        if prepaid:
            self._debit(tx.sender, tx.fee)
        account = self.account(tx.sender)
        self._put("accounts", tx.sender, balance=account["balance"], nonce=tx.nonce, auth=tx.pubkey)
        undo = self._copy()
        try:
            rules = getattr(self, f"_{tx.type.lower()}")
            rules(tx, payload, witness)
        except Failed as error:
            if not prepaid or (free and self.version >= 2):
                raise Invalid(error.reason) from None
            self.stores = undo
            return False, error.reason
        if not prepaid:
            if self.balance(tx.sender) < tx.fee:
                raise Invalid("fee_not_covered")
            self._debit(tx.sender, tx.fee)
        return True, ""

    @staticmethod
    def _later_fields(kind: str, payload: Plain, witness: Plain | None) -> bool:
        """docs/spec/transactions.md: what is marked "since version 2" in types of version 1."""
        if kind == "JOB_LOCK":
            return bool(payload["session"])
        if kind == "RECEIPT_CLAIM" and witness:
            return witness["pubkey"] != "" or witness["attestation"]["routed"] == "calibration"
        if kind == "REGISTER" and witness:
            return witness["pubkey"] != "" or witness["validator_sig"] != ""
        return False

    def least_fee(self, tx: Transaction, *, own_key_only: bool = False) -> int:
        """docs/spec/fees.md"""
        keys = [tx.pubkey, *(self._other_keys(tx) if self.version >= 2 and not own_key_only else [])]
        signatures = sum(self._signature_fee(key) for key in keys if key)
        return int(
            self.param("base_fee") - (-self.param("fee_per_kib") * len(tx.payload) // 1024) + signatures
        )

    def _signature_fee(self, key: bytes) -> int:
        fees = [self.param("fee_" + name.replace("-", "_")) for name in verifications(key)]
        return int(max(0, sum(fees) - self.param("fee_ed25519")))

    def _other_keys(self, tx: Transaction) -> list[bytes]:
        """Under which the type's rules check signatures; nothing for one that nobody knows."""
        payload, witness = json.loads(tx.payload), json.loads(tx.witness or b"{}")
        if tx.type == "RECEIPT_CLAIM":
            lock = payload.get("lock", "")
            return [self._key_for_lock(payload["miner_addr"], lock), self._key_of_hub(witness, lock)]
        if tx.type == "REGISTER" and "hub" in witness:
            return [self.key_of(witness["hub"]) or _key_offered(witness)]
        if tx.type == "KEY_ROTATE":
            return [key_from_text(payload["pubkey"])]
        if tx.type == "EVIDENCE" and "attestations" in payload:
            lock = payload["attestations"]["first"]["attestation"]["lock"]
            if lock in self.stores["locks"]:
                return [self._key_of_hub(signed, lock) for signed in payload["attestations"].values()]
        if tx.type == "EVIDENCE" and "block" in payload:
            key = transaction_in(payload["block"]).pubkey
            return [key] if is_key(key) else []
        return []

    def _check_witness(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        """docs/spec/execution.md, step 3: the signatures that the sender is not asked to pay for."""
        if tx.type == "RECEIPT_CLAIM":
            assert witness is not None
            self._check_signatures(tx, payload, witness)
        elif tx.type == "REGISTER":
            self._check_words(tx.sender, payload, witness)
        elif tx.type == "PARAM_UPDATE":
            assert witness is not None
            self._check_approvals(tx.payload, witness)

    def _free(self, tx: Transaction, payload: Plain, witness: Plain | None) -> bool:
        if tx.type == "FAUCET":
            return self.param("devnet") == 1 and tx.sender == self.param("faucet")
        if tx.type != "REGISTER" or payload["role"] != "provider" or not witness or not witness["sig"]:
            return False
        return self.registration("provider", tx.sender) is None and self._hub_vouches(tx.sender, witness)

    def _hub_vouches(self, provider: str, witness: Plain) -> bool:
        """docs/spec/registry.md, The free first registration"""
        hub = witness["hub"]
        if hub not in self.param("hubs"):
            return False
        key = self.key_of(hub) or _key_offered(witness)
        said = tagged("aitbc/countersign/1", self.genesis_hash, provider.encode(), hub.encode())
        return key != b"" and verify(key, said, bytes.fromhex(witness["sig"]))

    # Coins (docs/spec/transactions.md)

    def _transfer(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        need(self.balance(tx.sender) >= payload["amount"], "insufficient_balance")
        self._debit(tx.sender, payload["amount"])
        self.credit(payload["to"], payload["amount"])
        self._event("transferred", payload["to"], payload["amount"])

    def _faucet(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        need(self.param("devnet") == 1, "not_devnet")
        need(tx.sender == self.param("faucet"), "not_faucet")
        need(payload["amount"] <= self.param("faucet_limit"), "faucet_limit")
        need(self.supply() + payload["amount"] <= TOTAL, "supply_exhausted")
        self.credit(payload["to"], payload["amount"])
        self._count("supply.faucet", payload["amount"])
        self._event("faucet", payload["to"], payload["amount"])

    # Locks (docs/spec/escrow.md)

    def _known_hub(self, hub: str) -> bool:
        return hub in self.param("hubs") or self.registration("hub", hub) is not None

    def _job_lock(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        until, amount = payload["claim_until_ms"], payload["amount"]
        need(self._known_hub(payload["hub"]), "unknown_hub")
        need(self.version < 2 or not self.jailed("hub", payload["hub"]), "jailed")
        need(self.time < payload["deliver_by_ms"] <= until, "deadline_passed")
        need(until <= self.time + self.param("max_lock_ms"), "deadline_too_far")
        need(self.balance(tx.sender) >= amount, "insufficient_balance")
        self._debit(tx.sender, amount)
        self._put(
            "locks",
            transaction_id(tx, self.genesis_hash).hex(),
            client=tx.sender,
            hub=payload["hub"],
            job_id=payload["job_id"],
            amount=amount,
            paid=0,
            tasks=payload["tasks"],
            paid_tasks="0",
            request_hash=payload["request_hash"],
            deliver_by_ms=payload["deliver_by_ms"],
            claim_until_ms=until,
            height=self.height,
            status="open",
            session=payload["session"],
            closed_ms=0,
        )
        self._event("locked", transaction_id(tx, self.genesis_hash).hex(), amount)

    def _close(self, lock_id: str, status: str) -> int:
        """End a lock; what is left of it goes back to the client and is returned."""
        lock = self.stores["locks"][lock_id]
        rest = lock["amount"] - lock["paid"]
        closed_ms = self.time if self.version >= 2 else 0
        self._change("locks", lock_id, status=status, closed_ms=closed_ms)
        self.credit(lock["client"], rest)
        return int(rest)

    def _refund(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        lock = self.stores["locks"].get(payload["lock"])
        if lock is None:
            raise Failed("unknown_lock")
        need(lock["status"] == "open", "lock_closed")
        need(self.time > lock["claim_until_ms"], "refund_too_early")
        rest = self._close(payload["lock"], "refunded")
        self._event("refunded", lock["client"], rest)

    # Receipts (docs/spec/receipts.md)

    def _receipt_claim(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        assert witness is not None
        said = filled(witness["attestation"], ATTESTATION)
        provider, hub, price = payload["miner_addr"], said["hub"], payload["price"]
        need(payload["receipt_id"] not in self.stores["receipts"], "receipt_already_claimed")
        number = ""
        if payload["lock"]:
            self._check_lock(payload, hub)
        elif said["routed"] == "synthetic":
            number = self._check_synthetic(payload["job_id"], hub)
        if self.version < 2:
            self._check_signatures(tx, payload, witness)
        if said["routed"] == "calibration":
            self._check_calibration(payload, hub)
        if payload["lock"]:
            self._pay(payload["lock"], payload["task"], price)
            self.credit(self.payout_of(provider), price)
            self._event("paid", self.payout_of(provider), price)
            self._settle_if_all_paid(payload["lock"])
        elif number:
            self._put_synthetic_mark(number, payload, hub)
        if payload["lock"] and self._may_mint(price, said["routed"], hub, provider):
            self._score(provider, payload["compute_units"])
        if said["routed"] == "calibration":
            parts = self._calibrate(provider, payload["compute_units"])
        else:
            parts = [0, 0, 0]
            if self._may_mint(price, said["routed"], hub, provider):
                parts = self._parts_of(self._provider_part(payload["compute_units"], price))
            parts = self._scaled(parts, self._allowance(sum(parts), hub))
        self._put(
            "receipts",
            payload["receipt_id"],
            job_id=payload["job_id"],
            client=payload["client_addr"],
            provider=provider,
            hub=hub,
            units=payload["compute_units"],
            price=price,
            output_hash=payload["output_hash"],
            details_hash=payload["details_hash"],
            lock=payload["lock"],
            task=payload["task"],
            attempt=payload["attempt"],
            minted=parts[0],
            height=self.height,
            claimed_ms=self.time if self.version >= 2 else 0,
        )
        need(self.supply() + sum(parts) <= TOTAL, "supply_exhausted")
        if sum(parts):
            self._count("supply.minted", sum(parts))
            self._mint(self.payout_of(provider), parts[0])
            self._mint(hub, parts[1])
            if parts[2]:
                self._mint(self.param("treasury"), parts[2])

    def _mint(self, address: str, amount: int) -> None:
        self.credit(address, amount)
        self._event("minted", address, amount)

    def _check_lock(self, payload: Plain, hub: str) -> None:
        lock = self.stores["locks"].get(payload["lock"])
        if lock is None:
            raise Failed("unknown_lock")
        need(self.registration("provider", payload["miner_addr"]) is not None, "unknown_provider")
        need(lock["session"] or lock["job_id"] == payload["job_id"], "wrong_job")
        need(lock["client"] == payload["client_addr"], "wrong_client")
        need(lock["hub"] == hub, "wrong_hub")
        need(payload["task"] < lock["tasks"], "unknown_task")
        need(not int(lock["paid_tasks"], 16) >> payload["task"] & 1, "task_already_paid")
        need(lock["status"] == "open", "lock_closed")
        need(self.time <= lock["claim_until_ms"], "claim_too_late")
        need(payload["price"] <= lock["amount"] - lock["paid"], "price_above_escrow")

    def _check_synthetic(self, job_id: str, hub: str) -> str:
        need(self.param("devnet") == 1 and self.param("synthetic_attester") != "", "synthetic_not_allowed")
        need(hub == self.param("synthetic_attester"), "wrong_hub")
        number = job_id.removeprefix("job_")
        known = number.isascii() and number.isdigit() and number[0] != "0" and int(number) <= 1_000_000
        need(known, "unknown_synthetic_job")
        need(f"synthetic:{number}" not in self.stores["locks"], "task_already_paid")
        return number

    def _put_synthetic_mark(self, number: str, payload: Plain, hub: str) -> None:
        self._put(
            "locks",
            f"synthetic:{number}",
            client=payload["client_addr"],
            hub=hub,
            job_id=payload["job_id"],
            amount=0,
            paid=0,
            tasks=1,
            paid_tasks="1",
            request_hash="",
            deliver_by_ms=0,
            claim_until_ms=0,
            height=self.height,
            status="synthetic",
            session=False,
            closed_ms=0,
        )

    def _check_signatures(self, tx: Transaction, payload: Plain, witness: Plain) -> None:
        key = self._key_for_lock(payload["miner_addr"], payload["lock"])
        digest = core_digest(json.loads(tx.payload), self.genesis_hash)
        need(
            key != b"" and verify(key, digest, bytes.fromhex(payload["miner_sig"])), "bad_provider_signature"
        )
        need(self._attested(witness, payload["lock"]), "bad_attestation_signature")

    def _key_for_lock(self, address: str, lock_id: str) -> bytes:
        """The account's key at the height of a lock, or of now if there is no such lock."""
        lock = self.stores["locks"].get(lock_id)
        return self.key_of(address) if lock is None else self.key_at(address, lock["height"])

    def _key_of_hub(self, signed: Plain, lock_id: str) -> bytes:
        return self._key_for_lock(signed["attestation"]["hub"], lock_id) or _key_offered(signed)

    def _attested(self, signed: Plain, lock_id: str) -> bool:
        key = self._key_of_hub(signed, lock_id)
        digest = attestation_digest(signed["attestation"], self.genesis_hash)
        return key != b"" and verify(key, digest, bytes.fromhex(signed["sig"]))

    def _pay(self, lock_id: str, task: int, price: int) -> None:
        lock = self.stores["locks"][lock_id]
        bits = int(lock["paid_tasks"], 16) | 1 << task
        self._change("locks", lock_id, paid=lock["paid"] + price, paid_tasks=f"{bits:x}")

    def _settle_if_all_paid(self, lock_id: str) -> None:
        lock = self.stores["locks"][lock_id]
        if int(lock["paid_tasks"], 16) == 2 ** lock["tasks"] - 1:
            rest = self._close(lock_id, "settled")
            if rest:
                self._event("returned", lock["client"], rest)

    # Minting (docs/spec/minting.md)

    def _may_mint(self, price: int, routed: str, hub: str, provider: str) -> bool:
        good_hub = (
            hub in self.param("hubs")
            and self.bond("hub", hub)["amount"] >= self.param("hub_bond")
            and not self.jailed("hub", hub)
        )
        return (
            price > 0
            and routed != "chosen"
            and (good_hub or routed == "synthetic")
            and not self.jailed("provider", provider)
            and self.work is None
        )

    def _provider_part(self, units: int, price: int) -> int:
        part = min(units * self.param("mint_per_unit"), MAX)
        cap = self.param("mint_price_cap_bp")
        return int(min(part, price * cap // 10_000) if cap else part)

    def _parts_of(self, provider: int) -> list[int]:
        """Of the provider, the hub and the treasury."""
        hub = provider * self.param("coordinator_ratio_bp") // 10_000
        treasury = provider * self.param("treasury_ratio_bp") // 10_000 if self.param("treasury") else 0
        return [provider, hub, treasury]

    @staticmethod
    def _scaled(parts: list[int], allowed: int) -> list[int]:
        full = sum(parts)
        return [part * allowed // full for part in parts] if allowed < full else parts

    def _allowance(self, full: int, hub: str) -> int:
        if full == 0 or self.version < 2:
            return full
        allowed = full
        budgeted = self.param("mint_budget_per_day") > 0
        per_bond = self.param("hub_mint_per_bond_bp")
        bonded = per_bond > 0 and hub in self.param("hubs")
        bond = self.bond("hub", hub)
        minted = bond["minted"] if bond["epoch"] == self.epoch else 0
        if bonded:
            allowed = min(allowed, max(0, bond["amount"] * per_bond // 10_000 - minted))
        if budgeted and allowed > 0:
            self._count("mint.claimed", allowed)
            allowed = min(allowed * self.counter("mint.scale") // SCALE, self.counter("mint.budget"))
        if bonded and allowed > 0:
            self._put_bond("hub", hub, epoch=self.epoch, minted=minted + allowed)
        if budgeted and allowed > 0:
            self._count("mint.budget", -allowed)
        return int(allowed)

    def _check_calibration(self, payload: Plain, hub: str) -> None:
        provider = payload["miner_addr"]
        left = self.param("calibration_budget") - self.counter("calibration.minted")
        until = self.param("calibration_until_ms")
        need(left > 0 and (until == 0 or self.time <= until), "calibration_over")
        need(hub in self.param("hubs") and not self.jailed("hub", hub), "wrong_hub")
        registration = self.registration("provider", provider)
        if registration is None or self.jailed("provider", provider):
            raise Failed("unknown_provider")
        need(registration["height"] <= self.epoch * self.epoch_length, "wrong_calibration")
        need(registration["calibrated_epoch"] != self.epoch, "already_calibrated")
        need(payload["nonce"] == self.calibration_nonce(provider), "wrong_calibration")
        need(payload["job_id"] == f"calibration:{self.epoch}:{provider}", "wrong_calibration")
        need(payload["price"] == 0, "wrong_calibration")

    def calibration_nonce(self, provider: str) -> str:
        seed = self.stores["params"].get("epoch.seed", {"value": ""})["value"]
        return tagged(
            "aitbc/calibration/1", self.genesis_hash, u64(self.epoch), seed.encode(), provider.encode()
        ).hex()

    def _calibrate(self, provider: str, compute_units: int) -> list[int]:
        self._change("registry", f"provider:{provider}", calibrated_epoch=self.epoch)
        units = min(compute_units, self.param("calibration_units"))
        parts = self._parts_of(min(units * self.param("mint_per_unit"), MAX))
        left = self.param("calibration_budget") - self.counter("calibration.minted")
        parts = self._scaled(parts, left)
        self._count("calibration.minted", sum(parts))
        return parts

    def _score(self, provider: str, units: int) -> None:
        """docs/spec/epochs.md, Compute scores"""
        registration = self.registration("provider", provider)
        if self.version < 2 or registration is None or registration["validator"] == "":
            return
        counted = registration["epoch_units"] if registration["epoch"] == self.epoch else 0
        most = self.param("score_units_per_provider")
        adds = min(units, max(0, (most or MAX) - counted))
        if adds:
            self._change("registry", f"provider:{provider}", epoch=self.epoch, epoch_units=counted + adds)
            key = f"score:{registration['validator']}"
            score = self.stores["validators"].get(key, {"score": 0, "units": 0})
            self._put("validators", key, score=score["score"], units=min(score["units"] + adds, MAX))

    # Batches (docs/spec/batches.md)

    def _receipt_batch(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        need(self._known_hub(tx.sender), "unknown_hub")
        need(not self.jailed("hub", tx.sender), "jailed")
        name = transaction_id(tx, self.genesis_hash).hex()
        self._put(
            "receipts",
            f"batch:{name}",
            hub=tx.sender,
            root=payload["root"],
            count=payload["count"],
            height=self.height,
            expires_ms=min(self.time + self.param("max_lock_ms"), MAX),
        )
        self._event("batched", name, payload["count"])

    def _settle(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        locks, providers, start = payload["locks"], payload["providers"], payload["start"]
        batch = self.stores["receipts"].get(f"batch:{payload['batch']}")
        if batch is None:
            raise Failed("unknown_batch")
        need(self.time <= batch["expires_ms"], "batch_expired")
        leaves = leaves_of(payload["leaves"])
        committed = [
            leaf["receipt"]
            + bytes.fromhex(locks[leaf["lock"]])
            + providers[leaf["provider"]].encode()
            + leaf["tail"]
            for leaf in leaves
        ]
        proof = [bytes.fromhex(node) for node in payload["proof"]]
        root = range_root(committed, start=start, count=batch["count"], path=proof)
        need(root is not None and root.hex() == batch["root"], "bad_proof")
        paid = []
        for place, leaf in enumerate(leaves, start):
            lock_id, provider = locks[leaf["lock"]], providers[leaf["provider"]]
            try:
                self._check_leaf(leaf, lock_id, provider, batch["hub"])
            except Failed as error:
                self._event("skipped", f"{place}:{error.reason}", 0)
                continue
            self._pay(lock_id, leaf["task"], leaf["price"])
            paid.append((lock_id, provider, leaf))
        need(paid != [], "nothing_to_settle")
        for lock_id in locks:
            if any(lock == lock_id for lock, _, _ in paid):
                self._settle_if_all_paid(lock_id)
        for provider in providers:
            price = sum(leaf["price"] for _, whose, leaf in paid if whose == provider)
            if price:
                self.credit(self.payout_of(provider), price)
                self._event("paid", self.payout_of(provider), price)
        self._mint_batch(batch["hub"], providers, paid)

    def _check_leaf(self, leaf: Plain, lock_id: str, provider: str, hub: str) -> None:
        need(self.registration("provider", provider) is not None, "unknown_provider")
        lock = self.stores["locks"].get(lock_id)
        if lock is None:
            raise Failed("unknown_lock")
        need(lock["hub"] == hub, "wrong_hub")
        need(lock["status"] == "open", "lock_closed")
        need(self.time <= lock["claim_until_ms"], "claim_too_late")
        need(leaf["task"] < lock["tasks"], "unknown_task")
        need(not int(lock["paid_tasks"], 16) >> leaf["task"] & 1, "task_already_paid")
        need(leaf["price"] <= lock["amount"] - lock["paid"], "price_above_escrow")

    def _mint_batch(self, hub: str, providers: list[str], paid: list[tuple[str, str, Plain]]) -> None:
        of_provider = dict.fromkeys(providers, 0)
        units = dict.fromkeys(providers, 0)
        for _, provider, leaf in paid:
            if self._may_mint(leaf["price"], ("chosen", "random")[leaf["routed"]], hub, provider):
                of_provider[provider] += self._provider_part(leaf["units"], leaf["price"])
                units[provider] += leaf["units"]
        _, of_hub, of_treasury = self._parts_of(sum(of_provider.values()))
        parts = [*of_provider.values(), of_hub, of_treasury]
        allowed = self._allowance(sum(parts), hub)
        need(self.supply() + allowed <= TOTAL, "supply_exhausted")
        parts = self._scaled(parts, allowed)
        self._count("supply.minted", sum(parts))
        to = [*[self.payout_of(provider) for provider in providers], hub, self.param("treasury")]
        for address, part in zip(to, parts, strict=True):
            if part:
                self._mint(address, part)
        for provider in providers:
            if units[provider]:
                self._score(provider, units[provider])

    # Registry (docs/spec/registry.md)

    def _register(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        former = self.registration(payload["role"], tx.sender)
        validator = payload["validator"]
        if self.version < 2:
            self._check_words(tx.sender, payload, witness)
        elif validator not in ("", former["validator"] if former else ""):
            need(self._known_validator(validator), "unknown_validator")
        kept = {"height": self.height, "epoch": 0, "epoch_units": 0, "calibrated_epoch": 0}
        if former and self.version >= 2:
            kept = {name: former[name] for name in kept}
        self._put(
            "registry",
            f"{payload['role']}:{tx.sender}",
            role=payload["role"],
            models=payload["models"],
            endpoint=payload["endpoint"],
            payout=payload["payout"] or tx.sender,
            validator=validator,
            **kept,
        )
        self._event("registered", f"{payload['role']}:{tx.sender}", 0)

    def _known_validator(self, address: str) -> bool:
        stake = self.bond("validator", address)["amount"] if self.key_of(address) else 0
        return address in self.stores["validators"] or stake >= self.param("min_validator_stake")

    def _check_words(self, sender: str, payload: Plain, witness: Plain | None) -> None:
        """The hub's, then the validator's."""
        said = witness or {"sig": "", "validator_sig": ""}
        if said["sig"]:
            need(self._hub_vouches(sender, said), "bad_countersignature")
        validator, former = payload["validator"], self.registration(payload["role"], sender)
        needed = validator not in ("", former["validator"] if former else "")
        if (needed or said["validator_sig"]) and self._known_validator(validator):
            named = self._named_key(validator)
            key = self.key_of(validator) or (key_from_text(named) if named else b"")
            word = tagged("aitbc/compute-for/1", self.genesis_hash, sender.encode(), validator.encode())
            good = key != b"" and verify(key, word, bytes.fromhex(said["validator_sig"]))
            need(good, "bad_countersignature")

    # Bonds (docs/spec/staking.md)

    def _stake(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        role, amount = payload["role"], payload["amount"]
        need(role != "validator" or tx.pubkey[0] == ED25519, "bad_key")
        need(self.balance(tx.sender) >= amount, "insufficient_balance")
        staked = self.bond(role, tx.sender)["amount"] + amount
        need(staked <= MAX, "out_of_range")
        need(role != "validator" or staked >= self.param("min_validator_stake"), "insufficient_stake")
        self._debit(tx.sender, amount)
        self._put_bond(role, tx.sender, amount=staked)
        self._event("staked", tx.sender, amount)

    def _unstake(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        role, amount = payload["role"], payload["amount"]
        bond = self.bond(role, tx.sender)
        need(bond["amount"] >= amount, "insufficient_stake")
        need(len(bond["unbonding"]) < 16, "too_many_unbonding")
        running = dict(self.validator_set())
        if role == "validator" and self.consensus("mode") == "hybrid" and tx.sender in running:
            total = sum(member["power"] for member in running.values())
            need(self.counter("epoch.leaving") + amount <= total // 3, "leaving_too_fast")
            self._count("epoch.leaving", amount)
        left = bond["amount"] - amount
        if role == "validator":
            need(left == 0 or left >= self.param("min_validator_stake"), "insufficient_stake")
        wait = self.param("unbonding_ms")
        if role == "hub":
            wait = max(wait, self._longest_lock())
        part = {"amount": amount, "free_ms": min(self.time + wait, MAX)}
        self._put_bond(role, tx.sender, amount=left, unbonding=[*bond["unbonding"], part])
        self._event("unstaked", tx.sender, amount)

    def _withdraw(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        parts = self.bond(payload["role"], tx.sender)["unbonding"]
        free = [part for part in parts if part["free_ms"] <= self.time]
        need(free != [], "nothing_to_withdraw")
        bond = self.bond(payload["role"], tx.sender)
        kept = [part for part in parts if part not in free]
        minting = bond["minted"] > 0 and bond["epoch"] == self.epoch
        if bond["amount"] == 0 and kept == [] and bond["offences"] == 0 and not minting:
            del self.stores["registry"][f"bond:{payload['role']}:{tx.sender}"]
        else:
            self._put_bond(payload["role"], tx.sender, unbonding=kept)
        self.credit(tx.sender, sum(part["amount"] for part in free))
        self._event("withdrawn", tx.sender, sum(part["amount"] for part in free))

    # Keys (docs/spec/keys.md)

    def _key_rotate(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        new = key_from_text(payload["pubkey"])
        old = self.key_of(tx.sender)
        said = tagged("aitbc/rotate/1", self.genesis_hash, tx.sender.encode(), new)
        need(new != old and verify(new, said, bytes.fromhex(payload["sig"])), "bad_key_proof")
        votes = tx.sender in self.stores["validators"] or self.bond("validator", tx.sender)["amount"] > 0
        need(not votes or new[0] == ED25519, "bad_key")
        keys = self.stores["registry"].get(f"keys:{tx.sender}", {"keys": []})["keys"]
        keys = [key for key in keys if self._can_be_asked_for(key)]
        need(len(keys) < 8, "too_many_rotations")
        entry = {"key": key_to_text(old), "until_height": self.height, "until_ms": self.time}
        self._put("registry", f"keys:{tx.sender}", keys=[*keys, entry])
        self._change("accounts", tx.sender, auth=new)
        self._event("rotated", tx.sender, 0)

    def _can_be_asked_for(self, old: Plain) -> bool:
        by_locks = old["until_ms"] + self._longest_lock() >= self.time
        by_votes = self._epoch_of(old["until_height"]) >= self.epoch - self.param("evidence_epochs")
        return bool(by_locks or by_votes)

    def _longest_lock(self) -> int:
        return max(self.param("max_lock_ms"), self.counter("lock.longest_ms"))

    # Parameters (docs/spec/params.md)

    def _queued(self) -> list[tuple[str, Plain]]:
        """Waiting updates in number order."""
        names = sorted(name for name in self.stores["params"] if name.startswith("queued:"))
        return [(name, json.loads(self.stores["params"][name]["value"])) for name in names]

    def _param_update(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        need(payload["number"] == self.counter("updates.count") + 1, "wrong_update_number")
        need(len(self._queued()) < 16, "too_many_queued")
        if "activations" in payload["set"]:
            need(all("activations" not in one.get("set", {}) for _, one in self._queued()), "bad_update")
            need(self._good_activations(payload["set"]["activations"]), "bad_update")
        if payload["authorities"]:
            need(all("authorities" not in waiting for _, waiting in self._queued()), "bad_update")
            need(self.consensus("mode") != "hybrid", "bad_update")
            listed = [member["address"] for member in payload["authorities"]]
            for member in payload["authorities"]:
                key = self.key_of(member["address"])
                text = self._named_key(member["address"]) or member.get("pubkey", "")
                need(bool(key) or text != "", "pubkey_required")
                need((key or key_from_text(text))[0] == ED25519, "bad_key")
            members = [address for address, _ in self.members()]
            leaving = [address for address in members if address not in listed]
            need(len(leaving) <= max(1, len(members) // 3), "bad_update")
        self._put_text(f"queued:{payload['number']:016d}", tx.payload.decode())
        self._put_text("updates.count", str(payload["number"]))
        self._event("queued", f"update:{payload['number']}", 0)

    def _named_key(self, address: str) -> str:
        """What the record of a member names."""
        return str(self.stores["validators"].get(address, {"auth_key": ""})["auth_key"])

    def _good_activations(self, new: list[Plain]) -> bool:
        known = self.param("activations")
        first = (self.epoch + 2) * self.epoch_length + 1
        settled = [one for one in known if one["height"] < first]
        if new == known or new[: len(settled)] != settled:
            return False
        for before, after in pairwise(new):
            if after["version"] <= before["version"] or after["height"] <= before["height"]:
                return False
        return all(
            (one["height"] - 1) % self.epoch_length == 0 and one["height"] >= first
            for one in new[len(settled) :]
        )

    def _check_approvals(self, payload: bytes, witness: Plain) -> None:
        running = self.validator_set()
        bitmap, sigs = witness["bitmap"], witness["sigs"]
        signers = [record for i, (_, record) in enumerate(running) if bitmap >> i & 1]
        need(bitmap < 2 ** len(running) and len(sigs) == len(signers), "bad_approval")
        threshold = min(self.param("governance_threshold") or len(running) // 2 + 1, len(running))
        need(len(sigs) >= threshold, "not_enough_approvals")
        if self.consensus("mode") == "hybrid":
            yes, all_of_them = [
                sum(record["power"] for record in some) for some in (signers, dict(running).values())
            ]
            need(2 * yes > all_of_them, "not_enough_approvals")
        digest = tagged("aitbc/param-update/1", self.genesis_hash, payload)
        for record, sig in zip(signers, sigs, strict=True):
            need(verify(key_from_text(record["auth_key"]), digest, bytes.fromhex(sig)), "bad_approval")

    # Evidence (docs/spec/evidence.md)

    def _evidence(self, tx: Transaction, payload: Plain, witness: Plain | None) -> None:
        if payload["votes"] is not None:
            self._votes(payload["votes"])
        elif payload["block"] is not None:
            self._block(payload["block"])
        else:
            self._attestations(payload["attestations"])

    def _keys_then(self, offender: str, epoch: int) -> list[bytes]:
        """Under which a validator may have signed in an epoch."""
        need(0 <= self.epoch - epoch <= self.param("evidence_epochs"), "evidence_too_old")
        member = self.stores["validators"].get(offender)
        keys = [key_from_text(member["auth_key"])] if member else []
        if member or f"bond:validator:{offender}" in self.stores["registry"]:
            keys.append(self.key_at(offender, epoch * self.epoch_length + 1))
        keys = [key for key in keys if key]
        need(keys != [], "unknown_validator")
        return keys

    def _stated(self, keys: list[bytes], said: Plain, kind: str, candidate: bytes, sig: str) -> bool:
        """Is it a signature over a statement of that epoch and slot? docs/spec/finality.md"""
        digest = tagged(
            "aitbc/vote/1",
            self.chain_id.encode(),
            self.genesis_hash,
            kind.encode(),
            u64(said["epoch"]),
            u64(said["slot"]),
            candidate,
        )
        return any(verify(key, digest, bytes.fromhex(sig)) for key in keys)

    def _votes(self, said: Plain) -> None:
        offender, epoch = said["validator"], said["epoch"]
        keys = self._keys_then(offender, epoch)
        for vote in (said["first"], said["second"]):
            good = self._stated(keys, said, vote["kind"], bytes.fromhex(vote["candidate"]), vote["sig"])
            need(good, "bad_evidence_signature")
        self._punish("validator", offender, 0, "votes", str(epoch))

    def _block(self, said: Plain) -> None:
        keys = self._keys_then(said["validator"], said["epoch"])
        candidate = tagged(
            "aitbc/candidate/1",
            self.chain_id.encode(),
            self.genesis_hash,
            u64(said["epoch"]),
            u64(said["slot"]),
            u64(said["parent_slot"]),
            bytes.fromhex(said["parent_id"]),
            block_hash(header_in(said)),
        )
        need(self._stated(keys, said, "candidate", candidate, said["sig"]), "bad_evidence_signature")
        try:
            check_form(transaction_in(said), self.genesis_hash)
        except Invalid:
            self._punish("validator", said["validator"], 0, "block", str(said["epoch"]))
        else:
            raise Failed("no_conflict")

    def _attestations(self, both: Plain) -> None:
        said = both["first"]["attestation"]
        lock = self.stores["locks"].get(said["lock"])
        if lock is None:
            raise Failed("unknown_lock")
        need(lock["hub"] == said["hub"], "wrong_hub")
        need(self.time <= lock["claim_until_ms"], "evidence_too_old")
        for signed in both.values():
            need(self._attested(signed, said["lock"]), "bad_evidence_signature")
        what = ("attestations", said["lock"], str(said["task"]), str(said["attempt"]))
        self._punish("hub", said["hub"], lock["claim_until_ms"], *what)

    def _punish(self, role: str, offender: str, expires_ms: int, kind: str, *what: str) -> None:
        said = [part.encode() for part in (kind, offender, *what)]
        mark = "offence:" + tagged("aitbc/offence/1", *said).hex()
        need(mark not in self.stores["registry"], "already_punished")
        bond = self.bond(role, offender)
        cut = 0 if kind == "block" else self.param("slash_bp")
        burned = bond["amount"] * cut // 10_000
        left = bond["amount"] - burned
        parts = []
        for part in bond["unbonding"]:
            loss = part["amount"] * cut // 10_000
            burned += loss
            if part["amount"] > loss:
                parts.append({"amount": part["amount"] - loss, "free_ms": part["free_ms"]})
        jail_ms = self.param("jail_ms") * 2 ** min(bond["offences"], 6)
        self._put_bond(
            role,
            offender,
            amount=left,
            unbonding=parts,
            jailed_until_ms=max(bond["jailed_until_ms"], min(self.time + jail_ms, MAX)),
            offences=bond["offences"] + 1,
        )
        score = self.stores["validators"].pop(f"score:{offender}", None) if role == "validator" else None
        if score and score["score"] >= 2:
            self._put("validators", f"score:{offender}", score=score["score"] // 2, units=0)
        self._count("supply.burned", burned)
        self._put("registry", mark, offender=offender, height=self.height, expires_ms=expires_ms)
        if kind != "block":
            self._event("slashed", offender, burned)
        self._event("jailed", offender, 0)

    # Retirement (docs/spec/state.md)

    def _find_due(self) -> list[list[tuple[str, str]]]:
        """(store, key) of what is due on the state before the block: locks, receipts, then batches and offences."""
        kinds: list[list[tuple[int, str, str]]] = [[], [], []]
        for key, lock in self.stores["locks"].items():
            base = lock["claim_until_ms"] if lock["status"] == "open" else lock["closed_ms"]
            if lock["status"] == "open" or base:
                kinds[0].append((base + self.param("lock_retention_ms"), "locks", key))
        for key, receipt in self.stores["receipts"].items():
            if key.startswith("batch:"):
                kinds[2].append((receipt["expires_ms"], "receipts", key))
            elif receipt["claimed_ms"]:
                time = receipt["claimed_ms"] + self.param("receipt_retention_ms")
                kinds[1].append((time, "receipts", key))
        for key, offence in self.stores["registry"].items():
            if key.startswith("offence:") and offence["expires_ms"]:
                kinds[2].append((offence["expires_ms"], "registry", key))
        return [
            [(store, key) for time, store, key in sorted(kind) if time < self.time][:RETIRED_AT_ONCE]
            for kind in kinds
        ]

    def _retire(self) -> None:
        for store, key in [one for kind in self.due for one in kind]:
            record = self.stores[store].get(key)
            if record is not self.before[store][key]:
                continue
            if record.get("status") == "open":
                self._close(key, "refunded")
            else:
                del self.stores[store][key]

    # Boundaries (docs/spec/epochs.md)

    def _boundary(self, parent: bytes) -> None:
        listed: list[Plain] = []
        turns = self._turns_when_it_ends()
        longest = self.param("max_lock_ms")
        for name, update in self._queued():
            for param, value in update.get("set", {}).items():
                self._put_text(param, jcs(value).decode())
            listed = update.get("authorities", listed)
            del self.stores["params"][name]
        if self.param("max_lock_ms") < longest:
            self._put_text("lock.longest_ms", str(max(longest, self.counter("lock.longest_ms"))))
        self._accrue()
        for key, score in list(self.stores["validators"].items()):
            if key.startswith("score:"):
                now = min(score["score"] * self.param("score_decay_bp") // 10_000 + score["units"], MAX)
                del self.stores["validators"][key]
                if now:
                    self._put("validators", key, score=now, units=0)
        self._new_set(listed)
        self._carry_turns(turns)
        self._put_text("epoch.seed", parent.hex())
        if self.counter("epoch.leaving"):
            self._put_text("epoch.leaving", "0")

    def _accrue(self) -> None:
        """docs/spec/minting.md, the budget"""
        former = self.counter("mint.accrued_ms")
        self._put_text("mint.accrued_ms", str(self.time))
        rate = self.param("mint_budget_per_day")
        if rate:
            grown = rate * (self.time - former) // DAY_MS if former else 0
            budget = min(self.counter("mint.budget") + grown, TOTAL)
            claimed = self.counter("mint.claimed")
            self._put_text("mint.budget", str(budget))
            self._put_text("mint.scale", str(SCALE if claimed <= budget else budget * SCALE // claimed))
            self._put_text("mint.claimed", "0")

    def _new_set(self, listed: list[Plain]) -> None:
        members = self.members()
        offered = {one["address"]: one["pubkey"] for one in listed if "pubkey" in one}
        if self.consensus("mode") == "hybrid":
            powers = self._ramped(dict(members))
        else:
            addresses = [one["address"] for one in listed] or [address for address, _ in members]
            powers = [
                (who, 0 if self.jailed("validator", who) or self.key_of(who)[:1] not in (b"", b"\0") else 1)
                for who in addresses
            ]
        places = [(who, power, position) for position, (who, power) in enumerate(powers)]
        if not any(power for _, power in powers):
            places = [(who, record["power"], record["position"]) for who, record in members]
        before = dict(members)
        for address in before:
            del self.stores["validators"][address]
        for who, power, position in places:
            key = (
                key_to_text(self.key_of(who))
                if self.key_of(who)
                else offered.get(who) or before[who]["auth_key"]
            )
            self._put("validators", who, auth_key=key, power=power, position=position, turns=0)

    # Electors (docs/spec/electors.md)

    def _weights(self) -> dict[str, int]:
        voters = dict(self.validator_set())
        hybrid = self.consensus("mode") == "hybrid"
        stake = {who: record["power"] if hybrid else 1 for who, record in voters.items()}
        scores = self.stores["validators"]
        score = {who: scores[f"score:{who}"]["score"] if f"score:{who}" in scores else 0 for who in voters}
        million = 1_000_000

        def share(amounts: dict[str, int], who: str) -> int:
            return amounts[who] * million // sum(amounts.values()) if sum(amounts.values()) else 0

        raw = {}
        for who in voters:
            compute = min(share(score, who), million // 3)
            raw[who] = max(1, (share(stake, who) + compute) // 2 if hybrid else compute)
        rest, total = 1_024 - len(raw), sum(raw.values())
        weights = {who: 1 + raw[who] * rest // total for who in raw}
        while sum(weights.values()) < 1_024:
            left = [who for who in raw if weights[who] == 1 + raw[who] * rest // total]
            weights[min(left, key=lambda who: (-(raw[who] * rest % total), who))] += 1
        return weights

    def _turns_when_it_ends(self) -> dict[str, int]:
        if self.consensus("mode") in ("poa", *BY_WORK):
            return {}
        weights = self._weights()
        standing = {who: record["turns"] for who, record in self.validator_set()}
        for _ in range(int(self.consensus("epoch_length"))):
            for who in standing:
                standing[who] += weights[who]
            standing[min(standing, key=lambda who: (-standing[who], who))] -= 1_024
        return standing

    def _carry_turns(self, ended_with: dict[str, int]) -> None:
        if self.consensus("mode") in ("poa", *BY_WORK):
            return
        standing = {who: ended_with.get(who, -1_024 - 128) for who, _ in self.validator_set()}
        spread = max(standing.values()) - min(standing.values())
        if spread > 2_048:
            standing = {
                who: _towards_zero(value, (spread + 2_047) // 2_048) for who, value in standing.items()
            }
        mean = _towards_zero(sum(standing.values()), len(standing))
        for who, value in standing.items():
            self.stores["validators"][who]["turns"] = value - mean

    def _ramped(self, members: dict[str, Plain]) -> list[tuple[str, int]]:
        """Power is stake, and new stake comes in by a third of the running power."""
        stakes = {}
        for key, bond in self.stores["registry"].items():
            if key.startswith("bond:validator:") and bond["amount"] >= self.param("min_validator_stake"):
                who = key.removeprefix("bond:validator:")
                if not self.jailed("validator", who) and (self.key_of(who) or who in members):
                    stakes[who] = min(bond["amount"], MAX)
        most = self.param("max_validators")
        heard = {*_greatest(stakes, most), *[who for who in members if who in stakes]}
        old = {who: members[who]["power"] if who in members else 0 for who in heard}
        grows = {who: max(0, stakes[who] - old[who]) for who in heard}
        wanted = sum(grows.values())
        room = min(wanted, sum(record["power"] for record in members.values()) // 3)
        powers = {
            who: min(stakes[who], old[who]) + (grows[who] * room // wanted if wanted else 0) for who in heard
        }
        return [(who, powers[who]) for who in _greatest(powers, most)]


def _consensus_of(said: Plain) -> Plain:
    """With its defaults; where work agrees it has settings of its own and no rhythm of votes."""
    if said.get("mode") not in BY_WORK:
        return {**CONSENSUS, **said}
    reward = {**WORK["reward"], **said["work"].get("reward", {})}
    return {
        "mode": said["mode"],
        "epoch_length": said.get("epoch_length", CONSENSUS["epoch_length"]),
        "work": {**WORK, **said["work"], "reward": reward},
    }


def block_hash(header: Header) -> bytes:
    """docs/spec/blocks.md"""
    return tagged(
        *("aitbc/header/1", u64(header.version), header.chain_id.encode(), u64(header.height)),
        *(header.parent, u64(header.timestamp_ms), header.proposer.encode(), header.txs_root),
        *(header.outcomes_root, header.state_root, header.next_validators_hash),
        *(header.history_root, header.extra, header.seal),
    )


def _towards_zero(value: int, divisor: int) -> int:
    return abs(value) // divisor * (1 if value >= 0 else -1)


def _greatest(values: dict[str, int], most: int) -> list[str]:
    """The addresses of so many greatest values above 0, ties by address."""
    standing = sorted((-value, address) for address, value in values.items() if value > 0)
    return [address for _, address in standing[:most]]


def _key_offered(witness: Plain) -> bytes:
    """The form has seen that it makes the address that it is offered for."""
    return key_from_text(witness["pubkey"]) if witness.get("pubkey") else b""
