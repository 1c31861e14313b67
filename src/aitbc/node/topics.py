"""What can be followed: streams by both seeds' names, an account, a job. docs/spec/rpc.md "Following" """

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec

from aitbc.adapters.storage.rows import touched
from aitbc.core.codec.views import outcome_to_plain, transaction_to_plain
from aitbc.core.crypto.address import check_address
from aitbc.core.types.blocks import CommittedBlock
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.transactions import Outcome, Transaction

Json = dict[str, Any]

MAX_JOB_ID = 128
KEYED = ("address", "job")
"""Streams that need to know of which one."""


class Topic(NamedTuple):
    """Something a reader follows."""

    word: str
    """What the reader calls it: `type` of its events."""
    stream: str
    """What it is."""
    key: str = ""
    """Of which account or job."""

    @property
    def name(self) -> str:
        return f"{self.word}:{self.key}" if self.key else self.word


ALIASES: dict[str, tuple[Topic, ...]] = {
    "block": (Topic("block", "block"), Topic("new_blocks", "block")),
    "tx": (Topic("tx", "tx"), Topic("new_transactions", "tx")),
    "consensus": (Topic("consensus", "consensus"), Topic("consensus_events", "consensus")),
    "peer": (Topic("peer", "peer"),),
}
"""Seed 000's words and seed 001's."""
TOPICS = {topic.word: topic for topics in ALIASES.values() for topic in topics}


def topic_of(name: str) -> Topic:
    """By the name that a reader gives it; raises Rejected when there is none."""
    word, colon, key = name.partition(":")
    if not colon and word in TOPICS:
        return TOPICS[word]
    if colon and word == "address":
        check_address(key)
        return Topic(word, word, key)
    if colon and word == "job" and 0 < len(key) <= MAX_JOB_ID:
        return Topic(word, word, key)
    raise Rejected(
        Reason.WRONG_TYPE,
        f"{name[:40]!r} is no stream; there are {', '.join(TOPICS)}, address:<ait1…> and job:<id>",
    )


def in_order(topics: Collection[Topic]) -> list[Topic]:
    """As they are listed, whatever order they were asked for in."""
    places = {word: place for place, word in enumerate(TOPICS)}
    return sorted(topics, key=lambda topic: (places.get(topic.word, len(places)), topic.name))


class Concerned:
    """Which of a block's transactions concern which account or job: looked through once, however many ask."""

    def __init__(self, block: CommittedBlock, job_of_lock: Callable[[str], str]) -> None:
        """`job_of_lock`: the label of an escrow, empty if it is not known."""
        self._block = block
        self._places: dict[tuple[str, str], list[int]] = {}
        for place, (tx, outcome) in enumerate(zip(block.block.txs, block.outcomes, strict=True)):
            for address in touched(tx, outcome):
                self._places.setdefault(("address", address), []).append(place)
            if job := _job_named(tx, job_of_lock):
                self._places.setdefault(("job", job), []).append(place)

    def places(self, topic: Topic) -> Sequence[int]:
        """In the block, in its order."""
        return self._places.get((topic.stream, topic.key), ())

    def view(self, place: int, standing: Callable[[int], Json]) -> bytes:
        """getTx's answer of the transaction there; `standing`: what is to be said of a block that may still be left."""
        block = self._block
        surely = standing(block.block.header.height)
        return msgspec.json.encode(_view(block, place, block.block.txs[place], block.outcomes[place], surely))


class _Names(msgspec.Struct, frozen=True):
    """What a payload says of a job."""

    job_id: str = ""
    lock: str = ""


_names = msgspec.json.Decoder(_Names)


def _job_named(tx: Transaction, job_of_lock: Callable[[str], str]) -> str:
    if tx.type in ("JOB_LOCK", "RECEIPT_CLAIM"):
        return _names.decode(tx.payload).job_id
    return job_of_lock(_names.decode(tx.payload).lock) if tx.type == "REFUND" else ""


def _view(block: CommittedBlock, place: int, tx: Transaction, outcome: Outcome, standing: Json) -> Json:
    header = block.block.header
    return {
        "status": status_of(outcome, standing),
        "txHash": outcome.tx_id.hex(),
        "height": header.height,
        "index": place,
        "timestampMs": header.timestamp_ms,
        "tx": transaction_to_plain(tx),
        "receipt": outcome_to_plain(outcome),
        **standing,
    }


def status_of(outcome: Outcome, standing: Json) -> str:
    """Of a transaction that is in a block; `standing`: of that block, nothing where it cannot be left."""
    if not outcome.ok:
        return "failed"
    return "final" if standing.get("final", True) else "included"
