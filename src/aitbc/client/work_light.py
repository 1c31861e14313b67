"""Follow a chain that agrees by work without running a node: `WorkLightClient` and `AsyncWorkLightClient`.

    light = WorkLightClient(trust_work_genesis(my_genesis))
    head = light.follow(NodeClient("http://one.node:8080"), NodeClient("http://another:8080"))
    record = light.record(node, "accounts", address, confirmations=6)

Headers first: each is checked from genesis or from a trusted header on, whatever the node says of it, and of the
branches that the nodes show the heaviest is followed. It keeps the headers above its newest final block only. A
client whose nodes are all liars believes the heaviest lie: ask several. docs/spec/light.md "Where work agrees"
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any

import msgspec

from aitbc.client.errors import ClientError
from aitbc.client.finality import MAX_ANSWER_BYTES, header_in, plain_answer, read_header
from aitbc.client.http import AsyncHttp, SyncHttp
from aitbc.client.node import headers_call, history_proof_call, state_proof_call, transaction_call
from aitbc.client.outcomes import check_included
from aitbc.client.state_proofs import BadProof, check_ancestor, check_state_proof
from aitbc.client.walks import Performs, Walk, perform, perform_async
from aitbc.client.work_rules import Place, WorkChain, work_chain
from aitbc.core.codec.canonical import convert, unhex
from aitbc.core.codec.digests import header_hash
from aitbc.core.types.blocks import Header
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Outcome, Transaction

Json = dict[str, Any]
Clock = Callable[[], int]

PAGE = 100
"""Headers in one answer of a node."""
MAX_RESTARTS = 5
"""A node may leave a branch while it is read; one that does so again and again is not read to its end."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, kw_only=True)
class WorkTrust:
    """Where a light client begins: a chain, and a block of it that is never left."""

    chain: WorkChain
    place: Place | None = None
    """None: block 0, which the first node shows."""

    def to_plain(self) -> Json:
        """As JSON, to go on from here another day."""
        place = self.place
        view: Json = {"genesisHash": self.chain.genesis_hash.hex(), "place": None}
        if place is not None:
            view["place"] = {
                "hash": place.hash.hex(),
                "height": place.height,
                "timestampMs": place.timestamp_ms,
                "author": place.author,
                "childTarget": f"{place.child_target:064x}",
            }
        return view


class _PlaceJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    hash: str
    height: Annotated[int, msgspec.Meta(ge=0)]
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0)]
    author: str
    child_target: str


class _TrustJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    genesis_hash: str
    place: _PlaceJson | None


def trust_work_genesis(document: object, *, genesis_hash: bytes | None = None) -> WorkTrust:
    """Begin with the genesis document; whoever got it from a stranger gives the hash that it must have."""
    return WorkTrust(chain=work_chain(document, genesis_hash=genesis_hash))


def trust_work_header(
    header: object, *, block_hash: bytes, chain: WorkChain, child_target: int | None = None
) -> WorkTrust:
    """Begin with a block whose hash is known from elsewhere. With an adjusting difficulty `child_target` is as well: it
    follows from all headers before, and from none alone."""
    read = read_header(plain_answer(header, limit=MAX_ANSWER_BYTES))
    if header_hash(read) != block_hash:
        raise Rejected(Reason.BAD_PROOF, f"the header is not that of block {block_hash.hex()}")
    if read.chain_id != chain.chain_id:
        raise Rejected(Reason.WRONG_CHAIN, f"a block of {read.chain_id[:64]}")
    target = child_target
    if target is None and (chain.settings.difficulty_rule == "fixed" or read.height < 2):
        target = chain.first_target
    if target is None:
        raise Rejected(
            Reason.MISSING_FIELD,
            "where the difficulty adjusts, a header is trusted with its children's target",
        )
    return WorkTrust(chain=chain, place=chain.begin_at(read, target=target))


def trust_from_plain(view: object, *, chain: WorkChain) -> WorkTrust:
    """What `WorkTrust.to_plain` gave; it comes from the client's own disk."""
    read = convert(plain_answer(view, limit=MAX_ANSWER_BYTES), _TrustJson)
    if read.genesis_hash != chain.genesis_hash.hex():
        raise Rejected(Reason.WRONG_CHAIN, f"trust in chain {read.genesis_hash[:64]}")
    if read.place is None:
        return WorkTrust(chain=chain)
    place = Place(
        hash=unhex(read.place.hash, size=32),
        height=read.place.height,
        timestamp_ms=read.place.timestamp_ms,
        author=read.place.author,
        weight=0,
        child_target=int.from_bytes(unhex(read.place.child_target, size=32), "big"),
    )
    return WorkTrust(chain=chain, place=place)


class NotDeepEnough(ClientError):
    """What is asked for is not in the chain, or not under so many blocks."""

    def __init__(self, message: str) -> None:
        super().__init__("not_final", message, "wait for more blocks, follow the nodes again and ask again")


