"""Messages of the provider link: one spelling in, and every refusal named."""

import json

import pytest

from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason
from aitbc.core.types.reasons import Reason, Rejected


def test_messages_survive_the_wire() -> None:
    for message in (
        link.Heartbeat(running=["job_1/0/0"]),
        link.Accepted(task_id="job_1/0/0"),
        link.Progress(task_id="job_1/0/0", done=1, total=2),
        link.Text(task_id="job_1/0/0", text="Grüße \u2603 \x00"),
        link.AskCountersignature(),
    ):
        assert link.decode_from_provider(link.encode_message(message)) == message
    error = link.LinkError(reason="busy", message="later")
    assert link.decode_from_hub(link.encode_message(error)) == error


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", Reason.MALFORMED),
        ("not json", Reason.MALFORMED),
        ("[]", Reason.WRONG_TYPE),
        ("{}", Reason.MISSING_FIELD),
        ('{"type":"launch"}', Reason.WRONG_TYPE),
        ('{"type":"progress","task_id":"t","done":1.0,"total":2}', Reason.FLOAT),
        ('{"type":"progress","task_id":"t","done":1,"done":2,"total":2}', Reason.DUPLICATE_KEY),
        ('{"type":"progress","task_id":"t","done":-1,"total":2}', Reason.OUT_OF_RANGE),
        ('{"type":"progress","task_id":"t","done":99999999999,"total":2}', Reason.OUT_OF_RANGE),
        ('{"type":"accepted","task_id":"t","extra":1}', Reason.UNKNOWN_FIELD),
        ('{"type":"accepted"}', Reason.MISSING_FIELD),
        ('{"type":"task"}', Reason.WRONG_TYPE),  # the hub's word in a provider's mouth
        ("[" * 50_000, Reason.MALFORMED),
        (json.dumps({"type": "text", "task_id": "t", "text": "x" * 70_000}), Reason.TOO_LARGE),
        ('{"type":"text","task_id":"t","text":"\\ud800"}', Reason.MALFORMED),
    ],
)
def test_what_is_no_message(frame: str, reason: Reason) -> None:
    with pytest.raises(Rejected) as rejected:
        link.decode_from_provider(frame)
    assert rejected.value.reason == reason


def test_a_signature_is_good_for_one_connection_to_one_hub_on_one_chain() -> None:
    facts = {
        "genesis_hash": bytes(32),
        "hub": "hub",
        "nonce": "00" * 32,
        "hello_nonce": "11" * 32,
        "provider": "p",
    }
    digests = {link.hello_digest(**facts)}
    for name, other in {
        "genesis_hash": bytes([1] * 32),
        "hub": "other",
        "nonce": "22" * 32,
        "hello_nonce": "33" * 32,
        "provider": "q",
    }.items():
        digests.add(link.hello_digest(**{**facts, name: other}))
    assert len(digests) == 6


def test_market_and_ledger_share_no_reason() -> None:
    assert not {str(reason) for reason in JobReason} & {str(reason) for reason in Reason}
