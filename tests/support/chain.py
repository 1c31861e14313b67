"""A chain without a node: submit transactions, make a block, look at what happened."""

from typing import Any

import msgspec

from aitbc.client.signing import KeySigner
from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import (
    attestation_digest,
    candidate_id,
    countersignature_digest,
    receipt_core_digest,
    receipt_id_of,
    transaction_id,
    vote_digest,
)
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.executor import Executor
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.genesis import (
    Authority,
    ConsensusSettings,
    Genesis,
    GenesisAccount,
    genesis_document,
    load_genesis,
)
from aitbc.core.ledger.params import Activation, Params
from aitbc.core.ledger.state import Overlay, State, check_whole_supply
from aitbc.core.types.amounts import AIT
from aitbc.core.types.blocks import Candidate, Certificate
from aitbc.core.types.receipts import Attestation, ReceiptCore
from aitbc.core.types.transactions import Outcome, Transaction, VerifiedTransaction
from support.people import ALICE, BOB, FAUCET, HUB, SYNTHETIC, VALIDATOR

OUTPUT = "sha256:" + "ab" * 32
REQUEST = "sha256:" + "cd" * 32
START_MS = 1_760_000_000_000


VERSION_2 = [Activation(version=2, height=0)]


def genesis(
    *,
    authorities: tuple[KeySigner, ...] = (VALIDATOR,),
    stakes: tuple[int, ...] = (),
    consensus: ConsensusSettings | None = None,
    accounts: list[GenesisAccount] | None = None,
    **params: Any,
) -> Genesis:
    """Alice and Bob have 1,000 AIT each, the hub 10; `params` override the defaults of a devnet of version 1.

    `stakes`: of the authorities, in their order, under `hybrid`.
    """
    funded = [(ALICE, 1_000 * AIT), (BOB, 1_000 * AIT), (HUB, 10 * AIT), (SYNTHETIC, 0), (FAUCET, 0)]
    defaults: dict[str, Any] = {
        "devnet": 1,
        "mint_price_cap_bp": 0,
        "hubs": [HUB.address],
        "faucet": FAUCET.address,
        "faucet_limit": 1_000 * AIT,
        "synthetic_attester": SYNTHETIC.address,
    }
    if "activations" in params:
        defaults |= {"min_validator_stake": 1, "hub_mint_per_bond_bp": 0}
    return Genesis(
        chain_id="ait-test",
        timestamp=START_MS // 1000,
        accounts=[
            GenesisAccount(address=who.address, balance=balance, pubkey=key_to_text(who.auth_key))
            for who, balance in funded
        ]
        if accounts is None
        else accounts,
        params=Params(**{**defaults, **params}),
        authorities=[
            Authority(pubkey=key_to_text(who.auth_key), stake=stake)
            for who, stake in zip(authorities, stakes or [0] * len(authorities), strict=True)
        ],
        consensus=consensus or ConsensusSettings(),
    )


