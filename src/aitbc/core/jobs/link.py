"""Messages between a hub and a provider, and what each signs to prove who it is.

One WebSocket, opened by the provider. Text frames carry one JSON message each; a `result` announces the one
binary frame that follows it. Handshake: challenge (hub), hello (provider), welcome (hub).
docs/spec/provider_link.md
"""

from typing import Annotated, Any

import msgspec

from aitbc.core.codec.canonical import convert, jcs, plain_json
from aitbc.core.crypto.hashing import tagged
from aitbc.core.jobs.receipts import Delivery, Offer
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.core.types.receipts import ReceiptCore, SignedAttestation

PATH = "/v1/providers/link"
VERSION = 1
MAX_TEXT_FRAME = 64 * 1024
"""A result with its details is about 3 KiB; a hello with 64 models 20."""
MAX_MODELS = 64
MAX_SLOTS = 64
MAX_POLICIES = 16

Short = Annotated[str, msgspec.Meta(max_length=128)]
Message = Annotated[str, msgspec.Meta(max_length=500)]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
TaskId = Annotated[str, msgspec.Meta(max_length=160)]
Small = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class _Msg(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    pass


class LinkModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that the provider's engine has loaded, and what it asks for 1,000 units."""

    model: Short
    kind: Short
    digest: Short
    price_per_kilounit: Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


# provider → hub


class Hello(_Msg, frozen=True, tag="hello"):
    """Answers the challenge. `sig` is over `hello_digest`."""

    version: int
    address: Short
    pubkey: Annotated[str, msgspec.Meta(max_length=4096)]
    nonce: Hex32
    """The provider's own challenge to the hub."""
    sig: Annotated[str, msgspec.Meta(max_length=8192)]
    models: Annotated[list[LinkModel], msgspec.Meta(max_length=MAX_MODELS)]
    slots: Annotated[int, msgspec.Meta(ge=1, le=MAX_SLOTS)]
    device: Short
    region: Short = ""
    """Where the machine is, such as `eu`; what a client may ask for."""
    vram_mb: Small = 0
    """Memory of its card; 0: none, or not said."""
    policies: Annotated[list[Short], msgspec.Meta(max_length=MAX_POLICIES)] = []
    """What it promises its clients, such as `no-log`."""


class AskCountersignature(_Msg, frozen=True, tag="ask_countersignature"):
    """A provider without money asks the hub to vouch for its first registration."""


class Registering(_Msg, frozen=True, tag="registering"):
    """The provider's REGISTER is on its way: jobs may be quoted, none is dispatched before it is final."""

    tx: Hex32


class Registered(_Msg, frozen=True, tag="registered"):
    """The provider's registration is final on the chain: the hub may look."""


class Accepted(_Msg, frozen=True, tag="accepted"):
    task_id: TaskId


class Declined(_Msg, frozen=True, tag="declined"):
    """The provider will not do the task; nothing was computed."""

    task_id: TaskId
    reason: Short
    message: Message


class Progress(_Msg, frozen=True, tag="progress"):
    task_id: TaskId
    done: Small
    total: Small


class Text(_Msg, frozen=True, tag="text"):
    """New characters of a chat answer."""

    task_id: TaskId
    text: Annotated[str, msgspec.Meta(max_length=16_384)]


class AttemptFailed(_Msg, frozen=True, tag="failed"):
    task_id: TaskId
    reason: Short
    message: Message


class Result(_Msg, frozen=True, tag="result"):
    """The delivery; the next frame is binary and holds exactly `size` bytes."""

    task_id: TaskId
    size: Small
    delivery: Delivery


class Heartbeat(_Msg, frozen=True, tag="heartbeat"):
    running: Annotated[list[TaskId], msgspec.Meta(max_length=MAX_SLOTS)]


# hub → provider


class Challenge(_Msg, frozen=True, tag="challenge"):
    version: int
    nonce: Hex32
    hub: Short
    chain_id: Short
    genesis_hash: Hex32


class Welcome(_Msg, frozen=True, tag="welcome"):
    """The provider is in. `sig` is the hub's, over `welcome_digest`."""

    pubkey: Annotated[str, msgspec.Meta(max_length=4096)]
    sig: Annotated[str, msgspec.Meta(max_length=8192)]
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=100, le=600_000)]


