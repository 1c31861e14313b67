"""People who know the state and send what is nearly right: each transaction is near the edge of what is allowed.

Everything is chosen by one `Random`, true or Hypothesis's, so a run can be repeated and made smaller.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from aitbc.client.signing import KeySigner
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.leaves import LEAF, pack_leaves
from aitbc.core.codec.wire import pack
from aitbc.core.crypto.hashing import tagged, u64
from aitbc.core.crypto.merkle import list_root, prove_item, prove_range
from aitbc.core.ledger.genesis import ConsensusSettings, GenesisAccount
from aitbc.core.ledger.params import Activation
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Header
from aitbc.core.types.nakamoto import NakamotoSettings, RewardSettings
from aitbc.core.types.transactions import Transaction
from reference.forms import ATTESTATION, attestation_digest, core_digest, filled, transaction_id, wid_of
from reference.ledger import MAX, TOTAL, Plain, block_hash
from reference.twin import DISAGREEMENTS, Twin
from support.chain import OUTPUT, REQUEST, START_MS, genesis
from support.other_keys import OtherKey, multisig_key, secp_key, spare_keys
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER, SYNTHETIC, VALIDATOR, person

Key = KeySigner | OtherKey
CAROL, POOR, TREASURY, WHALE = person("carol"), person("poor"), person("treasury"), person("whale")
SECP, MULTI = secp_key("secp"), multisig_key("multi")
LISTED_UNKNOWN = multisig_key("listed hub")
"""Its key is dear, and must be offered until it sends something."""
REGISTERED_HUB, NO_HUB = person("registered hub"), person("no hub")
PROVIDERS = (PROVIDER, person("provider 2"), person("provider 3"))
VALIDATORS = (VALIDATOR, person("validator 2"), person("validator 3"))
STAKERS = (person("staker 1"), person("staker 2"))
HUBS = (HUB, LISTED_UNKNOWN, REGISTERED_HUB, NO_HUB)
PEOPLE = (
    *(ALICE, BOB, CAROL, POOR, EVE, FAUCET, SYNTHETIC, TREASURY, WHALE, SECP, MULTI),
    *HUBS,
    *PROVIDERS,
    *VALIDATORS,
    *STAKERS,
)
OWNED: dict[str, list[Key]] = {who.address: spare_keys(who.address) for who in PEOPLE}
KEYS: dict[bytes, Key] = {key.auth_key: key for who in PEOPLE for key in [who, *OWNED[who.address]]}
BY_ADDRESS = {who.address: who for who in PEOPLE}
FUNDED = {
    ALICE: 1_000 * AIT,
    BOB: 300 * AIT,
    CAROL: 5_000,
    HUB: 10 * AIT,
    REGISTERED_HUB: 5 * AIT,
    **dict.fromkeys((*VALIDATORS, *STAKERS), 50 * AIT),
    PROVIDERS[2]: AIT,
    FAUCET: 200_000,
    TREASURY: 0,
    SECP: 20 * AIT,
    MULTI: 20 * AIT,
}
NO_KEYS = (
    *(
        "ed25519:" + "00" * 32,
        "nothing:00",
        "secp256k1:" + "05" * 33,
        "secp256k1:02",
        "secp256k1:" + "0" * 65,
    ),
    *("rsa-pss:" + "00" * 256, "multisig:0101", "00" * 31, "00" * 33, "XY" * 32),
)
"""Texts that look like keys."""
SHY = (VALIDATORS[2], STAKERS[1], PROVIDERS[2])
"""Genesis does not know their keys."""

KINDS_1 = {"TRANSFER": 2, "JOB_LOCK": 7, "RECEIPT_CLAIM": 12, "REFUND": 4, "REGISTER": 4, "FAUCET": 2}
KINDS_2 = {
    **KINDS_1,
    "RECEIPT_BATCH": 3,
    "SETTLE": 5,
    "STAKE": 4,
    "UNSTAKE": 4,
    "WITHDRAW": 3,
    "PARAM_UPDATE": 3,
    "KEY_ROTATE": 2,
    "EVIDENCE": 3,
}


@dataclass(frozen=True)
class Setting:
    """What kind of chain."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    mode: str = "poa"
    version: int = 2
    epoch_length: int = 4
    authorities: tuple[Key, ...] = VALIDATORS
    stakes: tuple[int, ...] = ()
    room: int | None = None
    """So much may still come into being, if it is not much."""
    premint: bool = True
    work: NakamotoSettings | None = None
    """The chain agrees by work; `mode` and `authorities` say so too."""


