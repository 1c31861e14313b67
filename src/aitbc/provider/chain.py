"""What the provider asks of the chain, and its check that a client's money is really set aside."""

from typing import Any, Protocol, TypeVar

from aitbc.client.calibration import calibration_of
from aitbc.client.errors import ApiError, ClientError
from aitbc.client.http import Call
from aitbc.client.transactions import checked_fee
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import genesis_hash_of
from aitbc.core.jobs.calibration import calibration_request, drawn_job
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import Offer
from aitbc.core.jobs.splitting import is_part_of
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.transactions import Transaction

Json = dict[str, Any]
T = TypeVar("T")

LOCK_WAIT_S = 3
"""Our node may be a block or two behind the hub's."""


class Chain(Protocol):
    """The part of `aitbc.client.node.AsyncNodeClient` that a provider uses."""

    async def genesis(self) -> Json: ...

    async def account(self, address: str) -> Json: ...

    async def send(self, tx: Transaction) -> str: ...

    async def transaction(
        self, tx_id: str, wait: str | None = None, timeout: float = 10, proof: bool = False
    ) -> Json: ...

    async def lock(self, lock_id: str) -> Json | None: ...

    async def receipt(self, receipt_id: str) -> Json | None: ...

    async def registration(self, role: str, address: str) -> Json | None: ...

    async def estimate_fee(self, type: str, payload: Json) -> int: ...

    async def head(self) -> Json: ...

    async def perform(self, call: Call[T]) -> T: ...

    async def close(self) -> None: ...


async def fee_within(chain: Chain, type: str, payload: Json, *, max_fee: int) -> int:
    """What our node asks for a transaction; a node that asks too much is not believed."""
    return checked_fee(await chain.estimate_fee(type, payload), type, max_fee)


async def check_lock(chain: Chain, offer: Offer) -> None:
    """Refuse work that no open lock pays for."""
    try:
        lock = await chain.lock(offer.lock)
        if lock is None:
            await _wait_final(chain, offer.lock)
            lock = await chain.lock(offer.lock)
    except ClientError as error:
        raise Refused(JobReason.CHAIN_UNREACHABLE, error.message[:300]) from None
    if lock is None:
        raise Refused(JobReason.LOCK_NOT_FINAL, f"our node knows no lock {offer.lock}")
    expected = {
        "client": offer.client,
        "hub": offer.hub,
        "claim_until_ms": offer.claim_until_ms,
        "status": "open",
    }
    if not lock.get("session"):
        expected["job_id"] = offer.job_id
    if not lock.get("session") and offer.of_parts is None:
        expected["request_hash"] = offer.request_hash
    for name, value in expected.items():
        if lock.get(name) != value:
            raise Refused(
                JobReason.LOCK_MISMATCH, f"{name} of the lock is {lock.get(name)!r}, not {value!r}"[:300]
            )
    if offer.of_parts is not None and not is_part_of(
        lock["request_hash"], offer.request_hash, offer.of_parts
    ):
        raise Refused(JobReason.LOCK_MISMATCH, "the lock's request_hash does not commit to this part")
    if offer.task >= int(lock.get("tasks", 1)) or int(lock.get("paid_tasks", "0"), 16) >> offer.task & 1:
        raise Refused(
            JobReason.LOCK_MISMATCH, f"task {offer.task} of the lock is paid, or it has no such task"
        )
    left = int(lock["amount"]) - int(lock["paid"])
    if left < offer.price:
        raise Refused(
            JobReason.LOCK_MISMATCH,
            f"the lock has {format_ait(left)} left, the offer costs up to {format_ait(offer.price)}",
        )


async def check_calibration(chain: Chain, offer: Offer, *, genesis: Json, now_ms: int) -> None:
    """Refuse work without a lock that is not the very job which the chain has drawn for us in this epoch."""
    try:
        drawn = await calibration_of(chain, genesis, now_ms=now_ms)
    except ClientError as error:
        raise Refused(JobReason.CHAIN_UNREACHABLE, error.message[:300]) from None
    wanted = drawn_job(
        genesis_hash=genesis_hash_of(jcs(genesis)),
        epoch=drawn.epoch,
        seed=drawn.seed,
        provider=offer.provider,
    )
    if not drawn.left or offer.hub not in drawn.hubs:
        raise Refused(JobReason.LOCK_MISMATCH, "no lock pays for this, and the chain mints for it no more")
    own = calibration_request(offer.model, wanted.nonce)
    if (offer.job_id, offer.price, offer.request) != (wanted.job_id, 0, own):
        raise Refused(JobReason.LOCK_MISMATCH, f"epoch {drawn.epoch} has drawn {wanted.job_id}, not this")


async def _wait_final(chain: Chain, tx_id: str) -> None:
    try:
        await chain.transaction(tx_id, wait="final", timeout=LOCK_WAIT_S)
    except ApiError as error:
        if error.code != "unknown_transaction":
            raise