class Countersignature(_Msg, frozen=True, tag="countersignature"):
    hub: Short
    sig: Annotated[str, msgspec.Meta(max_length=8192)]


class Eligible(_Msg, frozen=True, tag="eligible"):
    """The hub has seen the registration; tasks may come for these models."""

    models: Annotated[list[Short], msgspec.Meta(max_length=MAX_MODELS)]


class Task(_Msg, frozen=True, tag="task"):
    task_id: TaskId
    lease_ms: Annotated[int, msgspec.Meta(ge=1)]
    """The attempt is given up after so long without progress."""
    offer: Offer
    """Its attempt is the fencing token: a result for an earlier one of this part is refused."""


class Cancel(_Msg, frozen=True, tag="cancel"):
    task_id: TaskId
    reason: Short


class Attested(_Msg, frozen=True, tag="attested"):
    """The receipt counts: everything that a claim needs, so that the provider can claim when the hub is gone.

    Sent again after every reconnect until the claim is final.
    """

    core: ReceiptCore
    provider_sig: Annotated[str, msgspec.Meta(max_length=8192)]
    signed: SignedAttestation
    claim_until_ms: int


class ResultRefused(_Msg, frozen=True, tag="result_refused"):
    task_id: TaskId
    reason: Short
    message: Message


class LinkError(_Msg, frozen=True, tag="error"):
    """The last message was refused; the link stays open unless a close frame follows."""

    reason: Short
    message: Message


FromProvider = (
    Hello
    | AskCountersignature
    | Registering
    | Registered
    | Accepted
    | Declined
    | Progress
    | Text
    | AttemptFailed
    | Result
    | Heartbeat
)
FromHub = (
    Challenge | Welcome | Countersignature | Eligible | Task | Cancel | Attested | ResultRefused | LinkError
)


def encode_message(message: FromProvider | FromHub) -> str:
    """One text frame."""
    text = jcs(message).decode()
    assert len(text) <= MAX_TEXT_FRAME, "fields are bounded so that every message fits a frame"
    return text


def decode_from_provider(text: str) -> FromProvider:
    """Refuses duplicate keys, floats, unknown fields and unknown types."""
    direction: Any = FromProvider
    message: FromProvider = _decode(text, direction)
    return message


def decode_from_hub(text: str) -> FromHub:
    """Refuses the same."""
    direction: Any = FromHub
    message: FromHub = _decode(text, direction)
    return message


def _decode(text: str, direction: Any) -> Any:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise Rejected(Reason.MALFORMED, "the frame is no Unicode text") from None
    if len(raw) > MAX_TEXT_FRAME:
        raise Rejected(Reason.TOO_LARGE, f"{len(raw)} bytes; at most {MAX_TEXT_FRAME}")
    return convert(plain_json(raw), direction)


def task_id_of(offer: Offer) -> str:
    return f"{offer.job_id}/{offer.task}/{offer.attempt}"


def hello_digest(*, genesis_hash: bytes, hub: str, nonce: str, hello_nonce: str, provider: str) -> bytes:
    """What a provider signs: good for one hub, one chain and one connection."""
    return tagged(
        "aitbc/link-hello/1",
        genesis_hash,
        hub.encode(),
        bytes.fromhex(nonce),
        bytes.fromhex(hello_nonce),
        provider.encode(),
    )


def welcome_digest(*, genesis_hash: bytes, hub: str, hello_nonce: str, provider: str) -> bytes:
    """What a hub signs, so that a provider knows whose link it is on."""
    return tagged(
        "aitbc/link-welcome/1", genesis_hash, hub.encode(), bytes.fromhex(hello_nonce), provider.encode()
    )
