"""The chain of one run of whole nodes: its mode, who has what, and who votes at first, drawn from the seed."""

import random
from typing import Any

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.crypto.address import address_of
from aitbc.core.ledger.elector import Mode
from aitbc.core.ledger.genesis import Authority, ConsensusSettings, Genesis, GenesisAccount, genesis_document
from aitbc.core.ledger.params import Activation, Params
from aitbc.core.sync.ranges import Sizes
from aitbc.core.types.amounts import AIT
from aitbc.core.types.transactions import Transaction
from aitbc.sim import keys
from aitbc.sim.blocks import START_MS
from aitbc.sim.faults import Plan

CHAIN_ID = "ait-sim"
CLIENTS = 4
"""Who pays each other and buys work."""
STAKE = 1_000 * AIT
LEAST_SET = 1
"""Fewer are not left where there were more: who follows a validator that is a set of its own hears of the next block
only when there is one, which is not soon enough for what is asked of everybody after healing."""
MAX_EPOCHS_BEHIND = 3
"""Who is further behind asks for ranges: to walk an epoch takes three round trips, and a real one has hundreds of
blocks."""
FEE = 2_000
"""Of every transaction here: more than the longest of them costs."""


class Holder(msgspec.Struct, frozen=True):
    """A name with a key."""

    name: str
    address: str
    auth_key: bytes

    def sign(self, digest: bytes) -> bytes:
        return keys.sign(self.auth_key, digest)


def holder(name: str) -> Holder:
    key = keys.key_named(name)
    return Holder(name, address_of(key), key)


def validator_at(place: int) -> Holder:
    """By the address that the first key made; later keys change nothing about it."""
    key = keys.key_of(place)
    return Holder(f"v{place}", address_of(key), key)


CUSTOMERS = tuple(holder(f"client {number}") for number in range(CLIENTS))
HUB, PROVIDER, GOVERNOR, WATCHMAN, TRAVELLER = map(
    holder, ("hub", "provider", "governor", "watchman", "traveller")
)
"""The traveller comes when everything is well again."""


class LedgerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is drawn for the ledger beside what goes wrong."""

    mode: Mode
    stakes: tuple[int, ...]
    """By place; 0: not in the first set."""
    rotating: bool
    """Do validators change their keys?"""
    governing: bool
    """Do the authorities change parameters and, without stakes, their own list?"""
    sizes: Sizes
    """From how far behind ranges are asked for, and how large these are."""
    tick_ms: int
    """Between two looks at how far the others are: a second in a node; with less, ranges and agreement overlap."""


def draw_ledger(plan: Plan, weak: frozenset[int]) -> LedgerPlan:
    draw = random.Random(f"{plan.seed}/ledger")  # noqa: S311 - a simulation repeats, it does not hide
    mode: Mode = draw.choice(("poa", "cbp", "hybrid", "hybrid"))
    stakes = [STAKE * (draw.randrange(2, 7) if plan.changing_sets else 2) for _ in range(plan.nodes)]
    strong = [place for place in range(plan.nodes) if place not in weak]
    if plan.changing_sets and may_be_without_one(plan.nodes, weak):
        stakes[draw.choice(strong)] = 0
    honest = sum(stakes[place] for place in strong)
    for place in weak:
        stakes[place] = min(stakes[place], honest // (5 * len(weak)))
    return LedgerPlan(
        mode=mode,
        stakes=tuple(stakes),
        rotating=plan.changing_sets and bool(draw.randrange(2)),
        governing=plan.changing_sets,
        sizes=_sizes(draw, plan.epoch_length),
        tick_ms=draw.choice((50, 200, 1_000)),
    )


def _sizes(draw: random.Random, epoch_length: int) -> Sizes:
    """Little, so that short runs have ranges; in a long epoch, sometimes more than it has blocks."""
    return Sizes(
        min_behind=min(draw.choice((2, 6, 20)), MAX_EPOCHS_BEHIND * epoch_length),
        headers=draw.choice((4, 16)),
        blocks=draw.choice((1, 4, 16)),
        batch=draw.choice((1, 8)),
    )


def may_be_without_one(size: int, weak: frozenset[int]) -> bool:
    """Does a set of `size` keep its strong majority when a strong member leaves?"""
    return size - 1 > max(3 * len(weak), LEAST_SET - 1)


def genesis_of(plan: Plan, ledger: LedgerPlan) -> bytes:
    validators = [validator_at(place) for place in range(plan.nodes)]
    rich = [*CUSTOMERS, HUB, PROVIDER, GOVERNOR, WATCHMAN, TRAVELLER, *validators]
    by_stake = ledger.mode == "hybrid"
    document = Genesis(
        chain_id=CHAIN_ID,
        timestamp=START_MS // 1000,
        accounts=[
            GenesisAccount(address=who.address, balance=20_000 * AIT, pubkey=key_to_text(who.auth_key))
            for who in rich
        ],
        params=Params(
            activations=[Activation(version=2, height=0)],
            hubs=[HUB.address],
            min_validator_stake=AIT,
            unbonding_ms=2_000,
            jail_ms=4_000,
            max_lock_ms=600_000,
            hub_mint_per_bond_bp=0,
            lock_retention_ms=5_000,
            receipt_retention_ms=5_000,
        ),
        authorities=[
            Authority(pubkey=key_to_text(who.auth_key), stake=stake if by_stake else 0)
            for who, stake in zip(validators, ledger.stakes, strict=True)
            if stake
        ],
        consensus=ConsensusSettings(
            mode=ledger.mode,
            block_time_ms=plan.block_time_ms,
            idle_ms=plan.idle_ms,
            epoch_length=plan.epoch_length,
        ),
    )
    return genesis_document(document)


def signed(
    who: Holder,
    kind: str,
    nonce: int,
    payload: dict[str, Any],
    *,
    genesis_hash: bytes,
    witness: dict[str, Any] | None = None,
    fee: int = FEE,
) -> tuple[bytes, Transaction]:
    """(id, transaction)."""
    raw = b"" if witness is None else jcs(witness)
    unsigned = Transaction(kind, who.address, nonce, fee, jcs(payload), who.auth_key, b"", raw)
    tx_id = transaction_id(unsigned, genesis_hash)
    return tx_id, msgspec.structs.replace(unsigned, sig=who.sign(tx_id))