@dataclass(frozen=True)
class WorkRecord:
    """What a block's state has under a key."""

    data: bytes | None
    """None: it is proved that the state has no such record."""
    header: Header
    confirmations: int
    """Blocks from this one to the head, both counted."""


@dataclass(frozen=True)
class WorkTransaction:
    """A transaction that is in a block of the heaviest chain, and what became of it."""

    tx: Transaction
    outcome: Outcome
    header: Header
    confirmations: int


class Branch:
    """The headers of the heaviest chain that was shown, from the newest final block on."""

    def __init__(self, trust: WorkTrust, clock: Clock) -> None:
        self.chain = trust.chain
        self.clock = clock
        self.places: list[Place] = [trust.place] if trust.place is not None else []
        self.first_height = trust.place.height if trust.place is not None else 0

    @property
    def root(self) -> Place | None:
        return self.places[0] if self.places else None

    @property
    def head(self) -> Place:
        if not self.places:
            raise NotDeepEnough("no node has shown a block yet")
        return self.places[-1]

    def at(self, height: int) -> Place | None:
        first = self.places[0].height if self.places else 0
        return self.places[height - first] if 0 <= height - first < len(self.places) else None

    def confirmations(self, height: int) -> int:
        return self.head.height - height + 1

    def begin(self, header: Header) -> Place:
        """The first header of a node's answer: our own newest final block, or block 0."""
        if self.root is None:
            return self.chain.first(header)
        if header_hash(header) != self.root.hash:
            raise Rejected(
                Reason.BELOW_FINAL,
                f"this node has another block {self.root.height}, which is final here: its chain left ours below",
            )
        return self.root

    def step(self, header: Header, parent: Place) -> Place:
        """A header is checked once: what is known already is taken from here."""
        known = self.at(header.height)
        if known is not None and known.hash == header_hash(header) and header.parent == parent.hash:
            return known
        return self.chain.check(header, parent)

    def is_early(self, header: Header) -> bool:
        return header.timestamp_ms > self.clock() + self.chain.settings.max_ahead_ms

    def trimmed(self, places: list[Place]) -> list[Place]:
        """Down to the newest block that is final under the last one."""
        return places[-(self.chain.settings.finality_depth + 1) :]

    def offer(self, places: list[Place]) -> None:
        """Follow this branch, if it is better than ours."""
        if not self.places or self.chain.beats(places[-1], self.places[-1]):
            self.places = self.trimmed(places)

    def deep(self, confirmations: int) -> Place:
        """The newest block with so many confirmations."""
        if not 1 <= confirmations <= self.chain.settings.finality_depth + 1:
            most = self.chain.settings.finality_depth + 1
            raise ValueError(f"{confirmations} confirmations: from 1 to {most}, where a block is final")
        place = self.at(self.head.height - confirmations + 1)
        if place is None:
            raise NotDeepEnough(f"no block has {confirmations} confirmations yet")
        return place


class WorkLightClient:
    """Every method raises `Rejected` for a wrong answer, and what `NodeClient` raises when there is none."""

    def __init__(self, trust: WorkTrust, *, clock: Clock = now_ms) -> None:
        self._branch = Branch(trust, clock)

    @property
    def trust(self) -> WorkTrust:
        """In the newest final block; keep it to go on from here another day."""
        return WorkTrust(chain=self._branch.chain, place=self._branch.root)

    @property
    def head(self) -> Place:
        """Of the heaviest chain that was shown."""
        return self._branch.head

    def follow(self, *nodes: SyncHttp) -> Place:
        """The head of the heaviest chain that any of them shows, and all of its headers checked.

        One that lies ends it with `Rejected`; what others have shown before is kept.
        """
        for node in nodes:
            perform(node, _follow(self._branch))
        return self.head

    def record(self, node: SyncHttp, store: str, key: str, *, confirmations: int) -> WorkRecord:
        """A record in the state of the newest followed block with so many confirmations; `NotDeepEnough` while there is
        none. A node proves the states of its newest 64 blocks."""
        return perform(node, _record(self._branch, store, key, confirmations))

    def transaction(self, node: SyncHttp, tx_id: str, *, confirmations: int) -> WorkTransaction:
        """A transaction of any age; `NotDeepEnough` while it has fewer confirmations."""
        return perform(node, _transaction(self._branch, tx_id, confirmations))

    def ancestor(self, node: SyncHttp, height: int) -> Header:
        """The header of any block below the node's head."""
        return perform(node, _ancestor(self._branch, height))