class Chain:
    """Executes what it is given, one block at a time, one second apart."""

    def __init__(self, document: Genesis | None = None) -> None:
        self.document = genesis_document(document or genesis())
        self.executor = Executor(self.document, None)
        self.genesis_hash = self.executor.loaded.hash
        self.now_ms = START_MS

    def sign(
        self,
        sender: KeySigner,
        kind: str,
        payload: dict[str, Any],
        *,
        nonce: int | None = None,
        fee: int = 100,
        witness: dict[str, Any] | None = None,
    ) -> Transaction:
        nonce = self.nonce(sender) + 1 if nonce is None else nonce
        unsigned = Transaction(
            kind,
            sender.address,
            nonce,
            fee,
            jcs(payload),
            sender.auth_key,
            b"",
            jcs(witness) if witness is not None else b"",
        )
        return msgspec.structs.replace(unsigned, sig=sender.sign(transaction_id(unsigned, self.genesis_hash)))

    def verified(self, *args: Any, **options: Any) -> VerifiedTransaction:
        return verify_transaction(self.sign(*args, **options), self.genesis_hash)

    def block(self, *txs: VerifiedTransaction, after_ms: int = 1_000) -> BuiltBlock:
        """Build and publish; the supply is counted from scratch each time."""
        self.now_ms += after_ms
        built = self.executor.build(list(txs), proposer=VALIDATOR.address, timestamp_ms=self.now_ms)
        candidate = Candidate(0, built.block.header.height, 0, bytes(32), built.hash)
        committed = self.executor.seal(built, Certificate("final", candidate, 1, [bytes(64)]))
        self.executor.publish(built, committed.block)
        check_whole_supply(self.executor.state)
        return built

    def do(self, *args: Any, after_ms: int = 1_000, **options: Any) -> Outcome:
        """One transaction in a block of its own; raises the rejection if it is invalid."""
        built = self.block(self.verified(*args, **options), after_ms=after_ms)
        if built.refused:
            raise built.refused[0][1]
        return built.outcomes[0]

    def balance(self, who: KeySigner) -> int:
        return Overlay(self.executor.state).account(who.address).balance

    def nonce(self, who: KeySigner) -> int:
        return Overlay(self.executor.state).account(who.address).nonce

    def supply(self) -> int:
        return Overlay(self.executor.state).total_supply()

    def lock(self, client: KeySigner = ALICE, *, amount: int = 5 * AIT, **fields: Any) -> str:
        """A lock that ends in two minutes; returns its id."""
        payload = {
            "hub": HUB.address,
            "job_id": "job-1",
            "amount": amount,
            "request_hash": REQUEST,
            "deliver_by_ms": self.now_ms + 60_000,
            "claim_until_ms": self.now_ms + 120_000,
            **fields,
        }
        outcome = self.do(client, "JOB_LOCK", payload)
        assert outcome.ok, outcome
        return outcome.tx_id.hex()

    def register(self, provider: KeySigner, **fields: Any) -> None:
        """A provider's free registration; `fields` go into its payload."""
        outcome = self.do(
            provider,
            "REGISTER",
            {"role": "provider", "models": [], **fields},
            fee=0,
            witness=self.countersignature(provider, HUB),
        )
        assert outcome.ok, outcome

    def countersignature(self, provider: KeySigner, hub: KeySigner) -> dict[str, str]:
        """The hub's word for a provider without money."""
        digest = countersignature_digest(provider.address, hub.address, self.genesis_hash)
        return {"hub": hub.address, "sig": hub.sign(digest).hex()}

    def endow(self, who: KeySigner, amount: int) -> None:
        """More coins than the rules let anybody have, as if genesis had given them."""
        overlay = Overlay(self.executor.state)
        overlay.credit(who.address, amount)
        overlay.add_supply("genesis", amount)
        self.executor.state.stage(overlay.writes)
        self.executor.state.publish()

    def claim_parts(
        self,
        provider: KeySigner,
        lock: str,
        *,
        client: KeySigner = ALICE,
        hub: KeySigner = HUB,
        routed: str = "random",
        attested: dict[str, Any] | None = None,
        **core_fields: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(payload, witness) of a claim that is right unless the arguments make it wrong."""
        fields: dict[str, Any] = {
            "job_id": "job-1",
            "client_addr": client.address,
            "miner_addr": provider.address,
            "compute_units": 2_000,
            "price": 2 * AIT,
            "output_hash": OUTPUT,
            "lock": lock,
            "attempt": 1,
            "nonce": "00" * 16,
            "details_hash": "sha256:" + "ef" * 32,
            **core_fields,
        }
        core = ReceiptCore(**fields)
        payload = msgspec.json.decode(jcs(core))
        payload["receipt_id"] = receipt_id_of(core, self.genesis_hash)
        payload["miner_sig"] = provider.sign(receipt_core_digest(core, self.genesis_hash)).hex()
        said = Attestation(
            **{
                "receipt_id": payload["receipt_id"],
                "lock": lock,
                "job_id": core.job_id,
                "hub": hub.address,
                "client": core.client_addr,
                "provider": core.miner_addr,
                "task": core.task,
                "attempt": core.attempt,
                "units": core.compute_units,
                "price": core.price,
                "output_hash": core.output_hash,
                "routed": routed,
                **(attested or {}),
            }
        )
        sig = hub.sign(attestation_digest(said, self.genesis_hash)).hex()
        return payload, {"attestation": msgspec.json.decode(jcs(said)), "sig": sig}


def certificate_of(
    block_hash: bytes, genesis_hash: bytes, *, signer: KeySigner = VALIDATOR, kind: str = "final"
) -> Certificate:
    """A certificate that one validator signed; `Chain.block` makes do with zeros."""
    candidate = Candidate(0, 5, 0, bytes(32), block_hash)
    digest = vote_digest(
        kind=kind,
        epoch=0,
        slot=5,
        candidate=candidate_id(candidate, "ait-test", genesis_hash),
        chain_id="ait-test",
        genesis_hash=genesis_hash,
    )
    return Certificate(kind, candidate, 1, [signer.sign(digest)])


def fresh_root(chain: Chain) -> bytes:
    """The state root recomputed from the records alone, in index order."""
    fresh, state = State(), chain.executor.state
    rows = {
        store: sorted([(state.index_of(store, key), key, data) for key, data in records.items()])
        for store, records in state.data.items()
    }
    fresh.load(rows)
    return fresh.root()


__all__ = [
    "OUTPUT",
    "REQUEST",
    "START_MS",
    "Chain",
    "certificate_of",
    "fresh_root",
    "genesis",
    "load_genesis",
]
