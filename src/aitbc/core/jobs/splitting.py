"""One request as many: pictures by index, prompts by item, embeddings by batch. Map, then gather in order.

A part is a request of its own, so its provider, its receipt and its check need to know nothing of the whole; the lock
commits to all of them by one hash. docs/spec/splitting.md
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aitbc.core.codec.canonical import jcs
from aitbc.core.crypto.hashing import hash_text, tagged
from aitbc.core.crypto.merkle import ListProof, check_item, list_root, prove_item
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.receipts import PartProof
from aitbc.core.types.receipts import MAX_TASKS

MAX_PARTS = 256
"""Of one request: a day's batch is many requests. A lock has room for 4,096."""
assert MAX_PARTS <= MAX_TASKS

EMBEDDINGS_PER_PART = 128
BYTES_PER_PART = 8 * 1024
"""A part of embeddings has at most so many inputs and bytes: small enough to do again elsewhere."""
PICTURES = "n"
PROMPTS = "prompts"
INPUTS = "input"
MAX_SEED = 2**53 - 1


def split_fields(kind: str, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The fields of each part, in order; a request that asks for one thing is its own only part."""
    if kind == "image" and PICTURES in fields:
        return _pictures(fields)
    if kind == "embedding" and INPUTS in fields:
        return _embeddings(fields)
    if PROMPTS in fields:
        return _prompts(fields)
    return [dict(fields)]


def _pictures(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Picture i has the seed of the first plus i, so each can be had again alone."""
    count = fields[PICTURES]
    if type(count) is not int or not 1 <= count <= MAX_PARTS:
        raise Refused(JobReason.BAD_REQUEST, f"{PICTURES} must be a number of pictures from 1 to {MAX_PARTS}")
    rest = {name: value for name, value in fields.items() if name != PICTURES}
    seed = rest.get("seed", 0)
    if type(seed) is not int:
        raise Refused(JobReason.BAD_REQUEST, f"seed must be an integer, not {type(seed).__name__}")
    if count == 1:
        return [rest]
    return [{**rest, "seed": (seed + number) % (MAX_SEED + 1)} for number in range(count)]


def _prompts(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    prompts = _texts(fields[PROMPTS], PROMPTS)
    if "prompt" in fields:
        raise Refused(JobReason.BAD_REQUEST, f"either prompt or {PROMPTS}, not both")
    if len(prompts) > MAX_PARTS:
        raise Refused(JobReason.BAD_REQUEST, f"{len(prompts)} prompts; at most {MAX_PARTS} in one request")
    rest = {name: value for name, value in fields.items() if name != PROMPTS}
    return [{**rest, "prompt": prompt} for prompt in prompts]


def _embeddings(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    inputs = _texts(fields[INPUTS], INPUTS)
    rest = {name: value for name, value in fields.items() if name != INPUTS}
    parts: list[list[str]] = []
    room = 0
    for text in inputs:
        size = len(text.encode())
        if not parts or len(parts[-1]) == EMBEDDINGS_PER_PART or size > room:
            parts.append([])
            room = BYTES_PER_PART
        parts[-1].append(text)
        room -= size
    if len(parts) > MAX_PARTS:
        raise Refused(
            JobReason.BAD_REQUEST, f"{len(parts)} batches of inputs; at most {MAX_PARTS} in one request"
        )
    return [{**rest, INPUTS: part} for part in parts]


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise Refused(JobReason.BAD_REQUEST, f"{name} must be a list of texts, with one at least")
    return value


def parts_hash(request_hashes: Sequence[str]) -> str:
    """What the lock of a split request commits to: a list root over its parts' request hashes; of one part, its own."""
    if len(request_hashes) == 1:
        return request_hashes[0]
    return "sha256:" + list_root(_leaves(request_hashes)).hex()


def prove_part(request_hashes: Sequence[str], index: int) -> PartProof | None:
    """For the provider of one part; a request that is whole needs no proof."""
    if len(request_hashes) == 1:
        return None
    proof = prove_item(_leaves(request_hashes), index)
    return PartProof(index=index, count=len(request_hashes), path=[node.hex() for node in proof.path])


def is_part_of(whole: str, request_hash: str, proof: PartProof) -> bool:
    """Does the lock's request_hash commit to this part?"""
    leaf, root = _leaves([request_hash])[0], _leaves([whole])[0]
    nodes = [bytes.fromhex(node) for node in proof.path]
    return check_item(root, leaf, ListProof(proof.index, proof.count, nodes))


def _leaves(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(text.removeprefix("sha256:")) for text in hashes]


class PartReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a parent receipt."""

    part: int
    receipt_id: str
    provider: str
    units: int
    price: int
    output_hash: str


class ParentReceipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receipt for a whole job: what was delivered of it, by whom, for how much in all. Signed by the hub; each part
    is paid by its own receipt, so payout is proportional by construction."""

    v: int
    job_id: str
    lock: str
    client: str
    hub: str
    parts: int
    """How many were asked for."""
    delivered: list[PartReceipt]
    parts_root: str
    """List root over the receipt ids, in order."""
    units: int
    price: int
    output_hash: str
    """Hash over the outputs' hashes in order; of a single part, its own."""


def parent_receipt(
    *, job_id: str, lock: str, client: str, hub: str, parts: int, delivered: Sequence[PartReceipt]
) -> ParentReceipt:
    assert delivered == sorted(delivered, key=lambda entry: entry.part), "parts are gathered in order"
    ids = [bytes.fromhex(entry.receipt_id.removeprefix("rcpt_")) for entry in delivered]
    hashes = [entry.output_hash for entry in delivered]
    return ParentReceipt(
        v=1,
        job_id=job_id,
        lock=lock,
        client=client,
        hub=hub,
        parts=parts,
        delivered=list(delivered),
        parts_root="sha256:" + list_root(ids).hex(),
        units=sum([entry.units for entry in delivered]),
        price=sum([entry.price for entry in delivered]),
        output_hash=hashes[0] if len(hashes) == 1 else hash_text(jcs(hashes)),
    )


def parent_digest(receipt: ParentReceipt, genesis_hash: bytes) -> bytes:
    """What the hub signs."""
    return tagged("aitbc/parent-receipt/1", genesis_hash, jcs(receipt))
