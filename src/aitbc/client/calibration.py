"""What a node says of calibration: the running epoch, its randomness, and whether anything is left to mint.

Hub and provider ask their own node and believe it; the chain checks the claim. docs/spec/minting.md "Calibration"
"""

from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from aitbc.client.http import Call
from aitbc.client.node import state_proof_call

Json = dict[str, Any]
T = TypeVar("T")


class Asks(Protocol):
    """The part of `aitbc.client.node.AsyncNodeClient` that this needs."""

    async def perform(self, call: Call[T]) -> T: ...

    async def head(self) -> Json: ...


class Calibration(NamedTuple):
    """As of the newest final block."""

    epoch: int
    """Of the next block."""
    seed: str
    """The chain's randomness of this epoch, empty in the first."""
    first_height: int
    """A provider that registered above this height is drawn from the next epoch on."""
    left: int
    """Base units that may still be minted; 0 when its time is over."""
    hubs: tuple[str, ...]


class _Param(msgspec.Struct, frozen=True):
    value: str


async def calibration_of(node: Asks, genesis: Json, *, now_ms: int) -> Calibration:
    """Raises ClientError when the node is of no help."""
    params = await node.perform(Call(method="GET", path="/rpc/params", read=dict))
    head = await node.head()
    length = int(genesis["consensus"]["epoch_length"])
    epoch = int(head["height"]) // length
    until_ms = int(params.get("calibration_until_ms", 0))
    left = int(params.get("calibration_budget", 0))
    if left and until_ms and until_ms < now_ms:
        left = 0
    if left:
        left = max(0, left - int(await _param(node, "calibration.minted") or "0"))
    seed = await _param(node, "epoch.seed") if left else ""
    return Calibration(epoch, seed, epoch * length, left, tuple(params.get("hubs", ())))


async def _param(node: Asks, name: str) -> str:
    """A text of the store `params`; empty when there is none."""
    answer = await node.perform(state_proof_call("params", name, None))
    leaf = answer.get("leaf") or {}
    if leaf.get("key") != name:
        return ""
    return msgspec.json.decode(bytes.fromhex(leaf["value"]), type=_Param).value
