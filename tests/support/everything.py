"""A chain whose next block holds one transaction of every type, and every one of them is done."""

from typing import Any, NamedTuple

from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.types.amounts import AIT
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import REQUEST
from support.ledger import MINUTE_MS, Batches, Ledger, Work, people
from support.people import ALICE, BOB, FAUCET, HUB, PROVIDER, VALIDATOR, person

ACTORS = dict(zip(sorted(TYPES), people("actor", len(TYPES)), strict=True))
"""Type → who sends its transaction, but for those that only one may send."""
ACTORS.update({"RECEIPT_BATCH": HUB, "FAUCET": FAUCET})
NEWCOMER = ACTORS["REGISTER"]
NEW_KEY = person("the new key")


class Everything(NamedTuple):
    chain: Ledger
    """Before the block."""
    txs: dict[str, VerifiedTransaction]
    built: BuiltBlock
    """Built on the chain's head and taken back again."""
    bad_block: VerifiedTransaction
    """EVIDENCE about a block; that in `txs` is about votes."""


def everything() -> Everything:
    funded = [who for name, who in ACTORS.items() if name not in ("FAUCET", "RECEIPT_BATCH", "REGISTER")]
    chain = Ledger(more=[*funded, PROVIDER], unbonding_ms=MINUTE_MS, epoch_length=1_000_000)
    chain.register(PROVIDER)
    expired = chain.lock(ALICE)
    chain.stake(ACTORS["UNSTAKE"], AIT)
    chain.stake(ACTORS["WITHDRAW"], AIT)
    assert chain.do(ACTORS["WITHDRAW"], "UNSTAKE", {"role": "validator", "amount": AIT}).ok
    chain.block(after_ms=3 * MINUTE_MS)
    claimed, session = chain.lock(ALICE), chain.lock(BOB, tasks=3, session=True)
    batch = Batches([Work(session, PROVIDER.address, task=n) for n in range(3)]).send(chain)
    payloads = _payloads(chain, expired, claimed, batch)
    txs = {kind: _signed(chain, kind, *payloads[kind]) for kind in sorted(TYPES)}
    chain.now_ms += 1_000
    built = chain.executor.build(list(txs.values()), proposer=VALIDATOR.address, timestamp_ms=chain.now_ms)
    chain.executor.abandon()
    assert [outcome.reason for outcome in built.outcomes] == [""] * len(TYPES), built.outcomes
    return Everything(chain, txs, built, _signed(chain, "EVIDENCE", chain.bad_block(VALIDATOR)))


def _signed(chain: Ledger, kind: str, payload: Any, witness: Any = None) -> VerifiedTransaction:
    fee = 0 if kind in ("FAUCET", "REGISTER") else 300
    return chain.verified(ACTORS[kind], kind, payload, witness=witness, fee=fee)


def _payloads(chain: Ledger, expired: str, claimed: str, batch: Batches) -> dict[str, tuple[Any, ...]]:
    stake = {"role": "validator", "amount": AIT // 2}
    lock = {
        "hub": HUB.address,
        "job_id": "a job",
        "amount": AIT,
        "request_hash": REQUEST,
        "deliver_by_ms": chain.now_ms + MINUTE_MS,
        "claim_until_ms": chain.now_ms + 2 * MINUTE_MS,
        "tasks": 2,
        "session": True,
    }
    offer = {"model": "tiny-lm", "kind": "chat", "price_per_kilounit": 5, "digest": "sha256:1"}
    registration = {
        "role": "provider",
        "models": [offer],
        "endpoint": "https://new",
        "payout": BOB.address,
        "validator": VALIDATOR.address,
    }
    return {
        "TRANSFER": ({"to": BOB.address, "amount": 5, "data": "for the fish"},),
        "JOB_LOCK": (lock,),
        "RECEIPT_CLAIM": chain.claim_parts(PROVIDER, claimed),
        "RECEIPT_BATCH": ({"root": "ab" * 32, "count": 7},),
        "SETTLE": (batch.settle(1, 3),),
        "REFUND": ({"lock": expired},),
        "REGISTER": (registration, chain.countersigned(NEWCOMER, VALIDATOR, HUB)),
        "STAKE": (stake,),
        "UNSTAKE": (stake,),
        "WITHDRAW": ({"role": "validator"},),
        "PARAM_UPDATE": chain.update({"set": {"base_fee": 3, "hubs": [HUB.address]}}, VALIDATOR),
        "FAUCET": ({"to": BOB.address, "amount": AIT},),
        "KEY_ROTATE": (chain.rotation(ACTORS["KEY_ROTATE"], NEW_KEY),),
        "EVIDENCE": (chain.double_vote(VALIDATOR),),
    }
