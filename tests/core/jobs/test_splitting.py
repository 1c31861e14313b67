"""One request as many: what the parts are, that the lock commits to them, and one receipt for all."""

from typing import Any

import msgspec
import pytest

from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.jobs.splitting import (
    MAX_PARTS,
    PartReceipt,
    is_part_of,
    parent_digest,
    parent_receipt,
    parts_hash,
    prove_part,
    split_fields,
)


@pytest.mark.parametrize(
    ("kind", "fields", "parts"),
    [
        ("chat", {"prompt": "a"}, [{"prompt": "a"}]),
        (
            "chat",
            {"prompts": ["a", "b"], "seed": 1},
            [{"seed": 1, "prompt": "a"}, {"seed": 1, "prompt": "b"}],
        ),
        ("image", {"prompt": "a", "n": 1, "seed": 4}, [{"prompt": "a", "seed": 4}]),
        (
            "image",
            {"prompt": "a", "n": 2, "seed": 4},
            [{"prompt": "a", "seed": 4}, {"prompt": "a", "seed": 5}],
        ),
        (
            "image",
            {"prompt": "a", "n": 2, "seed": 2**53 - 1},
            [{"prompt": "a", "seed": 2**53 - 1}, {"prompt": "a", "seed": 0}],
        ),
        ("embedding", {"input": ["a"] * 130}, [{"input": ["a"] * 128}, {"input": ["a"] * 2}]),
        (
            "embedding",
            {"input": ["a" * 8_000, "b" * 193, "c"]},
            [{"input": ["a" * 8_000]}, {"input": ["b" * 193, "c"]}],
        ),
    ],
)
def test_map(kind: str, fields: dict[str, Any], parts: list[dict[str, Any]]) -> None:
    assert split_fields(kind, fields) == parts


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("image", {"prompt": "a", "n": 0}, "n must be a number of pictures from 1 to 256"),
        ("image", {"prompt": "a", "n": MAX_PARTS + 1}, "n must be"),
        ("image", {"prompt": "a", "n": True}, "n must be"),
        ("image", {"prompt": "a", "n": 2, "seed": "x"}, "seed must be an integer"),
        ("chat", {"prompts": []}, "prompts must be a list of texts"),
        ("chat", {"prompts": ["a", 1]}, "prompts must be a list of texts"),
        ("chat", {"prompts": ["a"], "prompt": "b"}, "not both"),
        ("chat", {"prompts": ["a"] * 257}, "257 prompts; at most 256"),
        ("embedding", {"input": "a"}, "input must be a list"),
        ("embedding", {"input": ["a" * 8_192] * 257}, "257 batches of inputs"),
    ],
)
def test_what_cannot_be_split_is_refused(kind: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        split_fields(kind, fields)
    assert caught.value.reason == JobReason.BAD_REQUEST


@pytest.mark.parametrize("count", [2, 3, 7, 256])
def test_a_lock_commits_to_every_part_and_to_nothing_else(count: int) -> None:
    hashes = [hash_text(str(number).encode()) for number in range(count)]
    whole = parts_hash(hashes)
    for index in {0, 1, count - 1}:
        proof = prove_part(hashes, index)
        assert proof is not None
        assert is_part_of(whole, hashes[index], proof)
        assert not is_part_of(whole, hashes[index - 1], proof)
        assert not is_part_of(hashes[0], hashes[index], proof)
        wrong = msgspec.structs.replace(proof, count=count + 1)
        assert not is_part_of(whole, hashes[index], wrong)


def test_a_whole_request_is_its_own_hash_and_needs_no_proof() -> None:
    assert parts_hash([hash_text(b"x")]) == hash_text(b"x")
    assert prove_part([hash_text(b"x")], 0) is None


def line(part: int, units: int) -> PartReceipt:
    return PartReceipt(
        part=part,
        receipt_id=f"rcpt_{part:064x}",
        provider=f"ait1p{part}",
        units=units,
        price=10 * units,
        output_hash=hash_text(str(part).encode()),
    )


def test_a_parent_receipt_sums_up_what_was_delivered() -> None:
    made = parent_receipt(
        job_id="j", lock="l", client="c", hub="h", parts=3, delivered=[line(0, 5), line(2, 7)]
    )
    assert (made.units, made.price, made.parts, len(made.delivered)) == (12, 120, 3, 2)
    other = parent_receipt(
        job_id="j", lock="l", client="c", hub="h", parts=3, delivered=[line(0, 5), line(1, 7)]
    )
    assert made.parts_root != other.parts_root
    assert parent_digest(made, bytes(32)) != parent_digest(made, bytes(31) + b"\x01")
    only = parent_receipt(job_id="j", lock="l", client="c", hub="h", parts=1, delivered=[line(0, 5)])
    assert only.output_hash == hash_text(b"0")