SHORT: dict[str, Any] = {
    "lock_retention_ms": 8_000,
    "receipt_retention_ms": 5_000,
    "unbonding_ms": 9_000,
    "jail_ms": 6_000,
    "max_lock_ms": 40_000,
    "evidence_epochs": 2,
    "min_validator_stake": 1_000,
    "max_validators": 3,
    "calibration_budget": 30 * AIT,
    "hubs": [HUB.address, LISTED_UNKNOWN.address],
}
ACTIVE = [Activation(version=2, height=0)]
TIGHT: dict[str, Any] = {
    **SHORT,
    "hub_bond": 500,
    "hub_mint_per_bond_bp": 20_000,
    "mint_budget_per_day": 60_000 * AIT,
    "score_units_per_provider": 3_000,
    "mint_price_cap_bp": 9_000,
    "treasury": TREASURY.address,
    "treasury_ratio_bp": 333,
    "calibration_units": 1_500,
    "slash_bp": 3_333,
    "score_decay_bp": 7_777,
}
WORKED: dict[str, Any] = {**SHORT, "synthetic_attester": "", "calibration_budget": 0}
AUTHORS = (POOR, EVE, ALICE, VALIDATOR, person("author without an account"))
"""Who earns for blocks where work agrees: some who own nothing, some who send, one whom nobody pays otherwise."""
SETTINGS = (
    Setting("plain", SHORT),
    Setting("tight", TIGHT, epoch_length=8),
    Setting(
        "hybrid", {**SHORT, "score_units_per_provider": 2_500}, mode="hybrid", stakes=(6_000, 2_500, 1_000)
    ),
    Setting(
        "tight hybrid",
        {**TIGHT, "slash_bp": 10_000, "governance_threshold": 3},
        mode="hybrid",
        stakes=(AIT, AIT // 2, 1_000),
        epoch_length=12,
    ),
    Setting("cbp", {**TIGHT, "hub_bond": 0, "jail_ms": 60_000}, mode="cbp", epoch_length=16),
    Setting(
        "at once",
        {
            **SHORT,
            **dict.fromkeys(("lock_retention_ms", "receipt_retention_ms", "unbonding_ms", "jail_ms"), 0),
        },
    ),
    Setting("one validator", {**SHORT, "jail_ms": 30_000}, authorities=(VALIDATOR,)),
    Setting("nearly full", {**SHORT, "calibration_until_ms": START_MS + 90_000}, room=5 * AIT),
    Setting(
        "no devnet",
        {**TIGHT, "devnet": 0, "faucet": "", "synthetic_attester": "", "calibration_budget": 5 * AIT},
    ),
    Setting(
        "no premint",
        {**SHORT, "devnet": 0, "faucet": "", "synthetic_attester": "", "mint_price_cap_bp": 10_000},
        premint=False,
    ),
    Setting(
        "by work",
        {**WORKED, "score_units_per_provider": 3_000},
        mode="pow",
        authorities=(),
        work=NakamotoSettings(reward=RewardSettings(initial=3 * AIT + 1, era_blocks=7, kept=6_666)),
    ),
    Setting(
        "by work, in turns",
        {**TIGHT, "synthetic_attester": "", "calibration_budget": 0, "mint_budget_per_day": 0},
        mode="poa-pow",
        authorities=(),
        epoch_length=8,
        work=NakamotoSettings(
            miners=[key_to_text(VALIDATOR.auth_key)],
            reward=RewardSettings(initial=5_000, kept=0, era_blocks=40),
        ),
    ),
    Setting(
        "by work, nearly full",
        WORKED,
        mode="pow",
        authorities=(),
        room=2 * AIT,
        work=NakamotoSettings(reward=RewardSettings(initial=300_001)),
    ),
    Setting(
        "version 1", {"hubs": SHORT["hubs"], "max_lock_ms": 40_000, "treasury": TREASURY.address}, version=1
    ),
)


class World:
    """One run: a chain twice, and what everybody remembers of it."""

    def __init__(
        self,
        random: Random,
        setting: Setting,
        *,
        follow: bool = False,
        as_the_code: frozenset[str] = DISAGREEMENTS,
    ) -> None:
        self.random = random
        self.setting = setting
        activations = ACTIVE if setting.version == 2 else []
        self.twin = Twin(
            genesis(
                authorities=setting.authorities,
                stakes=setting.stakes,
                consensus=ConsensusSettings(
                    mode=setting.mode, epoch_length=setting.epoch_length, work=setting.work
                ),
                accounts=[
                    GenesisAccount(
                        address=who.address,
                        balance=balance if setting.premint else 0,
                        pubkey="" if who in SHY else key_to_text(who.auth_key),
                    )
                    for who, balance in FUNDED.items()
                ],
                **{**setting.params, "activations": activations},
            ),
            follow=follow,
            as_the_code=as_the_code,
        )
        self.ledger = self.twin.ledger
        self.genesis_hash = self.twin.genesis_hash
        if setting.room is not None:
            self.twin.endow(WHALE.address, TOTAL - self.ledger.supply() - setting.room)
        self.claims: list[tuple[Plain, Plain]] = []
        self.batches: list[tuple[str, list[tuple[Any, ...]]]] = []
        """(id, leaves: receipt, lock id, provider, task, attempt, routed, units, price)"""
        self.evidence: list[Plain] = []
        self.count = 0

    # Choosing

    def some(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def near(self, value: int, *others: int) -> int:
        """An amount at an edge."""
        return max(1, min(MAX, self.some(1, value // 2, value - 1, value, value, value + 1, *others)))

    def anybody(self) -> Key:
        """Somebody who can pay, mostly."""
        rich = [who for who in PEOPLE if self.ledger.balance(who.address) >= 1_000]
        return self.random.choice(rich) if rich and not self.chance(12) else self.random.choice(PEOPLE)

    def able(self, *people: Key) -> str:
        """The address of one of these who can pay, if there is one."""
        rich = [who for who in people if self.ledger.balance(who.address) >= 1_000]
        return (self.random.choice(rich) if rich and not self.chance(12) else self.anybody()).address

    def fresh(self) -> str:
        """A hash that nobody has seen."""
        self.count += 1
        return f"{self.count:064x}"

    # Signing

    def key_of(self, address: str) -> Key:
        """Who can sign for an address now."""
        return KEYS.get(self.ledger.key_of(address)) or BY_ADDRESS[address]

    def key_at(self, address: str, height: int) -> Key:
        return KEYS.get(self.ledger.key_at(address, height)) or BY_ADDRESS[address]

    def sign(
        self,
        sender: str,
        kind: str,
        payload: Plain,
        *,
        fee: int | None = None,
        witness: Plain | None = None,
        nonce: int = 1,
        key: Key | None = None,
    ) -> Transaction:
        """`nonce` counts from the account's; the fee is ample unless it is given or luck has it."""
        key = key or self.key_of(sender)
        nonce += self.ledger.account(sender)["nonce"]
        said = jcs(witness) if witness is not None else b""
        tx = Transaction(kind, sender, nonce, 100, jcs(payload), key.auth_key, b"", said)
        if fee is None:
            least, balance = self.ledger.least_fee(tx), self.ledger.balance(sender)
            fee = max(least, 100)
            if least != self.ledger.least_fee(tx, own_key_only=True) and self.chance(4):
                fee = self.some(least, least - 1)
            if self.chance(10):
                fee = self.some(least, least, least - 1, 0, balance, balance + 1)
        tx = msgspec.structs.replace(tx, fee=max(0, min(MAX, fee)))
        return msgspec.structs.replace(tx, sig=key.sign(transaction_id(tx, self.genesis_hash)))

    # What is sent

    def transaction(self, kind: str) -> Transaction:
        make: Callable[[], Transaction] = getattr(self, kind.lower())
        tx = make()
        return self.tampered(tx) if self.chance(25) else tx

    def tampered(self, tx: Transaction) -> Transaction:
        """One thing about it is wrong."""
        payload = msgspec.json.decode(tx.payload)
        witness = msgspec.json.decode(tx.witness) if tx.witness else None
        how = self.random.randrange(14)
        nonce = 1
        key = self.key_of(tx.sender)
        if how == 0:
            return msgspec.structs.replace(tx, sig=tx.sig[:-1] + bytes([tx.sig[-1] ^ 1]))
        if how == 1:
            key = self.some(self.anybody(), BY_ADDRESS[tx.sender], OWNED[tx.sender][0])
        elif how == 2:
            nonce = self.some(0, 2, 3)
        elif how == 3:
            payload.pop(self.random.choice(sorted(payload)))
        elif how == 4:
            payload["surprise"] = 1
        elif how == 5:
            payload[self.random.choice(sorted(payload))] = self.some("", -1, [], MAX + 1, "ait1x", 1.5)
        elif how == 6:
            witness = {"said": 1} if witness is None else None
        elif how == 7 and tx.type == "TRANSFER":
            payload["data"] = self.some("", "x" * 1025, "x" * 20_000)
        elif how == 7:
            payload = {
                **payload,
                **self.some({"task": 0}, {"data": ""}, {"tasks": 1}, {"endpoint": ""}, {"set": {}}),
            }
        elif how == 8 and witness:
            witness.pop(self.random.choice(sorted(witness)))
        elif how == 9 and witness:
            name = self.random.choice(sorted(witness))
            witness[name] = self.some("", "0", "00", [], 5, {})
        elif how == 10:
            return msgspec.structs.replace(tx, type="NOTHING")
        elif how == 11:
            sender = self.some("ait1" + "q" * 38, "someone", tx.sender.upper())
            return msgspec.structs.replace(tx, sender=sender)
        elif how == 12:
            keys = (b"", b"\x09" + bytes(32), b"\x00" + bytes(31), b"\x01" + bytes(33), tx.pubkey + b"\0")
            return msgspec.structs.replace(tx, pubkey=self.some(*keys))
        return self.sign(tx.sender, tx.type, payload, fee=tx.fee, witness=witness, nonce=nonce, key=key)

    def transfer(self) -> Transaction:
        sender = self.anybody().address
        to = self.some(sender, self.anybody().address, POOR.address, person(f"new {self.count % 7}").address)
        left = self.ledger.balance(sender) - 100
        payload = {"to": to, "amount": self.near(left) if self.chance(8) else self.some(1, 100, 5_000)}
        if self.chance(3):
            payload["data"] = self.some("😀" * 1024, "for lunch")
        return self.sign(sender, "TRANSFER", payload)

    def transfer_to(self, address: str) -> Transaction:
        """So that somebody without coins can pay a fee."""
        return self.sign(self.anybody().address, "TRANSFER", {"to": address, "amount": self.some(300, 2_000)})

    def faucet(self) -> Transaction:
        sender = FAUCET.address if not self.chance(5) else self.anybody().address
        limit = self.ledger.param("faucet_limit")
        room = TOTAL - self.ledger.supply()
        amount = self.near(min(limit, room)) if self.chance(2) else self.some(1, 10_000, AIT)
        fee = self.some(0, 0, 0, None)
        return self.sign(sender, "FAUCET", {"to": self.anybody().address, "amount": amount}, fee=fee)

    def job_lock(self) -> Transaction:
        client = self.able(ALICE, ALICE, BOB, CAROL, EVE, SECP, MULTI, *PROVIDERS)
        now, most = self.ledger.time, self.ledger.param("max_lock_ms")
        until = now + (self.some(1, 1_000, 3_000, 6_000, 6_000, 10_000, 20_000) if not self.chance(20) else 0)
        if self.chance(10):
            until = now + most + self.some(-1, 0, 1)
        deliver = self.some(until, until, max(until - 500, now + 1), now + 1)
        if self.chance(12):
            deliver = self.some(now, until + 1)
        left = self.ledger.balance(client) - 100
        payload: Plain = {
            "hub": self.a_hub(),
            "job_id": self.some("job-1", "job-1", "job-2"),
            "amount": self.near(left) if self.chance(8) else self.some(300, 3_000, 2 * AIT, 5 * AIT, 5 * AIT),
            "request_hash": REQUEST,
            "deliver_by_ms": deliver,
            "claim_until_ms": until,
        }
        tasks = self.some(1, 1, 2, 3, 3, 5, 5, 4096)
        if tasks > 1:
            payload["tasks"] = tasks
        if self.chance(3):
            payload["session"] = True
        return self.sign(client, "JOB_LOCK", payload)

    def a_hub(self) -> str:
        """One that may be named by a lock, mostly."""
        listed = [*self.ledger.param("hubs")] * 3
        registered = [key[4:] for key in sorted(self.ledger.stores["registry"]) if key.startswith("hub:")]
        standing = [hub for hub in listed + registered if not self.ledger.jailed("hub", hub)]
        hubs = standing if standing and not self.chance(8) else listed + registered
        return self.random.choice(hubs) if hubs and not self.chance(15) else NO_HUB.address

    def locks(self, *statuses: str) -> list[str]:
        return sorted(key for key, lock in self.ledger.stores["locks"].items() if lock["status"] in statuses)

    def payable(self) -> list[str]:
        """Locks that can still pay, for a while at least."""
        locks = self.ledger.stores["locks"]
        return [key for key in self.locks("open") if locks[key]["claim_until_ms"] >= self.ledger.time]

    def a_lock(self, hub: str = "") -> str:
        """The id of one, open mostly."""
        if self.chance(20):
            return self.some(self.fresh(), *self.locks("settled", "refunded"))
        locks = self.ledger.stores["locks"]
        found = [key for key in self.locks("open") if not hub or locks[key]["hub"] == hub]
        payable = [key for key in self.payable() if key in found]
        payable = [key for key in payable if locks[key]["amount"] > locks[key]["paid"]] or payable
        if payable and not self.chance(8):
            return self.random.choice(payable)
        return self.random.choice(found) if found else self.fresh()

    def a_provider(self) -> str:
        known = [key[9:] for key in sorted(self.ledger.stores["registry"]) if key.startswith("provider:")]
        return (
            self.random.choice(known)
            if known and not self.chance(12)
            else self.random.choice(PROVIDERS).address
        )

    def receipt(self) -> tuple[Plain, Plain]:
        """Payload and witness of a claim, right but for what luck makes wrong."""
        lock_id = self.a_lock()
        lock = self.ledger.stores["locks"].get(lock_id)
        if lock is None:
            lock = {"client": ALICE.address, "hub": HUB.address, "job_id": "job-1", "amount": AIT, "paid": 0}
            lock |= {"tasks": 1, "paid_tasks": "0", "height": self.ledger.height}
        provider = self.a_provider()
        left = lock["amount"] - lock["paid"]
        payload = {
            "job_id": lock["job_id"] if not self.chance(2 if lock.get("session") else 15) else "job-3",
            "client_addr": lock["client"] if not self.chance(20) else EVE.address,
            "miner_addr": provider,
            "compute_units": self.some(1, 700, 2_000, 2_000, 100_000, 10**12),
            "price": max(
                0, self.some(left, left // 2, *[left // 3 + 1] * 5, left + 1, self.some(0, left - 1))
            ),
            "output_hash": OUTPUT,
            "lock": lock_id,
            "task": self.a_task(lock),
            "attempt": self.some(0, 1, 1, 2),
            "nonce": self.fresh() if not self.chance(5) else "again",
        }
        hub = lock["hub"] if not self.chance(20) else self.random.choice(HUBS).address
        routed = self.some("random", "random", "random", "chosen")
        return self.vouched(payload, hub, routed, lock["height"])

    def a_task(self, lock: Plain) -> int:
        free = [task for task in range(min(lock["tasks"], 8)) if not int(lock["paid_tasks"], 16) >> task & 1]
        if free and not self.chance(8):
            return self.random.choice(free)
        return int(min(4095, self.some(0, lock["tasks"] - 1, lock["tasks"])))

    def synthetic(self) -> tuple[Plain, Plain]:
        payload = {
            "job_id": str(self.random.randrange(1, 30))
            if not self.chance(4)
            else self.some("job_1", "job_3", "0", "01", "job_", "job_job_1", "1000000", "1000001", "9" * 99),
            "client_addr": self.anybody().address,
            "miner_addr": self.a_provider(),
            "compute_units": self.some(1, 2_000),
            "price": self.some(0, 1, 5_000, MAX),
            "output_hash": OUTPUT,
            "nonce": self.fresh(),
        }
        hub = SYNTHETIC if not self.chance(12) else HUB
        return self.vouched(payload, hub.address, "synthetic", None)

    def calibration(self) -> tuple[Plain, Plain]:
        provider = self.a_provider()
        epoch = self.ledger.epoch + (self.some(-1, 1) if self.chance(15) else 0)
        payload = {
            "job_id": f"calibration:{max(0, epoch)}:{provider}",
            "client_addr": self.anybody().address,
            "miner_addr": provider,
            "compute_units": self.some(1, 1_500, 2_000, 10**12),
            "price": 0 if not self.chance(15) else 1,
            "output_hash": OUTPUT,
            "nonce": self.ledger.calibration_nonce(provider) if not self.chance(15) else self.fresh(),
            "attempt": self.some(0, 1),
        }
        hub = self.some(HUB, LISTED_UNKNOWN) if not self.chance(15) else REGISTERED_HUB
        return self.vouched(payload, hub.address, "calibration", None)

    def vouched(self, payload: Plain, hub: str, routed: str, height: int | None) -> tuple[Plain, Plain]:
        """Signed by provider and hub, with the keys that count unless luck has it."""
        payload = {
            name: value for name, value in payload.items() if value != 0 or name not in ("task", "attempt")
        }
        payload["receipt_id"] = "rcpt_" + core_digest(payload, self.genesis_hash).hex()
        provider = payload["miner_addr"]
        signer = self.signer(provider, height)
        payload["miner_sig"] = signer.sign(core_digest(payload, self.genesis_hash)).hex()
        said = {
            "receipt_id": payload["receipt_id"],
            "lock": payload.get("lock", ""),
            "job_id": payload["job_id"],
            "hub": hub,
            "client": payload["client_addr"],
            "provider": provider,
            "task": payload.get("task", 0),
            "attempt": payload.get("attempt", 0),
            "units": payload["compute_units"],
            "price": payload["price"],
            "output_hash": payload["output_hash"],
            "routed": routed,
        }
        if self.chance(40):
            said |= self.some(
                *(
                    {"units": max(1, said["units"] - 1)},
                    {"price": said["price"] + 1},
                    {"routed": "synthetic"},
                ),
                *(
                    {"routed": "random"},
                    {"task": 7},
                    {"client": EVE.address},
                    {"receipt_id": "rcpt_" + self.fresh()},
                ),
                {"candidates_hash": OUTPUT},
            )
        return payload, self.attested(said, height)

    def signer(self, address: str, height: int | None) -> Key:
        if self.chance(15):
            return self.some(self.key_of(address), BY_ADDRESS[address], EVE)  # type: ignore[no-any-return]
        return self.key_of(address) if height is None else self.key_at(address, height)

    def attested(self, said: Plain, height: int | None) -> Plain:
        hub = said["hub"]
        witness = {
            "attestation": said,
            "sig": self.signer(hub, height).sign(attestation_digest(said, self.genesis_hash)).hex(),
        }
        if (not self.ledger.key_of(hub)) != self.chance(10):
            witness["pubkey"] = key_to_text(BY_ADDRESS[hub].auth_key if not self.chance(10) else EVE.auth_key)
        return witness

    def receipt_claim(self) -> Transaction:
        if self.claims and self.chance(6):
            payload, witness = self.random.choice(self.claims)
        else:
            devnet = self.ledger.param("devnet") == 1
            make = self.receipt if not self.chance(6) else self.calibration
            if self.chance(7 if devnet else 30):
                make = self.synthetic
            payload, witness = make()
            self.claims.append((payload, witness))
        sender = self.some(
            payload["miner_addr"], POOR.address, EVE.address, HUB.address, self.anybody().address
        )
        fee = None
        if self.ledger.balance(sender) < 100 and self.chance(2):
            price = payload["price"]
            fee = max(60, self.some(price, price + 1, 2_000, 100))
        return self.sign(sender, "RECEIPT_CLAIM", payload, witness=witness, fee=fee)

    def refund(self) -> Transaction:
        over = [
            key
            for key in self.locks("open")
            if self.ledger.stores["locks"][key]["claim_until_ms"] < self.ledger.time
        ]
        lock_id = self.random.choice(over) if over and not self.chance(3) else self.a_lock()
        lock = self.ledger.stores["locks"].get(lock_id, {"client": ALICE.address})
        sender = self.some(lock["client"], EVE.address, self.anybody().address)
        return self.sign(sender, "REFUND", {"lock": lock_id})

    def receipt_batch(self) -> Transaction:
        payable = [self.ledger.stores["locks"][key]["hub"] for key in self.payable()]
        payable = [hub for hub in payable if self.ledger.balance(hub) >= 100]
        hub = self.random.choice(payable) if payable else self.able(HUB, LISTED_UNKNOWN, REGISTERED_HUB)
        if self.chance(15):
            hub = self.anybody().address
        leaves = []
        for _ in range(self.random.randrange(1, 8)):
            lock_id = self.a_lock(hub)
            lock = self.ledger.stores["locks"].get(
                lock_id, {"amount": 1, "paid": 0, "tasks": 1, "paid_tasks": "0"}
            )
            left = lock["amount"] - lock["paid"]
            price = max(
                0, self.some(left // 2, left // 4, left // 4, left // 8, left, left + 1, self.some(1, 0))
            )
            units = self.some(1, 700, 2_000, 100_000, 10**12)
            task = self.a_task(lock)
            routed = self.some(1, 1, 1, 0)
            receipt = bytes.fromhex(self.fresh())
            leaves.append((receipt, lock_id, self.a_provider(), task, self.some(0, 1), routed, units, price))
        count = len(leaves) if not self.chance(20) else 1_000_000
        payload = {"root": list_root(committed(leaves)).hex(), "count": count}
        tx = self.sign(hub, "RECEIPT_BATCH", payload)
        self.batches.append((transaction_id(tx, self.genesis_hash).hex(), leaves))
        return tx

    def settle(self) -> Transaction:
        known = self.live()
        fresh = [one for one in known if any(self.could_pay(leaf) for leaf in one[1])]
        if fresh and not self.chance(4):
            known = fresh
        elif not known or self.chance(20):
            known = self.batches
        name, leaves = self.random.choice(known) if known else (self.fresh(), [])
        if not leaves:
            leaves = [(bytes(32), self.fresh(), PROVIDER.address, 0, 0, 1, 1, 1)]
        paying = [place for place, leaf in enumerate(leaves) if self.could_pay(leaf)]
        start = self.random.choice(paying) if paying else self.random.randrange(len(leaves))
        start = self.random.randrange(start + 1) if self.chance(3) else start
        stop = self.random.randrange(start + 1, len(leaves) + 1)
        part = leaves[start:stop]
        proof = [node.hex() for node in prove_range(committed(leaves), start, stop)]
        if self.chance(25):
            part = [*part[:-1], (*part[-1][:7], part[-1][7] + 1)]
        if self.chance(25):
            proof = proof[1:] if proof else [self.fresh()]
        if self.chance(40):
            start = self.some(start + 1, 1_048_575)
        locks = sorted({leaf[1] for leaf in part})
        providers = sorted({leaf[2] for leaf in part})
        if self.chance(60):
            locks.append("f" * 64)
        places = [(leaf[0], locks.index(leaf[1]), providers.index(leaf[2]), *leaf[3:]) for leaf in part]
        if self.chance(60):
            places[0] = (*places[0][:3], *self.some((0, 0, 2, 1, 1), (4096, 0, 1, 1, 1), (0, 0, 1, 0, 1)))
        packed = pack_leaves(places)  # type: ignore[arg-type]
        if self.chance(60):
            packed = self.some(packed[:-4], packed + "=", packed + "!", packed[:-1])
        payload = {
            "batch": name if not self.chance(25) else self.fresh(),
            "start": start,
            "locks": locks,
            "providers": providers,
            "leaves": packed,
            "proof": proof,
        }
        sender = self.some(*providers, POOR.address, EVE.address, HUB.address, self.anybody().address)
        if sender not in BY_ADDRESS:
            sender = EVE.address
        fee = None
        if self.ledger.balance(sender) < 100 and self.chance(2):
            total = sum(leaf[7] for leaf in part)
            fee = self.some(total, total + 1, 2_000, 2_000)
        return self.sign(sender, "SETTLE", payload, fee=fee)

    def live(self) -> list[tuple[str, list[tuple[Any, ...]]]]:
        """Batches that the chain knows."""
        return [one for one in self.batches if f"batch:{one[0]}" in self.ledger.stores["receipts"]]

    def could_pay(self, leaf: tuple[Any, ...]) -> bool:
        lock = self.ledger.stores["locks"].get(leaf[1], {"status": ""})
        in_time = lock["status"] == "open" and lock["claim_until_ms"] >= self.ledger.time
        return in_time and not int(lock["paid_tasks"], 16) >> leaf[3] & 1

    def register(self) -> Transaction:
        new = [who for who in PROVIDERS if not self.ledger.registration("provider", who.address)]
        sender = self.some(*PROVIDERS, *new, *new, *new, REGISTERED_HUB, POOR, self.anybody()).address
        role = self.some("provider", "provider", "hub") if sender != REGISTERED_HUB.address else "hub"
        offer = {"model": "tiny-lm", "kind": "chat", "price_per_kilounit": self.some(0, 5, MAX)}
        models = self.some([], [offer], [{**offer, "digest": OUTPUT}, {**offer, "model": "other"}])
        if self.chance(30):
            models = [offer, offer]
        payload: Plain = {"role": role, "models": models}
        if self.chance(4):
            payload["payout"] = self.some(POOR, TREASURY, BY_ADDRESS[sender]).address
        if self.chance(6):
            payload["endpoint"] = "https://example.org"
        witness: Plain = {}
        former = self.ledger.registration(role, sender)
        if self.chance(2):
            hub = self.some(HUB, LISTED_UNKNOWN) if not self.chance(8) else self.some(REGISTERED_HUB, NO_HUB)
            witness |= {"hub": hub.address, "sig": self.word("aitbc/countersign/1", sender, hub.address)}
            if (not self.ledger.key_of(hub.address)) != self.chance(10):
                witness["pubkey"] = key_to_text(hub.auth_key if not self.chance(8) else EVE.auth_key)
        if former and former["validator"] and self.chance(2):
            payload["validator"] = former["validator"]
            if self.chance(4):
                witness["validator_sig"] = self.word("aitbc/compute-for/1", sender, former["validator"])
        elif not self.chance(3) and self.setting.version != 1:
            validator = self.some(*VALIDATORS, *STAKERS, self.anybody()).address
            payload["validator"] = validator
            if not self.chance(6):
                witness["validator_sig"] = self.word("aitbc/compute-for/1", sender, validator)
        elif self.chance(25):
            witness["validator_sig"] = self.word("aitbc/compute-for/1", sender, VALIDATOR.address)
        free = "sig" in witness and former is None and role == "provider"
        fee = self.some(0, None) if free and not self.chance(10) else None
        if not free and self.ledger.balance(sender) < 100 and not self.chance(10):
            return self.transfer_to(sender)
        return self.sign(sender, "REGISTER", payload, witness=witness or None, fee=fee)

    def word(self, tag: str, sender: str, by: str) -> str:
        """A hub's or a validator's for somebody; rarely the one's where the other's is asked for."""
        if self.chance(20):
            tag = self.some("aitbc/countersign/1", "aitbc/compute-for/1")
        said = tagged(tag, self.genesis_hash, sender.encode(), by.encode())
        return self.signer(by, None).sign(said).hex()

    def a_role(self, address: str) -> str:
        held = [key.split(":")[1] for key in self.ledger.stores["registry"] if key.startswith("bond:")]
        mine = [role for role in held if f"bond:{role}:{address}" in self.ledger.stores["registry"]]
        if mine and not self.chance(10):
            return self.random.choice(sorted(set(mine)))
        return self.some("validator", "provider", "hub")  # type: ignore[no-any-return]

    def stake(self) -> Transaction:
        sender = self.able(*VALIDATORS, *STAKERS, HUB, HUB, LISTED_UNKNOWN, self.anybody())
        if self.ledger.balance(WHALE.address) > MAX and self.chance(4):
            return self.sign(
                WHALE.address, "STAKE", {"role": "provider", "amount": self.some(1, 2, MAX, MAX - 1)}
            )
        missing = [
            hub for hub in (HUB, LISTED_UNKNOWN) if self.ledger.bond("hub", hub.address)["amount"] < AIT
        ]
        if self.ledger.param("hub_bond") and missing and self.chance(2):
            sender = self.able(*missing)
        role = "hub" if sender in (HUB.address, LISTED_UNKNOWN.address) else "validator"
        if self.chance(6):
            role = self.some("validator", "provider", "hub")
        left = self.ledger.balance(sender) - 100
        least = self.ledger.param("min_validator_stake")
        amount = (
            self.near(left)
            if self.chance(12)
            else self.some(1, 500, least - 1, least, least, least + 7, 5_000, AIT, 3 * AIT)
        )
        return self.sign(sender, "STAKE", {"role": role, "amount": max(1, min(MAX, amount))})

    def a_bond(self) -> tuple[str, str]:
        """(role, address) of one."""
        held = sorted(key for key in self.ledger.stores["registry"] if key.startswith("bond:"))
        if not held or self.chance(15):
            sender = self.anybody().address
            return self.a_role(sender), sender
        _, role, address = self.random.choice(held).split(":")
        return role, address

    def minting_hubs(self) -> list[str]:
        """Whose bonds have minted in the running epoch."""
        registry = self.ledger.stores["registry"]
        return [
            key.removeprefix("bond:hub:")
            for key in sorted(registry)
            if key.startswith("bond:hub:")
            and registry[key]["minted"]
            and registry[key]["epoch"] == self.ledger.epoch
        ]

    def unstake(self) -> Transaction:
        role, sender = self.a_bond()
        minting = [hub for hub in self.minting_hubs() if self.ledger.bond("hub", hub)["amount"]]
        if minting and self.chance(2):
            hub = self.random.choice(minting)
            return self.sign(
                hub, "UNSTAKE", {"role": "hub", "amount": self.ledger.bond("hub", hub)["amount"]}
            )
        staked = self.ledger.bond(role, sender)["amount"]
        total = sum(member["power"] for _, member in self.ledger.validator_set())
        third = total // 3 - self.ledger.counter("epoch.leaving")
        amount = self.some(1, 1, 10, self.near(staked), self.near(third))
        least = self.ledger.param("min_validator_stake")
        if role == "validator" and not self.chance(3):
            amount = self.some(staked, staked - least, staked - least + 1)
        if role == "validator" and self.setting.mode == "hybrid" and self.chance(2):
            amount = self.some(third, third, third + 1)
        return self.sign(sender, "UNSTAKE", {"role": role, "amount": max(1, amount)})

    def withdraw(self) -> Transaction:
        role, sender = self.a_bond()
        free = [
            tuple(key.split(":")[1:])
            for key, bond in sorted(self.ledger.stores["registry"].items())
            if key.startswith("bond:")
            and any(part["free_ms"] <= self.ledger.time + 1 for part in bond["unbonding"])
        ]
        free = [("hub", hub) for hub in self.minting_hubs() if ("hub", hub) in free] or free
        if free and not self.chance(4):
            role, sender = self.random.choice(free)
        return self.sign(sender, "WITHDRAW", {"role": role})

    def key_rotate(self) -> Transaction:
        sender = self.able(HUB, LISTED_UNKNOWN, *PROVIDERS, *VALIDATORS, ALICE, self.anybody())
        new = self.some(*OWNED[sender], *OWNED[sender], BY_ADDRESS[sender], self.key_of(sender))
        return self.rotation(sender, new)

    def rotation(self, sender: str, new: Key) -> Transaction:
        said = tagged("aitbc/rotate/1", self.genesis_hash, sender.encode(), new.auth_key)
        sig = (new if not self.chance(15) else EVE).sign(said).hex()
        if self.chance(30):
            return self.sign(sender, "KEY_ROTATE", {"pubkey": self.some(*NO_KEYS), "sig": sig}, fee=100)
        return self.sign(sender, "KEY_ROTATE", {"pubkey": key_to_text(new.auth_key), "sig": sig})

    def param_update(self) -> Transaction:
        count = self.ledger.counter("updates.count")
        payload: Plain = {"number": max(1, count + (1 if not self.chance(10) else self.some(0, 2)))}
        if not self.chance(4):
            names = [
                self.random.choice([*sorted(UPDATES), *["max_lock_ms"] * 3])
                for _ in range(self.random.randrange(1, 4))
            ]
            payload["set"] = {name: self.some(*UPDATES[name]) for name in names}
            if self.chance(6):
                payload["set"]["activations"] = self.activations()
            if self.chance(20):
                payload["set"] |= self.some(
                    {"devnet": 1}, {"base_fee": -1}, {"hubs": 5}, {"max_lock_ms": 59_999}
                )
        if "set" not in payload or self.chance(5):
            payload["authorities"] = self.authorities()
        return self.approved(payload)

    def approved(self, payload: Plain) -> Transaction:
        """Signed by as many of the set as are needed, unless luck has it."""
        running = self.ledger.validator_set()
        least = self.ledger.param("governance_threshold") or len(running) // 2 + 1
        many = min(len(running), least) - (1 if self.chance(10) else 0)
        signers = sorted(self.random.sample(range(len(running)), max(0, many)))
        if self.chance(4):
            signers = list(range(len(running)))
        digest = tagged("aitbc/param-update/1", self.genesis_hash, jcs(payload))
        sigs = [KEYS[self.member_key(running[i])].sign(digest).hex() for i in signers]
        if sigs and self.chance(15):
            sigs[-1] = self.some(EVE, self.key_of(running[signers[-1]][0])).sign(digest).hex()
        bitmap = sum(1 << i for i in signers)
        if self.chance(20):
            bitmap ^= self.some(1, 2, 1 << len(running), 1 << 52)
        witness = {"bitmap": bitmap, "sigs": sigs}
        return self.sign(self.anybody().address, "PARAM_UPDATE", payload, witness=witness)

    @staticmethod
    def member_key(member: tuple[str, Plain]) -> bytes:
        return key_from_text(member[1]["auth_key"])

    def activations(self) -> list[Plain]:
        """Far away, or too early, mostly: a version that nobody knows ends the chain."""
        length = self.ledger.epoch_length
        first = (self.ledger.epoch + 2) * length + 1
        height = self.some(first + 4_000_000 * length, first - length, first - 1, first + 1)
        if self.chance(10):
            height = first + self.some(0, 1) * length
        known = self.ledger.param("activations")
        if len(known) > 1 and self.chance(2):
            return self.some(known[:1], known[:-1], [])  # type: ignore[no-any-return]
        new = {"version": 3 if not self.chance(8) else 2, "height": height}
        return self.some(  # type: ignore[no-any-return]
            *(
                [*known, new],
                [*known, new],
                [*known, new],
                known,
                [new],
                [*known, new, {**new, "version": 4}],
            ),
            [*known, new, {"version": 4, "height": height + length}],
        )

    def authorities(self) -> list[Plain]:
        listed = [address for address, _ in self.ledger.members()]
        for _ in range(self.random.randrange(3)):
            if len(listed) > 1 and self.chance(2):
                listed.remove(self.random.choice(listed))
            else:
                new = self.some(*VALIDATORS, *STAKERS, EVE, POOR).address
                listed += [new] if new not in listed or self.chance(8) else []
        named = []
        for address in listed:
            one = {"address": address}
            if self.chance(2) and address in BY_ADDRESS:
                key = BY_ADDRESS[address] if not self.chance(15) else EVE
                one["pubkey"] = key_to_text(key.auth_key)
            named.append(one)
        return named

    def evidence_(self) -> Plain:
        if self.chance(2):
            return {"votes": self.votes()} if self.chance(2) else {"block": self.bad_block()}
        return self.two_attestations(self.a_lock(), self.some(0, 1))

    def two_attestations(self, lock_id: str, attempt: int) -> Plain:
        lock = self.ledger.stores["locks"].get(
            lock_id, {"hub": HUB.address, "height": 1, "client": ALICE.address}
        )
        said: Plain = {
            "receipt_id": "rcpt_" + self.fresh(),
            "lock": lock_id,
            "job_id": "job-1",
            "hub": lock["hub"] if not self.chance(12) else HUB.address,
            "client": lock["client"],
            "provider": self.a_provider(),
            "task": self.some(0, 0, 1),
            "attempt": attempt,
            "units": 5,
            "price": 7,
            "output_hash": OUTPUT,
            "routed": "random",
        }
        other = {**said, "receipt_id": "rcpt_" + self.fresh(), "price": 8}
        if self.chance(15):
            other |= self.some({"task": 3}, {"attempt": 9}, {"lock": "0" * 64}, {"hub": EVE.address})
        both = [self.attested(one, lock["height"]) for one in (said, other)]
        if self.chance(20):
            both.reverse()
        return {"attestations": {"first": both[0], "second": both[1]}}

    def accused(self) -> tuple[str, int]:
        """(validator, epoch) of what somebody is said to have signed."""
        who = self.some(*VALIDATORS, *STAKERS, self.anybody()).address
        back = self.ledger.param("evidence_epochs")
        return who, max(0, self.ledger.epoch - self.some(0, 0, 1, back, back + 1, -1))

    def statement(self, who: str, epoch: int, slot: int, kind: str, candidate: bytes) -> str:
        """Signed with the key of that epoch, or one that is nearly it."""
        said = tagged(
            *("aitbc/vote/1", self.ledger.chain_id.encode(), self.genesis_hash, kind.encode()),
            *(u64(epoch), u64(slot), candidate),
        )
        height = epoch * self.ledger.epoch_length + 1
        signer = self.signer(who, None if self.chance(2) else height + self.some(-1, 0, 0, 0, 1))
        return signer.sign(said).hex()

    def bad_block(self) -> Plain:
        """A leader's block with a transaction that is invalid in itself, unless luck has it valid."""
        who, epoch = self.accused()
        makes = [self.some(self.transfer, self.transfer, self.job_lock, self.key_rotate) for _ in range(4)]
        txs = [make() for make in makes[: self.random.randrange(1, 5)]]
        index = self.random.randrange(len(txs))
        if not self.chance(6):
            txs[index] = self.tampered(txs[index])
        wids = [wid_of(tx, self.genesis_hash) for tx in txs]
        if self.chance(15):
            wids.reverse()
        header = Header(
            version=self.some(2, 2, 3),
            chain_id=self.ledger.chain_id,
            height=self.ledger.height,
            parent=bytes.fromhex(self.fresh()),
            timestamp_ms=self.ledger.time,
            proposer=self.some(who, VALIDATOR.address),
            txs_root=list_root(wids),
            outcomes_root=bytes(32),
            state_root=bytes(32),
            next_validators_hash=bytes(32),
            history_root=bytes(32),
            extra=self.some(b"", b"extra"),
            seal=b"",
        )
        said: Plain = {
            "validator": who,
            "epoch": epoch,
            "slot": self.some(1, 2, 3),
            "parent_slot": self.some(0, 1),
            "parent_id": self.fresh(),
            "header": pack(header).hex(),
            "tx": pack(txs[index]).hex(),
            "index": index,
            "count": len(txs),
            "path": [node.hex() for node in prove_item(wids, index).path],
        }
        if self.chance(12):
            path = said["path"]
            said |= self.some(
                *({"index": index + 1}, {"count": len(txs) + 1}, {"index": MAX}, {"count": 0}),
                *({"path": path[1:]}, {"path": [*path, self.fresh()]}, {"path": path[::-1]}),
            )
        candidate = tagged(
            *("aitbc/candidate/1", self.ledger.chain_id.encode(), self.genesis_hash, u64(epoch)),
            *(u64(said["slot"]), u64(said["parent_slot"]), bytes.fromhex(said["parent_id"])),
            block_hash(header),
        )
        kind = "candidate" if not self.chance(15) else "notar"
        said["sig"] = self.statement(who, epoch, said["slot"], kind, candidate)
        if self.chance(15):
            said |= self.some({"slot": 9}, {"parent_slot": 9}, {"parent_id": self.fresh()})
        return said

    def votes(self) -> Plain:
        who, epoch = self.accused()
        slot = self.some(1, 2, 3)
        kinds = self.some(*[(kind, kind) for kind in ("candidate", "notar", "final")], ("final", "skip"))
        if self.chance(12):
            kinds = self.some(("skip", "skip"), ("skip", "final"), ("notar", "final"))
        candidates = [self.fresh(), self.fresh()]
        if self.chance(15):
            candidates = self.some([candidates[0]] * 2, candidates[::-1])
        if kinds[1] == "skip" and not self.chance(10):
            candidates[1] = "00" * 32
        votes = []
        for kind, candidate in zip(kinds, candidates, strict=True):
            sig = self.statement(who, epoch, slot, kind, bytes.fromhex(candidate))
            votes.append({"kind": kind, "candidate": candidate, "sig": sig})
        return {"validator": who, "epoch": epoch, "slot": slot, "first": votes[0], "second": votes[1]}

    def evidence_tx(self) -> Transaction:
        if self.evidence and self.chance(5):
            payload = self.random.choice(self.evidence)
        else:
            payload = self.evidence_()
            self.evidence.append(payload)
        too_large = len(payload.get("block", {"tx": ""})["tx"]) > 2 * 8 * 1024
        sender = self.some(ALICE, BOB, self.anybody()).address
        return self.sign(sender, "EVIDENCE", payload, fee=1_000 if too_large else None)

    # Time

    def interesting_times(self) -> list[int]:
        """When something begins or ends, and one millisecond on either side."""
        ledger = self.ledger
        keep_lock = ledger.param("lock_retention_ms")
        keep_receipt = ledger.param("receipt_retention_ms")
        found = []
        for lock in ledger.stores["locks"].values():
            found += [
                lock["claim_until_ms"],
                lock["claim_until_ms"] + keep_lock,
                lock["closed_ms"] + keep_lock,
            ]
        for record in ledger.stores["receipts"].values():
            found.append(record.get("expires_ms") or record["claimed_ms"] + keep_receipt)
        for record in ledger.stores["registry"].values():
            found += [part["free_ms"] for part in record.get("unbonding", [])]
            found += [record.get("jailed_until_ms", 0), record.get("expires_ms", 0)]
        found.append(ledger.param("calibration_until_ms"))
        return sorted({time + d for time in found for d in (-1, 0, 1) if time + d > ledger.time})

    def next_time(self) -> int:
        if self.chance(250):
            return self.ledger.time + 1_200 * 86_400_000
        times = self.interesting_times()
        jails = [record.get("jailed_until_ms", 0) for record in self.ledger.stores["registry"].values()]
        leaving = [self.ledger.bond("hub", hub) for hub in self.minting_hubs()]
        over = [
            bond["unbonding"][-1]["free_ms"] for bond in leaving if bond["unbonding"] and not bond["amount"]
        ]
        if over and self.chance(2):
            return max(self.ledger.time + 1, max(over))
        jails = [time for time in jails if time > self.ledger.time]
        if jails and self.chance(8):
            return min(jails)
        if not times or not self.chance(3):
            return self.ledger.time + self.some(1, 500, 1_000, 1_000, 1_000)  # type: ignore[no-any-return]
        return self.random.choice(times[:12]) if self.chance(4) else times[0]

    # Blocks

    @property
    def stopped(self) -> bool:
        """An update has activated a version that nobody knows yet: there are no more blocks."""
        return self.ledger.version_at(self.ledger.height + 1) > 2

    def begin(self) -> None:
        self.twin.begin(self.next_time())

    def send(self, kind: str) -> None:
        """One of a kind, or what it needs first."""
        if kind in ("RECEIPT_CLAIM", "RECEIPT_BATCH", "SETTLE", "EVIDENCE", "REFUND") and not self.chance(4):
            if not any(self.ledger.registration("provider", who.address) for who in PROVIDERS):
                kind = "REGISTER"
            elif not (self.locks("open") if kind in ("REFUND", "EVIDENCE") else self.payable()):
                kind = "JOB_LOCK"
            elif kind == "SETTLE" and not any(
                self.could_pay(leaf) for _, leaves in self.live() for leaf in leaves
            ):
                kind = "RECEIPT_BATCH"
        make = "evidence_tx" if kind == "EVIDENCE" else kind.lower()
        self.twin.add(self.transaction(make))

    def burst(self) -> None:
        """Seventeen of one kind in one block."""
        kind = self.some("UNSTAKE", "PARAM_UPDATE", "KEY_ROTATE", "RECEIPT_CLAIM", "SETTLE", "EVIDENCE")
        role, holder = self.a_bond()
        lock_id = self.a_lock()
        rotating = self.able(HUB, *VALIDATORS, *STAKERS)
        for n in range(17):
            if kind == "UNSTAKE":
                self.twin.add(self.sign(holder, "UNSTAKE", {"role": role, "amount": self.some(1, 1, 3)}))
            elif kind == "KEY_ROTATE":
                self.twin.add(self.rotation(rotating, OWNED[rotating][n % len(OWNED[rotating])]))
            elif kind == "EVIDENCE":
                payload = self.two_attestations(lock_id, n)
                self.twin.add(self.sign(self.able(ALICE, BOB), "EVIDENCE", payload))
            elif kind == "PARAM_UPDATE":
                number = self.ledger.counter("updates.count") + 1
                self.twin.add(self.approved({"number": number, "set": {"base_fee": self.some(1, 2)}}))
            else:
                self.send(kind)

    def commit(self) -> None:
        if self.setting.work is not None:
            self.twin.commit(proposer=self.random.choice(AUTHORS).address)
            return
        running = self.ledger.validator_set()
        proposer = self.random.choice(running)[0]
        self.twin.commit(proposer=proposer)

    def kinds(self) -> dict[str, int]:
        if self.ledger.version == 1:
            return {kind: weight * (10 if kind in KINDS_1 else 1) for kind, weight in KINDS_2.items()}
        return KINDS_2

    def a_block(self) -> None:
        self.begin()
        kinds = self.kinds()
        for _ in range(self.some(0, 1, 2, 2, 3, 4, 6)):
            self.send(self.random.choices(list(kinds), list(kinds.values()))[0])
        if self.chance(40):
            self.burst()
        self.commit()

    def finish(self) -> None:
        """Let every timer fire: no lock stays open, and nothing that can end stays."""
        for last in (False, False, True):
            if self.setting.version == 1 or self.stopped:
                return
            far = 10 + max(self.interesting_times(), default=self.ledger.time)
            if last:
                far = self.ledger.time + self.ledger.param("lock_retention_ms") + 1
            self.twin.begin(far)
            self.commit()
        assert {lock["status"] for lock in self.ledger.stores["locks"].values()} <= {"synthetic"}
        assert self.ledger.stores["receipts"] == {}
        marks = [
            record for key, record in self.ledger.stores["registry"].items() if key.startswith("offence:")
        ]
        assert all(mark["expires_ms"] == 0 for mark in marks)


def committed(leaves: list[tuple[Any, ...]]) -> list[bytes]:
    """What a batch's root is over."""
    return [
        leaf[0] + bytes.fromhex(leaf[1]) + leaf[2].encode() + LEAF.pack(bytes(32), 0, 0, *leaf[3:])[36:]
        for leaf in leaves
    ]


UPDATES: dict[str, tuple[Any, ...]] = {
    "base_fee": (0, 2, 50),
    "fee_per_kib": (0, 64, 1_000),
    "fee_burn_bp": (0, 5_000, 10_000),
    "mint_per_unit": (0, 1, 1_000, 1_000_000_000),
    "coordinator_ratio_bp": (0, 500, 5_000),
    "treasury_ratio_bp": (0, 333, 5_000),
    "treasury": ("", TREASURY.address, POOR.address),
    "mint_price_cap_bp": (1, 10_000, 100_000),
    "hubs": (
        *[[HUB.address, LISTED_UNKNOWN.address]] * 3,
        [HUB.address, REGISTERED_HUB.address],
        *([LISTED_UNKNOWN.address], []),
    ),
    "max_lock_ms": (60_000, 90_000),
    "fee_ed25519": (0, 7),
    "fee_secp256k1": (0, 7),
    "fee_rsa_pss": (0, 7),
    "hub_bond": (0, 500, AIT),
    "hub_mint_per_bond_bp": (0, 5_000, 20_000, 10_000_000),
    "mint_budget_per_day": (0, 10_000 * AIT, 60_000 * AIT, MAX),
    "calibration_budget": (0, 1, 5 * AIT, 30 * AIT, 100 * AIT),
    "calibration_until_ms": (0, START_MS + 60_000),
    "calibration_units": (0, 1_500, 10_000),
    "lock_retention_ms": (60_000, 70_000),
    "receipt_retention_ms": (60_000, 70_000),
    "unbonding_ms": (60_000,),
    "governance_threshold": (0, 1, 2, 3, 50),
    "slash_bp": (0, 1, 500, 10_000),
    "jail_ms": (0, 5_000, 20_000),
    "evidence_epochs": (1, 3),
    "min_validator_stake": (1, 1_000, 5_000),
    "max_validators": (1, 2, 3),
    "score_decay_bp": (0, 8_750, 10_000),
    "score_units_per_provider": (0, 1_000, 3_000),
}

__all__ = ["ATTESTATION", "SETTINGS", "Setting", "World", "filled"]