class AsyncWorkLightClient:
    """`WorkLightClient` for an event loop."""

    def __init__(self, trust: WorkTrust, *, clock: Clock = now_ms) -> None:
        self._branch = Branch(trust, clock)

    @property
    def trust(self) -> WorkTrust:
        return WorkTrust(chain=self._branch.chain, place=self._branch.root)

    @property
    def head(self) -> Place:
        return self._branch.head

    async def follow(self, *nodes: Performs | AsyncHttp) -> Place:
        for node in nodes:
            await perform_async(node, _follow(self._branch))
        return self.head

    async def record(
        self, node: Performs | AsyncHttp, store: str, key: str, *, confirmations: int
    ) -> WorkRecord:
        return await perform_async(node, _record(self._branch, store, key, confirmations))

    async def transaction(
        self, node: Performs | AsyncHttp, tx_id: str, *, confirmations: int
    ) -> WorkTransaction:
        return await perform_async(node, _transaction(self._branch, tx_id, confirmations))

    async def ancestor(self, node: Performs | AsyncHttp, height: int) -> Header:
        return await perform_async(node, _ancestor(self._branch, height))


# What is asked, and in which order


class _Left(Exception):
    """The node has left the branch that it was showing."""


def _follow(branch: Branch) -> Walk[None]:
    """A long chain is adopted page by page, so that a node which leaves its branch meanwhile is read again only from
    where both agree."""
    for _ in range(MAX_RESTARTS):
        try:
            yield from _read_chain(branch)
        except _Left:
            continue
        return
    raise Rejected(Reason.WRONG_PARENT, "this node leaves its branch faster than it can be read: try again")


def _read_chain(branch: Branch) -> Walk[None]:
    places: list[Place] = []
    at = branch.places[0].height if branch.places else branch.first_height
    while True:
        page = _headers((yield headers_call(at, at + PAGE - 1)), first=at)
        headers = list(takewhile(lambda header: not branch.is_early(header), page))
        for header in headers:
            if not places:
                places = [branch.begin(header)]
                continue
            if header is headers[0] and header.parent != places[-1].hash:
                raise _Left
            places.append(branch.step(header, places[-1]))
        if places:
            branch.offer(places)
            places = branch.trimmed(places)
        if len(headers) < PAGE:
            return
        at += PAGE


class _Page(msgspec.Struct, frozen=True):
    items: Annotated[list[Json], msgspec.Meta(max_length=PAGE)]


def _headers(answer: Json, *, first: int) -> list[Header]:
    page = convert(plain_answer(answer, limit=MAX_ANSWER_BYTES), _Page)
    headers = [read_header(item) for item in page.items]
    for at, header in enumerate(headers, first):
        if header.height != at:
            raise Rejected(Reason.WRONG_HEIGHT, f"block {header.height} where {at} was asked for")
    return headers


def _record(branch: Branch, store: str, key: str, confirmations: int) -> Walk[WorkRecord]:
    place = branch.deep(confirmations)
    proof = yield state_proof_call(store, key, place.height)
    header = header_in(proof, "header")
    _require(
        header_hash(header) == place.hash, f"the proof is not of block {place.height} of the heaviest chain"
    )
    try:
        data = check_state_proof(proof, header.state_root.hex(), store=store, key=key)
    except BadProof as wrong:
        raise Rejected(Reason.BAD_PROOF, str(wrong)) from None
    return WorkRecord(data, header, branch.confirmations(place.height))


def _ancestor(branch: Branch, height: int) -> Walk[Header]:
    proof = yield history_proof_call(height)
    old, head = header_in(proof, "header"), header_in(proof, "head")
    if old.height != height:
        raise Rejected(Reason.WRONG_HEIGHT, f"a proof of block {old.height}, not {height}")
    place = branch.at(head.height)
    if place is None and head.height > branch.head.height:
        raise NotDeepEnough(f"the node is at block {head.height}, this client at {branch.head.height}")
    _require(
        place is not None and place.hash == header_hash(head),
        f"the proof ends in a block {head.height} that is not on the heaviest chain",
    )
    try:
        check_ancestor(proof, head.history_root.hex())
    except BadProof as wrong:
        raise Rejected(Reason.BAD_PROOF, str(wrong)) from None
    return old


def _transaction(branch: Branch, tx_id: str, confirmations: int) -> Walk[WorkTransaction]:
    answer = yield transaction_call(tx_id, None, 0, True)
    if answer.get("proof") is None:
        raise NotDeepEnough(f"{tx_id} is in no block of this node")
    found = check_included(answer, tx_id, branch.chain.genesis_hash)
    yield from _check_on_chain(branch, found.header)
    deep = branch.confirmations(found.header.height)
    if deep < confirmations:
        raise NotDeepEnough(f"{tx_id} has {deep} confirmations, not {confirmations}")
    return WorkTransaction(found.tx, found.outcome, found.header, deep)


def _check_on_chain(branch: Branch, header: Header) -> Walk[None]:
    if header.height > branch.head.height:
        raise NotDeepEnough(f"block {header.height} is above this client's head at {branch.head.height}")
    place = branch.at(header.height)
    if place is None:
        same = (yield from _ancestor(branch, header.height)) == header
    else:
        same = place.hash == header_hash(header)
    _require(same, f"block {header.height} of this answer is not on the heaviest chain")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise Rejected(Reason.BAD_PROOF, message)
