"""The last amount and the last millisecond that are still right, and the first that are wrong."""

from collections.abc import Callable

import pytest

from aitbc.core.types.amounts import AIT
from aitbc.core.types.reasons import Reason, Rejected
from support.chain import Chain, genesis
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER

MAX_LOCK_MS = 3_600_000
LIMIT = 7 * AIT
EARNED = 4 * AIT
"""What a claim pays its provider here: 2 AIT of price and 2 AIT of mint."""

Act = Callable[[Chain, int], str]
"""Do something so many steps past an edge; returns the reason, or nothing when it was done."""


def reason_of(chain: Chain, *args, **options) -> str:  # type: ignore[no-untyped-def]
    try:
        return chain.do(*args, **options).reason
    except Rejected as rejection:
        return rejection.reason


def claim_at_the_end(chain: Chain, past_ms: int) -> str:
    lock = chain.lock(claim_until_ms=chain.now_ms + 90_000)
    payload, witness = chain.claim_parts(PROVIDER, lock)
    return reason_of(chain, HUB, "RECEIPT_CLAIM", payload, witness=witness, after_ms=89_000 + past_ms)


def refund_at_the_end(chain: Chain, past_ms: int) -> str:
    lock = chain.lock(claim_until_ms=chain.now_ms + 90_000)
    return reason_of(chain, BOB, "REFUND", {"lock": lock}, after_ms=89_000 + past_ms)


def lock_until(chain: Chain, *, deliver_in_ms: int, claim_in_ms: int) -> str:
    """Both times count from the block that the lock is in."""
    block_ms = chain.now_ms + 1_000
    payload = {
        "hub": HUB.address,
        "job_id": "job-1",
        "amount": AIT,
        "request_hash": "sha256:" + "cd" * 32,
        "deliver_by_ms": block_ms + deliver_in_ms,
        "claim_until_ms": block_ms + claim_in_ms,
    }
    return reason_of(chain, ALICE, "JOB_LOCK", payload)


def take_from_the_faucet(chain: Chain, past: int) -> str:
    return reason_of(chain, FAUCET, "FAUCET", {"to": EVE.address, "amount": LIMIT + past}, fee=0)


def pay_a_fee_out_of_the_proceeds(chain: Chain, past: int) -> str:
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    return reason_of(chain, PROVIDER, "RECEIPT_CLAIM", payload, witness=witness, fee=EARNED + past)


EDGES: list[tuple[str, Act, int, str]] = [
    ("a claim at its last millisecond", claim_at_the_end, 0, ""),
    ("a claim a millisecond later", claim_at_the_end, 1, Reason.CLAIM_TOO_LATE),
    ("a refund while claims still count", refund_at_the_end, 0, Reason.REFUND_TOO_EARLY),
    ("a refund a millisecond later", refund_at_the_end, 1, ""),
    (
        "delivery due at the block's own time",
        lambda chain, ms: lock_until(chain, deliver_in_ms=ms, claim_in_ms=60_000),
        0,
        Reason.DEADLINE_PASSED,
    ),
    (
        "delivery due a millisecond later",
        lambda chain, ms: lock_until(chain, deliver_in_ms=ms, claim_in_ms=60_000),
        1,
        "",
    ),
    (
        "claims that end with delivery",
        lambda chain, ms: lock_until(chain, deliver_in_ms=60_000 + ms, claim_in_ms=60_000),
        0,
        "",
    ),
    (
        "claims that end before delivery",
        lambda chain, ms: lock_until(chain, deliver_in_ms=60_000 + ms, claim_in_ms=60_000),
        1,
        Reason.DEADLINE_PASSED,
    ),
    (
        "the longest lock",
        lambda chain, ms: lock_until(chain, deliver_in_ms=1, claim_in_ms=MAX_LOCK_MS + ms),
        0,
        "",
    ),
    (
        "a lock that is a millisecond too long",
        lambda chain, ms: lock_until(chain, deliver_in_ms=1, claim_in_ms=MAX_LOCK_MS + ms),
        1,
        Reason.DEADLINE_TOO_FAR,
    ),
    ("the whole of the faucet's limit", take_from_the_faucet, 0, ""),
    ("a base unit more than the faucet's limit", take_from_the_faucet, 1, Reason.FAUCET_LIMIT),
    ("a fee of everything that was earned", pay_a_fee_out_of_the_proceeds, 0, ""),
    ("a fee of a base unit more", pay_a_fee_out_of_the_proceeds, 1, Reason.FEE_NOT_COVERED),
]


@pytest.mark.parametrize(("story", "act", "past", "reason"), EDGES, ids=[row[0] for row in EDGES])
def test_each_bound_is_where_the_specification_says(story: str, act: Act, past: int, reason: str) -> None:
    chain = Chain(genesis(max_lock_ms=MAX_LOCK_MS, faucet_limit=LIMIT))
    chain.register(PROVIDER)
    assert act(chain, past) == reason
