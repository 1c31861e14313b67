"""Which provider gets a task: a weighted draw that anybody can repeat from the published table.

The randomness is the hash of the block that holds the client's lock: nobody could know it when the quote was
made, and everybody knows it afterwards. docs/spec/draw.md
"""

from typing import Annotated

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import hash_text, tagged, u64

MAX_CANDIDATES = 1024
MAX_WEIGHT = 1_000_000


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider that could do the task when it was drawn, and its share of the wheel."""

    address: str
    weight: Annotated[int, msgspec.Meta(ge=1, le=MAX_WEIGHT)]
    price_per_kilounit: Annotated[int, msgspec.Meta(ge=0)]
    model_digest: str


def candidate_table(candidates: list[Candidate]) -> list[Candidate]:
    """The table in its one order. Addresses are unique."""
    table = sorted(candidates, key=lambda candidate: candidate.address)
    assert len({candidate.address for candidate in table}) == len(table), "a provider is on the wheel once"
    assert len(table) <= MAX_CANDIDATES, "the hub bounds the table"
    return table


def candidates_hash(table: list[Candidate]) -> str:
    """`sha256:<hex>` of the table; the receipt carries it, the hub serves the table behind it."""
    return hash_text(jcs(table))


def ticket_of(*, lock: str, task: int, attempt: int) -> str:
    """Names one attempt at one task of one lock, as `sha256:<hex>`."""
    return "sha256:" + tagged("aitbc/ticket/1", bytes.fromhex(lock), u64(task), u64(attempt)).hex()


def draw(*, table: list[Candidate], ticket: str, randomness: bytes) -> Candidate:
    """The winner. The bias of the remainder is below 2^-200 for any table."""
    assert table, "there is somebody to draw"
    assert table == candidate_table(table), "the table is in its order"
    wheel = tagged("aitbc/draw/1", ticket.encode(), randomness, candidates_hash(table).encode())
    point = int.from_bytes(wheel, "big") % sum([candidate.weight for candidate in table])
    for candidate in table:
        if point < candidate.weight:
            return candidate
        point -= candidate.weight
    raise AssertionError("a point on the wheel belongs to somebody")
