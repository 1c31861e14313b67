"""What a certificate must be, and everything that only looks like one."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from aitbc.core.consensus.simplex.certificates import check_certificate
from aitbc.core.types.amounts import MAX_SIGNED
from aitbc.core.types.blocks import Certificate, Validator
from aitbc.core.types.reasons import Reason, Rejected
from support.chain import certificate_of
from support.people import EVE, VALIDATOR

GENESIS_HASH = bytes(range(32))
ALONE = [Validator(VALIDATOR.address, VALIDATOR.auth_key, 1)]
WITH_EVE = [*ALONE, Validator(EVE.address, EVE.auth_key, 1)]
GOOD = certificate_of(b"b" * 32, GENESIS_HASH)


def check(certificate: Certificate, validators: list[Validator] = ALONE, **chain: Any) -> None:
    where = {"chain_id": "ait-test", "genesis_hash": GENESIS_HASH, **chain}
    check_certificate(certificate, validators, **where)


def but(**change: Any) -> Certificate:
    return msgspec.structs.replace(GOOD, **change)


def about(**change: Any) -> Certificate:
    """The same signature under another candidate."""
    return but(candidate=msgspec.structs.replace(GOOD.candidate, **change))


def test_the_only_validators_vote_is_a_certificate() -> None:
    check(GOOD)
    check(certificate_of(b"b" * 32, GENESIS_HASH, kind="notar"))


WRONG: list[tuple[str, Callable[[], None], str]] = [
    ("somebody else signed", lambda: check(certificate_of(b"b" * 32, GENESIS_HASH, signer=EVE)), "not good"),
    ("nobody signed", lambda: check(but(bitmap=0, signatures=[])), "less than the quorum"),
    ("a bit beyond the set", lambda: check(but(bitmap=0b11)), "do not fit the validator set"),
    ("a bit far beyond the set", lambda: check(but(bitmap=1 | 1 << 50)), "do not fit the validator set"),
    ("a bitmap beyond a signed number", lambda: check(but(bitmap=MAX_SIGNED + 1)), "out of range"),
    ("a bit without a signature", lambda: check(but(signatures=[])), "do not fit the validator set"),
    ("a signature without a bit", lambda: check(but(signatures=GOOD.signatures * 2)), "do not fit the validator set"),
    ("one vote of two", lambda: check(GOOD, WITH_EVE), "power 1 is less than the quorum of 2"),
    (
        "the same vote for two",
        lambda: check(but(bitmap=0b11, signatures=GOOD.signatures * 2), WITH_EVE),
        f"the signature of {EVE.address} is not good",
    ),
    ("a skip", lambda: check(certificate_of(b"b" * 32, GENESIS_HASH, kind="skip")), "certifies no candidate"),
    ("a notar vote sold as final", lambda: check(but(kind="notar")), "not good"),
    ("another block", lambda: check(about(block_hash=bytes(32))), "not good"),
    ("another slot", lambda: check(about(slot=6)), "not good"),
    ("another parent", lambda: check(about(parent_id=b"p" * 32)), "not good"),
    ("a hash of 31 bytes", lambda: check(about(block_hash=bytes(31))), "has not 32 bytes"),
    ("a negative slot", lambda: check(about(slot=-1)), "out of range"),
    ("another chain", lambda: check(GOOD, chain_id="ait-other"), "not good"),
    ("a reset chain", lambda: check(GOOD, genesis_hash=bytes(32)), "not good"),
]  # fmt: skip


@pytest.mark.parametrize(("story", "act", "why"), WRONG, ids=[row[0] for row in WRONG])
def test_what_only_looks_like_a_certificate_is_refused(story: str, act: Callable[[], None], why: str) -> None:
    with pytest.raises(Rejected, match=why) as caught:
        act()
    assert caught.value.reason == Reason.BAD_CERTIFICATE
