"""Follow a chain without running a node: `LightClient` and, with the same names, `AsyncLightClient`.

    node = NodeClient("http://somebody.else:8080")
    light = LightClient(trust_genesis(my_genesis))
    print(light.follow(node, node.head()["height"]).hash.hex())

The node may say what it likes: an answer is believed for the certificates in it, else it is a `Rejected`. A light
client keeps the hash of one validator set. From an epoch to a later one with the same set it goes in one step; where
the set changed, through the last block of the epoch. docs/spec/light.md
"""

from dataclasses import dataclass, field
from typing import Any

from aitbc.client.finality import FinalBlock, Finality, Trust, header_in, read_finality
from aitbc.client.http import AsyncHttp, SyncHttp
from aitbc.client.node import finality_call, history_proof_call, state_proof_call
from aitbc.client.state_proofs import BadProof, check_ancestor, check_state_proof
from aitbc.client.walks import Performs, Walk, perform, perform_async
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason, Rejected

Json = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """What a block's state has under a key."""

    data: bytes | None
    """None: it is proved that the state has no such record."""
    block: FinalBlock


@dataclass(frozen=True)
class Followed:
    """A final block, and how it was reached."""

    block: FinalBlock
    answer: Json
    """Of `GET /rpc/finality/{height}`."""
    way: list[Json]
    """The answers that lead to the block's epoch from where the client stood, in order, two for each change of the set
    at most; with them another one that stands there needs no node."""
    trust: Trust
    """In the block's epoch."""


class LightClient:
    """Every method raises `Rejected` for a wrong answer, and what `NodeClient` raises when there is none."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust
        """Of the epoch of the newest block that was followed; keep it to go on from here another day."""

    def follow(self, node: SyncHttp, height: int) -> FinalBlock:
        """The block at a height in the trusted epoch or later, with proof that it is final."""
        return perform(node, _remember(self, height))

    def record(self, node: SyncHttp, store: str, key: str, *, height: int | None = None) -> Record:
        """A record in the state of a final block, by default of the node's head: see how old its block is."""
        return perform(node, _record(self, store, key, height))

    def ancestor(self, node: SyncHttp, height: int) -> Header:
        """The header of any older block below the node's head."""
        return perform(node, _ancestor(self, height))


class AsyncLightClient:
    """`LightClient` for an event loop."""

    def __init__(self, trust: Trust) -> None:
        self.trust = trust

    async def follow(self, node: AsyncHttp, height: int) -> FinalBlock:
        return await perform_async(node, _remember(self, height))

    async def record(self, node: AsyncHttp, store: str, key: str, *, height: int | None = None) -> Record:
        return await perform_async(node, _record(self, store, key, height))

    async def ancestor(self, node: AsyncHttp, height: int) -> Header:
        return await perform_async(node, _ancestor(self, height))


def follow(node: SyncHttp, trust: Trust, height: int) -> Followed:
    """A final block with all that proves it to whoever has this trust."""
    return perform(node, _follow(trust, height))


async def follow_async(node: Performs, trust: Trust, height: int) -> Followed:
    """`follow` for an event loop."""
    return await perform_async(node, _follow(trust, height))


# What is asked, and in which order


@dataclass
class _Asked:
    """A block on the way, with what the node says of it."""

    height: int
    answer: Json
    finality: Finality = field(init=False)

    def __post_init__(self) -> None:
        self.finality = read_finality(self.answer)


def _follow(trust: Trust, height: int) -> Walk[Followed]:
    """Try the block itself; where the trusted set does not reach it, something nearer first, and then again.

    The last block of the trusted epoch is always within reach, so each epoch costs two answers at most, and the stack
    is as deep as a number of epochs can be halved. Of the way only those steps are kept that the next one needs.
    """
    way: list[tuple[Trust, _Asked]] = []
    wanted = [_Asked(height, (yield finality_call(height)))]
    while True:
        asked = wanted[-1]
        later = trust.chain.epoch_of(asked.height) > trust.epoch
        if later and not trust.reaches(asked.finality):
            nearer = _nearer(trust, asked.height)
            wanted.append(_Asked(nearer, (yield finality_call(nearer))))
            continue
        block = trust.check(asked.finality, height=asked.height)
        wanted.pop()
        while way and way[-1][0].reaches(asked.finality):
            way.pop()
        if not wanted:
            return Followed(block, asked.answer, [step.answer for _, step in way], trust.within(block))
        way.append((trust, asked))
        trust = trust.after(block)


def _nearer(trust: Trust, height: int) -> int:
    """Inside the epoch of its last block; else the first block of the epoch half way; else the last one of the trusted
    epoch."""
    length, target = trust.chain.epoch_length, trust.chain.epoch_of(height)
    if trust.chain.closes_epoch(height) and length > 1:
        return target * length + 1
    middle = (trust.epoch + target) // 2
    return middle * length + 1 if middle > trust.epoch else (trust.epoch + 1) * length


def _remember(client: LightClient | AsyncLightClient, height: int) -> Walk[FinalBlock]:
    followed = yield from _follow(client.trust, height)
    client.trust = followed.trust
    return followed.block


def _record(client: LightClient | AsyncLightClient, store: str, key: str, height: int | None) -> Walk[Record]:
    proof = yield state_proof_call(store, key, height)
    said = header_in(proof, "header")
    if height is not None and said.height != height:
        raise Rejected(Reason.WRONG_HEIGHT, f"a proof for block {said.height}, not {height}")
    block = yield from _remember(client, said.height)
    try:
        data = check_state_proof(proof, block.header.state_root.hex(), store=store, key=key)
    except BadProof as wrong:
        raise Rejected(Reason.BAD_PROOF, str(wrong)) from None
    return Record(data, block)


def _ancestor(client: LightClient | AsyncLightClient, height: int) -> Walk[Header]:
    proof = yield history_proof_call(height)
    old = header_in(proof, "header")
    if old.height != height:
        raise Rejected(Reason.WRONG_HEIGHT, f"a proof of block {old.height}, not {height}")
    head = yield from _remember(client, header_in(proof, "head").height)
    try:
        check_ancestor(proof, head.header.history_root.hex())
    except BadProof as wrong:
        raise Rejected(Reason.BAD_PROOF, str(wrong)) from None
    return old
