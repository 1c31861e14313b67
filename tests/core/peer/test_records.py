"""Node records: what is good, what is refused, and why. docs/spec/discovery.md "Records" """

from collections.abc import Callable

import msgspec
import pytest

from aitbc.core.codec.canonical import jcs, parse_json
from aitbc.core.peer.addresses import is_public
from aitbc.core.peer.records import (
    MAX_ENDPOINTS,
    MAX_LIFE_MS,
    MAX_RECORD_BYTES,
    MAX_SKEW_MS,
    Endpoint,
    RecordReason,
    RecordRefused,
    SignedRecord,
    sign_record,
    verify_record,
    verify_removal,
)
from aitbc.core.types.reasons import Reason, Rejected
from support.listed_nodes import NOW_MS, ListedNode

ANN, EVE = ListedNode(1), ListedNode(2)


def refusal(signed: SignedRecord, *, allow_private: bool = False) -> RecordReason:
    with pytest.raises(RecordRefused) as caught:
        verify_record(signed, now_ms=NOW_MS, allow_private=allow_private)
    return caught.value.reason


def test_a_record_that_its_owner_signed_is_good_and_survives_json() -> None:
    signed = ANN.signed()
    again = parse_json(jcs(signed), SignedRecord, limit=MAX_RECORD_BYTES)
    assert again == signed
    assert verify_record(again, now_ms=NOW_MS, allow_private=False).record == ANN.record()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires_ms": NOW_MS}, RecordReason.RECORD_EXPIRED),
        ({"sequence": NOW_MS + MAX_SKEW_MS + 1}, RecordReason.RECORD_FROM_FUTURE),
        ({"expires_ms": NOW_MS + MAX_LIFE_MS + 1}, RecordReason.RECORD_LIVES_TOO_LONG),
        ({"endpoints": [Endpoint(host="node.example", port=7070)]}, RecordReason.BAD_ENDPOINT),
        ({"endpoints": [Endpoint(host="008.8.8.8", port=7070)]}, RecordReason.BAD_ENDPOINT),
        ({"endpoints": [Endpoint(host="::ffff:8.8.8.8", port=7070)]}, RecordReason.BAD_ENDPOINT),
        ({"endpoints": [ANN.endpoint, Endpoint(host="10.0.0.1", port=22)]}, RecordReason.PRIVATE_ENDPOINT),
    ],
)
def test_what_the_owner_may_not_say(changes: dict[str, object], reason: RecordReason) -> None:
    assert refusal(ANN.signed(**changes)) == reason


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
        "::7f00:1",
    ],
)
def test_ssrf_no_spelling_of_a_private_address_is_public(host: str) -> None:
    where = Endpoint(host=host, port=7070).where
    assert not is_public(where)
    reason = refusal(ANN.signed(endpoints=[Endpoint(host=host, port=7070)]))
    assert reason in (RecordReason.PRIVATE_ENDPOINT, RecordReason.BAD_ENDPOINT)


def test_a_local_network_lists_its_own_addresses() -> None:
    signed = ANN.signed(endpoints=[Endpoint(host="127.0.0.1", port=7070)])
    verify_record(signed, now_ms=NOW_MS, allow_private=True)


FORGERIES: dict[str, Callable[[], SignedRecord]] = {
    "somebody else signs": lambda: sign_record(ANN.record(), EVE.seed),
    "an endpoint is changed": lambda: msgspec.structs.replace(
        ANN.signed(), record=ANN.record(endpoints=[EVE.endpoint])
    ),
    "the chain is changed": lambda: msgspec.structs.replace(
        ANN.signed(), record=ANN.record(chain_id="other")
    ),
    "the number is raised": lambda: msgspec.structs.replace(ANN.signed(), record=ANN.record(NOW_MS + 1)),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_noticed(name: str) -> None:
    assert refusal(FORGERIES[name]()) == RecordReason.RECORD_FORGED


def test_a_removal_is_no_record_and_nobody_else_can_sign_it() -> None:
    removal = ANN.removal(NOW_MS)
    assert verify_removal(removal, now_ms=NOW_MS).removal == removal.removal
    with pytest.raises(RecordRefused, match="record_forged"):
        verify_removal(msgspec.structs.replace(removal, sig=EVE.removal(NOW_MS).sig), now_ms=NOW_MS)
    with pytest.raises(RecordRefused, match="record_from_future"):
        verify_removal(ANN.removal(NOW_MS + MAX_SKEW_MS + 1), now_ms=NOW_MS)
    crossed = msgspec.structs.replace(ANN.signed(), sig=removal.sig)
    assert refusal(crossed) == RecordReason.RECORD_FORGED


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("agent", "\x1b[2J", Reason.WRONG_TYPE),
        ("agent", "a" * 65, Reason.WRONG_TYPE),
        ("node_key", "AB" * 32, Reason.WRONG_TYPE),
        ("endpoints", [], Reason.OUT_OF_RANGE),
        (
            "endpoints",
            [{"host": "8.8.8.8", "port": port} for port in range(1, MAX_ENDPOINTS + 2)],
            Reason.OUT_OF_RANGE,
        ),
        ("endpoints", [{"host": "8.8.8.8", "port": 0}], Reason.OUT_OF_RANGE),
        ("sequence", -1, Reason.OUT_OF_RANGE),
        ("extra", 1, Reason.UNKNOWN_FIELD),
    ],
)
def test_what_has_no_place_in_a_record(field: str, value: object, reason: Reason) -> None:
    plain = msgspec.json.decode(jcs(ANN.signed()))
    plain["record"][field] = value
    with pytest.raises(Rejected) as caught:
        parse_json(jcs(plain), SignedRecord, limit=MAX_RECORD_BYTES)
    assert caught.value.reason == reason


def test_the_longest_record_fits() -> None:
    longest = Endpoint(host="2001:4860:4860:1111:2222:3333:4444:8888", port=65_535)
    signed = ANN.signed(endpoints=[longest] * MAX_ENDPOINTS, agent="~" * 64, chain_id="c" * 64)
    assert len(jcs(signed)) < MAX_RECORD_BYTES
